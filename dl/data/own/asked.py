"""Tables without what is to be predicted, read by the module of their kind as if they had it."""

import dataclasses
import functools
import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dl.core.errors import UserError
from dl.data.own.classes import known_classes
from dl.data.own.found import Found, sheet_options
from dl.data.own.lines import text_table, texts_column
from dl.data.own.paths import files_in, is_table
from dl.data.readers.frames import Frame, read_frame
from dl.data.splits import Columns, Splits

ASKED = "(to be predicted)"


class Unlabelled(NamedTuple):
    """Rows to predict for; see :class:`dl.data.own.tested.Tested`."""

    rows: Any
    names: Columns
    back: Callable[[int, Any], Any] | None = None
    before: Columns | None = None


def tables_of(files: Sequence[Path]) -> list[Path]:
    """The files, and those in folders.

    Raises:
      UserError: there are none.
    """
    every = [below for path in files for below in files_in(path)]
    if not every:
        raise UserError("part-empty", f"there are no tables in {', '.join(map(str, files[:3]))}")
    return every


def numbered(files: Sequence[Path], counts: Sequence[int]) -> Columns:
    """Which file each row is of, and which row there, from 0."""
    file = np.repeat(texts_column([str(path) for path in files]), counts)
    return {"file": file, "row": np.concatenate([np.arange(count) for count in counts])}


def answered(
    files: Sequence[Path], own: Any, kind: str, reader: Callable[[Path], Frame], word: str
) -> tuple[list[Path], list[Found]]:
    """Tables as the kind's module reads them, with a column :data:`ASKED` of one ``word`` in place of what is
    to be predicted."""
    own = dataclasses.replace(own, split=None, group=None)
    every = tables_of(files)
    module, found = importlib.import_module(f"dl.data.own.{kind}"), []
    for path in every:
        if not is_table(path):
            raise UserError("set-of-another-kind", f"{path} is no table of {kind}")
        frame = reader(path)
        table = frame.columns.append_column(ASKED, [[word] * frame.rows])
        try:
            with known_classes():
                found.append(module.read(table, own))
        except UserError as error:
            error.message = f"{path}: {error.message}"
            raise
    return every, found


def joined(parts: Sequence[Columns]) -> Columns:
    """The rows of all parts, their labels ones that say nothing."""
    whole = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return {**whole, "label": np.zeros(len(whole["label"]), np.int32)}


def clips(files: Sequence[Path], own: Any, splits: Splits) -> Unlabelled:
    values = splits.info.details.get("values")
    if values is None:
        said = "only clips of a table of yours are predicted for"
        raise UserError("set-of-another-kind", f"{splits.info.title}: {said}")
    own = dataclasses.replace(own, label=ASKED, values=tuple(values))
    reader = functools.partial(read_frame, **sheet_options(own))
    every, found = answered(files, own, "clips", reader, "0")
    longest = max(part["values"].shape[1] for part in (*(x.rows for x in found), splits.train))
    rows = []
    for x in found:
        lacking = longest - x.rows["values"].shape[1]
        padded = np.pad(x.rows["values"], ((0, 0), (0, lacking), (0, 0)))
        rows.append({**x.rows, "values": padded})
    called = [[*(x.names or ())] for x in found]
    file = numbered(every, [len(names) for names in called])["file"]
    clip = texts_column([name for names in called for name in names])
    return Unlabelled(joined(rows), {"file": file, "clip": clip})


def questions(files: Sequence[Path], own: Any, splits: Splits) -> Unlabelled:
    word = "1" if own.choices else splits.info.classes[0]
    own = dataclasses.replace(own, answer=ASKED)
    reader = functools.partial(text_table, own=own)
    every, found = answered(files, own, "questions", reader, word)
    rows = [np.asarray(x.place) for x in found]
    file = numbered(every, [len(row) for row in rows])["file"]
    names = {"file": file, "row": np.concatenate(rows)}
    return Unlabelled(joined([x.rows for x in found]), names)


def records(files: Sequence[Path], own: Any, splits: Splits) -> Unlabelled:
    """The stays of folders, whose outcome is not looked at."""
    from dl.data.own.records import by_name, of_tables, tables_in

    details = splits.info.details
    if "variables" not in details:
        said = "only stays of a folder of yours are predicted for"
        raise UserError("set-of-another-kind", f"{splits.info.title}: {said}")
    own = dataclasses.replace(own, label=ASKED, split=None, group=None)
    parts, counts = [], []
    names: list[str] = []
    for path in files:
        events, stays = (read_frame(file, **sheet_options(own)) for file in tables_in(path))
        table = stays.columns.append_column(ASKED, [["0"] * stays.rows])
        with known_classes():
            asked = dataclasses.replace(stays, columns=table)
            found = of_tables(events, asked, path.name, own)
        rows = dict(found.rows)
        by_name(rows, found.info, details)
        parts.append(rows)
        names += found.names or ()
        counts.append(stays.rows)
    file = numbered(files, counts)["file"]
    return Unlabelled(joined(parts), {"file": file, "stay": texts_column(names)})


def purchases(files: Sequence[Path], own: Any, splits: Splits) -> Unlabelled:
    """The customers of a table, by all that they bought, or what they did before the day of ``cut``."""
    from dl.data.own.purchases import bought, day_of

    if len(files) != 1 or not is_table(files[0]):
        said = "customers are of one table of purchases at a time"
        raise UserError("set-of-another-kind", f"{files[0]}: {said}")
    found = bought(files[0], own)
    cut = day_of(own.cut) if own.cut else int(found.day.max()) + 1
    rows, names = found.customers(cut, round(7 * splits.info.details["weeks"]))
    return Unlabelled(rows, {"customer": texts_column(names)})
