"""Shared by all tests: import dl before JAX so that its compiler settings hold, and find the data."""

import os
from pathlib import Path

import pytest

import dl  # noqa: F401  (before JAX opens a backend, so that the compiler settings hold)

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real data sets; a test that asks for it is skipped where there is none."""
    folder = Path(os.environ.get("DL_TEST_DATA", REPOSITORY.parent / "shared" / "data"))
    if not (folder / "mnist").is_dir():
        pytest.skip("needs the real data files")
    return folder
