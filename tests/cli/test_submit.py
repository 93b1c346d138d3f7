"""`dl submit`: what SLURM is told, and a job that is interrupted and queued again."""

import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mistakes import raises

from dl.cli.submit import Job, submit
from dl.runs.compare import first_difference
from dl.runs.folder import RunFolder

TINY = Path(__file__).parents[1] / "scripts" / "tiny.py"


@pytest.fixture(autouse=True)
def needed():
    pytest.importorskip("submitit", reason="needs submitit")


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """Programs that stand for SLURM's: sbatch keeps what it is given."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for name, does in {"srun": "", "sbatch": f'cp "$1" {tmp_path}/batch; echo "job 77"'}.items():
        (programs / name).write_text(f"#!/bin/sh\n{does}\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    return programs


def flags(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["dl", "submit", str(TINY), "--", *words])


def test_slurm_is_told_all_of_it(tmp_path, monkeypatch, cluster, capsys):
    flags(monkeypatch, "--steps", "24", "--name", "mine", "--runs", str(tmp_path / "runs"))
    array = ("stream=true,false", "learning-rate=1e-3,1e-2")
    own = {"partition": "gpu", "account": "us", "hours": 1.5, "nodes": 2, "gpus": 8, "memory": 64}
    submit(TINY, array=array, logs=tmp_path / "jobs", **own)
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 4
    assert said[3].startswith(
        "mine-003-stream=false-learning-rate=1e-2: job 77_3, which prints to "
    )
    batch = (tmp_path / "batch").read_text()
    for told in (
        *("partition=gpu", "account=us", "time=90", "nodes=2", "ntasks-per-node=8"),
        *("gpus-per-node=8", "mem=64GB", "cpus-per-task=4", "array=0-3%4", "requeue"),
    ):
        assert f"#SBATCH --{told}\n" in batch, told
    assert "#SBATCH --signal=USR2@" in batch


def children(process):
    return [int(n) for n in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_a_job_interrupted_goes_on_to_the_same_bits(tmp_path):
    import submitit

    def command(name):
        words = [
            sys.executable,
            str(TINY),
            "--steps",
            "40000",
            "--save-every",
            "4000",
            "--eval-every",
            "20000",
        ]
        return [*words, "--runs", str(tmp_path), "--name", name, "--resume", "--no-progress"]

    executor = submitit.AutoExecutor(folder=tmp_path / "jobs", cluster="local")
    executor.update_parameters(timeout_min=60)
    sent = executor.submit(Job(command("hurt")))
    lines = tmp_path / "hurt" / "metrics.jsonl"
    while not lines.exists() or lines.stat().st_size == 0:
        assert sent.state in ("PENDING", "RUNNING"), sent.stderr()
        time.sleep(0.05)
    (task,) = children(sent.job_id)
    for process in (task, *children(task)):  # SLURM warns all of a job
        os.kill(process, signal.SIGUSR2)
    assert sent.result() == 0
    subprocess.run(command("whole"), check=True)
    assert first_difference(RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "hurt")) is None
    assert "SIGTERM: saving and stopping" in sent.stderr()
    assert "Requeued job" in sent.stdout()


def test_mistakes_are_told_before_anything_is_queued(tmp_path, monkeypatch, cluster):
    given = {"logs": tmp_path / "jobs"}
    flags(monkeypatch)
    with raises("sweep-malformed", "--array seed"):
        submit(TINY, array=("seed",), **given)
    with raises("range", "--hours"):
        submit(TINY, hours=0, **given)
    with raises("range", "--nodes"):
        submit(TINY, nodes=0, **given)
    for name, value in (
        *(("hours", math.inf), ("hours", math.nan), ("hours", 0.01), ("requeues", -1)),
        *(("memory", -1.0), ("memory", math.nan), ("memory", math.inf)),
    ):
        with raises("range", f"--{name}"):
            submit(TINY, **{name: value}, **given)
    with raises("sweep-malformed", "seed stands there twice"):
        submit(TINY, array=("seed=0,1", "seed=2"), **given)
    with raises("option-misplaced", "--array name"):
        submit(TINY, array=("name=a,b",), **given)
    for code, said, *words in (
        ("unknown", "fsd", "--mesh", "fsd=2"),
        ("mesh-too-large", "16", "--mesh", "data=32"),
        ("mesh-too-small", "16", "--mesh", "data=2"),
        ("option-misplaced", "--coordinator", "--coordinator", "here:1"),
        ("name-malformed", "a/b", "--name", "a/b"),
    ):
        flags(monkeypatch, *words)
        with raises(code, said):
            submit(TINY, nodes=2, gpus=8, **given)
    flags(monkeypatch)
    with raises("unknown", "no-such-script"):
        submit(Path("no-such-script"), **given)
    with pytest.raises(SystemExit):
        submit(TINY, array=("no_such_field=1",), **given)
    (cluster / "sbatch").write_text("#!/bin/sh\necho 'invalid partition' >&2\nexit 1\n")
    with raises("slurm-refuses", "invalid partition"):
        submit(TINY, partition="none-such", **given)
    monkeypatch.setenv("PATH", str(tmp_path))
    with raises("slurm-missing", "--here"):
        submit(TINY, **given)
    assert not (tmp_path / "batch").exists()


def test_processes_that_no_slurm_starts_are_told_of_each_other(monkeypatch):
    asked = 'test "$JAX_COORDINATOR_ADDRESS,$JAX_NUM_PROCESSES,$JAX_PROCESS_ID" = '
    monkeypatch.setenv("SUBMITIT_LOCAL_NTASKS", "2")
    monkeypatch.setenv("SUBMITIT_LOCAL_GLOBALID", "1")
    monkeypatch.setenv("SUBMITIT_LOCAL_JOB_ID", "12077")
    assert Job(["sh", "-c", asked + "localhost:20077,2,1"])() == 0
    monkeypatch.setenv("SUBMITIT_LOCAL_NTASKS", "1")  # the run is alone
    assert Job(["sh", "-c", asked + ",,"])() == 0


def test_this_machine_is_one_node(tmp_path, monkeypatch, capsys):
    flags(monkeypatch, "--name", "mine")
    monkeypatch.setattr("dl.runs.scripts.command", lambda script: ["true"])
    submit(TINY, here=True, array=("seed=0,1",), logs=tmp_path / "jobs")
    said = capsys.readouterr().out.splitlines()
    assert said[1] == "mine-000-seed=0: done"
    numbers = [line.split(": job ")[1].split(",")[0] for line in said[::2]]
    assert sorted(path.name for path in (tmp_path / "jobs").iterdir()) == sorted(numbers)
    with raises("option-misplaced", "--nodes"):
        submit(TINY, here=True, nodes=2, logs=tmp_path / "jobs")
