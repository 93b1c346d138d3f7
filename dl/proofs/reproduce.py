"""The README's results table, run again: every row is one command, and its verdict pass or short.

What a row says (script, flags, figure) stands in the README alone. ``experiments/results.toml`` adds what
a machine needs to check it: the metric's name in ``result.json``, seeds, the bar, the minutes.
"""

import dataclasses
import os
import re
import shlex
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dl.core.errors import UserError, unknown
from dl.report.sweeps import read_lanes, settings
from dl.runs.folder import new_name, read_json
from dl.runs.records import numbers

SHARE = 0.02  # what a figure of one seed may be missed by
SPREADS = 2.0  # and one of several, in standard deviations
_NUMBER = r"(?<![\w.,])(\d[\d,]*(?:\.\d+)?|\.\d+)"


@dataclasses.dataclass(frozen=True)
class Row:
    """One figure of the table.

    Attributes:
      name: what to call it on the command line; script, flags: the command.
      metric: its name in ``result.json``, with a minus in front where lower is better.
      scale: what to multiply the metric by for the table's unit (100 for percent).
      reached, sd: the figure stated and its spread over seeds; None where it says none.
      bar: what it must reach to count, in the table's unit.
      minutes: about how long it takes on two CPU cores.
    """

    name: str
    script: str
    flags: tuple[str, ...]
    metric: str
    scale: float = 1.0
    reached: float | None = None
    sd: float | None = None
    bar: float | None = None
    minutes: float | None = None

    @property
    def lower(self) -> bool:
        return self.metric.startswith("-")


def table(readme: Path) -> dict[str, list[str]]:
    """The cells of the README's experiment table by their first, backticks left out."""
    found = {}
    for line in readme.read_text("utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| ") and len(cells) == 5:
            found[cells[0].replace("`", "")] = cells
    return found


def rows(experiments: Path) -> list[Row]:
    """Every row of ``results.toml`` with what the README beside the folder says of it.

    Raises:
      UserError: a file is absent, or a row names none of the README's.
    """
    file, readme = experiments / "results.toml", experiments.absolute().parent / "README.md"
    for path in (file, readme):
        if not path.exists():
            raise UserError(f"{path} is missing: run this in the project's checkout")
    stated = table(readme)
    made = []
    for given in tomllib.loads(file.read_text("utf-8"))["row"]:
        given = dict(given)
        key, place = given.pop("readme"), given.pop("figure", 0)
        if key not in stated:
            raise UserError(f"{file}: the README's table has no row {key!r} (its first cell)")
        script, *flags = shlex.split(key)
        flags += shlex.split(given.pop("flags", ""))
        reached, sd = figure(stated[key][3], place)
        made.append(Row(script=script, flags=tuple(flags), reached=reached, sd=sd, **given))
    return made


def figure(cell: str, place: int) -> tuple[float | None, float | None]:
    """Number ``place`` of a table's cell and the spread after its ±, None where there is none."""
    found = re.findall(_NUMBER + r"(?: ± (\d[\d.]*))?", cell)
    if place >= len(found):
        return None, None
    value, sd = found[place]
    return float(value.replace(",", "")), float(sd) if sd else None


def choose(known: list[Row], names: tuple[str, ...]) -> list[Row]:
    """The rows of those names, all of a script's by its name, or all of them by ``all``."""
    chosen = []
    for name in names:
        found = [row for row in known if name in (row.name, row.script, "all")]
        if not found:
            raise unknown("row", name, {row.name for row in known} | {"all"})
        chosen += [row for row in found if row not in chosen]
    return chosen


def verdict(row: Row, value: float) -> tuple[bool, str]:
    """Whether ``value`` is as good as the row says and reaches its bar; and the sentence for it."""
    sign = -1.0 if row.lower else 1.0
    said, good = [], True
    if row.reached is not None:
        slack = SPREADS * row.sd if row.sd else SHARE * abs(row.reached)
        as_stated = sign * value >= sign * row.reached - slack
        spread = f" ± {row.sd:g}" if row.sd else ""
        said.append(f"stated {row.reached:g}{spread}{'' if as_stated else ' not reached'}")
        good = as_stated
    if row.bar is not None:
        reaches = sign * value >= sign * row.bar
        said.append(f"bar {row.bar:g} {'reached' if reaches else 'not reached'}")
        good = good and reaches
    if not said:
        said.append("the table states no figure yet")
    return good, f"{value:.4g} ({', '.join(said)})"


def reproduce(
    chosen: list[Row], experiments: Path, runs: Path, data_dir: Path | None = None
) -> Iterator[tuple[Row, bool, str]]:
    """Run every row's command, its progress on the screen: ``(row, pass, sentence)`` one by one.

    Rows that are figures of one run share it.
    """
    environment = dict(os.environ)
    if data_dir is not None:
        environment["DL_DATA_DIR"] = str(data_dir.absolute())
    made: dict[tuple[str, ...], tuple[Path, int, float]] = {}
    for place, row in enumerate(chosen, 1):
        command = (row.script, *row.flags)
        if command not in made:
            print(f"[{place}/{len(chosen)}] {row.name}: {' '.join(command)}", flush=True)
            script, name = experiments / f"{row.script}.py", new_name(runs, row.name)
            options = ["--runs", str(runs), "--name", name]
            begun = time.perf_counter()
            done = subprocess.run(
                [sys.executable, str(script), *row.flags, *options], env=environment, check=False
            )
            minutes = (time.perf_counter() - begun) / 60
            made[command] = runs / name, done.returncode, minutes
        folder, code, minutes = made[command]
        if code:
            yield row, False, f"the script ended with code {code}"
        else:
            good, said = verdict(row, row.scale * measured(row, folder))
            yield row, good, f"{said} in {minutes:.1f} min"


def measured(row: Row, run: Path) -> float:
    """The metric of a run, or its mean over the seeds and folds of a sweep's best setting."""
    metric = row.metric.removeprefix("-")
    metrics: Mapping[str, Any]
    if (run / "sweep.json").exists():
        metrics = {
            name: mean for name, (mean, _, _) in settings(read_lanes(run))[0]["metrics"].items()
        }
    else:
        metrics = numbers(read_json(run / "result.json")["metrics"])
    if metric not in metrics:
        raise unknown("metric", metric, metrics)
    return metrics[metric]
