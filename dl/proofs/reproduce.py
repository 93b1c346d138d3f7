"""The project's results, run again: every row is one command, and its verdict pass or short.

``experiments/results.toml`` says what was run and what was reached, and explains its own fields.
"""

import dataclasses
import os
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
from dl.runs.readers import numbers

SHARE = 0.02  # what a figure of one seed may be missed by
SPREADS = 2.0  # and one of several, in standard deviations


@dataclasses.dataclass(frozen=True)
class Row:
    """One figure of the results.

    Attributes:
      name: what to call it on the command line.
      script, flags: the command.
      metric: its name in ``result.json``, with a minus in front where lower is better.
      scale: what to multiply the metric by for the table's unit (100 for percent).
      reached, sd: the figure stated and its spread over seeds; None where it says none.
      bar: what it must reach to count, in the table's unit.
      minutes: about how long it takes on the machine of the figure.
      first: the script and flags of a run that must be there before.
      group: the name of its row, which may have several figures.
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
    first: tuple[str, ...] = ()
    group: str = ""

    @property
    def lower(self) -> bool:
        return self.metric.startswith("-")


_FIELDS = dataclasses.fields(Row)


def rows(experiments: Path) -> list[Row]:
    """Every figure of ``results.toml`` that is a number.

    Raises:
      UserError: the file is absent, or a row lacks its name or its command.
    """
    file = experiments / "results.toml"
    if not file.exists():
        raise UserError("file-missing", f"{file} is missing: run this in the project's checkout")
    written, made = tomllib.loads(file.read_text("utf-8")), []
    for row in written["row"]:
        for figure in row.get("figures", [{}]):
            given = {**written.get("every", {}), **row, **figure}
            for field in {"name", "command"} - given.keys():
                raise UserError("results-incomplete", f"{file}: a row has no {field}: {given}")
            if "metric" not in given:  # pictures, judged by eye
                continue
            words = shlex.split(f"{given['command']} {given.get('flags', '')}")
            if given.get("seeds", 1) > 1:
                words += ["--seeds", str(given["seeds"])]
            given |= {
                "name": f"{row['name']}-{figure['name']}" if "name" in figure else row["name"],
                "group": row["name"],
                "script": words[0],
                "flags": tuple(words[1:]),
                "first": tuple(shlex.split(given.get("first", ""))),
            }
            made.append(Row(**{f.name: given[f.name] for f in _FIELDS if f.name in given}))
    return made


def choose(known: list[Row], names: tuple[str, ...]) -> list[Row]:
    """The figures of those names, of a row, or of a script; or all of them by ``all``."""
    chosen = []
    for name in names:
        found = [row for row in known if name in (row.name, row.group, row.script, "all")]
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

    def run(words: tuple[str, ...], *options: str) -> int:
        command = [sys.executable, str(experiments / f"{words[0]}.py"), *words[1:], *options]
        return subprocess.run(command, env=environment, check=False).returncode

    made: dict[tuple[str, ...], tuple[Path, int, float]] = {}
    for place, row in enumerate(chosen, 1):
        command = (row.script, *row.flags)
        if command not in made:
            print(f"[{place}/{len(chosen)}] {row.name}: {' '.join(command)}", flush=True)
            name = new_name(runs, row.name)
            code = run(row.first) if row.first else 0
            begun = time.perf_counter()
            code = code or run(command, "--runs", str(runs), "--name", name)
            made[command] = runs / name, code, (time.perf_counter() - begun) / 60
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
