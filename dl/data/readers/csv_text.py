"""csv text as columns of text: its encoding, separator, headings and marks within numbers, guessed
where the user does not say them. :func:`dl.data.readers.frames.read_frame` is the door to it."""

import csv
import io
import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from dl.core.errors import UserError

# What people write for "no value" where numbers or times are expected, in lower case.
NUMBERS_MISSING = frozenset(
    (
        *("", "?", "-", "--", "---", "—", "–", ".", "..", "n/a", "n.a.", "na", "nan", "-nan"),
        *("null", "none", "nil", "missing", "unknown", "<na>", "nat", "#n/a", "#n/a n/a"),
        *("#na", "#null!", "#div/0!", "#value!", "#num!", "1.#qnan", "-1.#ind"),
    )
)

SAID = re.compile(r"sep=(.)(?:\r\n|\r|\n)")  # spreadsheets write and read it
BLANKS = "cells are separated by blanks"
_SEPARATORS = "\t;|,"  # a comma last: it may be a decimal mark or stand in a sentence
_BLOCK = 1 << 30  # bytes that pyarrow parses at once; a row may not be longer


def csv_line(cells: Iterable[Any]) -> str:
    """A row of csv, with its end.

    Python's writer, told to end rows in a line feed, leaves a carriage return in a cell bare (before 3.13), which
    every reader takes for a row's end.

    >>> csv_line(["a\\rb", 1.5, None])
    '"a\\rb",1.5,\\n'
    """
    text = io.StringIO()
    csv.writer(text).writerow(cells)
    return text.getvalue().removesuffix("\r\n") + "\n"


def text_columns(
    text: str, name: str, separator: str | None, quote: str, header: bool | Sequence[str] | None
) -> tuple[Any, np.ndarray, str, list[str]]:
    """csv text as ``(columns, lines, separator, notes)``.

    ``columns`` is a ``pyarrow.Table`` of text, ``lines [rows]`` int64 are those of the file that rows begin
    in, ``separator`` is "" for one column, ``notes`` say what was guessed. Arguments as in
    :func:`dl.data.readers.frames.read_frame`.
    """
    notes = []
    skipped = 0  # lines before the first row
    if hint := SAID.match(text):
        separator, text, skipped = separator or hint[1], text[hint.end() :], 1
        if not separator.isascii() or separator == "\0":
            said = f"{name} begins with sep={separator}, which is no plain (ASCII) character: say separator="
            raise UserError("table-options", said)
    blank = re.match(r"(?: *(?:\r\n|\r|\n))*", text)
    assert blank is not None  # it may be empty
    skipped += len(line_ends(blank[0]))
    text = text[blank.end() :]
    if not text.strip():
        raise UserError("table-empty", f"{name} is empty")
    if separator in (None, " ") and (spread := blank_cut(text, quote, separator)):
        text, separator = spread, "\t"
        notes.append(BLANKS)
    elif separator is None:
        separator = guess_separator(text, quote)
        notes.append(f"cells are separated by {_name(separator)}" if separator else "one column")
    if quote and separator and f" {quote}" in text:
        spaced = without_spaces_before_quotes(text, separator, quote)
        if spaced != text:
            text = spaced
            notes.append(f"spaces between {_name(separator)} and {quote} are left out")
    cut = separator or unused(text, name)
    columns, lines = parsed(text, name, cut, quote, skipped)
    first = [(column[0].as_py() or "").strip() for column in columns.columns]
    names = [f"column_{place}" for place in range(1, len(first) + 1)]
    if isinstance(header, Sequence):
        names = [str(heading) for heading in header]
        if len(names) != len(first):
            raise UserError(
                "table-header-count",
                f"{name} has {len(first)} columns, and header= gives {len(names)} names",
            )
    elif header or (header is None and _guess_header(first, columns)):
        names, columns, lines = first, columns.slice(1), lines[1:]
    elif header is None:
        notes.append(
            f"the first line ({', '.join(map(short, first[:3]))}, ...) is a row, not headings, so "
            f"columns are named column_1 ... column_{len(first)}"
        )
    return columns.rename_columns(names), lines, separator, notes


def unused(text: str, name: str, codes: Iterable[int] = (*range(14, 32), *range(1, 9))) -> str:
    """A character that the text does not have, to cut it by or to stand for another."""
    for mark in map(chr, codes):
        if mark not in text:
            return mark
    raise UserError(
        "not-a-table",
        f"{name} is no table: no character is left that could stand between its cells",
    )


def line_ends(text: str) -> list[str]:
    """Every line end of a text."""
    return re.findall(r"\r\n|\r|\n", text)


def row_end(text: str, quote: str) -> str:
    """The first line end outside quotes, "" where there is none."""
    shown = re.sub(_quoted(quote), "", _sample(text)) if quote else text
    return found[0] if (found := re.search(r"\r\n|\r|\n", shown)) else ""


def _quoted(quote: str) -> str:
    """A pattern of a whole cell within quotes."""
    mark = re.escape(quote)
    return f"{mark}(?:[^{mark}]|{mark}{mark})*{mark}"


def _sample(text: str) -> str:
    """The first whole lines, enough to guess from."""
    if len(text) <= 200_000:
        return text
    return text[: max(text.rfind("\n", 0, 200_000), text.rfind("\r", 0, 200_000)) + 1 or None]


def blank_cut(text: str, quote: str, given: str | None) -> str:
    """``text`` with a tab for every run of blanks where these cut all lines into as many cells, of which a column
    is of numbers; else of runs of two blanks and more, as tables that are aligned have them; else ""."""
    first, *more = [line for line in re.split(r"\r\n|\r|\n", _sample(text)) if line.strip()]
    other = r"[;|]|,(?!\d)|(?<!\d)," + ("|\t" if not re.search(r"\d\.? +[\d.]", first) else "")
    if " " not in first or (re.search(other, first) and not given):
        return ""
    cell = rf"{_quoted(quote)}(?!\S)|\S+" if quote else r"\S+"
    for pattern in map(re.compile, (cell, r"\S+(?: \S+)*")):
        rows = [pattern.findall(line) for line in (first, *more)]
        if len({*map(len, rows)}) > 1 or len(rows[0]) < 2 + first.count("\t"):
            continue
        columns = zip(*(rows[1:1001] or rows), strict=True)
        if given or any(all(map(_NUMBER.fullmatch, column)) for column in columns):
            ends = re.split(r"(\r\n|\r|\n)", text)
            return "".join("\t".join(pattern.findall(line)) or line for line in ends)
    return ""


# A cell of a column of numbers, missing ones too.
_NUMBER = re.compile(r"[+-]?(?:\d[\d.,]*|[.,]\d+)(?:[eE][-+]?\d+)?|\?|na|nan|-", re.I)


def guess_separator(text: str, quote: str) -> str:
    """The mark that cuts most lines into as many cells as the first; else ""."""
    sample = _sample(text)
    if quote:
        sample = re.sub(rf"(?:^|(?<=[\t;|,\r\n ])){_quoted(quote)}", "quoted", sample)
    lines = [line for line in re.split(r"\r\n|\r|\n", sample) if line.strip(" ")]
    best, found = 0, ""
    for mark in _SEPARATORS:
        cells = lines[0].count(mark)
        agreeing = sum(line.count(mark) == cells for line in lines)
        if cells and agreeing > best:
            best, found = agreeing, mark
    return found


def without_spaces_before_quotes(text: str, separator: str, quote: str) -> str:
    """``1, "Oslo, Norway"`` as ``1,"Oslo, Norway"``: pyarrow knows a quote at a cell's start alone."""
    pattern = f"({_quoted(quote)})|(?<={re.escape(separator)}) +(?={re.escape(quote)})"
    return re.sub(pattern, lambda match: match[1] or "", text)


def parsed(text: str, name: str, separator: str, quote: str, skipped: int):
    """``(pyarrow.Table of text, lines [rows] int64)`` of csv text, the first line among its rows."""
    import pyarrow as pa
    import pyarrow.compute as pc
    from pyarrow import csv

    # Python's csv module leaves a carriage return in a cell without quotes where lines end in a line
    # feed (and so does pandas). pyarrow would end the row there, so it sees another character.
    stand_in = ""
    if row_end(text, quote) not in ("", "\r") and re.search(r"\r(?!\n)", text):
        stand_in = unused(text, name, range(0xE000, 0xF8FF))
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

    first = re.split(r"[\r\n]", text, maxsplit=1)[0].count(separator) + 1
    try:
        table = parse(first)
        if table.num_columns > first:  # a heading holds a line end
            table = parse(table.num_columns)
    except pa.ArrowException as error:
        raise UserError("not-a-table", f"{name} is no table: {first_line(error)}") from None
    if stand_in:
        columns = [pc.replace_substring(column, stand_in, "\r") for column in table.columns]
        table = pa.table(columns, names=table.column_names)
    # Every line is a row of the parser's, but for line ends within a cell.
    rows = table.num_rows
    dropped = np.array([number - 1 for number, *_ in ragged], np.int64)
    inside = np.zeros(rows + len(dropped), np.int64)
    kept = np.ones(len(inside), bool)
    kept[dropped] = False
    inside[kept] = _line_ends_inside(table, len(line_ends(text)), len(inside))
    lines = np.arange(len(inside)) + 1 + skipped + np.concatenate([[0], np.cumsum(inside)[:-1]])
    for number, expected, actual, content in ragged:
        if content.strip():
            open_quote = quote and content.count(quote) % 2
            hint = f" (a {quote} is opened and never closed?)" if open_quote else ""
            raise UserError(
                "table-ragged",
                f"{name}, line {lines[number - 1]}: {actual} cells, expected {expected}{hint}: give that line as "
                "many as the others have, and put quotes around a cell that holds the separator",
            )
    last = table.column(table.num_columns - 1)[rows - 1].as_py() or ""
    goes_on = "\n" in last if stand_in else bool(line_ends(last))
    if goes_on and not text.rstrip("\r\n").endswith(quote):
        raise UserError(
            "table-open-quote",
            f"{name}, line {lines[kept][-1]}: a {quote} is opened and never closed; the rest of the file "
            "would be one cell",
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
    """Whether the first line names the columns: a word over numbers says so; a number, or cells that
    come again below them in most columns (and more than one), say no."""
    like = re.compile(r"[+-]?(\d[\d.,']*|[.,]\d+)([eE][+-]?\d+)?", re.ASCII)
    if [cell.strip() for cell in first] in (
        [str(place) for place in range(len(first))],
        ["", *(str(place) for place in range(len(first) - 1))],
    ) and len(first) > 2:
        return True  # pandas' names for columns that have none
    doubt, again = False, 0
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
            doubt |= number
            again += cell in below
    return not doubt and (again < 2 or 2 * again <= len(first))


def number_pattern(decimal: str, thousands: str) -> str:
    """A regular expression of a number with these marks."""
    whole = r"\d+"
    if thousands:
        group = re.escape(thousands)
        whole = rf"(?:\d{{1,3}}(?:{group}\d{{3}})+|\d+)"
    point = re.escape(decimal)
    return rf"[+-]?(?:{whole}(?:{point}\d*)?|{point}\d+)(?:[eE][+-]?\d+)?"


def guess_marks(
    table: Any, separator: str, decimal: str | None, thousands: str | None
) -> tuple[str, str, list[str]]:
    """``(decimal, thousands, notes)``: the marks that make numbers of the most columns of text, then of
    the most cells.

    Where a comma separates cells, ``1,100`` within quotes has rather a thousands mark; elsewhere it
    has a decimal comma.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    plain = decimal or ".", thousands or ""
    marks = [",", "'", "\u00a0", "\u202f", "’"]
    choices = [(".", ""), (",", ""), (".", ","), (",", ".")]
    if separator == ",":
        choices = [(".", ""), (".", ","), (",", ""), (",", ".")]
    choices += [(point, mark) for mark in marks[1:] for point in ".,"]
    choices = [
        (decimal or point, mark if thousands is None else thousands) for point, mark in choices
    ]

    choices = [choice for choice in choices if choice[0] != choice[1]]
    like = r"^[+-]?[.,]?\d[\d.,' \x{a0}\x{202f}’]*([eE][+-]?\d+)?$"
    patterns = [f"^{number_pattern(*choice)}$" for choice in choices]

    def hits(column, patterns: Sequence[str]) -> np.ndarray:
        """How many cells there are but for missing ones, and how many are like each pattern, chunk by chunk."""
        found = np.zeros(1 + len(patterns), np.int64)
        for chunk in column.chunks:
            cells = pc.utf8_trim_whitespace(chunk)
            absent = pc.is_in(pc.utf8_lower(cells), pa.array(sorted(NUMBERS_MISSING)))
            cells = cells.filter(pc.invert(absent)).drop_null()
            like = (pc.sum(pc.match_substring_regex(cells, p)).as_py() or 0 for p in patterns)
            found += [len(cells), *like]
        return found

    found = [(column, *hits(column, [like, f"[{''.join(marks)}]"])) for column in table.columns]
    found = [each for each in found if 2 * each[2] > each[1]]  # mostly digits and marks
    if not any(marked for *_, marked in found):
        return *plain, []
    counts = np.array([hits(column, patterns) for column, *_ in found])
    of_all, total = (counts[:, 1:] == counts[:, :1]).sum(0), counts[:, 1:].sum(0)
    best = max(range(len(choices)), key=lambda place: (of_all[place], total[place]))
    point, group = choices[best]  # the first of equals
    if (point, group) == plain:
        return *plain, []
    between = f", {_name(group)} between thousands" if group else ""
    return point, group, [f"numbers have a decimal {_name(point)}{between}"]


def _name(mark: str) -> str:
    """A mark as a sentence names it."""
    names = {",": "comma", ";": "semicolon", "\t": "tab", ".": "point", " ": "space", "|": "bar"}
    return names.get(mark, "space" if mark.isspace() else mark)


def short(cell: Any) -> str:
    """A cell as messages show it."""
    text = repr(cell)
    return text if len(text) <= 40 else text[:36] + "...'"


def plain(cell: str) -> str:
    """A cell as tables of text show it: on one line, not too long, and without quotes where it can be."""
    return cell if cell.isprintable() and len(cell) <= 40 else short(cell)


def first_line(error: BaseException) -> str:
    """What a library's error says, on one line."""
    text = ": ".join(map(str, error.args))
    return (text.splitlines() or [""])[0]
