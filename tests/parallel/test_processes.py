"""Runs of several real processes, each with its own device, over gloo."""

import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from mistakes import one_line

import dl
from dl.core.errors import UserError
from dl.parallel import processes
from dl.platform import slurm_gpus
from dl.runs.compare import first_difference
from dl.runs.folder import RunFolder
from dl.runs.scripts import load_script
from dl.training import train
from dl.training.checkpoints import Checkpoints

TINY = Path(__file__).parents[1] / "scripts" / "tiny.py"
KILLED = TINY.with_name("killed.py")
SLOW = TINY.with_name("slow_to_end.py")
SHAPE = {"steps": 24, "batch_size": 48, "optimizer": "momentum", "stream": True}
CADENCE = {"log_every": 4, "eval_every": 8, "save_every": 8}
CLOSE = 1e-4  # relative, of a loss: sums come in another order, and 24 steps spread that a little

pytestmark = pytest.mark.slow


def start(count, runs, name, port, kill=None, through=(), struck=-1):
    """``(exit code, stderr)`` of each of ``count`` processes, run by a program ``through``; the last one,
    or another that is ``struck``, gets ``kill``."""
    flags = [
        f"--{n.replace('_', '-')}={v}" for n, v in {**SHAPE, **CADENCE}.items() if n != "stream"
    ]
    flags += ["--stream", "--coordinator", f"localhost:{port}", "--processes", str(count)]
    flags += ["--runs", str(runs), "--name", name, "--resume", "--no-progress"]
    begun = []
    for process in range(count):
        program = [KILLED, kill, TINY] if kill and process == struck % count else [*through, TINY]
        begun.append(
            subprocess.Popen(
                [sys.executable, *program, *flags, "--process", str(process)],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    outputs = [process.communicate(timeout=300) for process in begun]
    return [(p.returncode, err) for p, (_, err) in zip(begun, outputs, strict=True)]


def alone(runs, name):
    config, build = load_script(TINY)
    options = {**CADENCE, "progress": False, "resume": True}
    return dl.train(build, config(**SHAPE), runs=runs, name=name, **options)


def series(folder):
    """Logged training losses, and evaluation accuracies."""
    losses = [r["metrics"]["train/loss"] for r in folder.records() if r["event"] == "train"]
    counts = [r["metrics"]["validation/accuracy"] for r in folder.records() if r["event"] == "eval"]
    return np.array(losses), counts


def agree(one, other):
    (losses, counts), (others, theirs) = series(one), series(other)
    np.testing.assert_allclose(losses, others, rtol=CLOSE)
    assert counts == theirs


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def single(runs):
    return alone(runs, "alone")


def test_the_other_one_s_end_is_known_by_its_signs(monkeypatch, tmp_path):
    """However far a checkpoint was, which Orbax writes in all of them together."""
    told = (
        "could not save: Timed out while waiting for async_write_complete barrier.; none was saved"
    )
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    assert processes.lost(UserError("file-write", told))
    assert not processes.lost(OSError("No space left on device"))
    monkeypatch.setattr(jax, "process_count", lambda: 1)
    assert not processes.lost(UserError("file-write", told))
    # Of a run that had not begun, the survivor takes the folder away again.
    assert "has no checkpoint yet" in str(train._left_alone(RunFolder(tmp_path / "new")))
    (tmp_path / "begun" / "checkpoints" / "8").mkdir(parents=True)
    assert "up to its last checkpoint" in str(train._left_alone(RunFolder(tmp_path / "begun")))


@pytest.mark.parametrize(
    ("shown", "tasks", "number", "own"),
    [
        ("0,1,2,3", "4(x2)", 2, [2]),  # a process a GPU, all seen: as JAX itself has it
        ("3", "4(x2)", 3, [0]),  # each bound to one, by --gpus-per-task or --gpu-bind
        ("0,1,2,3", "1(x2)", 0, [0, 1, 2, 3]),  # a process a machine
        ("0,1,2,3", "2", 1, [2, 3]),
        ("0,1", "4", 3, [1]),  # more processes than GPUs
        (None, "4", 3, []),  # no GPU, or a TPU
    ],
)
def test_a_slurm_task_takes_its_own_gpus(monkeypatch, shown, tasks, number, own):
    given = {"CUDA_VISIBLE_DEVICES": shown, "SLURM_STEP_TASKS_PER_NODE": tasks}
    monkeypatch.delenv("SLURM_GPUS_PER_TASK", raising=False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    for name, value in {**given, "SLURM_LOCALID": str(number)}.items():
        if value is not None:
            monkeypatch.setenv(name, value)
    assert slurm_gpus() == own
    monkeypatch.setenv("SLURM_GPUS_PER_TASK", "2")  # then all that are seen are its own
    assert slurm_gpus() == list(range(len(shown.split(",")) if shown else 0))


@pytest.mark.parametrize("count", [2, 4])
def test_processes_together_are_one_run(runs, single, free_port, count):
    ends = start(count, runs, f"of-{count}", free_port())
    assert [code for code, _ in ends] == [0] * count, ends
    together = RunFolder(runs / f"of-{count}")
    agree(together, single.folder)
    # One process reads and verifies what they wrote and digested, also as what another run starts with.
    checkpoints = Checkpoints(together.checkpoints, writes=False)
    leaves, meta = checkpoints.restore(None)
    checkpoints.close()
    assert leaves.keys() == meta["digests"].keys()


def test_they_agree_without_their_devices_to_the_same_bits(runs, single, free_port):
    ends = start(2, runs, "served", free_port(), through=[TINY.with_name("by_service.py")])
    assert [code for code, _ in ends] == [0, 0], ends
    assert first_difference(RunFolder(runs / "of-2"), RunFolder(runs / "served")) is None


def test_killed_terminated_and_resumed_they_end_alike(runs, single, free_port):
    # SIGKILL: the survivor says why it stops, and nothing later than the last checkpoint is believed.
    (survivor, said), (killed, _) = start(2, runs, "hurt", free_port(), "step:13")
    assert (survivor, killed) == (2, -9), said
    gone = ("process-gone", "hurt", "--resume", "[DL_TRACEBACK=1 shows all of it]")
    told = next(line for line in said.splitlines() if line.startswith("error: "))
    one_line(f"{told}\n", *gone)
    # An error of the first, in which JAX's service runs: it leaves last, so that none is aborted.
    fails = {"kill": "step:15:ENOSPC", "through": [SLOW], "struck": 0}
    (first, said), (other, more) = start(2, runs, "hurt", free_port(), **fails)
    assert (first, other) == (2, 2), (said, more)
    one_line(f"{said.splitlines()[-1]}\n", "system-refuses", "No space left", "metrics.jsonl")
    one_line(f"{more.splitlines()[-1]}\n", *gone)
    # A bug in either: it ends with its traceback, and the other is not left waiting.
    for place in (0, 1):
        fails = {"kill": "step:15:BUG", "struck": place}
        ends = start(2, runs, "hurt", free_port(), **fails)
        assert [code for code, _ in ends] == [1, 2][:: 1 if place == 0 else -1], ends
        assert ends[place][1].rstrip().endswith("ValueError: a bug")
        one_line(f"{ends[1 - place][1].splitlines()[-1]}\n", *gone)
    # The other cannot write its part of a checkpoint: neither waits for it.
    ends = start(2, runs, "hurt", free_port(), "step:9:EFBIG")
    assert [code for code, _ in ends] == [2, 2], ends
    for (_, said), reason in zip(ends, ("another process", "File too large"), strict=True):
        one_line(f"{said.splitlines()[-1]}\n", "file-write", "step 16", reason, "is step 8")
    # SIGTERM to one: both save the same step.
    ends = start(2, runs, "hurt", free_port(), "step:19:SIGTERM")
    assert [code for code, _ in ends] == [128 + 15] * 2, ends
    assert max(int(p.name) for p in (runs / "hurt" / "checkpoints").iterdir()) == 19
    shutil.copytree(runs / "hurt", runs / "fewer")
    # Two go on with the bits of the two that were never stopped; one alone goes on too.
    start(2, runs, "hurt", free_port())
    assert first_difference(RunFolder(runs / "of-2"), RunFolder(runs / "hurt")) is None
    agree(alone(runs, "fewer").folder, single.folder)
