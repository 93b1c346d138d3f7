"""Killed before any one of the files that it writes, from its birth to its end, a run or a sweep goes on as if it
had not been: the sharing of checkpoints among lanes, their results and halving among them."""

import contextlib
import json
import shutil
from pathlib import Path
from unittest import mock

import faults
import pytest

import dl
from dl.runs import files
from dl.runs.compare import first_difference
from dl.runs.folder import RunFolder
from dl.runs.scripts import load_script
from dl.training.checkpoints import Checkpoints

CONFIG, BUILD = load_script(Path(__file__).parents[1] / "scripts" / "tiny.py")
OPTIONS = {"log_every": 4, "eval_every": 4, "progress": False, "resume": True, "name": "a"}
TIMES = ("wall_seconds", "compile_seconds", "examples_per_second", "input_wait_seconds")


@contextlib.contextmanager
def killed_before(number):
    """Within it the write of that number, of a file or of a checkpoint, and all later ones fail; gives the list
    of those that were done."""
    done: list[str] = []

    def counted(write, place):
        def one(*arguments, **more):
            if len(done) >= number:
                raise faults.Crash
            done.append(str(arguments[place]))
            return write(*arguments, **more)

        return one

    with (
        mock.patch.object(files, "replace", counted(files.replace, 0)),
        mock.patch.object(Checkpoints, "save", counted(Checkpoints.save, 1)),
    ):
        yield done


def run(runs):
    dl.train(BUILD, CONFIG(steps=12), runs=runs, **OPTIONS)


def swept(runs, halve=None):
    dl.sweep(BUILD, CONFIG(steps=12), seeds=3, lanes="map", halve=halve, runs=runs, **OPTIONS)


KINDS = {"run": run, "sweep": swept, "halved": lambda runs: swept(runs, halve=2)}


def runs_in(place):
    return sorted(path.parent for path in place.rglob("config.json"))


def same(whole, other):
    assert [p.name for p in runs_in(whole)] == [p.name for p in runs_in(other)]
    for a, b in zip(runs_in(whole), runs_in(other), strict=True):
        assert first_difference(RunFolder(a), RunFolder(b)) is None
        lines = [
            [{**json.loads(line), "time": None} for line in (p / "metrics.jsonl").open()]
            for p in (a, b)
        ]
        assert lines[0] == lines[1]
        ends = [json.loads((p / "result.json").read_text()) for p in (a, b)]
        for end in ends:
            for name in (*TIMES, "peak_memory_bytes"):
                end.pop(name)
        assert ends[0] == ends[1]
        names = [{p.name for p in (x / "checkpoints").glob("[0-9]*")} for x in (a, b)]
        assert names[0] == names[1]


@pytest.mark.parametrize(
    "kind", [k if k == "run" else pytest.param(k, marks=pytest.mark.slow) for k in KINDS]
)
def test_killed_before_any_write(kind, tmp_path):
    start = KINDS[kind]
    with killed_before(10**6) as writes:
        start(tmp_path / "whole")
    # Of the middle, which other tests of kills look into, some; of birth and end most.
    last = len(writes) - 1
    numbers = {0, 1, 2, last // 3, last // 2, *range(last - (2 if kind == "run" else 5), last + 1)}
    for number in sorted(numbers):
        place = tmp_path / str(number)
        with killed_before(number), pytest.raises(faults.Crash):
            start(place)
        start(place)
        same(tmp_path / "whole", place)
        shutil.rmtree(place)
