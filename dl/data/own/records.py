"""Records of stays: a table of events at times of their own, and one of outcomes and what is fixed."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from dl.core.errors import UserError
from dl.data.irregular import hourly
from dl.data.own.classes import class_lines, coded
from dl.data.own.columns import OwnCells, column_lines, group_of, joined, split_column, taken
from dl.data.own.found import Found, Line, column_called, own_info, sheet_options, span
from dl.data.own.paths import is_table, plain_name, visible
from dl.data.readers.column_types import typed_column
from dl.data.readers.csv_text import plain
from dl.data.readers.files import digest_files
from dl.data.readers.frames import Frame, only_numbers, read_frame, words
from dl.data.splits import Columns, Info

NAMED = ("physionet2012",)
OF_NAMED = ("values", "static", "label")
_STAY = (
    "stay",
    "stay_id",
    "icustay_id",
    "hadm_id",
    "recordid",
    "record",
    "patient",
    "patient_id",
    "id",
)
_HOUR = ("hour", "hours", "time", "t")
_MINUTE = ("minute", "minutes", "offset")
_LABEL = (
    "label",
    "outcome",
    "target",
    "died_in_hospital",
    "in-hospital_death",
    "mortality",
    "class",
    "y",
)


@dataclasses.dataclass(frozen=True)
class OwnRecords(OwnCells):
    """Fields for the config of a script that takes records of stays, a folder of events.csv and stays.csv."""

    stay: str | None = None
    """your column of the stay, in both tables; by default the one called stay, patient, id, ..."""
    label: str | None = None
    """your column of the outcome, in stays.csv; by default the one called label, outcome, ..."""
    hours: int = 48
    """of a stay that are looked at; what comes later is never read"""


def read(source: Any, own: OwnRecords) -> Found:
    """``values [rows, hours, variables]``, ``static [rows, features]`` float32 with NaN, ``label [rows]`` int32.

    ``events`` has a row for each value: the stay, the time in hours (or a column called minute) since its
    beginning, the variable's name and the value; ``stays`` one for each stay: the outcome, fixed numbers, and
    perhaps its part or group.

    Raises:
      UserError: one of the two is missing or lacks a column, or a stay is named twice or has no outcome.
    """
    files = tables_in(source)
    events, stays = (read_frame(file, **sheet_options(own)) for file in files)
    found = of_tables(events, stays, source.name, own)
    digests = {path.name: digest_files([path]) for path in files}
    return dataclasses.replace(found, info=dataclasses.replace(found.info, digests=digests))


def tables_in(source: Any) -> tuple[Path, Path]:
    """The tables of events and of stays in a folder."""
    if not isinstance(source, Path) or not source.is_dir():
        raise UserError("folder-missing", f"{source}: give a folder with events.csv and stays.csv")
    files = {
        plain_name(path).partition(".")[0].lower(): path
        for path in visible(source)
        if is_table(path)
    }
    for name in ("events", "stays"):
        if name not in files:
            raise UserError(
                "file-missing",
                f"{source} has no {name}.csv: it is to hold events.csv and stays.csv",
            )
    return files["events"], files["stays"]


def of_tables(events: Frame, stays: Frame, title: str, own: OwnRecords) -> Found:
    """As :func:`read`, of the two tables."""
    stay = _column(stays, own.stay, _STAY, "--stay")
    label = _column(stays, own.label, _LABEL, "--label")
    split = split_column([("", stays)], own)
    said = words(stays, label)
    if none := [row for row, word in enumerate(said) if word is None]:
        places = f"{stays.place(none[0])} and {len(none) - 1:,} more" if none[1:] else "1"
        raise UserError(
            "label-missing",
            f"stays.csv has no outcome in {label!r} ({places}): leave such rows out",
        )
    known = {str(word): row for row, word in enumerate(words(stays, stay))}
    if len(known) < stays.rows:
        raise UserError(
            "stays-twice",
            f"stays.csv names {stays.rows - len(known):,} stays twice: keep a row each",
        )
    of = words(events, _column(events, own.stay, _STAY, "--stay"))
    row = np.array([known.get(str(word), -1) for word in of])
    minute = column_called(events, None, _MINUTE, "")
    clock = only_numbers(events, minute or _column(events, None, _HOUR, "hour"))
    clock = clock / 60 if minute else clock
    value = only_numbers(events, _column(events, None, ("value", "valuenum", "result"), "value"))
    called = words(
        events,
        _column(events, None, ("variable", "parameter", "name", "item", "itemid"), "variable"),
    )
    there = np.array([word is not None for word in called]) & ~np.isnan(value) & (clock >= 0)
    row, clock, value, called = (x[there] for x in (row, clock, value, called))
    names, code = np.unique([str(word) for word in called], return_inverse=True)
    kept, late = row >= 0, int((clock > own.hours).sum())
    grid = hourly(
        row[kept], clock[kept], code[kept], value[kept], (stays.rows, own.hours, len(names))
    )
    fixed, static = [], []
    for heading in stays.headings:
        if heading not in (stay, label, split, own.group):
            column, values = typed_column(stays, heading, as_category=False, ignored="")
            if column.kind == "numerical":
                fixed.append(heading)
                static.append(values)
    classes, number = coded([str(word) for word in said])
    used = {stay: taken("stay", "--stay", own.stay), label: taken("label", "--label", own.label)}
    used |= dict.fromkeys(fixed, ("fixed", ""))
    used |= {split: taken("part", "--split", own.split)} if split else {}
    used |= {own.group: ("group", "")} if own.group else {}
    lines = [
        *column_lines(stays, used),
        Line("stays", f"{stays.rows:,}", f"{own.hours} hours of each"),
        Line("variables", f"{len(names):,}", ", ".join(names[:6]) + ", ..." * (len(names) > 6)),
        Line("events a stay", span(np.bincount(row[kept], minlength=stays.rows))),
        *class_lines(classes, number, title),
    ]
    why = {
        f"after {own.hours} hours": late,
        "of stays that stays.csv lacks": int((~kept).sum()),
        "without a variable, a value or a time from 0 on": int((~there).sum()),
    }
    if skipped := {f"{count:,} {reason}": count for reason, count in why.items() if count}:
        lines.append(Line("skipped", f"{sum(skipped.values()):,} events", ", ".join(skipped)))
    details = {"variables": tuple(names.tolist()), "static": tuple(fixed)}
    info = own_info(title, "classification", {}, classes=classes, details=details)
    columns = {
        "values": grid,
        "static": np.stack(static, 1).astype(np.float32)
        if static
        else np.zeros((stays.rows, 0), np.float32),
        "label": number,
    }
    part, group = joined([("", stays)], split)[1], group_of(stays, own)
    ids = tuple(map(str, words(stays, stay)))
    return Found(columns, info, tuple(lines), part, strata=number, group=group, names=ids)


def by_name(rows: Columns, info: Info, trained: dict[str, Any]) -> None:
    """Bring the variables and the fixed numbers of stays into the places that they were ``trained`` in: a variable
    that no stay has is nowhere measured, and one that was not there then is left out."""
    variables = list(info.details["variables"])
    missing = np.full((*rows["values"].shape[:2], 1), np.nan, np.float32)
    places = [variables.index(x) if x in variables else -1 for x in trained["variables"]]
    rows["values"] = np.concatenate([rows["values"], missing], -1)[..., places]
    fixed = list(info.details["static"])
    if lacking := [name for name in trained["static"] if name not in fixed]:
        raise UserError(
            "column-unknown",
            f"{info.title} has no column {plain(lacking[0])} of numbers in stays.csv",
        )
    rows["static"] = rows["static"][:, [fixed.index(name) for name in trained["static"]]]


def _column(frame: Frame, given: str | None, guesses: tuple[str, ...], flag: str) -> str:
    found = column_called(frame, given, guesses, flag)
    if found is None:
        raise UserError(
            "column-unknown",
            f"{frame.name} has no column called {', '.join(guesses[:4])}, but {', '.join(frame.headings[:8])}: "
            f"rename one{f', or name it by {flag}' if flag.startswith('--') else ''}",
        )
    return found
