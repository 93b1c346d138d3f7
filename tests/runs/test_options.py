"""Every flag is heeded or refused in one line: none is taken and dropped."""

import os
import shutil
import sys
from pathlib import Path

import pytest
from mistakes import one_line

import dl
from dl.cli.main import main as dl_command
from dl.runs.scripts import load_script

TINY = Path(__file__).parents[1] / "scripts" / "tiny.py"
Config, tiny_build = load_script(TINY)

SWEEP = ["--seeds", "2"]
SCRIPT = {  # flags of a script, and the answer
    "lanes of one run": (
        ["--lanes", "map"],
        ("option-misplaced", "--lanes", "leave it out, or give --seeds or --sweep"),
    ),
    "halving one run": (
        ["--halve", "2"],
        ("option-misplaced", "--halve", "leave it out, or give --seeds or --sweep"),
    ),
    "no seeds": (["--seeds", "0"], ("range", "--seeds 0", "1 or more")),
    "draws below zero": (["--trials", "-1"], ("range", "--trials -1", "1 or more")),
    "draws of nothing": (["--trials", "3"], ("trials-without-range", "--trials")),
    "a range without draws": (
        ["--sweep", "learning_rate=1e-4:1e-2"],
        ("trials-missing", "learning_rate", "--trials"),
    ),
    "a field swept twice": (
        ["--sweep", "dropout=0,0.1", "dropout=0.2"],
        ("swept-twice", "dropout"),
    ),
    "seeds beside seeds": ([*SWEEP, "--sweep", "seed=3,4"], ("swept-twice", "seed", "--seeds 2")),
    "a mesh under lanes": ([*SWEEP, "--mesh", "data=1"], ("option-misplaced", "leave --mesh")),
    "a topology under lanes": (
        [*SWEEP, "--deterministic-topology"],
        ("option-misplaced", "--deterministic-topology"),
    ),
    "halving by one": ([*SWEEP, "--halve", "1"], ("range", "halving by 1", "2 or more")),
    "halving too early": (
        [*SWEEP, "--halve", "3", "--eval-every", "10"],
        ("halve-too-early", "1/3 of 20 steps", "step 10", "evaluate more often"),
    ),
    "halving unlike lanes": (
        ["--sweep", "widths=4,8", "--halve", "2"],
        ("halve-lanes-apart", "leave it out"),
    ),
    "a sweep's name with a path": (
        [*SWEEP, "--name", "../b"],
        ("name-malformed", "a sweep's name", "'../b'"),
    ),
    "a sweep into something else": (
        [*SWEEP, "--name", "notes"],
        ("folder-not-empty", "runs/notes", "--name"),
    ),
    "a sweep that is not there": ([*SWEEP, "--resume"], ("nothing-to-resume", "sweep", "runs/")),
    "a process alone": (
        ["--process", "1"],
        ("processes-unnamed", "give --coordinator host:port, --processes N and"),
    ),
    "a mesh that is not here": (["--mesh", "data=64"], ("mesh-too-large", "64 devices")),
}
COMMANDS = {  # the dl command
    "a plan on a mesh that is not here": (
        ["plan", "--", "--mesh", "data=64"],
        ("mesh-too-large", "64 devices"),
    ),
    "a plan of a batch that cannot be cut": (
        ["plan", "--", "--deterministic-topology"],
        ("shard-impossible", "batch"),
    ),
    "a plan of several processes": (
        ["plan", "--", "--coordinator", "localhost:1"],
        ("option-misplaced", "a plan", "leave --coordinator out"),
    ),
    "a plan with a sweep of nothing": (
        ["plan", "--", "--sweep", "x=1"],
        ("unknown", "field to sweep, 'x'"),
    ),
    "a plan of a sweep on a mesh": (
        ["plan", "--", *SWEEP, "--mesh", "data=1"],
        ("option-misplaced", "leave --mesh"),
    ),
    "a plan of lanes without a sweep": (
        ["plan", "--", "--lanes", "map"],
        ("option-misplaced", "--lanes"),
    ),
    "a plan that never logs": (
        ["plan", "--", "--log-every", "0"],
        ("range", "log_every", "1 or more", "0"),
    ),
    "a sweep's timing": (
        ["plan", "--timing", "--", *SWEEP],
        ("option-misplaced", "--timing", "leave --seeds"),
    ),
    "a sweep verified": (
        ["verify", "--", *SWEEP],
        ("option-misplaced", "dl verify", "leave --seeds"),
    ),
    "lanes verified": (["verify", "--", "--lanes", "map"], ("option-misplaced", "--lanes")),
    "a name verified": (["verify", "--", "--name", "x"], ("option-misplaced", "leave --name out")),
    "a folder verified": (
        ["verify", "--", "--runs", "x"],
        ("option-misplaced", "leave --runs out"),
    ),
    "flags to replay": (["replay", "--", "--steps", "3"], ("option-misplaced", "dl replay")),
    "flags to report": (["report", "--", "--steps", "3"], ("option-misplaced", "dl report")),
    "a look into fewer than none": (["report", "--inspect", "-1"], ("range", "--inspect -1")),
    "one set of all": (["data", "list", "digits"], ("option-misplaced", "dl data info digits")),
    "a folder for a list": (
        ["data", "list", "--data-dir", "x"],
        ("option-misplaced", "leave --data-dir out"),
    ),
    "a folder for a note": (
        ["data", "info", "digits", "--data-dir", "x"],
        ("option-misplaced", "leave --data-dir out"),
    ),
}


def answered(capfd, says, call, *args):
    with pytest.raises(SystemExit) as left:
        call(*args)
    err = capfd.readouterr().err
    assert left.value.code == 2, err
    one_line(err, *says)


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
