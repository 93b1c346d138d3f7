"""A damaged or hostile file is read, or refused in one line: no traceback, whatever byte is odd.

``python tests/scripts/fuzz.py --minutes 60`` is the same for longer, with limits of time and memory.
"""

import random

import fuzzing
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st


@pytest.fixture(scope="module")
def masters(tmp_path_factory):
    place = tmp_path_factory.mktemp("whole")
    for name, (make, _) in fuzzing.READERS.items():
        (place / name).mkdir()
        make(place / name)
    return place


@pytest.mark.parametrize("name", fuzzing.READERS)
def test_an_untouched_file_is_taken(name, masters, tmp_path, monkeypatch):
    monkeypatch.setattr(fuzzing, "spoil", lambda folder, chance: "")
    assert fuzzing.example(name, fuzzing.copied(masters / name, tmp_path / "a"), 0) == ""


@pytest.mark.parametrize("name", fuzzing.READERS)
@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck), database=None)
@given(seed=st.integers(0, 2**32))
def test_a_spoilt_file_is_taken_or_refused_in_one_line(name, masters, tmp_path, seed):
    fuzzing.example(name, fuzzing.copied(masters / name, tmp_path / "a"), seed)


def test_damages_change_files(masters, tmp_path):
    chance, changed = random.Random(0), 0
    for _ in range(20):
        folder = fuzzing.copied(masters / "JSON lines", tmp_path / "a")
        before = (folder / "a.jsonl").read_bytes()
        fuzzing.spoil(folder, chance)
        changed += (folder / "a.jsonl").read_bytes() != before
    assert changed >= 18
