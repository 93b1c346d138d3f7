"""The one reader of tables: csv of any kind, JSON lines, Parquet, Arrow, and frames of pandas, polars or pyarrow.

:func:`read_frame` gives a :class:`Frame`. Cells of a csv file stay text there; :func:`numbers`,
:func:`times` and :func:`words` convert one column, and mark the cells they cannot take.
"""

import dataclasses
import functools
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dl.core.errors import UserError
from dl.data.readers.arrow_tables import file_columns, frame_columns, has_index, is_number
from dl.data.readers.csv_text import (
    NUMBERS_MISSING,
    first_line,
    guess_marks,
    number_pattern,
    short,
    text_columns,
)
from dl.data.readers.encodings import decoded
from dl.data.readers.files import read
from dl.data.readers.given import given_path
from dl.data.readers.on_disk import stored_file
from dl.data.readers.records import holds_records

# In a column of words most of NUMBERS_MISSING could be a word of its own ("NA" is Namibia, "none" a kind
# of garage), so only these are missing there.
WORDS_MISSING = frozenset(
    ("", "?", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "NULL", "null", "NaT")
)


@dataclasses.dataclass(frozen=True)
class Frame:
    """A table as read, before its columns are taken for numbers, times or words.

    Attributes:
      name: what messages call it.
      columns: a ``pyarrow.Table``. Every column of a csv file is text: null where nothing stands
        between two separators, "" where an empty pair of quotes does.
      lines: ``[rows]`` int64, the line of the file where each row of a csv file begins; None for
        JSON, Parquet, Arrow and frames, whose columns have types of their own.
      decimal, thousands: marks within a number; ``thousands`` is "" where there is none.
      missing: the cells that stand for no value in every column; None takes the usual ones.
      dates: the ``strptime`` format of times; None takes ISO 8601 and tries the usual others.
      notes: what was guessed, one sentence each, to be shown to the user.
      disk: whether the cells lie on disk, as what is made of them is to then.
    """

    name: str
    columns: Any
    lines: np.ndarray | None = None
    decimal: str = "."
    thousands: str = ""
    missing: tuple[str, ...] | None = None
    dates: str | None = None
    notes: tuple[str, ...] = ()
    disk: bool = False

    @functools.cached_property
    def headings(self) -> list[str]:
        """The columns' names, in order."""
        return self.columns.column_names

    @property
    def rows(self) -> int:
        """How many rows there are, headings not counted."""
        return self.columns.num_rows

    def place(self, row: int) -> str:
        """``line 14`` of a csv file, or ``row 13`` of a typed table (the first is 1)."""
        return f"row {row + 1}" if self.lines is None else f"line {self.lines[row]}"

    def show(self, heading: str, rows: Sequence[int] | np.ndarray) -> str:
        """The first cells of ``rows`` with their places: ``line 14: 'old'; line 20: 'new'; ...``."""
        column = self.columns.column(heading)
        shown = [f"{self.place(row)}: {short(column[int(row)].as_py())}" for row in rows[:3]]
        return "; ".join(shown) + ("; ..." if len(rows) > 3 else "")


class Numbers(NamedTuple):
    """A column as numbers: ``values`` float64, NaN where ``missing`` or ``bad``, all ``[rows]``.

    ``bad`` cells are neither a finite number nor missing; ``notes`` say what was taken for what;
    ``unit`` is days or seconds (since 1970) where they are times.
    """

    values: np.ndarray
    missing: np.ndarray
    bad: np.ndarray
    notes: tuple[str, ...] = ()
    unit: str = ""

    @property
    def present(self) -> int:
        """How many cells are not missing."""
        return int((~self.missing).sum())

    @property
    def numeric(self) -> bool:
        """Whether every cell that is not missing is a number."""
        return self.present > 0 and not self.bad.any()


def read_frame(
    source: Any,
    *,
    separator: str | None = None,
    decimal: str | None = None,
    thousands: str | None = None,
    missing: Sequence[str] | None = None,
    quote: str = '"',
    encoding: str | None = None,
    header: bool | Sequence[str] | None = None,
    dates: str | None = None,
    name: str | None = None,
    disk: bool = False,
) -> Frame:
    """A table from a file or from Python. What None leaves open is guessed, and told in ``notes``.

    Args:
      source: a path of csv text (packed by gzip or not), JSON lines, Parquet, Arrow or Feather, the bytes of
        one, or a frame: pandas, polars, pyarrow, a mapping of columns, or whatever else offers the
        Arrow C stream interface.
      separator: one character between the cells of csv text.
      decimal: "." or ",".
      thousands: one character between groups of three digits, such as "," or "'"; "" for none.
      missing: the cells that stand for no value, in every column, besides empty ones.
      quote: what encloses a cell that holds separators, quotes (doubled) or line ends; "" for none.
      encoding: of csv text, any name that Python knows. None takes UTF-8, or what a byte-order mark
        says.
      header: whether the first line of csv text names the columns, or the names themselves for a
        file whose first line holds cells.
      dates: ``strptime`` format of times, such as ``%d.%m.%Y``; None takes ISO 8601 first.
      name: what messages call it, by default the file's name.
      disk: whether to keep the cells on disk, for tables that are too large for memory.

    Raises:
      UserError: where the source is no table: rows of unequal length (named by line), headings that
        are empty or not all different, text that is not in ``encoding``, no rows.
    """
    marks = {"separator": separator, "quote": quote, "decimal": decimal, "thousands": thousands}
    _check_marks(marks, missing, dates)
    if isinstance(source, str | os.PathLike):
        path = given_path(source)
        if not path.is_file():
            raise UserError("file-missing", f"there is no file {path}")
        name = name or path.name
        source = path if disk or holds_records(path) else read(path)
    name, notes = name or "the table", []
    text = None  # as text_columns gives it
    if isinstance(source, Path):
        typed, *text = stored_file(source, name, separator, quote, header, encoding)
    elif isinstance(source, bytes):
        typed = file_columns(source, name)
    else:
        typed = frame_columns(source, name)
        if has_index(source):
            notes.append("the frame's index is left out: reset_index() makes a column of it")
    if typed is None:
        typed, *text = text_columns(decoded(source, name, encoding), name, separator, quote, header)
    if not text:
        of_text = {"separator": separator, "encoding": encoding, "header": header}
        for option in (option for option, value in of_text.items() if value is not None):
            said = f"{option}= is for csv text, and {name} is none: leave it out"
            raise UserError("option-misplaced", said)
        frame = Frame(name, typed, notes=tuple(notes))
    else:
        lines, separator, notes = text
        frame = Frame(name, typed, lines, notes=tuple(notes))
    frame = dataclasses.replace(
        frame, decimal=decimal or ".", thousands=thousands or "", dates=dates, disk=disk
    )
    frame = dataclasses.replace(frame, missing=None if missing is None else tuple(missing))
    _check(frame)
    if frame.lines is None or (decimal is not None and thousands is not None):
        return frame
    decimal, thousands, found = guess_marks(frame.columns, separator or "", decimal, thousands)
    return dataclasses.replace(
        frame, decimal=decimal, thousands=thousands, notes=(*frame.notes, *found)
    )


def _check_marks(marks: dict[str, str | None], missing, dates: str | None) -> None:
    """Raises where what the user says of the marks in a file cannot be."""
    decimal, thousands, wrong = marks["decimal"], marks["thousands"], []
    for what, mark in marks.items():
        if mark is not None and len(mark) != 1 and (mark or what not in ("quote", "thousands")):
            wrong.append(f"{what}= must be one character, not {mark!r}")
        elif what == "separator" and mark in ("\r", "\n"):
            wrong.append("separator= cannot be the end of a line")
        elif mark == "\0":
            wrong.append(f"{what}= cannot be a zero byte, which no file of text has")
        elif what in ("separator", "quote") and len((mark or "").encode()) > 1:
            wrong.append(f"{what}= must be a plain (ASCII) character, not {mark!r}")
    if decimal not in (None, ".", ","):
        wrong.append(f"decimal= must be '.' or ',', not {decimal!r}")
    if thousands and thousands == (decimal or "."):
        wrong.append("thousands= and decimal= must be different marks: say both")
    if isinstance(missing, str):
        wrong.append(f"missing= must be a list of cells, such as ({missing!r},)")
    try:
        known = datetime.now(UTC)
        fits = dates is None or (datetime.strptime(known.strftime(dates), dates) and "%" in dates)
    except (ValueError, re.error):
        fits = False
    if not fits:
        wrong.append(f"dates={dates!r} is no format of times: write one such as dates='%d.%m.%Y'")
    if wrong:
        raise UserError("table-options", wrong[0])


def first_rows(frame: Frame, rows: int, heading: str | None = None) -> Frame:
    """The first rows of a frame, or of one column, as which it takes a wide table no longer than a narrow one."""
    lines = None if frame.lines is None else frame.lines[:rows]
    columns = frame.columns if heading is None else frame.columns.select([heading])
    return dataclasses.replace(frame, columns=columns.slice(0, rows), lines=lines)


def words(frame: Frame, heading: str) -> np.ndarray:
    """A column's cells as text without surrounding space: objects ``[rows]``, None where empty."""
    index, different = coded_words(frame, heading)
    return different[index]


def coded_words(frame: Frame, heading: str) -> tuple[np.ndarray, np.ndarray]:
    """:func:`words` as ``(index [rows], different)``: what row ``i`` holds is ``different[index[i]]``, and
    every text, or None, stands in ``different`` once, in order of appearance."""
    import pyarrow.compute as pc

    code: dict[str | None, int] = {}
    indices = []
    for chunk in frame.columns.column(heading).chunks:
        text = pc.utf8_trim_whitespace(_as_text(chunk, heading))
        text = pc.if_else(pc.equal(text, ""), None, text)
        coded = text.dictionary_encode(null_encoding="encode")
        mine = [code.setdefault(cell, len(code)) for cell in coded.dictionary.to_pylist()]
        indices.append(np.array(mine, np.int32)[coded.indices.to_numpy()])
    different = np.empty(len(code), object)
    different[:] = list(code)
    return np.concatenate([*indices, np.zeros(0, np.int32)]), different


def numbers(frame: Frame, heading: str) -> Numbers:
    """A column as numbers, by pyarrow's converter: ``1.5``, ``-2e3``, not ``12_3`` or ``0x1F``."""
    import pyarrow as pa

    column, types = frame.columns.column(heading), pa.types
    if types.is_null(column.type):
        column = column.cast(pa.float64())
    if is_number(column.type):
        if types.is_float16(column.type):
            column = column.cast(pa.float32())
        values = column.cast(pa.float64(), safe=False).to_numpy().astype(np.float64)
        missing, bad = np.isnan(values), np.isinf(values)
        return Numbers(np.where(bad, np.nan, values), missing, bad)
    marks: Counter = Counter()
    found = []
    for chunk in chunks(frame, heading):
        index, unique = coded_words(chunk, heading)
        absent = _absent(frame, unique)
        values = np.full(len(unique), np.nan)
        values[~absent] = to_numbers(unique[~absent], frame.decimal, frame.thousands)
        values[np.isinf(values)] = np.nan  # such as 1e400
        bad = ~absent & np.isnan(values)
        counts = np.bincount(index, minlength=len(unique))
        marks.update({unique[n]: counts[n] for n in np.flatnonzero(absent) if unique[n]})
        found.append((values[index], absent[index], bad[index]))
    shown = ", ".join(f"{mark!r} {count}" for mark, count in sorted(marks.items()))
    notes = (f"taken as missing: {shown}",) if marks else ()
    of_all, missing, wrong = map(np.concatenate, zip(*found, strict=True))
    return Numbers(of_all, missing, wrong, notes)


def only_numbers(frame: Frame, heading: str, remedy: str = "mend them") -> np.ndarray:
    """A column of numbers as float64 ``[rows]``, NaN where a cell is missing.

    Raises:
      UserError: another cell is no number.
    """
    found = numbers(frame, heading)
    if found.bad.any():
        bad = frame.show(heading, np.flatnonzero(found.bad))
        said = f"{frame.name}, column {heading!r} has cells that are no numbers ({bad}): {remedy}"
        raise UserError("cell-unreadable", said)
    return found.values


def chunks(frame: Frame, heading: str) -> Iterator[Frame]:
    """The frame's one column, as many rows at a time as lie together."""
    import pyarrow as pa

    for chunk in frame.columns.column(heading).chunks:
        yield dataclasses.replace(frame, columns=pa.table({heading: chunk}), lines=None)


def _absent(frame: Frame, cells: np.ndarray) -> np.ndarray:
    """Which cells stand for no value in a column of numbers or times."""
    if frame.missing is not None:
        return np.array([cell is None or cell in frame.missing for cell in cells], bool)
    import pyarrow as pa
    import pyarrow.compute as pc

    text = pc.utf8_lower(pa.array(cells, pa.string()))
    absent = pc.is_in(text, pa.array([*sorted(NUMBERS_MISSING), None]))
    return absent.to_numpy(zero_copy_only=False)


def to_numbers(cells: Sequence[str], decimal: str = ".", thousands: str = "") -> np.ndarray:
    """float64 of each cell, NaN where it is no number with these marks."""
    import pyarrow as pa
    import pyarrow.compute as pc

    text, values = pa.array(cells, pa.string()), np.full(len(cells), np.nan)
    like = pc.match_substring_regex(text, f"^(?:{number_pattern(decimal, thousands)})$")
    plain = text.filter(like)
    if thousands:
        plain = pc.replace_substring(plain, thousands, "")
    if decimal != ".":
        plain = pc.replace_substring(plain, decimal, ".")
    values[like.to_numpy(zero_copy_only=False)] = pc.cast(plain, pa.float64()).to_numpy()
    return values


def _as_text(column, heading: str):
    """A pyarrow column as text; times and numbers as pyarrow spells them."""
    import pyarrow as pa

    try:
        if pa.types.is_dictionary(column.type):
            column = pa.array(column.to_pylist())  # pyarrow casts no dictionary of string_view
        return column.cast(pa.string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise UserError(
            "cell-unreadable",
            f"column {heading!r} has cells of type {column.type}, which are not read as text "
            f"({first_line(error)}): leave it out, or write it as text",
        ) from None


def _check(frame: Frame) -> None:
    """Raises where the headings or the rows are none to work with."""
    empty = [place for place, heading in enumerate(frame.headings, 1) if not heading]
    if empty:
        raise UserError(
            "table-no-heading",
            f"{frame.name}: column {empty[0]} has no heading (an index that pandas wrote? Then use "
            "to_csv(index=False)): name every column in the first line",
        )
    twice = [heading for heading, count in Counter(frame.headings).items() if count > 1]
    if twice:
        raise UserError(
            "table-heading-twice",
            f"{frame.name} has {twice[0]!r} more than once in its first line: name every column, each "
            "differently, or say header=False where that line is a row",
        )
    if not frame.rows:
        raise UserError("table-empty", f"{frame.name} has no rows")
