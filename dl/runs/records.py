"""Run folders as they lie on disk, read without the code that wrote them."""

import dataclasses
import json
import re
import sys
from collections.abc import Hashable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dl.core.errors import UserError
from dl.runs.files import lies_within, on_its_way, printable
from dl.runs.readers import (
    entry,
    numbers,
    read_baselines,
    read_object,
    read_records,
    read_result,
)

REPEATS = ("seed", "fold")  # fields that repeat a setting instead of changing it
ENDED_WELL = ("done", "early", "halved")


@dataclasses.dataclass(frozen=True)
class RunRecord:
    """One run as its folder tells it.

    Attributes:
      config: the config's fields, nested ones as ``outer.inner``; empty where the run had none.
      steps: optimiser steps the run was to take; script: its file, or None.
      environment: versions, compiler, devices, digests of data and code; result: of ``result.json``,
        empty while the run is unfinished.
    """

    path: Path
    config: dict[str, Any]
    steps: int
    script: Path | None
    environment: dict[str, Any]
    result: dict[str, Any]

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def ended(self) -> str:
        return self.result.get("ended", "unfinished")

    @property
    def rule(self) -> str | None:
        return self.result.get("selected", {}).get("rule")

    @property
    def value(self) -> float | None:
        """The selected value of ``rule``."""
        return self.result.get("selected", {}).get("value")

    @property
    def metrics(self) -> dict[str, float]:
        """Scalars of the selected state, or of the last evaluation where the run is unfinished."""
        found = self.result.get("metrics", {})
        if not self.result:
            for record in self.records():
                found = record["metrics"] if record["event"] == "eval" else found
        return {name: v for name, v in numbers(found).items() if isinstance(v, int | float)}

    @property
    def repeat(self) -> Hashable:
        """What sets the run apart from others of its setting: its seed and fold; itself where it has none."""
        own = tuple(str(self.config[name]) for name in REPEATS if name in self.config)
        return own or self.path

    def records(self) -> Iterator[dict[str, Any]]:
        return read_records(self.path / "metrics.jsonl")

    def views(self) -> dict[str, list[tuple[int, Path]]]:
        """What the experiment drew, ``{name: [(step, file), ...]}`` in the order of steps."""
        found: dict[str, list[tuple[int, Path]]] = {}
        for file in sorted((self.path / "views").glob("*")):
            match = re.fullmatch(r"(.+)-(\d{1,15})", file.stem, re.ASCII)
            plain = file.is_file() and lies_within(file, self.path)
            if match and file.suffix in (".png", ".txt") and plain:
                found.setdefault(match[1], []).append((int(match[2]), file))
        return {name: sorted(files) for name, files in found.items()}


def read_run(path: Path) -> RunRecord:
    """The run in the folder ``path``."""
    if path.is_file():
        raise UserError("not-a-run", f"{path} is a file, not the folder of a run")
    files = path / "config.json", path / "run.lock.json"
    config, lock = read_object(files[0]), read_object(files[1]) or {}
    if config is None:
        raise UserError("not-a-run", f"{path} is not the folder of a run: it has no config.json")
    script = entry(files[1], lock, "script", str, None)
    steps = entry(files[0], config, "steps", int) or 0
    return RunRecord(
        path=path,
        config=dict(flat(config["config"])) if isinstance(config.get("config"), dict) else {},
        steps=min(max(steps, 0), 2**53),
        script=Path(script) if script else None,
        environment=entry(files[1], lock, "environment", dict) or {},
        result=read_result(path),
    )


def flat(values: dict[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """The entries of nested objects, as ``outer.inner``."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from flat(value, f"{above}{name}.")
        else:
            yield above + name, value


def find_runs(paths: Sequence[Path]) -> list[RunRecord]:
    """The runs that ``paths`` name: run folders, sweeps (every lane), and folders that hold either. One that
    is damaged, or a link out of a folder, is left out and told in a line on stderr.

    Raises:
      UserError: a path that holds no run; or none of the runs is whole.
    """
    found: list[RunRecord] = []
    bad: list[UserError] = []
    for path in paths:
        within = list(runs_within(path))
        if not within:
            raise UserError(
                "not-a-run",
                f"{path} holds no run: give the folder of a run, or one that holds runs",
            )
        for folder in within:
            try:
                found.append(_whole_run(folder, path))
            except UserError as error:
                bad.append(error)
    if not found:
        raise bad[0]
    for told in bad:
        print(f"left out: {printable(told)}", file=sys.stderr)
    return list({run.path.resolve(): run for run in found}.values())


def _whole_run(folder: Path, named: Path) -> RunRecord:
    """The run in ``folder``, which lies in the folder that the user ``named``; raises UserError where any of
    its records is damaged."""
    if not lies_within(folder, named):
        raise UserError(
            "record-damaged", f"{folder} is a link out of {named}: name where it leads to itself"
        )
    try:
        run = read_run(folder)
        read_baselines(folder)
        for _ in run.records():
            pass
    except OSError as error:
        raise UserError("file-read", f"cannot read {error.filename}: {error.strerror}") from None
    return run


def runs_within(
    path: Path, marks: Sequence[str] = ("config.json",), depth: int = 0
) -> Iterator[Path]:
    """The folders in ``path`` that hold one of the files ``marks``: by default those of runs, lanes included.
    What lies in one of them is left to whoever reads it. Links are not gone through: what they lead to within is
    found without, and a hundred to the folder itself would make a million ways."""
    if any((path / mark).exists() for mark in marks):
        yield path
    elif path.is_dir() and depth < 3:  # runs/SWEEP/lanes/LANE
        for child in sorted(path.iterdir()):
            if child.is_dir() and not on_its_way(child.name):
                linked = child.is_symlink() or not lies_within(child, path)
                yield from runs_within(child, marks, 3 if linked else depth + 1)


@dataclasses.dataclass(frozen=True)
class Setting:
    """Runs that differ in their seed or fold alone.

    Attributes:
      title: what sets it apart from the others of its report.
    """

    title: str
    runs: tuple[RunRecord, ...]

    @property
    def value(self) -> float:
        """Mean of the selected values; NaN where nothing was selected."""
        good = [r for r in self.runs if r.ended in ENDED_WELL and r.value is not None]
        found = mean_sd([{"": r.value} for r in good], [r.repeat for r in good])
        return found[""][0] if found else float("nan")

    @property
    def metrics(self) -> dict[str, tuple[float, float, int]]:
        """Mean and sd over what repeats the setting, its seeds and folds."""
        good = self._finite
        return mean_sd([run.metrics for run in good], [run.repeat for run in good])

    def shown(self, metric: str) -> str:
        """``0.9931 ± 0.0012``; the mean alone where there was one run; how many of the runs it is over
        where others have NaN."""
        mean, sd, count = self.metrics[metric]
        text = f"{mean:.4g} ± {sd:.2g}" if count > 1 else f"{mean:.4g}"
        return counted(text, count, len({run.repeat for run in self._finite}))

    @property
    def _finite(self) -> list[RunRecord]:
        return [run for run in self.runs if run.ended != "non-finite"]


def grouped(runs: Sequence[RunRecord]) -> list[Setting]:
    """``runs`` with those together that differ in seed or fold alone; the best come first where all
    were selected by one rule, else in the order given."""
    groups: dict[str, list[RunRecord]] = {}
    for run in runs:
        fields = {k: v for k, v in run.config.items() if k not in REPEATS}
        alone = "" if run.config else run.name  # nothing to compare it by
        key = json.dumps([str(run.script), run.steps, fields, alone], sort_keys=True)
        groups.setdefault(key, []).append(run)
    titles = _titles([members[0] for members in groups.values()])
    settings = [
        Setting(title, tuple(members))
        for title, members in zip(titles, groups.values(), strict=True)
    ]
    rules = {run.rule for run in runs if run.result}
    if len(rules) == 1 and (rule := rules.pop()):
        sign = 1.0 if rule.startswith("-") else -1.0
        settings.sort(key=lambda s: (np.isnan(s.value), sign * s.value))
    return settings


def _titles(runs: list[RunRecord]) -> list[str]:
    """A title for each setting, from its first run."""
    apart = differences(runs)
    titles = [
        ", ".join(f"{name} {show(values[i])}" for name, values in apart.items()) or run.name
        for i, run in enumerate(runs)
    ]
    return [
        title if titles.count(title) == 1 else f"{title} ({run.name})"
        for title, run in zip(titles, runs, strict=True)
    ]


def differences(runs: Sequence[RunRecord]) -> dict[str, list[Any]]:
    """The script, and the config fields that all ``runs`` have, where they differ: a value for each
    run. Seeds and folds are left out, and the steps where they follow from another field."""
    rows = [
        {"script": run.script.stem if run.script else "none", **run.config, "steps": run.steps}
        for run in runs
    ]
    names = [n for n in rows[0] if n not in REPEATS and all(n in row for row in rows)]
    found = {n: [row[n] for row in rows] for n in names}
    found = {n: c for n, c in found.items() if any(value != c[0] for value in c)}
    if len(found) > 1:
        found.pop("steps", None)
    return found


def mean_sd(
    results: Sequence[dict[str, Any]], repeats: Sequence[Hashable] | None = None
) -> dict[str, tuple[float, float, int]]:
    """``{metric: (mean, sd, count)}`` over runs, scalars only; the sd of one run is 0. A run's NaN is left
    out and not counted; the mean is NaN where every run's is.

    Args:
      repeats: what each run repeats its setting by, such as its seed. Runs that share one are no spread:
        their mean counts as one.
    """
    named = list(range(len(results)) if repeats is None else repeats)
    names = sorted({n for r in results for n, v in r.items() if isinstance(v, float | int)})
    found = {}
    for name in names:
        together: dict[Hashable, list[float]] = {}
        for repeat, result in zip(named, results, strict=True):
            value = result.get(name)
            if isinstance(value, float | int) and not np.isnan(value):
                together.setdefault(repeat, []).append(value)
        values = [float(np.mean(same)) for same in together.values()]
        with np.errstate(invalid="ignore"):  # the sd of an infinite value is NaN
            sd = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
        found[name] = (float(np.mean(values)) if values else float("nan"), sd, len(values))
    return found


def counted(text: str, count: int, runs: int) -> str:
    """``text`` of a mean over ``count`` of ``runs`` runs, which says so where some are left out."""
    return f"{text} ({count} of {runs})" if 0 < count < runs else text


def show(value: Any) -> str:
    """A config value, short."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return "×".join(show(v) for v in value) if value else "none"
    return str(value)
