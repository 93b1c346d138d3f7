"""Every flag is heeded or refused in one line: none is taken and dropped."""

import os
import shutil
import sys
from pathlib import Path

import pytest

import dl
from dl.cli.main import main as dl_command
from dl.runs.scripts import load_script

TINY = Path(__file__).parents[1] / "scripts" / "tiny.py"
Config, tiny_build = load_script(TINY)

SWEEP = ["--seeds", "2"]
SCRIPT = {  # flags of a script, and the answer
    "lanes of one run": (["--lanes", "map"], "--lanes is for sweeps, and this is one run"),
    "halving one run": (["--halve", "2"], "--halve is for sweeps, and this is one run"),
    "no seeds": (["--seeds", "0"], "--seeds 0: give 1 or more"),
    "draws below zero": (["--trials", "-1"], "--trials -1: give 1 or more"),
    "draws of nothing": (["--trials", "3"], "--trials needs a random range"),
    "a range without draws": (["--sweep", "learning_rate=1e-4:1e-2"], "say how many draws with"),
    "a field swept twice": (["--sweep", "dropout=0,0.1", "dropout=0.2"], "dropout is swept twice"),
    "seeds beside seeds": ([*SWEEP, "--sweep", "seed=3,4"], "seed is swept, and --seeds 2 would"),
    "TensorBoard of a sweep": ([*SWEEP, "--tensorboard"], "leave --tensorboard out"),
    "W&B of a sweep": ([*SWEEP, "--wandb", "x"], "leave --wandb out"),
    "a mesh under lanes": ([*SWEEP, "--mesh", "data=1"], "leave --mesh"),
    "a topology under lanes": ([*SWEEP, "--deterministic-topology"], "--deterministic-topology"),
    "halving by one": ([*SWEEP, "--halve", "1"], "keep one lane of 2 or more"),
    "halving too early": (
        [*SWEEP, "--halve", "3", "--eval-every", "10"],
        "looks at 1/3 of 20 steps, and the first evaluation is at step 10: evaluate more often",
    ),
    "halving unlike lanes": (
        ["--sweep", "widths=4,8", "--halve", "2"],
        "here every lane has its own: leave it out",
    ),
    "a sweep's name with a path": (
        [*SWEEP, "--name", "../b"],
        "a sweep's name is that of a folder",
    ),
    "a sweep into something else": ([*SWEEP, "--name", "notes"], "is not the folder of a sweep"),
    "a sweep that is not there": ([*SWEEP, "--resume"], "no unfinished sweep of this kind"),
    "a process alone": (["--process", "1"], "give --coordinator host:port, --processes N and"),
    "a mesh that is not here": (["--mesh", "data=64"], "needs 64 devices"),
}
COMMANDS = {  # the dl command
    "a plan on a mesh that is not here": (["plan", "--", "--mesh", "data=64"], "needs 64 devices"),
    "a plan of a batch that cannot be cut": (
        ["plan", "--", "--deterministic-topology"],
        "batch",
    ),
    "a plan of several processes": (
        ["plan", "--", "--coordinator", "localhost:1"],
        "a plan is of one process: leave --coordinator out",
    ),
    "a plan with a sweep of nothing": (["plan", "--", "--sweep", "x=1"], "field to sweep, 'x'"),
    "a plan of a sweep on a mesh": (["plan", "--", *SWEEP, "--mesh", "data=1"], "leave --mesh"),
    "a plan of lanes without a sweep": (["plan", "--", "--lanes", "map"], "--lanes is for sweeps"),
    "a plan that never logs": (["plan", "--", "--log-every", "0"], "log_every must be 1 or more"),
    "a sweep's timing": (["plan", "--timing", "--", *SWEEP], "--timing is of one run"),
    "a sweep verified": (["verify", "--", *SWEEP], "dl verify proves one run: leave --seeds"),
    "lanes verified": (["verify", "--", "--lanes", "map"], "--lanes is for sweeps"),
    "a name verified": (["verify", "--", "--name", "x"], "leave --name out"),
    "a folder verified": (["verify", "--", "--runs", "x"], "leave --runs out"),
    "flags to replay": (["replay", "--", "--steps", "3"], "dl replay takes no flags of a script"),
    "flags to report": (["report", "--", "--steps", "3"], "dl report takes no flags of a script"),
    "a look into fewer than none": (["report", "--inspect", "-1"], "give the number of settings"),
    "one set of all": (["data", "list", "digits"], "for one, dl data info digits"),
    "a folder for a list": (["data", "list", "--data-dir", "x"], "leave --data-dir out"),
    "a folder for a note": (["data", "info", "digits", "--data-dir", "x"], "leave --data-dir out"),
}


def answered(capfd, says, call, *args):
    with pytest.raises(SystemExit) as left:
        call(*args)
    err = capfd.readouterr().err
    assert left.value.code == 2, err
    assert err.startswith("error: ")
    assert err.count("\n") == 1, err
    assert says in err


@pytest.fixture
def place(monkeypatch, tmp_path):
    """A working folder that holds something else under ``runs/notes``; the way out is seen from inside."""

    def leave(code):
        raise SystemExit(code)

    monkeypatch.setattr(os, "_exit", leave)
    monkeypatch.delenv("DL_TRACEBACK", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "notes").mkdir(parents=True)
    (tmp_path / "runs" / "notes" / "todo.txt").write_text("buy milk")
    return tmp_path


@pytest.mark.parametrize("what", SCRIPT)
def test_a_scripts_flags_are_heeded_or_refused(place, capfd, what):
    flags, says = SCRIPT[what]
    answered(capfd, says, dl.main, Config, tiny_build, ["--steps", "20", *flags])
    assert [p.name for p in (place / "runs").iterdir()] == ["notes"]  # nothing was begun


@pytest.mark.parametrize("what", COMMANDS)
def test_a_commands_flags_are_heeded_or_refused(place, capfd, monkeypatch, what):
    words, says = COMMANDS[what]
    script = [str(shutil.copy(TINY, place))] if words[0] in ("plan", "verify") else []
    script = ["runs"] if words[0] in ("replay", "report") else script
    monkeypatch.setattr(sys, "argv", ["dl", words[0], *script, *words[1:]])
    answered(capfd, says, dl_command)


@pytest.mark.slow
def test_a_plan_of_a_sweep_tells_of_every_program(place, capfd, monkeypatch):
    flags = ["--steps", "5", "--seeds", "2", "--sweep", "widths=8,12", "dropout=0.1,0.2"]
    monkeypatch.setattr(sys, "argv", ["dl", "plan", str(TINY), "--", *flags])
    dl_command()
    said = " ".join(capfd.readouterr().out.split())
    for width in (8, 12):
        assert f"4 lanes of widths ({width},), each 5 steps of 50" in said
    # Weights by hand: 64 inputs, batch norm's two, 10 classes.
    for width in (8, 12):
        assert f"{64 * width + width + 2 * width + width * 10 + 10:,}" in said
    assert [p.name for p in (place / "runs").iterdir()] == ["notes"]
