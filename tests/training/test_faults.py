"""What a machine does to a run: damaged files, a full disk, dead workers, jumping clocks, many kills."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from mistakes import one_line, raises

import dl
from dl.core.state import digest
from dl.data.batches.streams import open_arrays
from dl.runs.compare import first_difference
from dl.runs.folder import RunFolder, furthest_unfinished, write_json
from dl.runs.scripts import load_script
from dl.training.checkpoints import Checkpoints

SCRIPTS = Path(__file__).parents[1] / "scripts"
TINY = SCRIPTS / "tiny.py"
KILLED = SCRIPTS / "killed.py"
CADENCE = ["--log-every", "4", "--eval-every", "10", "--save-every", "10", "--no-progress"]
FLAGS = ["--steps", "40", *CADENCE]


def run(runs, name, *flags, program=(TINY,), **environment):
    """The experiment in a process of its own, resumed where it was begun before."""
    command = [sys.executable, *program, *flags, "--runs", runs, "--name", name, "--resume"]
    done = subprocess.run(
        [str(word) for word in command],
        env={**os.environ, **environment}, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    return done


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of the run that nothing happened to."""
    runs = tmp_path_factory.mktemp("whole")
    done = run(runs, "whole", *FLAGS)
    assert done.returncode == 0, done.stderr
    return RunFolder(runs / "whole")


# -- damaged checkpoints -----------------------------------------------------------------------------


def truncate(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def flip(file):
    content = bytearray(file.read_bytes())
    if content:
        content[len(content) // 2] ^= 0x10
    file.write_bytes(content)


def delete(file):
    file.unlink()


@pytest.mark.parametrize("harm", [truncate, flip, delete])
def test_whichever_file_is_damaged_the_bits_are_those_of_a_whole_checkpoint(tmp_path, harm):
    def tree(value):
        return {"state": {"variables": {"params": jnp.arange(500.0) + value}, "step": jnp.int32(2)}}

    checkpoints = Checkpoints(tmp_path / "c")
    for step in (1, 2):
        checkpoints.save(step, tree(step), {}, keep={1})
    checkpoints.wait()
    files = [p for p in (tmp_path / "c" / "2").rglob("*") if p.is_file()]
    assert len(files) > 3
    fell_back = 0
    for file in files:
        content, said = file.read_bytes(), []
        harm(file)
        found, meta = checkpoints.restore(tree(0), say=said.append)
        assert digest(found) == digest(tree(meta["step"]))
        if meta["step"] == 1:
            assert said[0].startswith("checkpoint 2 is damaged (")
            assert "\n" not in said[0]
        fell_back += meta["step"] == 1
        file.write_bytes(content)
    assert fell_back  # what no bit depends on, such as a time stamp, may be damaged unseen
    checkpoints.close()


def test_a_run_goes_on_from_the_checkpoint_before_the_damaged_one(whole, tmp_path):
    program = (KILLED, "checkpoint:40", TINY)
    assert run(tmp_path, "hurt", *FLAGS, program=program).returncode == -9
    # Its write may be over before the kill comes.
    shutil.rmtree(tmp_path / "hurt" / "checkpoints" / "40", ignore_errors=True)
    newest = tmp_path / "hurt" / "checkpoints" / "30"
    for file in newest.rglob("*"):  # all: of some that are written nothing is read
        if file.is_file():
            flip(file)
    done = run(tmp_path, "hurt", *FLAGS)
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if "damaged" in line]
    assert line.startswith("dl: checkpoint 30 is damaged (")
    assert line.endswith("; trying the one before it")
    assert first_difference(whole, RunFolder(tmp_path / "hurt")) is None


def test_a_run_whose_log_is_lost_is_not_continued(tmp_path):
    program = (KILLED, "checkpoint:40", TINY)
    assert run(tmp_path, "lost", *FLAGS, program=program).returncode == -9
    folder = RunFolder(tmp_path / "lost")
    lines = folder.metrics.read_text().splitlines(keepends=True)
    evaluation = next(n for n, line in enumerate(lines) if '"eval", "step": 20' in line)
    folder.metrics.write_text("".join(lines[:evaluation] + lines[evaluation + 1 :]))
    before = folder.metrics.read_text()
    done = run(tmp_path, "lost", *FLAGS)
    assert done.returncode == 2
    one_line(done.stderr, "log-cut-off", "metrics.jsonl", "step 20 (eval)")
    assert folder.metrics.read_text() == before


# -- a full disk -------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path):
    """``(folder, grow)``: a file system of a hundred and sixty kilobytes, and what gives it more."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=160k", "tmpfs", str(place)]
    try:
        made = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except OSError:
        made = False
    if not made:
        pytest.skip("needs the right to mount a file system")
    yield place, lambda: subprocess.run(["mount", "-o", "remount,size=64m", place], check=True)
    subprocess.run(["umount", "-l", place], check=True)


def test_a_full_disk_costs_no_more_than_the_steps_since_the_last_checkpoint(whole, small_disk):
    place, grow = small_disk
    done = run(place, "full", *FLAGS)
    assert done.returncode == 2
    one_line(done.stderr, "file-write", "the checkpoint of step ", "No space left on device")
    grow()
    assert run(place, "full", *FLAGS).returncode == 0
    assert first_difference(whole, RunFolder(place / "full")) is None


# -- workers, clocks, signals ------------------------------------------------------------------------


@pytest.mark.slow
def test_a_data_worker_that_dies_stops_the_run_and_it_goes_on(tmp_path):
    program, flags = (SCRIPTS / "workers.py",), CADENCE
    config, build = load_script(program[0])
    row = int(build(config()).data.indices(25)[0])
    done = run(tmp_path, "hurt", *flags, program=program, DL_TEST_DIE=str(row))
    assert done.returncode == 2, done.stdout + done.stderr
    said, *_ = done.stderr.splitlines(
        keepends=True
    )  # Python may go on of what the dead worker left
    one_line(said, "reader-died", "a reading process died")
    for name in ("hurt", "whole"):
        done = run(tmp_path, name, *flags, program=program)
        assert done.returncode == 0, done.stderr
    assert first_difference(RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "hurt")) is None


JUMPING = """
import random, runpy, sys, time
true, jump = time.time, random.Random(sys.argv[1])
time.time = lambda: true() + jump.uniform(-3e8, 3e8)  # ten years to and fro at every look
time.time_ns = lambda: int(time.time() * 1e9)
sys.argv = sys.argv[2:]
sys.path.insert(0, sys.argv[0].rsplit("/", 1)[0])
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_no_bit_hangs_on_the_clock(whole, tmp_path):
    for seed, kill in (("1", (KILLED, "step:25")), ("2", ())):
        program = ("-c", JUMPING, seed, *kill, TINY)
        done = run(tmp_path, "clock", *FLAGS, program=program)
        assert done.returncode == (-9 if kill else 0), done.stderr
    assert first_difference(whole, RunFolder(tmp_path / "clock")) is None


def test_the_furthest_unfinished_run_is_resumed_whatever_the_clock_said(tmp_path):
    for name, steps in (("a", [10]), ("b", [20, 30]), ("c", [])):
        for step in steps:
            (tmp_path / name / "checkpoints" / str(step)).mkdir(parents=True)
        (tmp_path / name).mkdir(exist_ok=True)
        write_json(tmp_path / name / "config.json", {"x": 1})
        old = time.time() - (1e6 if name == "b" else 0)
        os.utime(tmp_path / name / "config.json", (old, old))
    assert furthest_unfinished(tmp_path, {"x": 1}).name == "b"
    (tmp_path / "b" / "result.json").write_text("{}")
    assert furthest_unfinished(tmp_path, {"x": 1}).name == "a"
    assert furthest_unfinished(tmp_path, {"x": 2}) is None


WAITING = """
import time
from dl.training.signals import Signals
with Signals() as signals:
    print("ready", flush=True)
    while True:  # as a long evaluation does not look up
        time.sleep(0.01)
"""


def test_a_second_ctrl_c_stops_at_once():
    process = subprocess.Popen(
        [sys.executable, "-c", WAITING], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    assert "saving and stopping (once more stops at once)" in process.stderr.readline()
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=20)
    assert process.returncode == -signal.SIGINT
    assert "stopped at once; the last checkpoint is whole" in said


# -- security ----------------------------------------------------------------------------------------


def listening(pid: int) -> list[str]:
    """The sockets of a process that wait for connections from outside."""
    inodes = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            inodes.add(os.readlink(link))
        except OSError:  # closed meanwhile
            continue
    found = []
    for table in ("tcp", "tcp6", "udp", "udp6"):
        file = Path(f"/proc/{pid}/net/{table}")
        for line in file.read_text(encoding="utf-8").splitlines()[1:] if file.exists() else ():
            words = line.split()
            waits = words[3] == "0A" if table.startswith("tcp") else True
            if waits and f"socket:[{words[9]}]" in inodes:
                found.append(f"{table} {words[1]}")
    return found


@pytest.mark.skipif(not Path("/proc/self/net/tcp").exists(), reason="looks into /proc")
def test_a_run_listens_on_no_network_interface(tmp_path):
    import socket

    with socket.create_server(("127.0.0.1", 0)):
        assert len(listening(os.getpid())) == 1  # it would be seen
    flags = ["--steps", "1000000", "--runs", tmp_path, "--name", "x", *CADENCE]
    process = subprocess.Popen(
        [sys.executable, *map(str, [TINY, *flags])],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        for _ in range(1200):
            if list((tmp_path / "x" / "checkpoints").glob("[0-9]*")):
                break
            time.sleep(0.1)
        assert process.poll() is None
        assert listening(process.pid) == []
    finally:
        process.kill()
        process.wait()


class Payload:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_a_file_that_would_run_code_is_refused(tmp_path):
    trap = tmp_path / "sprung"
    objects = np.array([Payload(trap)], dtype=object)
    np.save(tmp_path / "x.npy", objects, allow_pickle=True)
    (tmp_path / "cifar10_jpeg").mkdir()
    for name in ("train", "test"):
        np.savez(tmp_path / "cifar10_jpeg" / f"{name}.npz", label=objects, jpeg=objects)
    with raises("file-read", "x.npy"):
        open_arrays({"x": tmp_path / "x.npy"})
    with raises("file-damaged", "cifar10_jpeg"):
        dl.data.load("cifar10_jpeg", tmp_path)
    assert not trap.exists()
    np.load(tmp_path / "x.npy", allow_pickle=True)
    assert trap.exists()  # the trap works


# -- and all of it often -----------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_run_killed_and_damaged_at_many_random_moments_ends_with_the_same_bits():
    """Five kills; ``DL_TEST_KILLS=50`` for a soak."""
    given = ["--only", "digits", "--kills", os.environ.get("DL_TEST_KILLS", "5"), "--minutes", "60"]
    done = subprocess.run(
        [sys.executable, SCRIPTS / "soak.py", *given], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    counts = done.stdout.splitlines()[-1]  # earlier lines tell how far it is
    assert "losses: 0, false alarms: 0" in counts
    assert " 0 runs compared" not in counts
