"""Exact resume, proved on the user's own script: killed at any moment, a run ends with the same bits."""

import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Column, Table

from dl.core.errors import UserError, bounded
from dl.runs.compare import first_difference, leaves
from dl.runs.folder import RunFolder, read_json
from dl.runs.scripts import load_script

ROWS = 32  # of the table; leaves that differ come first


def verify_script(script: Path, flags: list[str], *, kills: int = 3, seed: int = 0) -> bool:
    """Run ``script`` whole, then killed and resumed in new processes; print the table of both.

    Returns:
      Whether the entire state (at every checkpoint) and every logged scalar agree, bit for bit.
    """
    bounded("--kills", kills, at_least=0, whole=True)
    load_script(script)  # tells what is no experiment before a process is spent on it
    console = Console(highlight=False, markup=False, soft_wrap=True)
    with tempfile.TemporaryDirectory(prefix="dl-verify-") as place:
        runs = Path(place)
        console.print(f"running {script} whole")
        _run(script, flags, runs, "whole")
        whole = RunFolder(runs / "whole")
        moments = _moments(whole, kills, seed)
        killed = RunFolder(runs / "killed")
        for phase, step in moments:
            console.print(f"running it again, to be killed with SIGKILL: {phase} at step {step}")
            _run(script, flags, runs, "killed", kill=f"{phase}:{step}")
            if killed.finished():
                raise UserError(f"the run ended before it could be killed ({phase} at step {step})")
        console.print("resuming it to the end")
        _run(script, flags, runs, "killed")
        difference = first_difference(whole, killed)
        console.print(_table(whole, killed))
        if difference is None:
            console.print(
                f"identical: killed {len(moments)} times and resumed, the run ends with the same bits "
                "in the whole state and in every logged scalar"
            )
        else:
            console.print(f"DIFFERENT: {difference}")
    return difference is None


def _moments(whole: RunFolder, kills: int, seed: int) -> list[tuple[str, int]]:
    """The moments of the kills, in the order of their steps."""
    generator = random.Random(seed)
    steps = read_json(whole.result)["steps"]
    picked = generator.sample(range(1, steps), min(kills, max(steps - 1, 0)))
    moments = [("step", step) for step in picked]
    saves = sorted(leaves(whole))
    if saves:
        moments.append(("checkpoint", generator.choice(saves)))
    evaluations = [r["step"] for r in whole.records() if r["event"] == "eval"]
    if evaluations:
        moments.append(("evaluate", generator.choice(evaluations)))
    # A kill only counts if the run has not passed its moment when it resumes.
    return sorted(moments, key=lambda moment: moment[1])


def _run(script: Path, flags: list[str], runs: Path, name: str, kill: str | None = None) -> None:
    environment = {**os.environ, "DL_KILL_AT": kill} if kill else dict(os.environ)
    options = ["--runs", str(runs), "--name", name, "--resume", "--no-progress"]
    done = subprocess.run(
        [sys.executable, str(script), *flags, *options],
        env=environment, capture_output=True, encoding="utf-8", errors="replace", check=False,
    )  # fmt: skip
    if done.returncode not in (0, -9 if kill else 0):
        last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
        raise UserError(f"{script} failed: {' '.join(last)}")


def _table(whole: RunFolder, killed: RunFolder) -> Table:
    table = Table("step", Column("leaf of the state", overflow="fold"), "whole", "resumed", "")
    last = max(leaves(whole))
    mine, theirs = leaves(whole)[last], leaves(killed).get(last, {})
    names = sorted(mine.keys() | theirs.keys())
    odd = [name for name in names if mine.get(name) != theirs.get(name)]
    shown = [*odd, *(name for name in names if name not in odd)][:ROWS]
    for name in sorted(shown):
        x, y = mine.get(name, "missing"), theirs.get(name, "missing")
        mark = "same" if x == y else "DIFFERENT"
        table.add_row(str(last), name.removeprefix("state/"), x[:12], y[:12], mark)
    if len(names) > len(shown):
        table.add_row("", f"and {len(names) - len(shown)} more leaves, all the same", "", "", "")
    return table
