"""Shared by all tests: import dl before JAX so that its compiler settings hold, and find the data."""

import collections
import gc
import os
import socket
import sys
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import hypothesis
import pytest

# Tests and the processes that they start compile thousands of small programs, many of them the same ones: all are
# kept, not only those that take long.
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")

import dl  # noqa: F401  (before JAX opens a backend, so that the compiler settings hold)

REPOSITORY = Path(__file__).parents[1]

# The same examples in every run, so that a change is judged by what it changed. Others are tried with
# --hypothesis-profile=explore.
hypothesis.settings.register_profile("same", derandomize=True)
hypothesis.settings.register_profile("explore", derandomize=False)
hypothesis.settings.load_profile("same")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first: two processes that share the files then end together."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What is imported stays: Python's collector need not look through half a million objects again and again,
    neither while they are made nor after each file of tests."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_terminal_summary(terminalreporter) -> None:
    """Where the time went, by file: what --durations tells of single tests, all of a file's together."""
    if not terminalreporter.config.getoption("durations"):
        return
    spent: collections.Counter[str] = collections.Counter()
    for report in (one for some in terminalreporter.stats.values() for one in some):
        if isinstance(report, pytest.TestReport):
            spent[report.location[0]] += report.duration
    terminalreporter.section(f"slowest 25 files of {sum(spent.values()):.0f}s in all")
    for file, seconds in spent.most_common(25):
        terminalreporter.write_line(f"{seconds:.0f}s {file}")


@pytest.fixture(scope="module", autouse=True)
def programs_of_this_file() -> Iterator[None]:
    """Programs live as long as their file of tests: of all files they take gigabytes, and Python's collector
    walks through them again and again."""
    yield
    import jax

    jax.clear_caches()
    gc.collect()


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real data sets; a test that asks for it is skipped where there is none."""
    folder = Path(os.environ.get("DL_TEST_DATA", REPOSITORY.parent / "shared" / "data"))
    if not (folder / "mnist").is_dir():
        pytest.skip("needs the real data files")
    return folder


@pytest.fixture(scope="session")
def free_port() -> Callable[[], int]:
    """Gives, at every call, a port of this machine that nothing uses."""

    def find() -> int:
        with socket.socket() as one:
            one.bind(("localhost", 0))
            return one.getsockname()[1]

    return find


_reached: list[str] = []  # addresses elsewhere that this process asked for


def _note_address(event: str, given: tuple) -> None:
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto"):
        address = given[0] if event == "socket.getaddrinfo" else given[1]
        host = address[0] if isinstance(address, tuple) else address
        here = isinstance(address, str) and event != "socket.getaddrinfo"  # the path of a local one
        if not here and host not in ("localhost", "127.0.0.1", "::1", "0.0.0.0", None):
            _reached.append(f"{event} {address}")


sys.addaudithook(_note_address)  # which stays: a process takes none back


@pytest.fixture(scope="module")
def alone() -> Iterator[None]:
    """For files of tests in which this process neither looks up another machine nor connects to one."""
    _reached.clear()
    yield
    assert not _reached
