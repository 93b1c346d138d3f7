"""What kinds that are read from tables share: tables by part, their columns, and what each is taken for."""

import dataclasses
import functools
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from dl.core.errors import UserError
from dl.data.own.classes import are_known
from dl.data.own.found import (
    Line,
    OwnFiles,
    OwnSheet,
    column_called,
    part_called,
    parts_called,
    sheet_options,
)
from dl.data.own.paths import (
    TABLES,
    by_part,
    called_by_part,
    digests_under,
    ends,
    is_table,
    not_here,
    numbered,
    of_no_part,
    visible,
)
from dl.data.own.pixels import too_large
from dl.data.readers.column_types import no_cells
from dl.data.readers.csv_text import plain
from dl.data.readers.frames import (
    Frame,
    coded_words,
    first_rows,
    numbers,
    read_frame,
    words,
)
from dl.data.readers.on_disk import cells_size, stored_table

Parts = list[tuple[str, Frame]]  # tables, each with its part, "" where nothing says it
_SPLITS = ("split", "part", "subset", "partition", "set", "fold")


@dataclasses.dataclass(frozen=True)
class OwnCells(OwnSheet):
    """Fields for the config of a script that takes a table: how its numbers and times are written as well."""

    decimal: Literal[".", ","] | None = None
    """the decimal mark of your numbers"""
    dates: str | None = None
    """format of your times, such as %d.%m.%Y, where it is not ISO 8601"""
    missing: tuple[str, ...] | None = None
    """cells that stand for no value, instead of the usual ones"""


# -- tables ------------------------------------------------------------------------------------------


def read_cells(
    source: Any, own: OwnCells, disk: bool = False
) -> tuple[Parts, dict[str, str], list[Line]]:
    """:func:`read_tables` of tables that are written as the fields say, with their cells on ``disk``."""
    return read_tables(source, functools.partial(read_frame, **sheet_options(own), disk=disk))


def read_tables(
    source: Any, read: Callable[[Any], Frame]
) -> tuple[Parts, dict[str, str], list[Line]]:
    """The tables of a file, of a folder or of Python, the one to train on first; the digest of each file by its
    path from there; and lines about files that are left out.

    Those of a folder are called by their parts (train.csv, val.parquet, ...), or lie in folders called so; or
    they are one table, cut into files that are numbered (part-0.csv, part-1.csv, ...).

    Raises:
      UserError: a folder has no tables, or several of which none says that it is to train on.
    """
    if not isinstance(source, str | os.PathLike):
        return [("", of_cells(read(source)))], {}, []
    path = Path(source)
    paths, lines = tables_in(path) if path.is_dir() else ([("", path)], [])
    frames = [(part, of_cells(read(path))) for part, path in paths]
    _check_cut(frames[0][1])
    if len(frames) > 1 and not frames[0][0]:
        whole, _, more = joined([("train", frame) for _, frame in frames])
        last = frames[-1][1].name
        lines += [Line("tables", f"{len(frames):,}", f"{frames[0][1].name} ... {last}"), *more]
        frames = [("", dataclasses.replace(whole, name=path.name))]
    return frames, digests_under(Path(source), [path for _, path in paths]), lines


def of_cells(frame: Frame) -> Frame:
    """The frame without columns of lists and the like, which say so in its notes; as it is where all are so. Of
    columns with fields, as ``translation`` with ``en`` and ``de``, each is one: ``translation.en``."""
    import pyarrow as pa

    while any(pa.types.is_struct(field.type) for field in frame.columns.schema):
        frame = dataclasses.replace(frame, columns=frame.columns.flatten())
    odd = {h: why for h in frame.headings if (why := no_cells(frame, h))}
    if not odd or len(odd) == len(frame.headings):
        return frame
    notes = (f"column {plain(heading)} is left out: {why}" for heading, why in odd.items())
    columns = frame.columns.drop_columns([*odd])
    return dataclasses.replace(frame, columns=columns, notes=(*frame.notes, *notes))


def _check_cut(frame: Frame) -> None:
    """Raise UserError where a table is of one column, whose rows another mark would cut into as many cells."""
    head = frame.headings[0]
    for mark in set(re.findall(r"[^\w\s.'\"-]", head)) if len(frame.headings) == 1 else ():
        counts = {str(cell).count(mark) for cell in words(first_rows(frame, 20), head)}
        if counts == {head.count(mark)}:
            raise UserError(
                "table-separator",
                f"{frame.name} has one column, {plain(head)}: where {mark} stands between its cells, say "
                f"--separator '{mark}'",
            )


def table_too_large(
    source: Any, stream: bool, times: int = 1, numbers: bool = False
) -> tuple[bool, list[Line]]:
    """Whether the cells of a table, which take ``times`` their usual size, are to stay on disk, and the line
    of it; a frame is in memory as it is, and so are ``numbers`` that cells become."""
    if not isinstance(source, Path):
        if stream:
            raise UserError(
                "option-misplaced",
                "--stream is for files, and a frame is in memory: write it to Parquet and give its path",
            )
        return False, []
    paths = [path for _, path in tables_in(source)[0]] if source.is_dir() else [source]
    disk, line = too_large(times * sum(map(cells_size, paths)), stream)
    if disk and numbers:
        line = dataclasses.replace(line, taken_for="cells on disk, their numbers in memory")
    return disk, [line]


def tables_in(folder: Path) -> tuple[list[tuple[str, Path]], list[Line]]:
    """The tables of a folder by part, and lines about files that are left out; see :func:`read_tables`."""
    parts, rest = by_part(visible(folder))
    if len(some := parts.get("", [])) > 1:
        parts[""] = [path for path in some if path.is_file()]
    inside: dict[str, list[Path]] = {
        part: [
            path
            for top in some
            for path in (visible(top) if top.is_dir() else [top])
            if path.is_file()
        ]
        for part, some in parts.items()
    }
    for endings in ((*TABLES, ".json"), (".txt", ".data", ".dat"), ("",)):
        found = {part: [p for p in some if ends(p, endings)] for part, some in inside.items()}
        if any(found.values()):
            break
    paths = [(part, path) for part, some in found.items() for path in some]
    if len(some := numbered([path for _, path in paths])) > 1 and "train" not in found:
        return [("", path) for path in some], not_here(some)
    if len(paths) != 1 and not found.get("train"):
        names = (
            ", ".join(path.name for _, path in paths[:4]) or "no csv, tsv, Parquet or Arrow file"
        )
        raise UserError(
            "table-folder",
            f"{folder} has {names}: name one file, or call them train.csv, validation.csv and test.csv (or, where "
            "they are one table, part-0.csv, part-1.csv, ...)",
        )
    kept = [(part, path) for part, some in called_by_part(found).items() for path in some]
    other = [each for _, each in set(paths) - set(kept)]
    left = of_no_part([path for path in [*rest, *sorted(other)] if is_table(path)])
    return kept, [*not_here([path for _, path in kept]), *left]


def joined(
    frames: Parts,
    split: str | None = None,
    target: str | None = None,
    wanted: Iterable[str | None] | None = None,
) -> tuple[Frame, np.ndarray | None, list[Line]]:
    """One frame of all tables, the part of every row (None where nothing says it), and what was left out.

    Args:
      split: the column that says the part; by default the tables do.
      target: a table without this column, as competitions have for the test part, is left out.
      wanted: the other columns that are used; by default all, and what the first table lacks is told.

    Raises:
      UserError: a table lacks another column of the first, or the column ``split`` holds other words than parts.
    """
    import pyarrow as pa

    first, lines, kept = frames[0][1], [], []
    if not frames[0][0]:
        return first, _said(first, split), []
    used = first.headings if wanted is None else {split, target, *wanted}
    chosen = [heading for heading in first.headings if heading in used]
    for part, frame in frames:
        lacking = [heading for heading in chosen if heading not in frame.headings]
        if lacking == [target]:
            lines.append(Line(frame.name, "left out", f"it has no column {target!r}"))
            continue
        if lacking:
            raise UserError(
                "table-columns-differ",
                f"{frame.name} has no column {lacking[0]!r}, which {first.name} has: give both the same headings",
            )
        more = [heading for heading in frame.headings if heading not in first.headings]
        if more and wanted is None:
            also = ", ".join(map(repr, more[:4]))
            lines.append(Line(frame.name, "column left out", f"{also}: {first.name} has none"))
        kept.append((part, frame))
    names = ", ".join(frame.name for _, frame in kept)
    try:
        tables = [frame.columns.select(chosen) for _, frame in kept]
        columns = pa.concat_tables(tables, promote_options="permissive")
    except pa.ArrowException as error:
        raise UserError(
            "table-columns-differ", f"{names} have columns of other types ({error})"
        ) from None
    numbered = [frame.lines for _, frame in kept if frame.lines is not None]
    whole = np.concatenate(numbered) if len(numbered) == len(kept) else None
    frame = dataclasses.replace(first, name=names, columns=columns, lines=whole)
    by_table = np.repeat([part for part, _ in kept], [frame.rows for _, frame in kept])
    return frame, _said(frame, split) if split else by_table, lines


def _said(frame: Frame, split: str | None) -> np.ndarray | None:
    return parts_called(words(frame, split), f"column {split!r}") if split else None


def rows_of(frame: Frame, rows: np.ndarray) -> Frame:
    """Those rows of a frame, in that order."""
    import pyarrow as pa

    if np.array_equal(rows, np.arange(frame.rows)):
        return frame
    lines, columns = None if frame.lines is None else frame.lines[rows], frame.columns
    fields = [  # pyarrow takes no rows of string_view, which polars has
        field.with_type(pa.string()) if field.type == pa.string_view() else field
        for field in columns.schema
    ]
    columns = columns.cast(pa.schema(fields))
    if frame.disk:  # one column in memory at a time
        each = [stored_table([columns.select([name]).take(rows)]) for name in frame.headings]
        columns = pa.table(
            {name: one.column(0) for name, one in zip(frame.headings, each, strict=True)}
        )
    else:
        columns = columns.take(rows)
    return dataclasses.replace(frame, columns=columns, lines=lines)


# -- columns -----------------------------------------------------------------------------------------


def split_column(frames: Parts, own: OwnFiles, gaps: bool = False) -> str | None:
    """The column that says the part of each row: as given, else one that says nothing else (and is called so, or
    names a part to train on), unless the tables are called by their parts, or the user cuts these in order.

    Args:
      gaps: whether it may have empty cells.
    """
    part, frame = frames[0]
    column_called(frame, own.group, (), "--group")
    given = column_called(frame, own.split, (), "--split")
    if given or part or own.in_order != type(own).in_order:
        return given
    called = column_called(frame, None, _SPLITS, "--split")
    for heading in [called] if called else frame.headings:
        first = set(words(first_rows(frame, 20, heading), heading)) - {None}
        if not first or not all(map(part_called, first)):
            continue
        cells = set(words(frame, heading)) - ({None} if gaps else set())
        parts = {cell is not None and part_called(cell) for cell in cells}
        if all(parts) and (called or {"train"} < parts):
            return heading
    return None


def numbers_rows(frame: Frame, heading: str) -> bool:
    """Whether a column counts the rows of its file from 0 or 1: in a file that was sorted it tells the label."""
    begins = str(frame.columns.column(heading)[0].as_py()).strip()
    if begins not in ("0", "1", "0.0", "1.0"):  # few columns get beyond their first cell
        return False
    for part in (first_rows(frame, 3, heading), frame):
        cells = numbers(part, heading).values
        if frame.rows < 3 or cells[0] not in (0, 1) or not (np.diff(cells) == 1).all():
            return False
    return True


def group_of(frame: Frame, own: OwnFiles) -> np.ndarray | None:
    """``[rows]`` numbers of the values of the column whose rows stay together, where the user names one."""
    heading = column_called(frame, own.group, (), "--group")
    return None if heading is None else coded_words(frame, heading)[0]


def column_of_paths(
    frame: Frame, given: str | None, endings: Sequence[str], guesses: Sequence[str], flag: str
) -> str | None:
    """As given, else the column of which most cells end so, else the one that is called so.

    Raises:
      UserError: the first line is a row.
    """
    for heading in () if given else frame.headings:
        if heading.lower().endswith(tuple(endings)):
            raise UserError(
                "table-no-heading",
                f"the first line of {frame.name} is a row ({heading}, ...): write the columns' names above it, "
                "such as path,label, or give them by --headings",
            )
        cells = [str(cell).lower() for cell in words(frame, heading)[:200] if cell is not None]
        if 2 * sum(cell.endswith(tuple(endings)) for cell in cells) > len(cells):
            return heading
    return column_called(frame, given, guesses, flag)


def which_column(frame: Frame, what: str, flag: str, among: Sequence[str] | None = None) -> str:
    """What to say where the column of ``what`` is not told from the others."""
    names = ", ".join(map(plain, (frame.headings if among is None else among)[:12]))
    return f"{frame.name}: which column holds the {what}? Say {flag} with one of {names}"


def the_one(frame: Frame, candidates: Sequence[str], what: str, flag: str, code: str) -> str:
    """The only column that can be meant.

    Raises:
      UserError: there is none, or there are several, which the user has to tell apart.
    """
    if len(candidates) != 1:
        raise UserError(code, which_column(frame, what, flag, candidates or None))
    return candidates[0]


def of_few_values(frame: Frame, headings: Iterable[str]) -> list[str]:
    """The columns whose cells repeat as classes do."""
    most = max(2, min(200, frame.rows // 5))
    different = {heading: set(coded_words(frame, heading)[1]) - {None} for heading in headings}
    return [heading for heading, cells in different.items() if 2 <= len(cells) <= most]


def taken(what: str, flag: str, given: Any) -> tuple[str, str]:
    """What a column is taken for, and unless it was given, the flag that names another."""
    return what, "" if given else f"proposed: {flag} names another"


def check_classes(frame: Frame, label: str, others: Iterable[str | None], most: float) -> None:
    """Raise UserError where a column is rather of names or texts: more than ``most`` of its cells are different.

    Args:
      others: columns of another use, which are not proposed in its place.
    """
    index, different = coded_words(frame, label)
    there = np.array([cell is not None for cell in different], bool)
    count, rows = int(there.sum()), int(there[index].sum())
    if 2 < count > most * rows and not are_known():
        free = [h for h in frame.headings if h not in (label, *others)]
        few = ", ".join(map(plain, of_few_values(frame, free)[:6]))
        raise UserError(
            "target-too-many-classes",
            f"{frame.name}: column {plain(label)} has {count:,} different cells in {rows:,} rows, too many "
            f"for classes: name the column of the classes by --label{', such as ' * bool(few)}{few}",
        )


def column_lines(frame: Frame, used: Mapping[Any, str | tuple[str, str]]) -> list[Line]:
    """What to show of columns: those used and what for, those left out, and what was guessed of the file."""
    told = {h: (what, "") if isinstance(what, str) else what for h, what in used.items() if h}
    lines = [Line(f"column {plain(heading)}", *what) for heading, what in told.items()]
    if left := [plain(heading) for heading in frame.headings if heading not in used]:
        shown = ", ".join(left[:8]) + (", ..." if len(left) > 8 else "")
        lines.append(Line("left out", f"{len(left)} columns", shown))
    return lines + [Line("guessed", note) for note in frame.notes if not note.endswith("by comma")]
