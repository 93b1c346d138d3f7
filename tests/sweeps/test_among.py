"""A sweep's processes find one folder and take lanes of their own; none needs another."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import jax
import pytest
from mistakes import raises

from dl.runs.compare import first_difference
from dl.runs.folder import RunFolder
from dl.runs.options import Options
from dl.sweeps.among import Among, among, wait_for_lanes

TINY = Path(__file__).parents[1] / "scripts" / "tiny.py"
TOLD = ("JAX_NUM_PROCESSES", "JAX_PROCESS_ID", "SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE")


@pytest.mark.parametrize("processes", [1, 2, 3, 5])
def test_every_piece_of_work_is_of_one_process(processes):
    all_of_them = [Among(processes, process) for process in range(processes)]
    for number in range(12):
        assert sum(own.takes(number) for own in all_of_them) == 1
    assert [own.first for own in all_of_them] == [True] + [False] * (processes - 1)


def test_flags_and_launchers_say_which_process_this_is(monkeypatch):
    for name in TOLD:
        monkeypatch.delenv(name, raising=False)
    assert among(Options()) == Among()
    assert among(Options(name="a", processes=4, process=3)) == Among(4, 3)
    with raises("processes-unnamed", "together", "--processes N"):
        among(Options(name="a", processes=4))
    with raises("processes-unnamed", "no number 4"):
        among(Options(name="a", processes=4, process=4))
    with raises("option-misplaced", "--name"):
        among(Options(processes=2, process=0))
    with raises("option-misplaced", "--coordinator out"):
        among(Options(name="a", coordinator="localhost:1234", processes=2, process=1))
    with raises("option-misplaced", "shared disk"):
        among(Options(name="a", runs="s3://bucket/runs", processes=2, process=1))
    monkeypatch.setenv("TPU_WORKER_HOSTNAMES", "one,two")  # which says how many, and not who
    with raises("processes-unnamed", "started together", "--process I"):
        among(Options(name="a"))
    monkeypatch.delenv("TPU_WORKER_HOSTNAMES")
    monkeypatch.setenv("SLURM_PROCID", "0")  # as in a batch script, of no step
    assert among(Options(name="a")) == Among()
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "3")
    monkeypatch.setenv("SLURM_PROCID", "2")
    assert among(Options(name="a")) == Among(3, 2)
    with monkeypatch.context() as joined:
        joined.setattr(jax, "process_count", lambda: 3)
        with raises("option-misplaced", "no common JAX"):
            among(Options(name="a"))
    monkeypatch.setenv("JAX_NUM_PROCESSES", "two")
    with raises("processes-unnamed", "JAX_NUM_PROCESSES", "'two'"):
        among(Options(name="a"))


def test_the_first_waits_for_the_lanes_of_others_until_it_is_asked_to_stop(tmp_path):
    lanes = ["a", "b"]
    assert wait_for_lanes(tmp_path, lanes, Among()) is None
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM)).start()
    assert wait_for_lanes(tmp_path, lanes, Among(2, 0)) == "SIGTERM"
    for lane in lanes:
        (tmp_path / "lanes" / lane).mkdir(parents=True)
        (tmp_path / "lanes" / lane / "result.json").write_text("{}")
    assert wait_for_lanes(tmp_path, lanes, Among(2, 0)) is None


@pytest.mark.slow
def test_one_that_is_killed_costs_the_others_nothing(tmp_path):
    flags = ["--steps", "24", "--seeds", "4", "--lanes", "map", "--runs", str(tmp_path)]

    def start(name, *more, kill=()):
        words = [sys.executable, *kill, str(TINY), *flags, "--name", name, *more, "--no-progress"]
        return subprocess.Popen(words, stdout=subprocess.PIPE, text=True)

    two = ("--resume", "--processes", "2", "--process")
    first = start("both", *two, "0")
    killed = start("both", *two, "1", kill=(str(TINY.with_name("killed.py")), "step:13"))
    assert killed.wait(120) == -signal.SIGKILL
    again, alone = start("both", *two, "1"), start("one")
    said = [process.communicate(timeout=120)[0] for process in (first, again, alone)]
    assert [process.returncode for process in (first, again, alone)] == [0, 0, 0]
    assert "sweep folder:" in said[0]
    assert "sweep folder:" not in said[1]
    lanes = sorted(path.name for path in (tmp_path / "one" / "lanes").iterdir())
    assert len(lanes) == 4
    for lane in lanes:
        both, one = (RunFolder(tmp_path / name / "lanes" / lane) for name in ("both", "one"))
        assert first_difference(both, one) is None
