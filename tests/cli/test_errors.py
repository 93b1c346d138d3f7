"""The command line: help worth reading, and one clear line for every mistake."""

import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest

from dl.cli.errors import plain_errors
from dl.runs.scripts import command

ROOT = Path(__file__).parents[2]
TINY = ROOT / "tests" / "scripts" / "tiny.py"
DL = [sys.executable, "-c", "from dl.cli.main import main; main()"]


def call(*command, cwd, **environment):
    return subprocess.run(
        [str(part) for part in command],
        cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True, check=False,
    )  # fmt: skip


def script(*flags, cwd, **environment):
    return call(sys.executable, TINY, *flags, cwd=cwd, **environment)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli")
    done = script("--steps", "20", "--name", "a", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def test_a_script_ends_with_accuracy_folder_and_what_next(finished):
    _, said = finished
    for words in ("test accuracy", "runs/a", "next:", "examples/s", "best by validation/accuracy"):
        assert words in said


def test_help_lists_the_scripts_own_fields_and_the_runs():
    done = script("--help", cwd=ROOT)
    assert done.returncode == 0
    for words in ("--learning-rate", "optimiser steps", "--resume", "A tiny experiment"):
        assert words in done.stdout


# What the parser and a script's own process make of a mistake; test_mistakes.py has the others.
MISTAKES = [
    (["--lerning-rate", "1"], "--learning-rate"),
    (["--batch-size", "99999"], "batch size 99999 is impossible with"),
    (["--runs", "/proc/none"], "/proc/none"),
]


@pytest.mark.parametrize(("flags", "message"), MISTAKES, ids=lambda v: " ".join(v)[:30])
def test_a_mistake_gets_one_line_and_code_2(finished, flags, message):
    folder, _ = finished
    done = script(*flags, cwd=folder)
    assert done.returncode == 2, done.stdout + done.stderr
    assert message in done.stderr + done.stdout
    assert "Traceback" not in done.stderr + done.stdout


def test_a_mistake_shows_its_traceback_on_request(finished):
    folder, _ = finished
    done = script("--batch-size", "99999", cwd=folder, DL_TRACEBACK="1")
    assert "Traceback" in done.stderr
    assert "batch size 99999 is impossible with" in done.stderr


@pytest.mark.parametrize("kilobytes", [1, 12])
def test_a_full_disk_stops_the_run_with_one_line(finished, tmp_path, kilobytes):
    # A file size limit stands for the full disk: the lock, or the checkpoint, cannot be written.
    command = f"ulimit -f {kilobytes}; exec {sys.executable} {TINY} --steps 20 --widths 256 --runs {tmp_path}"
    done = call("bash", "-c", command, cwd=tmp_path, JAX_COMPILATION_CACHE_DIR="")
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    told = next(line for line in done.stderr.splitlines() if line.startswith("error: "))
    assert told.endswith((" [file-write]", " [system-refuses]")), told


def test_programs_call_the_command_by_its_name(monkeypatch, capsys):
    from dl.cli import dl as own

    monkeypatch.setattr(sys, "argv", ["dl", "--version"])
    own()
    assert capsys.readouterr().out.startswith("dl ")


def test_a_command_heeds_nothing_of_the_folder_that_it_is_started_in(tmp_path, monkeypatch):
    (tmp_path / "matplotlibrc").write_text("text.usetex: True\n")
    asked = (
        "import sys; sys.argv[1:] = ['list']\nfrom dl.cli import dl\nfrom dl.runs.scripts import find_script\n"
        "from pathlib import Path\ndl(); import matplotlib\n"
        "print(matplotlib.rcParams['text.usetex'], find_script(Path('gpt')).suffix)"
    )
    (tmp_path / "gpt").write_text("raise SystemExit('a stranger')\n")
    assert call(sys.executable, "-c", asked, cwd=tmp_path).stdout.endswith("\nFalse .py\n")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dl").mkdir()
    (tmp_path / "dl" / "__init__.py").write_text("raise SystemExit('a stranger')\n")
    (tmp_path / "plain.py").write_text("x = 1\n")  # with no dl.main, so that dl run starts it
    assert "[script-without-build]" in call(*command(tmp_path / "plain.py"), cwd=tmp_path).stderr


def test_dl_list_shows_one_line_an_experiment(tmp_path):
    done = call(*DL, "list", ROOT / "experiments", cwd=tmp_path)
    scripts = list((ROOT / "experiments").glob("*.py"))
    assert len(done.stdout.splitlines()) == len(scripts)
    assert "image_classification" in done.stdout


def test_dl_data_list_and_info(tmp_path):
    assert "digits" in call(*DL, "data", "list", cwd=tmp_path).stdout
    said = call(*DL, "data", "info", "digits", cwd=tmp_path).stdout
    assert "licence" in said


def test_dl_plan_needs_no_training(tmp_path):
    done = call(*DL, "plan", TINY, "--timing", "--", "--steps", "5", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for words in ("parameters", "1,242", "FLOPs a step", "optimiser state", "compile"):
        assert words in done.stdout
    assert not (tmp_path / "runs").exists()


# Tests started in the background ignore Ctrl-C, and so would what they start.
HEEDS_CTRL_C = [
    *(sys.executable, "-c"),
    "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])",
]


@pytest.mark.parametrize(
    ("number", "word"), [(signal.SIGINT, "interrupted"), (signal.SIGTERM, "stopped by SIGTERM")]
)
def test_a_signal_while_xla_compiles_ends_cleanly(tmp_path, number, word):
    process = subprocess.Popen(
        [*HEEDS_CTRL_C, sys.executable, "-u", TINY, "--name", "x"], cwd=tmp_path, text=True,
        env={**os.environ, "JAX_ENABLE_COMPILATION_CACHE": "false"},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    assert "run runs/x" in process.stdout.readline()  # said as the compiler begins
    process.send_signal(number)
    said, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number, said + errors
    assert errors == f"{word}: {Path('runs/x')} has no step yet; --name x --resume goes on\n"
    done = call(sys.executable, TINY, "--name", "x", "--resume", cwd=tmp_path)
    assert "selected step" in done.stdout, done.stderr


def test_ctrl_c_saves_and_says_how_to_go_on(tmp_path):
    flags = ["--steps", "100000", "--name", "x", "--log-every", "10"]
    process = subprocess.Popen(
        [*HEEDS_CTRL_C, sys.executable, TINY, *flags], cwd=tmp_path, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    metrics = tmp_path / "runs" / "x" / "metrics.jsonl"
    for _ in range(600):
        if metrics.exists() and metrics.stat().st_size:
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    said, errors = process.communicate(timeout=60)
    assert process.returncode == 130, said + errors
    assert "--resume" in said
    assert "Traceback" not in errors
    assert list((tmp_path / "runs" / "x" / "checkpoints").glob("[0-9]*"))


def test_what_data_were_skipped_is_said_in_one_line(capsys):
    with plain_errors():
        warnings.warn("pictures: 3 files are left out", stacklevel=1)
    assert capsys.readouterr().err == "note: pictures: 3 files are left out\n"


@pytest.fixture
def usual_signals():
    """Python's own handlers, whatever started the tests: a job in the background has Ctrl-C ignored."""
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    before = {number: signal.signal(number, handler) for number, handler in usual.items()}
    yield usual
    for number, handler in before.items():
        signal.signal(number, handler)


def test_who_calls_gets_the_handlers_of_signals_back(usual_signals):
    with plain_errors():
        within = {number: signal.getsignal(number) for number in usual_signals}
    assert not within.items() & usual_signals.items()
    assert {number: signal.getsignal(number) for number in usual_signals} == usual_signals


def test_a_handler_that_was_set_within_stays(usual_signals):
    with plain_errors():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
