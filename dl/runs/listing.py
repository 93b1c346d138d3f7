"""Runs and sweeps of a folder as rows: what each is, how far it came, what it reached."""

import dataclasses
import difflib
import math
import operator
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from dl.core.errors import UserError
from dl.runs import store
from dl.runs.files import lies_within, printable
from dl.runs.folder import at_work
from dl.runs.readers import entry, numbers, read_object
from dl.runs.records import RunRecord, read_run, runs_within, show

# What a store is asked for; the lines of a run at work are fetched when it is found to be one.
FILES = ("config.json", "run.lock.json", "result.json", "sweep.json", "failed.json")
STATES = {"done": "done", "early": "done", "halved": "done", "non-finite": "failed"}
OWN = ("name", "path", "script", "state", "ended", "steps", "rule", "value", "when")
SHOWN = ("name", "script", "state", "steps", "rule", "value", "when")
_TERM = re.compile(r"\s*([^<>=!\s][^<>=!]*?)\s*(<=|>=|!=|==?|<|>)\s*(.*?)\s*", re.DOTALL)
_ORDER = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
_MISSING = object()


@dataclasses.dataclass(frozen=True)
class Row:
    """A run, or a sweep by its best lane.

    Attributes:
      name: its path within the folder that was looked at; path: as a shell takes it.
      run: what its folder tells; metrics: of its selected state, or of the last evaluation so far.
      state: done, running, stopped or failed; steps: taken, of a sweep its lanes; when: seconds since 1970.
    """

    name: str
    path: str
    run: RunRecord
    metrics: dict[str, float]
    state: str
    steps: int | str
    when: float | None

    def get(self, name: str, default: Any = None) -> Any:
        """What stands in the column ``name``: one of :data:`OWN`, a field of the config, or a metric."""
        if name in OWN:
            told = {"script": self.run.script and self.run.script.stem, "when": self._when()}
            return told[name] if name in told else getattr(self, name, getattr(self.run, name, 0))
        config = self.run.config
        for key in (name, name.removeprefix("config."), name.replace("-", "_")):
            if key in config:
                return config[key]
        return self.metrics.get(name, default)

    def _when(self) -> str:
        return (
            "" if self.when is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(self.when))
        )

    @property
    def names(self) -> list[str]:
        fields = [f"config.{name}" if name in OWN else name for name in self.run.config]
        return [*OWN, *fields, *self.metrics]


def list_runs(folder: str | Path, lanes: bool = False) -> tuple[list[Row], list[UserError]]:
    """The runs and sweeps in ``folder``, oldest first, and what is to be said of each that is damaged.

    Args:
      folder: one that holds runs, also in a store; a run; or a sweep, of which a row is a lane.
      lanes: give a row for every lane of a sweep, too.

    Raises:
      UserError: there is no such folder.
    """
    top = store.opened(folder, FILES)
    if not top.is_dir():
        raise UserError("folder-missing", f"there is no folder {folder}: say which holds the runs")
    rows: list[Row] = []
    bad: list[UserError] = []
    for place in runs_within(top, ("config.json", "sweep.json")):
        try:
            if not lies_within(place, top):
                raise UserError("record-damaged", f"{place} is a link out of {top}")
            if (place / "config.json").exists():
                rows.append(_row(place, top, at_work(place)))
            else:
                rows += _sweep(place, top, bad, lanes or place == top)
        except UserError as error:
            bad.append(error)
        except OSError as error:
            bad.append(UserError("file-read", f"cannot read {error.filename}: {error.strerror}"))
    return sorted(rows, key=lambda row: (row.when or 0, row.name)), bad


def _row(place: Path, top: Path, working: bool) -> Row:
    run, steps = read_run(place), 0
    found = run.result.get("metrics", {})
    failed = {} if run.result else read_object(place / "failed.json")
    if not run.result:
        if store.url(place):
            store.fetch(place, (*FILES, "metrics.jsonl"))
        for record in run.records():
            steps, found = record["step"], record["metrics"] if record["event"] == "eval" else found
    return Row(
        name=place.relative_to(top).as_posix() if place != top else place.name,
        path=store.url(place) or str(place),
        run=run,
        metrics={n: v for n, v in numbers(found).items() if isinstance(v, int | float)},
        state="running"
        if working and not run.result
        else STATES.get(run.ended, "failed" if failed else "stopped"),
        steps=run.result.get("steps", steps),
        when=None if store.url(place) else (place / "config.json").stat().st_mtime,
    )


def _sweep(place: Path, top: Path, bad: list[UserError], lanes: bool) -> list[Row]:
    """A row for each lane of a sweep; or one for all, by the lane that is the best so far."""
    entry(place / "sweep.json", read_object(place / "sweep.json") or {}, "spec", dict)
    done, working = (place / "result.json").exists(), at_work(place)
    found: list[Row] = []
    paths = sorted((place / "lanes").glob("*/"))
    for path in paths:
        try:
            if not lies_within(path, place):
                raise UserError("record-damaged", f"{path} is a link out of {place}")
            found.append(_row(path, top, working))
        except UserError as error:
            bad.append(error)
    if lanes or not found:
        return found
    good = [row for row in found if row.run.value is not None and row.state == "done"]
    sign = -1 if good and str(good[0].run.rule).startswith("-") else 1
    best = max(good, key=lambda row: sign * (row.run.value or 0), default=found[0])
    ended = sum(bool(row.run.result) for row in found)
    return [
        dataclasses.replace(
            best,
            name=place.relative_to(top).as_posix(),
            path=store.url(place) or str(place),
            state="done" if done else "running" if working else "stopped",
            steps=f"{ended}/{len(paths)} lanes",
            when=min((row.when for row in found if row.when), default=None),
        )
    ]


def where(rows: Sequence[Row], terms: Sequence[str]) -> list[Row]:
    """The rows that every one of the ``terms`` holds of, such as ``learning_rate<1e-3`` or ``data=mnist``; one
    that lacks a term's field or metric is left out.

    Raises:
      UserError: a term that is none, or whose name no row has.
    """
    tests = [_term(text, rows) for text in terms]
    return [row for row in rows if all(holds(row) for holds in tests)]


def _term(text: str, rows: Sequence[Row]) -> Callable[[Row], bool]:
    found = _TERM.fullmatch(text)
    if found is None:
        raise UserError(
            "where-malformed",
            f"--where {text!r}: write 'name<number', also with <=, >, >=, = or !=, in quotes for the shell",
        )
    name, sign, wanted = found.groups()
    check_names([name], rows)
    number = _number(wanted)
    if wanted[:1] in ("<", ">") and _number(wanted[1:]) is not None:
        raise UserError(
            "where-malformed", f"--where {text!r}: write {wanted[0]}=, not {sign}{wanted[0]}"
        )
    if sign in _ORDER and number is None:
        raise UserError(
            "where-malformed", f"--where {text!r}: {wanted!r} is no number to compare by"
        )

    def holds(row: Row) -> bool:
        value = row.get(name, _MISSING)
        if value is _MISSING:
            return False
        if sign in _ORDER:
            own = isinstance(value, int | float) and not isinstance(value, bool)
            return own and bool(_ORDER[sign](value, number or 0.0))
        return _equal(value, wanted) == (sign != "!=")

    return holds


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _equal(value: Any, text: str) -> bool:
    if isinstance(value, bool) or value is None:
        return text.lower() in (show(value), str(value).lower())
    if isinstance(value, int | float):
        return value == _number(text)
    if isinstance(value, list):
        if not value and text.lower() == show(value):
            return True
        words = " ".join(re.split(r"[,\s]+", re.sub(r"[()\[\]]", "", text).strip(" ,")))
        return words in (show(value) if value else "", " ".join(map(str, value)))
    return text == str(value)


def check_names(names: Sequence[str], rows: Sequence[Row]) -> None:
    """Raise UserError where no row has what a column is called."""
    known = dict.fromkeys(known for row in rows for known in row.names)
    for name in names if rows else ():
        if not {name, name.removeprefix("config."), name.replace("-", "_")} & known.keys():
            near = difflib.get_close_matches(name, known, n=5, cutoff=0.4) or OWN
            told = printable(", ".join(near))
            raise UserError(
                "unknown", f"no run here has a field or metric {name!r}: near are {told}"
            )


def ordered(rows: Sequence[Row], by: str) -> list[Row]:
    """The rows by a column, upwards, or downwards for ``-name``; those that lack it, or have NaN, come last."""
    name = by.removeprefix("-")
    check_names([name], rows)

    def lacks(row: Row) -> bool:
        value = row.get(name)
        return value is None or (isinstance(value, float) and math.isnan(value))

    def key(row: Row) -> tuple[bool, Any]:
        value = row.get(name)
        return (False, value) if isinstance(value, int | float) else (True, show(value))

    have = [row for row in rows if not lacks(row)]
    return sorted(have, key=key, reverse=by != name) + [row for row in rows if lacks(row)]


def best(rows: Sequence[Row], metric: str) -> Row:
    """The finished run with the highest ``metric``, or the lowest ``-metric``.

    Raises:
      UserError: there is none.
    """
    name = metric.removeprefix("-")
    found = ordered(
        [row for row in rows if row.state == "done"], name if name != metric else f"-{name}"
    )
    if (
        not found
        or not isinstance(found[0].get(name), int | float)
        or math.isnan(found[0].get(name))
    ):
        raise UserError("nothing-found", f"no finished run here has a number for {name!r}")
    return found[0]
