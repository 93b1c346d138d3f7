"""What the project is built upon is known by name, version and licence."""

import importlib.util
import re
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def licences():
    spec = importlib.util.spec_from_file_location("licences", ROOT / "tools" / "licences.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_licence_is_known_and_free_to_build_upon(licences, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["licences.py"])
    assert licences.main() == 0, capsys.readouterr().err
    said = capsys.readouterr().out
    assert re.search(r"^jaxlib +\S+ +Apache-2.0$", said, re.M)  # which only jax asks for
    assert re.search(r"^soxr +\S+ +LGPL.*\(LGPL-2.1: ", said, re.M)


@pytest.mark.parametrize(
    ("said", "bad"),
    [
        ("License-Expression: MIT", False),
        ("License-Expression: GPL-3.0-or-later", True),
        ("Classifier: License :: OSI Approved :: GNU Affero General Public License v3", True),
        ("License: BSD\n        of three clauses", False),
        ("License: UNKNOWN", True),
        ("Classifier: License :: OSI Approved", True),
        ("Summary: nothing", True),
    ],
)
def test_what_is_unknown_or_binds_fails(licences, tmp_path, monkeypatch, capsys, said, bad):
    place = tmp_path / "some_thing-1.dist-info"
    place.mkdir()
    (place / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: some-thing\nVersion: 1\n{said}\n"
    )
    found = [licences.metadata.PathDistribution(place)]
    monkeypatch.setattr(licences, "closure", lambda requirements: iter(found))
    monkeypatch.setattr(sys, "argv", ["licences.py"])
    assert licences.main() == int(bad)
    assert ("some-thing" in capsys.readouterr().err) == bad


def test_the_constraints_pin_all_that_is_installed(licences):
    lines = [line.partition("#")[0].strip() for line in (ROOT / "constraints.txt").open()]
    pins = [Requirement(line) for line in lines if line]
    assert all(re.fullmatch(r"==[\w.]+", str(pin.specifier)) for pin in pins)
    pinned = {canonicalize_name(pin.name) for pin in pins}
    brought = {
        canonicalize_name(each.metadata["Name"])
        for each in licences.closure(licences.asked(ROOT / "pyproject.toml"))
    }
    assert brought <= pinned, f"not in constraints.txt: {sorted(brought - pinned)}"
