"""Exact resume, proved on the user's own script: killed at any moment, a run ends with the same bits.

The kills come from outside, as the world's do, and the run knows nothing of them. What its folder shows
tells when to strike, and afterwards what was struck.
"""

import contextlib
import json
import random
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rich.table import Column, Table

from dl.core.errors import UserError, bounded
from dl.platform import screen
from dl.runs.compare import first_difference, leaves
from dl.runs.folder import RunFolder, read_json
from dl.runs.scripts import command, load_script

ROWS = 32  # of the table; leaves that differ come first
ROUNDS = 3  # runs that are killed, until a kill of every kind has struck
LOOK = 0.0005  # seconds between two looks into a run's folder
KILLS = {
    "start": "as its folder was made",
    "step": "between two steps",
    "checkpoint": "while a checkpoint was being written",
    "evaluate": "inside an evaluation",
    "end": "after the last step",
}


def verify_script(script: Path, flags: list[str], *, kills: int = 3, seed: int = 0) -> bool:
    """Run ``script`` whole, then killed and resumed in new processes; print the table of both.

    A kill that came too late, as the run had ended or passed on, is tried again at another moment.

    Returns:
      Whether the entire state (at every checkpoint) and every logged scalar agree, bit for bit.

    Raises:
      UserError: ``script`` is no experiment, fails, or ends before any kill strikes.
    """
    bounded("--kills", kills, at_least=0, whole=True)
    load_script(script)  # tells what is no experiment before a process is spent on it
    console = screen(soft_wrap=True)
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="dl-verify-") as place:
        runs = Path(place)
        whole = killed = RunFolder(runs / "whole")
        console.print(f"running {script} whole")
        _run(script, flags, whole)
        steps, difference, struck = _steps(whole), None, Counter[str]()
        wanted = Counter({kind: kills if kind == "step" else 1 for kind in steps})
        for number in range(ROUNDS):
            left = (wanted - struck).elements()
            moments = sorted((chance.choice(steps[kind]), kind) for kind in left)
            if not moments or difference is not None:
                break
            killed = RunFolder(runs / f"killed-{number}")
            for step, kind in moments:
                at = f"{kind} at step {step}" if step >= 0 else kind
                console.print(f"running it again, to be killed with SIGKILL: {at}")
                struck.update(_kill(script, flags, whole, killed, kind, step, chance))
                if killed.finished():
                    break
            else:
                console.print("resuming it to the end")
                _run(script, flags, killed)
            difference = first_difference(whole, killed)
        if not struck:
            raise UserError(
                "run-too-short", "the run ended before it could be killed: let it take more steps"
            )
        console.print(_table(whole, killed))
        if difference is None:
            told = ", ".join(f"{struck[kind]} {KILLS[kind]}" for kind in wanted | struck)
            console.print(
                f"identical: killed {struck.total()} times and resumed, the run ends with the same bits "
                f"in the whole state and in every logged scalar (kills: {told})"
            )
        else:
            console.print(f"DIFFERENT: {difference}")
    return difference is None


def _logged(folder: RunFolder, event: str) -> list[int]:
    """The steps of the lines of an event."""
    return [line["step"] for line in folder.records() if line["event"] == event]


def _steps(whole: RunFolder) -> dict[str, list[int]]:
    """The steps at which each kind of kill may be tried; where it can be, after the first checkpoint."""
    trained, saved = _logged(whole, "train"), _logged(whole, "checkpoint")
    found = {
        "start": [-1],
        "step": trained[:-1] or trained,
        "checkpoint": saved,
        # Between its line of training and its own, a run evaluates.
        "evaluate": sorted({*trained} & {*_logged(whole, "eval")}),
    }
    return {
        kind: [step for step in steps if step > saved[0]] or steps
        for kind, steps in found.items()
        if steps
    }


def _kill(
    script: Path,
    flags: list[str],
    whole: RunFolder,
    killed: RunFolder,
    kind: str,
    step: int,
    chance: random.Random,
) -> list[str]:
    """Go on with the run and kill it at its first moment of ``kind`` from ``step`` on; returns the kind of
    the kill that struck, none where the run ended first."""
    evaluations, last = {*_logged(whole, "eval")}, read_json(whole.result)["steps"]
    old, news = _unfinished(killed), _appended(killed.metrics)
    newest: dict[str, Any] = {"event": "", "step": -1}

    def kinds() -> dict[str, bool]:
        """What the run is at, by what it wrote last."""
        evaluates = newest["event"] == "train" and newest["step"] in evaluations
        return {
            "start": newest["step"] < 0 and killed.path.is_dir() and not killed.metrics.exists(),
            "checkpoint": bool(_unfinished(killed) - old),
            "evaluate": evaluates,
            "step": 0 <= newest["step"] < last and not evaluates,
            "end": newest["step"] == last and not evaluates,
        }

    def look() -> bool:
        old.intersection_update(_unfinished(killed))  # the run clears away what earlier kills left
        newest.update(next(news))
        return newest["step"] >= step and kinds()[kind]

    delay = chance.uniform(0, _between_lines(whole)) if kind == "step" else 0.0
    _run(script, flags, killed, look, delay)
    if killed.finished():
        return []
    look()
    return [kind if kinds()[kind] else next(name for name, true in kinds().items() if true)]


def _unfinished(folder: RunFolder) -> set[str]:
    """The checkpoints that are being written, or were when the run was killed."""
    return {path.name for path in folder.checkpoints.glob("*tmp*")}


def _appended(path: Path) -> Iterator[dict[str, Any]]:
    """At every look the newest line that was appended to the file since this began; {} where none was. A
    resumed run cuts its files back before it appends to them."""
    seen = path.stat().st_size if path.exists() else 0
    while True:
        newest: dict[str, Any] = {}
        size = path.stat().st_size if path.exists() else 0
        if size > seen:
            with path.open("rb") as file:
                file.seek(seen)
                lines = file.read().rpartition(b"\n")[0].splitlines(keepends=True)
            size = seen + sum(map(len, lines)) + bool(lines)
            newest = json.loads(lines[-1]) if lines else {}
        seen = size
        yield newest


def _between_lines(whole: RunFolder) -> float:
    """The seconds from one line of training to the next."""
    clock = [line["time"]["elapsed"] for line in whole.records() if line["event"] == "train"]
    return (clock[-1] - clock[0]) / max(len(clock) - 1, 1)


def _run(
    script: Path,
    flags: list[str],
    folder: RunFolder,
    now: Callable[[], bool] = lambda: False,
    delay: float = 0.0,
) -> None:
    """Carry the run out, or go on with it, in a process of its own; it is killed ``delay`` seconds after
    the moment at which ``now()`` is true."""
    options = ["--runs", str(folder.path.parent), "--name", folder.name, "--resume"]
    words = [*command(script), *flags, *options, "--no-progress"]
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=said)
        try:
            while process.poll() is None and not now():
                time.sleep(LOOK)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(delay)
            over = process.poll()
        finally:
            process.kill()
            process.wait()
        if over:
            said.seek(0)
            last = said.read().decode(errors="replace").strip().splitlines()[-1:]
            raise UserError(
                "script-fails", f"{script} failed: {' '.join(last) or f'it ended with {over}'}"
            )


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
