"""Tables: ``numerical``, ``categorical`` and ``label`` columns, as :mod:`dl.data.tables` types them."""

import dataclasses
from collections import Counter
from pathlib import Path
from typing import Any, Literal

import numpy as np

from dl.core.errors import UserError
from dl.data.batches.stored import StoredColumns
from dl.data.folded import part_of_fold, recut
from dl.data.own.columns import (
    OwnCells,
    group_of,
    joined,
    numbers_rows,
    read_cells,
    rows_of,
    split_column,
    table_too_large,
)
from dl.data.own.found import (
    Found,
    Line,
    assign,
    check_trained,
    column_called,
    own_info,
    sheet_options,
)
from dl.data.own.lines import prose
from dl.data.readers.column_types import label_alike, lacking, typed_alike, typed_column
from dl.data.readers.csv_text import plain
from dl.data.readers.frames import Frame, read_frame
from dl.data.sets.catalogue import load, load_table
from dl.data.sets.tables import FOLDED
from dl.data.splits import Columns, Info, Splits, folds
from dl.data.tables import (
    Table,
    cross_validation,
    described,
    fold_rows,
    seen,
    split,
    type_columns,
)

NAMED = ("adult", "statlog_landsat", *FOLDED)
OF_NAMED = ("numerical", "categorical", "label")
FOR_NAMED = ("folds", "fold")
_TARGETS = ("target", "label", "class", "y")
_USES = ("says the part", "groups rows", "orders the rows", "weighs the rows")
_SHOWN = 40  # columns; a wider table would scroll its target away


@dataclasses.dataclass(frozen=True)
class OwnTable(OwnCells):
    """Fields for the config of a script that takes a table of the user's own."""

    target: str | None = None
    """your column to predict; by default the one called target, label, class or y, else the last"""
    task: Literal["classification", "regression"] | None = None
    """what the target is, where the guess is wrong: words, and 20 or fewer whole numbers, are classes"""
    categorical: tuple[str, ...] = ()
    """your columns of numbers that are categories"""
    ignore: tuple[str, ...] = ()
    """your columns to leave out"""
    time: str | None = None
    """your column of times: the last rows by it are for test, those before for validation"""
    weight: str | None = None
    """your column that says how many rows each one stands for, in training and in scores"""
    stream: bool = False
    """keep your rows on disk, even if all fit into memory"""


def load_named(name: str, own: OwnTable) -> Splits:
    """A table that goes by a name; one without an official split is cut into five stratified folds."""
    if own.fold is None:
        return load(name)
    if name not in FOLDED:
        if own.folds is not None:
            return recut(load(name), own.folds, own.fold)
        raise UserError("split-fixed", f"{name} has an official split: leave --fold out")
    if own.folds is None:
        return cross_validation(*load_table(name), own.fold)
    table, info = load_table(name)
    strata = table.label if table.classes else np.zeros(len(table.label), np.int64)
    part = part_of_fold(folds(strata, own.folds), own.folds, own.fold)
    rows = {name: np.flatnonzero(part == name) for name in ("train", "validation", "test")}
    train, held, test = rows.values()
    splits = split(table, info, train, held, test, keep=True)
    splits.info.details["fold_rows"] = rows
    return splits


def read(source: Any, own: OwnTable) -> Found:
    """``numerical [rows, numbers]`` float64 with NaN where missing, ``categorical [rows, categories]`` int32 with
    0 where missing or never seen in training, and ``label [rows]``, int32 of a class or float64.

    ``info.details`` has the ``columns`` and the ``target``, by which :func:`read_alike` reads another file.
    """
    disk, memory = table_too_large(source, own.stream)
    frames, digests, left_out = read_cells(source, own, disk)
    left_out += memory
    first = frames[0][1]
    target = column_called(first, own.target, _TARGETS, "--target") or first.headings[-1]
    fixed = frames[0][0] or own.time or not own.fold is own.folds is None
    split = column_called(first, own.split, (), "--split") if fixed else split_column(frames, own)
    split = None if split in (target, *own.ignore) and not own.split else split
    frame, part, more = joined(frames, split if split != target else None, target)
    left_out += more
    of_rows = {"--split": split, "--group": own.group, "--time": own.time}
    of_rows["--weight"] = own.weight
    named = {**of_rows, "--categorical": own.categorical, "--ignore": own.ignore}
    for flag, given in named.items():
        for heading in (given,) if isinstance(given, str) else given or ():
            column_called(frame, heading, (), flag)
            if heading == target:
                raise UserError("options-exclusive", f"{flag} {heading}: that is the target too")
    rows = np.arange(frame.rows)
    if (gone := lacking(frame, target, own.task)).any() and not gone.all():
        left_out.append(Line("skipped", f"{gone.sum():,} rows", f"they have no {target}"))
        rows = rows[~gone]
    if own.time:
        rows = rows[np.argsort(_moments(frame, own.time)[rows], kind="stable")]
        own = dataclasses.replace(own, in_order=True)
    frame, part = rows_of(frame, rows), None if part is None else part[rows]
    why = zip(of_rows.values(), _USES, strict=True)
    used = {heading: said for heading, said in why if heading}
    plain = [heading for heading in first.headings if heading not in (target, *own.ignore, *used)]
    counting = [heading for heading in plain if numbers_rows(first, heading)]
    if len(counting) < len(plain):  # what is left to learn from
        used |= dict.fromkeys(counting, "numbers the rows")
    ignored = dict.fromkeys(own.ignore, "as asked") | used
    try:
        table = type_columns(
            frame, target, categorical=own.categorical, ignore=ignored, task=own.task
        )
    except UserError as error:
        if error.code == "table-no-columns" and (texts := prose(first)):
            error.message += f"; `dl run sentiment --text {texts[0]}` learns from texts"
        raise
    if own.weight:
        table = dataclasses.replace(table, weight=_weights(frame, own.weight, table))
    info = own_info("table", "table", digests, title=frame.name, classes=table.classes)
    strata = table.label if table.classes else None
    group = group_of(frame, own)
    found = Found({"label": table.label}, info, part=part, strata=strata, group=group)
    if own.fold is not None and own.folds is None:
        shares = own.hold_out != OwnTable.hold_out
        if part is not None or group is not None or own.in_order or shares:
            raise UserError(
                "options-exclusive",
                "--fold cuts the rows at random: leave it out where files, --split, --group, --time, --in-order "
                "or --hold-out say how they are cut",
            )
        _, held, test = fold_rows(table, own.fold)
        part = np.full(frame.rows, "train", "<U10")
        part[held], part[test] = "validation", "test"
        found = dataclasses.replace(found, part=part, how=f"fold {own.fold} of five is test")
    part, how = assign(found, own)
    trained = part == "train"
    check_trained(found, part)
    table, details = seen(table, np.flatnonzero(trained), keep=own.folds is not None)
    lines = (*left_out, *_lines(frame, table, own, used), *_remarks(table, details))
    info = dataclasses.replace(info, details=details)
    of_lines = frame.lines is not None and not disk  # a name for each row is long
    names = list(map(frame.place, range(frame.rows))) if of_lines else None
    found = dataclasses.replace(
        found, info=info, lines=lines, part=part, how=how, names=names, place=rows
    )
    return dataclasses.replace(found, rows=StoredColumns(table.arrays) if disk else table.arrays)


def _weights(frame: Frame, heading: str, table: Table) -> np.ndarray:
    """How many rows each stands for, float32 ``[rows]``."""
    column, values = typed_column(frame, heading, as_category=False, ignored="")
    if column.kind != "numerical" or column.missing or not (values > 0).all() or not table.classes:
        raise UserError(
            "weights-wrong",
            f"--weight {heading}: give a column with a number above 0 in every row, of a table whose target has "
            "classes",
        )
    return values.astype(np.float32)


def _moments(frame: Frame, heading: str) -> np.ndarray:
    """Times or numbers to sort rows by, float64 ``[rows]``."""
    column, values = typed_column(frame, heading, as_category=False, ignored="")
    if column.kind != "numerical" or column.missing:
        lacking = f"{column.missing} of its cells are empty" if column.missing else "it holds words"
        raise UserError(
            "times-not-dates",
            f"--time {heading}: {lacking}: give a column with a time or number in every row, or say how times "
            "are written by --dates",
        )
    return values


def _lines(frame: Frame, table: Table, own: OwnTable, used: dict[str, str]) -> list[Line]:
    """What each column was taken for, and the target with its classes."""
    *columns, (target, _, kind) = described(table)
    lines = [Line(name, kind, used.get(name, more)) for name, kind, more in columns[:_SHOWN]]
    if len(columns) > _SHOWN:
        rest = Counter(kind for _, kind, _ in columns[_SHOWN:])
        counts = ", ".join(f"{count} {kind}" for kind, count in rest.items())
        lines.append(Line("...", f"{len(columns) - _SHOWN} more", counts))
    if table.classes:
        rows = Counter(table.label.tolist()).most_common()
        kind += f": {', '.join(f'{plain(table.classes[c])}: {count:,}' for c, count in rows[:8])}"
        kind += ", ..." if len(rows) > 8 else ""
    elif np.ptp(table.label) > 0:
        kind += f", {table.label.min():.10g} ... {table.label.max():.10g}"
    kind += "" if own.target else " (proposed: --target names another)"
    return [Line("rows", f"{frame.rows:,}"), *lines, Line(target, "target", kind)]


def _remarks(table: Table, details: dict[str, Any]) -> list[Line]:
    """What was guessed of the whole file, and what the training rows do not show."""
    unseen = [
        f"{name}: {', '.join(map(plain, words[:4]))}{', ...' if len(words) > 4 else ''}"
        for name, words in details["unseen"].items()
    ]
    notes = [note for note in table.notes if not note.endswith("by comma")]
    said = {"guessed": notes, "check": details["notes"], "never in train": unseen}
    return [Line(name, "; ".join(notes)) for name, notes in said.items() if notes]


def read_alike(source: Any, info: Info, own: OwnTable) -> tuple[Columns, tuple[Line, ...]]:
    """The rows of another file as the table of ``info`` was taken, column by column and class by class, by name.

    Args:
      source: a file, a folder as :func:`read` takes it, or a frame. Its columns may stand in another order;
        others than those learned from are left out, and so may the target be missing: then there is no ``label``.
      info: of the splits that a model learned from, as :func:`read` or a named table gives it.
      own: how the cells are written.

    Returns:
      ``numerical``, ``categorical`` and ``label`` as in training, before any scaling, and what is to be shown.

    Raises:
      UserError: a column is missing, a cell of numbers holds none, or the target a class never trained on.
    """
    details, lines = info.details, list[Line]()
    columns = [column for column in details["columns"] if column.kind != "ignored"]
    target = details["target"]
    if isinstance(source, Path) and source.is_dir():
        wanted = [column.name for column in columns]
        frames, _, lines = read_cells(source, own)
        frame, _, told = joined(frames, None, target, wanted)
        lines += told
    else:
        frame = read_frame(source, **sheet_options(own))
    taken: dict[str, list[np.ndarray]] = {"numerical": [], "categorical": []}
    for column in columns:
        values, new = typed_alike(frame, column)
        if new:
            lines.append(
                Line(column.name, "missing", f"never in training: {', '.join(map(plain, new[:4]))}")
            )
        taken[column.kind].append(values)
    dtypes = {"numerical": np.float64, "categorical": np.int32}
    rows = {
        name: np.stack(arrays, 1).astype(dtypes[name])
        if arrays
        else np.zeros((frame.rows, 0), dtypes[name])
        for name, arrays in taken.items()
    }
    known = {target, *(column.name for column in details["columns"])}
    if more := [heading for heading in frame.headings if heading not in known]:
        lines.append(Line(", ".join(more[:4]), "left out", "not there in training"))
    if target not in frame.headings:
        return rows, (*lines, Line(target, "target", "not in this file: nothing to score by"))
    return rows | {"label": label_alike(frame, target, details["classes"])}, tuple(lines)
