"""The one reader of tables: csv of any kind, Parquet, Arrow, and frames of pandas, polars or pyarrow.

:func:`read_frame` gives a :class:`Frame`. Cells of a csv file stay text there; :func:`numbers`,
:func:`times` and :func:`words` convert one column, and mark the cells they cannot take.
"""

import dataclasses
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dl.core.errors import UserError
from dl.data.sources import damaged, read

# What people write for "no value", in lower case. In a column of words most of these could be a word
# of its own ("NA" is Namibia, "none" a kind of garage), so only WORDS_MISSING are missing there.
NUMBERS_MISSING = frozenset(
    (
        *(
            "",
            "?",
            "-",
            "--",
            "---",
            "—",
            "–",
            ".",
            "..",
            "n/a",
            "n.a.",
            "na",
            "nan",
            "-nan",
            "null",
        ),
        *("none", "nil", "missing", "unknown", "<na>", "nat", "#n/a", "#n/a n/a", "#na", "#null!"),
        *("#div/0!", "#value!", "#num!", "1.#qnan", "-1.#ind"),
    )
)
WORDS_MISSING = frozenset(
    ("", "?", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "NULL", "null", "NaT")
)

_SEPARATORS = "\t;|,"  # a comma last: it may be a decimal mark or stand in a sentence
_DATES = ("%d.%m.%Y", "%Y/%m/%d", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y")
_CLOCKS = ("", " %H:%M", " %H:%M:%S")
_BLOCK = 1 << 30  # bytes that pyarrow parses at once; a row may not be longer


@dataclasses.dataclass(frozen=True)
class Frame:
    """A table as read, before its columns are taken for numbers, times or words.

    Attributes:
      name: what messages call it.
      columns: a ``pyarrow.Table``. Every column of a csv file is text: null where nothing stands
        between two separators, "" where an empty pair of quotes does.
      lines: ``[rows]`` int64, the line of the file where each row of a csv file begins; None for
        Parquet, Arrow and frames, whose columns have types of their own.
      decimal, thousands: marks within a number; ``thousands`` is "" where there is none.
      missing: the cells that stand for no value in every column; None takes the usual ones.
      dates: the ``strptime`` format of times; None takes ISO 8601 and tries the usual others.
      notes: what was guessed, one sentence each, to be shown to the user.
    """

    name: str
    columns: Any
    lines: np.ndarray | None = None
    decimal: str = "."
    thousands: str = ""
    missing: tuple[str, ...] | None = None
    dates: str | None = None
    notes: tuple[str, ...] = ()

    @property
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
        shown = [f"{self.place(row)}: {_short(column[int(row)].as_py())}" for row in rows[:3]]
        return "; ".join(shown) + ("; ..." if len(rows) > 3 else "")


class Numbers(NamedTuple):
    """A column as numbers: ``values`` float64, NaN where ``missing`` or ``bad``, all ``[rows]``.

    ``bad`` cells are neither a finite number nor missing; ``marks`` counts the missing cells by what
    stood there ("" where nothing did).
    """

    values: np.ndarray
    missing: np.ndarray
    bad: np.ndarray
    marks: dict[str, int]


class Times(NamedTuple):
    """A column as times: ``values`` datetime64 (UTC), NaT where ``missing`` or ``bad``, all ``[rows]``.

    ``format`` says how they were read, for a note, and is "" where ISO 8601 or the type left no
    choice; ``choices`` are all usual formats that read every cell.
    """

    values: np.ndarray
    missing: np.ndarray
    bad: np.ndarray
    format: str
    choices: tuple[str, ...] = ()


def read_frame(
    source: Any,
    *,
    separator: str | None = None,
    decimal: str | None = None,
    thousands: str | None = None,
    missing: Sequence[str] | None = None,
    quote: str | None = None,
    encoding: str | None = None,
    header: bool | Sequence[str] | None = None,
    dates: str | None = None,
    name: str | None = None,
) -> Frame:
    """A table from a file or from Python. What None leaves open is guessed, and told in ``notes``.

    Args:
      source: a path of csv text (packed by gzip or not), Parquet, Arrow or Feather, the bytes of
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

    Raises:
      UserError: where the source is no table: rows of unequal length (named by line), headings that
        are empty or not all different, text that is not in ``encoding``, no rows.
    """
    marks = {"separator": separator, "quote": quote, "decimal": decimal, "thousands": thousands}
    _check_marks(marks, missing)
    if isinstance(source, str | os.PathLike):
        path = Path(source).expanduser()
        if not path.is_file():
            raise UserError(f"there is no file {path}")
        source, name = read(path), name or path.name
    name, notes = name or "the table", []
    if isinstance(source, bytes):
        typed = _typed_columns(source, name)
    else:
        typed = _frame_columns(source, name)
        if _has_index(source):
            notes.append("the frame's index is left out: reset_index() makes a column of it")
    if typed is not None:
        of_text = {"separator": separator, "quote": quote, "encoding": encoding, "header": header}
        for option, value in of_text.items():
            if value is not None:
                raise UserError(f"{option} is for csv text, and {name} is none: leave it out")
        frame = Frame(name, typed, notes=tuple(notes))
    else:
        text = _decoded(source, name, encoding)
        frame, separator = _text_frame(text, name, separator, quote, header)
    frame = dataclasses.replace(
        frame,
        decimal=decimal or ".",
        thousands=thousands or "",
        missing=None if missing is None else tuple(missing),
        dates=dates,
    )
    _check(frame)
    if typed is None and (decimal is None or thousands is None):
        frame = _with_guessed_marks(frame, separator or "", decimal, thousands)
    return frame


def _check_marks(marks: dict[str, str | None], missing) -> None:
    """Raises where what the user says of the marks in a file cannot be."""
    for what, mark in marks.items():
        may_be_empty = what in ("quote", "thousands")
        if mark is not None and len(mark) != 1 and not (mark == "" and may_be_empty):
            raise UserError(f"{what} must be one character, not {mark!r}")
    for what in ("separator", "quote"):
        if len((marks[what] or "").encode()) > 1:
            raise UserError(f"{what} must be a plain (ASCII) character, not {marks[what]!r}")
    if marks["decimal"] not in (None, ".", ","):
        raise UserError(f"decimal must be '.' or ',', not {marks['decimal']!r}")
    if marks["thousands"] and marks["thousands"] == (marks["decimal"] or "."):
        raise UserError("thousands and decimal must be different marks: say both")
    if isinstance(missing, str):
        raise UserError(f"missing must be a list of cells, such as ({missing!r},)")


def _text_frame(text: str, name: str, separator, quote, header) -> tuple[Frame, str]:
    """The :class:`Frame` of csv text, and its separator ("" for one column)."""
    notes = []
    skipped = 0  # lines before the first row
    if hint := re.match(r"sep=(.)(?:\r\n|\r|\n)", text):  # spreadsheets write and read it
        separator, text, skipped = separator or hint[1], text[hint.end() :], 1
    blank = re.match(r"(?: *(?:\r\n|\r|\n))*", text)
    assert blank is not None  # it may be empty
    skipped += len(_line_ends(blank[0]))
    text = text[blank.end() :]
    if not text.strip():
        raise UserError(f"{name} is empty")
    if quote is None:
        quote = _guess_quote(text)
        if quote != '"':
            notes.append(f"{quote} encloses cells")
    if separator is None:
        separator = _guess_separator(text, quote)
        notes.append(f"cells are separated by {_name(separator)}" if separator else "one column")
    if quote and separator and re.search(f"{re.escape(separator)} +{quote}", text):
        spaced = _without_spaces_before_quotes(text, separator, quote)
        if spaced != text:
            text = spaced
            notes.append(f"spaces between {_name(separator)} and {quote} are left out")
    columns, lines = _parsed(text, name, separator or "\x1f", quote, skipped)
    first = [(column[0].as_py() or "").strip() for column in columns.columns]
    names = [f"column_{place}" for place in range(1, len(first) + 1)]
    if isinstance(header, Sequence):
        names = [str(heading) for heading in header]
        if len(names) != len(first):
            raise UserError(f"{name} has {len(first)} columns, and header {len(names)} names")
    elif header or (header is None and _guess_header(first, columns)):
        names, columns, lines = first, columns.slice(1), lines[1:]
    elif header is None:
        notes.append(
            f"the first line ({', '.join(map(_short, first[:3]))}, ...) is a row, not headings, so "
            f"columns are named column_1 ... column_{len(first)}"
        )
    return Frame(name, columns.rename_columns(names), lines, notes=tuple(notes)), separator


def words(frame: Frame, heading: str) -> np.ndarray:
    """A column's cells as text without surrounding space: objects ``[rows]``, None where empty."""
    import pyarrow.compute as pc

    text = pc.utf8_trim_whitespace(_as_text(frame.columns.column(heading)))
    cells = np.array(text.to_pylist(), object)
    cells[cells == ""] = None
    return cells


def numbers(frame: Frame, heading: str) -> Numbers:
    """A column as numbers, by pyarrow's converter: ``1.5``, ``-2e3``, not ``12_3`` or ``0x1F``."""
    import pyarrow as pa
    import pyarrow.compute as pc

    column, types = frame.columns.column(heading), pa.types
    if types.is_null(column.type):
        column = column.cast(pa.float64())
    if _is_number(column.type):
        if types.is_float16(column.type):
            column = column.cast(pa.float32())
        values = column.cast(pa.float64(), safe=False).to_numpy().astype(np.float64)
        missing, bad = np.isnan(values), np.isinf(values)
        marks = {"": int(missing.sum())} if missing.any() else {}
        return Numbers(np.where(bad, np.nan, values), missing, bad, marks)
    cells = words(frame, heading)
    known = NUMBERS_MISSING if frame.missing is None else {"", *frame.missing}
    fold = str.lower if frame.missing is None else str
    index, unique = _unique(cells)
    absent = np.array([cell is None or fold(cell) in known for cell in unique], bool)
    like = re.compile(_pattern(frame.decimal, frame.thousands), re.ASCII)
    is_number = ~absent & np.array([bool(like.fullmatch(cell or "")) for cell in unique], bool)
    plain = [
        cell.replace(frame.thousands, "").replace(frame.decimal, ".")
        if frame.thousands
        else cell.replace(frame.decimal, ".")
        for cell in unique[is_number]
    ]
    values = np.full(len(unique), np.nan)
    values[is_number] = pc.cast(pa.array(plain, pa.string()), pa.float64()).to_numpy()
    values[np.isinf(values)] = np.nan  # such as 1e400
    bad = ~absent & np.isnan(values)
    counts = np.bincount(index, minlength=len(unique))
    marks = {unique[place] or "": int(counts[place]) for place in np.flatnonzero(absent)}
    return Numbers(values[index], absent[index], bad[index], marks)


def times(frame: Frame, heading: str) -> Times:
    """A column as times: ISO 8601 by pyarrow's converter, ``frame.dates``, or a usual format that reads
    every cell. Of several such formats the first is taken; ``choices`` has them all."""
    import pyarrow as pa
    import pyarrow.compute as pc

    column, types = frame.columns.column(heading), pa.types
    if types.is_date(column.type) or types.is_timestamp(column.type):
        values = column.to_numpy(zero_copy_only=False)
        if types.is_date(column.type):
            values = values.astype("datetime64[D]")
        missing = np.isnat(values)
        return Times(values, missing, np.zeros(len(values), bool), "")
    cells = words(frame, heading)
    known = NUMBERS_MISSING if frame.missing is None else {"", *frame.missing}
    fold = str.lower if frame.missing is None else str
    index, unique = _unique(cells)
    absent = np.array([cell is None or fold(cell) in known for cell in unique], bool)
    present = unique[~absent]
    values = np.full(len(unique), np.datetime64("NaT"), "datetime64[us]")

    def result(found, read=""):
        values[~absent] = found
        bad = ~absent & np.isnat(values)
        return Times(values[index], absent[index], bad[index], read)

    if frame.dates is not None:
        return result(_strptime(present, frame.dates), frame.dates)
    text = pa.array(present, pa.string())
    for kind in (pa.timestamp("us"), pa.timestamp("us", "UTC"), pa.timestamp("ns")):
        try:
            found = pc.cast(text, kind).to_numpy(zero_copy_only=False)
        except pa.ArrowInvalid:
            continue
        values = values.astype(found.dtype)
        return result(found)
    fits = []
    for read_as in (date + clock for clock in _CLOCKS for date in _DATES):
        found = _strptime(present, read_as, whole=True)
        if found is not None:
            fits.append((read_as, found))
    if fits:
        found = result(fits[0][1], fits[0][0])
        return found._replace(choices=tuple(read_as for read_as, _ in fits))
    return result([_iso(cell) for cell in present])


def _iso(cell: str) -> np.datetime64:
    """One cell that may be ISO 8601, NaT where it is not, so that the bad one of a column is named."""
    import pyarrow as pa
    import pyarrow.compute as pc

    for kind in (pa.timestamp("us"), pa.timestamp("us", "UTC")):
        try:
            return pc.cast(pa.array([cell]), kind).to_numpy(zero_copy_only=False)[0]
        except pa.ArrowInvalid:
            continue
    return np.datetime64("NaT")


def _strptime(cells, read_as: str, whole: bool = False) -> np.ndarray | None:
    """datetime64[us] of each cell, NaT where it does not fit; None there where ``whole``."""
    values = np.full(len(cells), np.datetime64("NaT"), "datetime64[us]")
    for place, cell in enumerate(cells):
        try:
            moment = datetime.strptime(cell, read_as)
        except ValueError:
            if whole:
                return None
            continue
        if moment.tzinfo is not None:
            moment = moment.astimezone(UTC).replace(tzinfo=None)
        values[place] = np.datetime64(moment, "us")
    return values if len(cells) or not whole else None


def _unique(cells: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``(index [rows], unique)`` of text cells, unique in order of appearance, None among them."""
    import pyarrow as pa

    coded = pa.array(cells, pa.string()).dictionary_encode(null_encoding="encode")
    return coded.indices.to_numpy(), np.array(coded.dictionary.to_pylist() or [], object)


def _as_text(column):
    """A pyarrow column as text; times and numbers as pyarrow spells them."""
    import pyarrow as pa

    try:
        if pa.types.is_dictionary(column.type):
            column = pa.array(column.to_pylist())  # pyarrow casts no dictionary of string_view
        return column.cast(pa.string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise UserError(f"cells of type {column.type} cannot be read as text ({error})") from None


def _is_number(kind) -> bool:
    import pyarrow as pa

    types = pa.types
    return types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind)


def _short(cell: Any) -> str:
    text = repr(cell)
    return text if len(text) <= 40 else text[:36] + "...'"


def _name(mark: str) -> str:
    names = {",": "comma", ";": "semicolon", "\t": "tab", ".": "point", " ": "space", "|": "bar"}
    return names.get(mark, "space" if mark.isspace() else mark)


def _check(frame: Frame) -> None:
    """Raises where the headings or the rows are none to work with."""
    empty = [place for place, heading in enumerate(frame.headings, 1) if not heading]
    if empty:
        raise UserError(
            f"{frame.name}: column {empty[0]} has no heading (an index that pandas wrote? Then use "
            "to_csv(index=False)): name every column in the first line"
        )
    twice = [heading for heading, count in Counter(frame.headings).items() if count > 1]
    if twice:
        raise UserError(
            f"{frame.name} has {twice[0]!r} more than once in its first line: name every column, each "
            "differently, or say header=False where that line is a row"
        )
    if not frame.rows:
        raise UserError(f"{frame.name} has no rows")


def _has_index(frame: Any) -> bool:
    """Whether a pandas frame's index is more than row numbers."""
    return type(getattr(frame, "index", None)).__name__.endswith("Index") and (
        type(frame.index).__name__ != "RangeIndex"
    )


def _frame_columns(source: Any, name: str):
    """A frame from Python as a ``pyarrow.Table``."""
    import pyarrow as pa

    try:
        if type(source).__module__.partition(".")[0] == "pandas" and hasattr(source, "columns"):
            return pa.Table.from_pandas(source, preserve_index=False).replace_schema_metadata()
        if isinstance(source, pa.Table):
            return source
        if (
            isinstance(source, Mapping | pa.RecordBatch)
            or hasattr(source, "__arrow_c_stream__")
            or hasattr(source, "__arrow_c_array__")
        ):
            return pa.table(source)
    except (pa.ArrowException, ValueError, TypeError) as error:
        raise UserError(f"{name} is no table of plain columns: {_line(error)}") from None
    raise UserError(f"{type(source).__name__} is no table: give a path or a frame")


def _typed_columns(data: bytes, name: str):
    """The ``pyarrow.Table`` of a Parquet, Arrow or Feather file, None where it is something else."""
    import pyarrow as pa

    try:
        if data[:4] == b"PAR1":
            from pyarrow import parquet

            return parquet.read_table(pa.BufferReader(data))
        if data[:6] == b"ARROW1" or data[:4] == b"FEA1":
            from pyarrow import feather

            return feather.read_table(pa.BufferReader(data))
        if data[:4] == b"\xff\xff\xff\xff":
            return pa.ipc.open_stream(data).read_all()
    except (pa.ArrowException, OSError) as error:
        raise damaged(Path(name), _line(error)) from None
    if data[:4] in (b"PK\x03\x04", b"\xd0\xcf\x11\xe0"):
        raise UserError(
            f"{name} is a spreadsheet or a zip archive: save the table as csv or Parquet"
        )
    return None


def _line(error: BaseException) -> str:
    return (str(error).splitlines() or [""])[0]


def _decoded(data: bytes, name: str, encoding: str | None) -> str:
    """The text of a csv file."""
    marks = {
        b"\xff\xfe\x00\x00": "utf-32",
        b"\x00\x00\xfe\xff": "utf-32",
        b"\xff\xfe": "utf-16",
        b"\xfe\xff": "utf-16",
    }
    found = next((kind for mark, kind in marks.items() if data.startswith(mark)), "utf-8")
    chosen = encoding or found
    if chosen == "utf-8" and data.count(0) > len(data) // 5:
        raise UserError(
            f"{name} holds a zero byte beside most characters: say encoding='utf-16-le' or 'utf-16-be'"
        )
    try:
        text = data.decode(chosen)
    except LookupError:
        raise UserError(f"encoding {encoding!r} is none that Python knows") from None
    except UnicodeDecodeError as error:
        if encoding is None and found == "utf-8":
            raise UserError(
                f"{name} is not UTF-8 text (byte {error.start}): say its encoding, often "
                "encoding='cp1252' for a file of Windows in Western Europe, or save it as UTF-8"
            ) from None
        raise UserError(f"{name} is not {chosen} text (byte {error.start})") from None
    return text.removeprefix("\ufeff")


def _line_ends(text: str) -> list[str]:
    return re.findall(r"\r\n|\r|\n", text)


def _quoted(quote: str) -> str:
    """A pattern of a whole cell within quotes."""
    return f"{quote}(?:[^{quote}]|{quote}{quote})*{quote}"


def _sample(text: str) -> str:
    """The first whole lines, enough to guess from."""
    if len(text) <= 200_000:
        return text
    return text[: max(text.rfind("\n", 0, 200_000), text.rfind("\r", 0, 200_000)) + 1 or None]


def _guess_quote(text: str) -> str:
    """``'`` where cells begin and end with it and none begins with ``"``."""
    sample = _sample(text)
    start, end = "(?:^|(?<=[\t;|,\r\n])) *", r" *(?=[\t;|,\r\n]|\Z)"
    if re.search(f'{start}"', sample):
        return '"'
    opened = len(re.findall(f"{start}'", sample))
    closed = len(re.findall(f"{start}'[^']*'{end}", sample))
    return "'" if opened and opened == closed else '"'


def _guess_separator(text: str, quote: str) -> str:
    """The mark that cuts most lines into as many cells as the first; "" where the first has none."""
    sample = _sample(text)
    if quote:
        sample = re.sub(rf"(?:^|(?<=[\t;|,\r\n ])){_quoted(quote)}", quote, sample)
    lines = [line for line in re.split(r"\r\n|\r|\n", sample) if line.strip(" ")]
    best, found = 0, ""
    for mark in _SEPARATORS:
        cells = lines[0].count(mark)
        agreeing = sum(line.count(mark) == cells for line in lines)
        if cells and agreeing > best:
            best, found = agreeing, mark
    return found


def _without_spaces_before_quotes(text: str, separator: str, quote: str) -> str:
    """``1, "Oslo, Norway"`` as ``1,"Oslo, Norway"``: pyarrow knows a quote at a cell's start alone."""
    pattern = f"({_quoted(quote)})|(?<={re.escape(separator)}) +(?={quote})"
    return re.sub(pattern, lambda match: match[1] or "", text)


def _parsed(text: str, name: str, separator: str, quote: str, skipped: int):
    """``(pyarrow.Table of text, lines [rows] int64)`` of csv text, the first line among its rows."""
    import pyarrow as pa
    import pyarrow.compute as pc
    from pyarrow import csv

    # Python's csv module leaves a carriage return in a cell without quotes where lines end in a line
    # feed (and so does pandas). pyarrow would end the row there, so it sees another character.
    stand_in = ""
    first_end = re.search(
        r"\r\n|\r|\n", re.sub(_quoted(quote), "", _sample(text)) if quote else text
    )
    if first_end and first_end[0] != "\r" and re.search(r"\r(?!\n)", text):
        stand_in = next(mark for mark in map(chr, range(0xE000, 0xF8FF)) if mark not in text)
    data = (re.sub(r"\r(?!\n)", stand_in, text) if stand_in else text).encode()
    ragged: list[tuple[int, int, int, str]] = []

    def keep(row):
        ragged.append((row.number, row.expected_columns, row.actual_columns, row.text))
        return "skip"

    def parse(columns: int):
        ragged.clear()
        return csv.read_csv(
            pa.BufferReader(data),
            csv.ReadOptions(
                use_threads=False,  # rows are numbered so
                block_size=min(len(data) + 1, _BLOCK),
                autogenerate_column_names=True,
            ),
            csv.ParseOptions(
                delimiter=separator,
                quote_char=quote or False,
                newlines_in_values=True,
                ignore_empty_lines=False,  # they count as lines
                invalid_row_handler=keep,
            ),
            csv.ConvertOptions(
                column_types={f"f{place}": pa.string() for place in range(columns)},
                strings_can_be_null=True,
                null_values=[""],
                quoted_strings_can_be_null=False,
            ),
        )

    first = text.splitlines()[0].count(separator) + 1
    try:
        table = parse(first)
        if table.num_columns > first:  # a heading holds a line end
            table = parse(table.num_columns)
    except pa.ArrowException as error:
        raise UserError(f"{name} is no table: {_line(error)}") from None
    if stand_in:
        columns = [pc.replace_substring(column, stand_in, "\r") for column in table.columns]
        table = pa.table(columns, names=table.column_names)
    # Every line is a row of the parser's, but for line ends within a cell.
    rows = table.num_rows
    dropped = np.array([number - 1 for number, *_ in ragged], np.int64)
    inside = np.zeros(rows + len(dropped), np.int64)
    kept = np.ones(len(inside), bool)
    kept[dropped] = False
    inside[kept] = _line_ends_inside(table, len(_line_ends(text)), len(inside))
    lines = np.arange(len(inside)) + 1 + skipped + np.concatenate([[0], np.cumsum(inside)[:-1]])
    for number, expected, actual, content in ragged:
        if content.strip():
            open_quote = quote and content.count(quote) % 2
            hint = f" (a {quote} is opened and never closed?)" if open_quote else ""
            raise UserError(
                f"{name}, line {lines[number - 1]}: {actual} cells, expected {expected}{hint}"
            )
    last = table.column(table.num_columns - 1)[rows - 1].as_py() or ""
    if _line_ends(last) and not text.rstrip("\r\n").endswith(quote or ""):
        raise UserError(
            f"{name}, line {lines[kept][-1]}: a {quote} is opened and never closed; the rest of the file "
            "would be one cell"
        )
    lines = lines[kept]
    if table.num_columns > 1:  # a line of nothing is no row; one of separators alone is
        empty = np.ones(rows, bool)
        for column in table.columns:
            if empty.any():
                empty &= column.is_null().to_numpy()
        if empty.any():
            plain = re.split(r"\r\n|\r|\n", text)
            for row in np.flatnonzero(empty):
                empty[row] = not plain[lines[row] - 1 - skipped]
            table, lines = table.filter(pa.array(~empty)), lines[~empty]
    return table, lines


def _line_ends_inside(table, ends: int, rows: int) -> np.ndarray:
    """How many line ends the cells of each row hold: int64 ``[rows]``."""
    import pyarrow.compute as pc

    found = np.zeros(table.num_rows, np.int64)
    if ends > rows:
        for column in table.columns:
            counts = pc.count_substring_regex(column, pattern=r"\r\n|\r|\n")
            found += counts.fill_null(0).to_numpy()
    return found


def _guess_header(first: Sequence[str], columns) -> bool:
    """Whether the first line names the columns: a word over numbers says so, a number over numbers or
    a cell that comes again below says no."""
    like = re.compile(r"[+-]?(\d[\d.,']*|[.,]\d+)([eE][+-]?\d+)?", re.ASCII)
    if [cell.strip() for cell in first] in (
        [str(place) for place in range(len(first))],
        ["", *(str(place) for place in range(len(first) - 1))],
    ) and len(first) > 2:
        return True  # pandas' names for columns that have none
    doubt = False
    for cell, column in zip(first, columns.columns, strict=True):
        cell, rest = cell.strip(), column.slice(1, 1000)
        below = [below.strip() for below in rest.to_pylist() if below and below.strip()]
        below = [cell for cell in below if cell.lower() not in NUMBERS_MISSING]
        number = bool(like.fullmatch(cell))
        if below and all(like.fullmatch(each) for each in below):
            if not number and cell and cell.lower() not in NUMBERS_MISSING:
                return True
            doubt |= number
        else:
            doubt |= number or cell in below
    return not doubt


def _pattern(decimal: str, thousands: str) -> str:
    """A regular expression of a number with these marks."""
    whole = r"\d+"
    if thousands:
        group = re.escape(thousands)
        whole = rf"(?:\d{{1,3}}(?:{group}\d{{3}})+|\d+)"
    point = re.escape(decimal)
    return rf"[+-]?(?:{whole}(?:{point}\d*)?|{point}\d+)(?:[eE][+-]?\d+)?"


def _with_guessed_marks(
    frame: Frame, separator: str, decimal: str | None, thousands: str | None
) -> Frame:
    """``frame`` with the decimal and thousands marks that make numbers of the most columns, then of the
    most cells.

    Where a comma separates cells, ``1,100`` within quotes has rather a thousands mark; elsewhere it
    has a decimal comma.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    columns = []  # columns that are mostly digits and marks, without the missing cells
    for column in frame.columns.columns:
        cells = pc.utf8_trim_whitespace(column)
        absent = pc.is_in(pc.utf8_lower(cells), pa.array(sorted(NUMBERS_MISSING)))
        cells = cells.filter(pc.invert(absent)).drop_null()
        like = pc.match_substring_regex(
            cells, r"^[+-]?[.,]?\d[\d.,' \x{a0}\x{202f}’]*([eE][+-]?\d+)?$"
        )
        if 2 * (pc.sum(like).as_py() or 0) > len(cells):
            columns.append(cells)
    marks = [",", "'", "\u00a0", "\u202f", "’"]
    if not any(pc.any(pc.match_substring(c, mark)).as_py() for c in columns for mark in marks):
        return frame
    choices = [(".", ""), (",", ""), (".", ","), (",", ".")]
    if separator == ",":
        choices = [(".", ""), (".", ","), (",", ""), (",", ".")]
    choices += [(point, mark) for mark in marks[1:] for point in ".,"]
    choices = [
        (decimal or point, mark if thousands is None else thousands) for point, mark in choices
    ]

    def worth(choice):
        pattern = f"^{_pattern(*choice)}$"
        hits = [pc.sum(pc.match_substring_regex(cells, pattern)).as_py() or 0 for cells in columns]
        return sum(n == len(c) for n, c in zip(hits, columns, strict=True)), sum(hits)

    point, group = max((c for c in choices if c[0] != c[1]), key=worth)  # the first of equals
    if (point, group) == (frame.decimal, frame.thousands):
        return frame
    between = f", {_name(group)} between thousands" if group else ""
    note = f"numbers have a decimal {_name(point)}{between}"
    return dataclasses.replace(frame, decimal=point, thousands=group, notes=(*frame.notes, note))
