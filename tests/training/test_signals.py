"""Signals that ask a run to save and stop, and a terminal that goes away."""

import contextlib
import fcntl
import os
import pty
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import jax
import pytest

from dl.runs.compare import first_difference
from dl.runs.folder import RunFolder
from dl.training.signals import Signals

SCRIPTS = Path(__file__).parents[1] / "scripts"
TINY, KILLED = SCRIPTS / "tiny.py", SCRIPTS / "killed.py"
FLAGS = ["--steps", "40", "--log-every", "4", "--eval-every", "10", "--no-progress"]


@pytest.fixture(autouse=True)
def as_in_a_terminal():
    """Programs started in the background ignore SIGINT, and those under nohup SIGHUP; and so would ours."""
    usual = {signal.SIGHUP: signal.SIG_DFL, signal.SIGINT: signal.default_int_handler}
    before = {number: signal.signal(number, handler) for number, handler in usual.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def run(runs, name, *program):
    words = [sys.executable, *program, *FLAGS, "--runs", runs, "--name", name, "--resume"]
    return subprocess.run([str(w) for w in words], capture_output=True, text=True, check=False)


def test_sighup_saves_and_stops_and_the_run_goes_on(tmp_path):
    done = run(tmp_path, "hung", KILLED, "step:25:SIGHUP", TINY)
    assert done.returncode == 128 + signal.SIGHUP
    assert "SIGHUP: saving and stopping" in done.stderr
    assert "--resume" in done.stdout
    assert RunFolder(tmp_path / "hung").saved() == 25
    for name in ("hung", "whole"):
        assert run(tmp_path, name, TINY).returncode == 0
    assert first_difference(RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "hung")) is None


def test_nohup_is_heeded():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Signals() as signals:
            os.kill(os.getpid(), signal.SIGHUP)
            assert signals.caught is None
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_run_whose_terminal_is_closed_saves_all(tmp_path):
    ours, theirs = pty.openpty()
    flags = ["--steps", "1000000", "--log-every", "50", "--eval-every", "2000", "--runs", tmp_path]

    def own_terminal():
        os.setsid()
        fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)

    process = subprocess.Popen(
        [sys.executable, *map(str, [TINY, *flags, "--name", "x"])],
        stdin=theirs, stdout=theirs, stderr=theirs, preexec_fn=own_terminal,
    )  # fmt: skip
    os.close(theirs)
    os.set_blocking(ours, False)
    try:
        deadline = time.monotonic() + 100
        while not list((tmp_path / "x" / "checkpoints").glob("[0-9]*")):
            with contextlib.suppress(BlockingIOError):
                os.read(ours, 65536)
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.05)
        os.close(ours)
        assert process.wait(60) == 128 + signal.SIGHUP
    finally:
        process.kill()
        process.wait()
    folder = RunFolder(tmp_path / "x")
    last = list(folder.records())[-1]
    assert last["event"] == "checkpoint"
    assert folder.saved() == last["step"]


IMPORTS = """
import os, signal, sys, types
import dl
class Finder:
    def find_spec(self, name, path, target=None):
        if name == "{name}":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Finder())
from dl.training.train import train
"""


@pytest.mark.parametrize("name", ["optax", "dl.training.compiled", "rich.progress"])
def test_ctrl_c_while_modules_are_imported_ends_in_a_line(tmp_path, name):
    (tmp_path / "late.py").write_text(IMPORTS.replace("{name}", name))
    script = tmp_path / "script.py"
    script.write_text("import late\n")
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    assert done.stderr == "interrupted\n"
    assert done.returncode == -signal.SIGINT


def test_ctrl_c_elsewhere_is_python_s_own(tmp_path):
    script = tmp_path / "script.py"
    script.write_text("import dl\nraise KeyboardInterrupt\n")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert "Traceback" in done.stderr


@pytest.mark.parametrize(
    ("there", "said"),
    [
        ("config.json", "has no step yet"),
        ("checkpoints/30", "is saved up to step 30"),
        ("sweep.json", "keeps what is done"),
    ],
)
def test_what_stops_a_run_between_its_steps_hears_what_is_saved(tmp_path, there, said):
    folder = RunFolder(tmp_path / "x")
    (folder.path / there).mkdir(parents=True)
    with pytest.raises(KeyboardInterrupt) as stopped, folder.held():
        raise KeyboardInterrupt
    assert stopped.value.__notes__ == [f"{folder.path} {said}; --name x --resume goes on"]


def test_a_compiler_that_the_signal_ended_fails_no_run():
    ptxas = jax.errors.JaxRuntimeError("INTERNAL: ptxas exited with non-zero error code 2")

    def compiles(asked):
        with Signals():
            if asked:
                os.kill(os.getpid(), signal.SIGINT)
            raise ptxas

    with pytest.raises(jax.errors.JaxRuntimeError):
        compiles(asked=False)
    with pytest.raises(KeyboardInterrupt) as stopped:
        compiles(asked=True)
    assert stopped.value.args == (signal.SIGINT,)


def test_ctrl_c_that_python_drops_comes_again(tmp_path):
    script = tmp_path / "dropped.py"
    script.write_text(
        "import signal, time, dl\nclass A:\n    def __del__(self): signal.raise_signal(signal.SIGINT)\n"
        "a = A(); del a\ntime.sleep(20); print('lost')\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (-signal.SIGINT, "")
    assert done.stderr.endswith("KeyboardInterrupt\n")
    assert "ignored" not in done.stderr
