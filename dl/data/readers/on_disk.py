"""Tables and their columns in nameless files of the data folder, for what does not fit into memory."""

import codecs
import contextlib
import dataclasses
import errno
import functools
import gzip
import hashlib
import itertools
import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dl.core.errors import UserError
from dl.data.readers.arrow_tables import checked, file_columns, not_csv, parquet_file
from dl.data.readers.csv_text import (
    BLANKS,
    SAID,
    first_line,
    guess_separator,
    line_ends,
    parsed,
    row_end,
    text_columns,
    unused,
    without_spaces_before_quotes,
)
from dl.data.readers.encodings import decoded, encoding_by_mark, not_text
from dl.data.readers.files import damaged, data_folder, read
from dl.data.readers.records import RECORDS, record_tables

ROWS = 2**16  # that are in memory at once
_BLOCK = 2**22  # bytes of csv text that are; what is guessed of a file is guessed of the first


class Store:
    """A file without a name, in the data folder, that is written end to end and then mapped."""

    def __init__(self, dtype: Any):
        data_folder().mkdir(parents=True, exist_ok=True)
        self.file = tempfile.TemporaryFile(dir=data_folder())  # noqa: SIM115
        self.dtype, self.size = dtype, 0

    def write(self, values: np.ndarray | bytes) -> None:
        self.size += self.file.write(values if isinstance(values, bytes) else values.tobytes())

    def __reduce__(self) -> tuple:
        """For a process that reads it, as long as this one lives."""
        self.file.flush()
        place = f"/proc/{os.getpid()}/fd/{self.file.fileno()}"
        if not os.path.exists(place):
            said = "what lies within tables is decoded by threads on this system"
            raise UserError("option-misplaced", f"{said}: leave out --workers")
        return Opened, (place, self.dtype)

    def back(self, size: int) -> None:
        """Forget all but the first ``size`` bytes."""
        self.file.seek(size)
        self.size = self.file.truncate()

    def mapped(self) -> np.ndarray:
        self.file.flush()
        if not self.size:
            return np.zeros(0, self.dtype)
        return np.memmap(self.file, self.dtype, "r")


class Opened(NamedTuple):
    """A :class:`Store` of another process, to be read."""

    place: str
    dtype: Any

    def mapped(self) -> np.ndarray:
        return np.memmap(self.place, self.dtype, "r")


@dataclasses.dataclass(frozen=True, eq=False)
class StoredFiles:
    """Files ``[rows]`` end to end in a :class:`Store`, each read when it is asked for, as bytes.

    Attributes:
      starts, stops: int64 ``[rows]``, where each lies.
      origin: the digest of what they were taken from.
    """

    store: Any
    starts: np.ndarray
    stops: np.ndarray
    origin: str
    dtype = np.dtype(object)
    shape = property(lambda self: (len(self),))

    @functools.cached_property
    def data(self) -> np.ndarray:
        return self.store.mapped()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "data"}

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, rows: Any) -> Any:
        if isinstance(rows, int | np.integer):
            return self.data[self.starts[rows] : self.stops[rows]].tobytes()
        return dataclasses.replace(self, starts=self.starts[rows], stops=self.stops[rows])

    def __iter__(self) -> Iterator[bytes]:
        return (self[row] for row in range(len(self)))

    def digest(self) -> str:
        """SHA-256 (hex) of where they are from, and which they are."""
        places = np.stack([self.starts, self.stops]).tobytes()
        return hashlib.sha256(self.origin.encode() + places).hexdigest()


class SideBySide:
    """Columns ``[rows]`` that become one array ``[rows, columns]``, on disk one after another."""

    def __init__(self, rows: int, dtype: Any, disk: bool):
        self.rows, self.dtype = rows, dtype
        self.arrays: list[np.ndarray] = []
        self.store = Store(dtype) if disk else None

    def add(self, array: np.ndarray) -> None:
        if self.store is None:
            self.arrays.append(array)
        else:
            self.store.write(array.astype(self.dtype, copy=False))

    def whole(self) -> np.ndarray:
        if self.store is not None:
            return self.store.mapped().reshape(-1, self.rows).T
        return np.stack(self.arrays, 1) if self.arrays else np.zeros((self.rows, 0), self.dtype)


def room(shape: tuple[int, ...], dtype: Any, disk: bool) -> np.ndarray:
    """An array to be filled, in memory or in a file without a name."""
    if not disk or not np.prod(shape):
        return np.empty(shape, dtype)
    store = Store(dtype)
    if hasattr(os, "posix_fallocate"):  # else a full disk would show when a page is written
        os.posix_fallocate(store.file.fileno(), 0, int(np.prod(shape)) * np.dtype(dtype).itemsize)
    return np.memmap(store.file, dtype, "w+", shape=shape)


# -- tables as their files have them -----------------------------------------------------------------


def stored_table(batches: Iterable[Any]):
    """A ``pyarrow.Table`` of record batches or tables, its cells on disk."""
    import pyarrow as pa

    store, writer = Store(np.uint8), None
    for batch in batches:
        if writer is None:
            writer = pa.ipc.new_stream(store.file, batch.schema)
        writer.write(batch)
    assert writer is not None  # an empty table is a batch too
    writer.close()
    store.size = store.file.tell()
    return pa.ipc.open_stream(pa.py_buffer(store.mapped())).read_all()


def stored_file(path: Path, name: str, *of_text: Any) -> tuple:
    """``(pyarrow.Table on disk, lines, separator, notes)`` of a file, as
    :func:`dl.data.readers.csv_text.text_columns` gives them, or the table alone of what is no csv text.

    Parquet, Arrow and csv are read some rows at a time; JSON, and columns aligned by blanks, at once.
    """
    import pyarrow as pa

    try:
        with _opened(path) as file:
            head = file.read(2**10)
        if (found := batches(path)) is not None:
            return (stored_table(found),)
    except (pa.ArrowException, OSError, EOFError) as error:
        if getattr(error, "errno", None) == errno.ENOSPC:
            raise
        raise damaged(Path(name), first_line(error)) from None
    if not_csv(head) and (table := file_columns(read(path), name)) is not None:
        return (stored_table([table]),)
    return _stored_text(path, name, *of_text)


def batches(path: Path, rows: int | None = None) -> Iterator[Any] | None:
    """The record batches of a Parquet, Arrow or ArrayRecord file, after an empty one; None for another. Those of
    Parquet have that many rows at most, by default :data:`ROWS`."""
    import pyarrow as pa

    with path.open("rb") as file:
        head = file.read(8)
    given = path, path.stat().st_size
    if head == RECORDS:
        tables = record_tables(path)
        first = next(tables)
        return itertools.chain([first.slice(0, 0), first], tables)
    head = head[:6]
    if head[:4] == b"PAR1":
        source = parquet_file(path, *given)
        some = checked(source.iter_batches(rows or ROWS), path)
        return itertools.chain([source.schema_arrow.empty_table()], some)
    if head == b"ARROW1":
        source = pa.ipc.open_file(pa.OSFile(str(path)))
        some = map(source.get_batch, range(source.num_record_batches))
        return checked(itertools.chain([source.schema.empty_table()], some), *given)
    if head[:4] == b"\xff\xff\xff\xff":
        source = pa.ipc.open_stream(pa.OSFile(str(path)))
        return checked(itertools.chain([source.schema.empty_table()], source), *given)
    return None


def cells_size(path: Path) -> int:
    """About how many bytes the cells of a file take in memory, as they are read and as numbers."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(4)
    if head == b"PAR1":
        from pyarrow import parquet

        with contextlib.suppress(Exception):  # a damaged one is for its reader to tell
            found = parquet.read_metadata(path)
            groups = map(found.row_group, range(found.num_row_groups))
            unpacked = sum(group.total_byte_size for group in groups)
            return max(16 * found.num_rows * found.num_columns, unpacked)
    return size * (12 if head[:2] == b"\x1f\x8b" else 3)


def _opened(path: Path):
    with path.open("rb") as raw:
        packed = raw.read(2) == b"\x1f\x8b"
    return gzip.open(path, "rb") if packed else path.open("rb")


def _stored_text(path: Path, name: str, separator, quote: str, header, encoding):
    found: list[Any] = []
    numbers: list[np.ndarray] = []

    def tables() -> Iterator[Any]:
        blocks = _whole_rows(_text_blocks(path, name, encoding), separator, quote)
        first = next(blocks, "")
        table, lines, cut, notes = text_columns(first, name, separator, quote, header)
        if BLANKS in notes:  # where columns begin is found in the whole
            text = decoded(read(path), name, encoding)
            table, lines, cut, notes = text_columns(text, name, separator, quote, header)
            blocks = iter(())
        found.extend((cut, notes))
        numbers.append(lines)
        yield table
        before, names, end = len(line_ends(first)), table.column_names, row_end(first, quote)
        for text in blocks:
            ends = len(line_ends(text))
            if quote and cut and f" {quote}" in text:
                text = without_spaces_before_quotes(text, cut, quote)
            mark = cut or unused(text, name)
            top = mark.join("x" * len(names))  # says how many cells a row has, and how it ends
            columns, lines = parsed(f"{top}{end}{text}", name, mark, quote, before - 1)
            numbers.append(lines[1:])
            before += ends
            yield columns.slice(1).rename_columns(names)

    table = stored_table(tables())
    return table, np.concatenate(numbers), *found


def _text_blocks(path: Path, name: str, encoding: str | None) -> Iterator[str]:
    """The text of a file as :func:`dl.data.readers.encodings.decoded` gives it, some at a time."""
    try:
        with _opened(path) as file:
            data = file.read(_BLOCK)
            found, at = encoding_by_mark(data), 0
            if (encoding or found) == "utf-8" and data.count(0) > len(data) // 5:
                decoded(data, name, encoding)  # says what is amiss
            decoded(b"a", name, encoding)  # likewise, of the encoding
            decoder = codecs.getincrementaldecoder(encoding or found)()
            mark = "\ufeff"
            while data:
                following, held = file.read(_BLOCK), len(decoder.getstate()[0])
                try:
                    text = decoder.decode(data, final=not following)
                except UnicodeError as error:
                    start = getattr(error, "start", 0)
                    raise not_text(name, encoding, found, at - held + start, data) from None
                yield text.removeprefix(mark)
                mark, at, data = "", at + len(data), following
    except (OSError, EOFError) as error:
        raise damaged(path, error) from None


def _whole_rows(blocks: Iterable[str], separator: str | None, quote: str) -> Iterator[str]:
    """Text in blocks that end where rows do."""
    rest, end, within = "", "", None
    for block in blocks:
        rest += block
        if not end and (found := row_end(rest.lstrip(), quote)):
            end = "\r" if found == "\r" else "\n"
            if separator is None:
                hint = SAID.match(rest)
                separator = hint[1] if hint else guess_separator(rest, quote)
            if quote:
                mark, cut = re.escape(quote), re.escape(separator)
                start = rf"(?<![^\r\n{cut}]) *{mark}"
                within = re.compile(rf"{start}(?:[^{mark}]|{mark}{mark})*(?:{mark}|\Z)")
        shown = rest
        if within and quote in rest:
            shown = within.sub(lambda cell: "x" * len(cell[0]), rest)
        place = shown.rfind(end, 0, len(shown) - 1) + 1 if end else 0
        place += end == "\r" and rest[place : place + 1] == "\n"
        if place:
            yield rest[:place]
            rest = rest[place:]
    if rest:
        yield rest
