"""Run folders as they lie on disk, read without the code that wrote them."""

import dataclasses
import json
import re
from collections.abc import Hashable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dl.core.errors import UserError

REPEATS = ("seed", "fold")  # fields that repeat a setting instead of changing it
ENDED_WELL = ("done", "early", "halved")

Scalars = dict[str, dict[str, np.ndarray]]


def read_records(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a file of one JSON object a line; a last line cut short by a kill, or still being
    written, is left out.

    Raises:
      UserError: another line is damaged.
    """
    if not path.exists():
        return
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
            if not line.endswith("\n") or not isinstance(record, dict) or "step" not in record:
                raise ValueError
        except ValueError:
            if number == len(lines):
                return
            raise UserError(
                "record-damaged", f"{path} is damaged in line {number}: remove that line"
            ) from None
        yield record


def numbers(metrics: dict[str, Any]) -> dict[str, Any]:
    """Stored metrics with what JSON has no number for, ``'nan'``, ``'inf'`` and ``'-inf'``, as floats."""

    def number(value: Any) -> Any:
        if isinstance(value, list):
            return [number(each) for each in value]
        return float(value) if value in ("nan", "inf", "-inf") else value

    return {name: number(value) for name, value in metrics.items()}


def read_scalars(metrics: Path) -> Scalars:
    """``{metric: {set: [n, 2] of (step, value)}}`` of a run's ``metrics.jsonl``."""
    points: dict[str, dict[str, list[tuple[int, float]]]] = {}
    for record in read_records(metrics):
        if record["event"] not in ("train", "eval"):
            continue
        for name, value in numbers(record["metrics"]).items():
            part, _, metric = name.partition("/")
            if isinstance(value, int | float):
                points.setdefault(metric, {}).setdefault(part, []).append((record["step"], value))
    return {m: {s: np.array(p) for s, p in sets.items()} for m, sets in points.items()}


def read_baselines(folder: Path) -> dict[str, dict[str, float]]:
    """``{name: {'test/accuracy': value}}`` of the simple rivals that a run was compared with."""
    return {name: numbers(found) for name, found in read_object(folder / "baselines.json").items()}


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object that the file holds; an empty one where there is no file.

    Raises:
      UserError: it holds something else.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        if not isinstance(found, dict):
            raise ValueError(f"a {type(found).__name__} in place of an object")
    except ValueError as error:
        raise UserError(
            "record-damaged", f"{path} is not valid JSON ({error}): restore it from a copy"
        ) from None
    return found


def entry(path: Path, values: dict[str, Any], name: str, default: Any) -> Any:
    """``values[name]`` of the file at ``path``, or ``default``, whose type it must have; raises UserError
    where it has not."""
    found = values.get(name, default)
    if not isinstance(found, type(default)):
        raise UserError(
            "record-damaged", f"{path}: {name!r} cannot be {found!r:.40}: restore it from a copy"
        )
    return found


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
            match = re.fullmatch(r"(.+)-(\d+)", file.stem)
            if match and file.suffix in (".png", ".txt"):
                found.setdefault(match[1], []).append((int(match[2]), file))
        return {name: sorted(files) for name, files in found.items()}


def read_run(path: Path) -> RunRecord:
    """The run in the folder ``path``."""
    if not (path / "config.json").exists():
        raise UserError("not-a-run", f"{path} is not the folder of a run: it has no config.json")
    files = [path / name for name in ("config.json", "run.lock.json", "result.json")]
    config, lock, result = (read_object(file) for file in files)
    for name, default in (("metrics", {}), ("selected", {}), ("ended", "")) if result else ():
        entry(files[2], result, name, default)
    script = lock.get("script") and entry(files[1], lock, "script", "")
    return RunRecord(
        path=path,
        config=dict(_flat(config["config"])) if isinstance(config.get("config"), dict) else {},
        steps=entry(files[0], config, "steps", 0),
        script=Path(script) if script else None,
        environment=entry(files[1], lock, "environment", {}),
        result=result,
    )


def _flat(values: dict[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{above}{name}.")
        else:
            yield above + name, value


def find_runs(paths: Sequence[Path]) -> list[RunRecord]:
    """The runs that ``paths`` name: run folders, sweeps (every lane), and folders that hold either.

    Raises:
      UserError: a path that holds no run.
    """
    found = []
    for path in paths:
        within = list(_within(path))
        if not within:
            raise UserError(
                "not-a-run",
                f"{path} holds no run: give the folder of a run, or one that holds runs",
            )
        found += within
    return list({run.path.resolve(): run for run in found}.values())


def _within(path: Path, depth: int = 0) -> Iterator[RunRecord]:
    if (path / "config.json").exists():
        yield read_run(path)
    elif path.is_dir() and depth < 3:  # runs/SWEEP/lanes/LANE
        for child in sorted(path.iterdir()):
            if child.is_dir():
                yield from _within(child, depth + 1)


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
