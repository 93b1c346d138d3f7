"""ArrayRecord files: as tables, of JSON objects or texts, and as records by number."""

import dataclasses
import functools
import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dl.core.errors import UserError
from dl.data.readers.arrow_tables import objects
from dl.data.readers.csv_text import first_line
from dl.data.readers.files import damaged, digest_files

RECORDS = b"\x83\xafp\xd1\r\x88J?"  # that such files begin with
_AT_ONCE = 2**12


def holds_records(path: Any) -> bool:
    """Whether a file is of ArrayRecord, by its first bytes."""
    with Path(path).open("rb") as file:
        return file.read(len(RECORDS)) == RECORDS


def record_tables(path: Path) -> Iterator[Any]:
    """The records of a file as tables of equal columns, some thousand rows each: those of JSON objects by their
    fields, of which the first ones tell the types, others as a column ``text``.

    Raises:
      UserError: a record is neither, or the file is damaged.
    """
    import pyarrow as pa

    schema = None
    for start, records in _read(path):
        if objects_here := records[0].lstrip()[:1] == b"{":
            lines = (b" ".join(record.split(b"\n")) for record in records)
            table = objects(b"\n".join(lines), path.name)
        else:
            table = pa.table({"text": [_text(r, path, start + n) for n, r in enumerate(records)]})
        if schema is None:
            words = [pa.string() if pa.types.is_null(f.type) else f.type for f in table.schema]
            schema = pa.schema(list(zip(table.schema.names, words, strict=True)))
        if objects_here:
            lacking = [name for name in schema.names if name not in table.schema.names]
            for name in lacking:
                table = table.append_column(name, pa.nulls(len(table), schema.field(name).type))
        try:
            yield table.select(schema.names).cast(schema)
        except (pa.ArrowException, KeyError) as error:
            said = (
                f"{path.name}, records {start} to {start + len(records) - 1}: not as those before"
            )
            raise UserError("json-unreadable", f"{said} ({first_line(error)})") from None


def _read(path: Path) -> Iterator[tuple[int, list[bytes]]]:
    """The first number and the records, some at a time."""
    from array_record.python.array_record_module import ArrayRecordReader

    try:
        reader = ArrayRecordReader(str(path))
        count = reader.num_records()
        if not reader.ok():  # of a file that is cut off it reads none
            raise ValueError("it is cut off")
        if not count:
            raise UserError("table-empty", f"{path.name} has no records")
        for start in range(0, count, _AT_ONCE):
            yield start, reader.read(start, min(start + _AT_ONCE, count))
    except (RuntimeError, ValueError, IndexError) as error:
        raise damaged(path, first_line(error)) from None


def _text(record: bytes, path: Path, place: int) -> str:
    try:
        return record.decode()
    except UnicodeDecodeError:
        raise UserError(
            "records-unread",
            f"{path.name}: record {place} is neither JSON nor text in UTF-8: read such records in Python, by "
            "dl.data.readers.records.Records",
        ) from None


@dataclasses.dataclass(frozen=True)
class Records:
    """The records of ArrayRecord files by number, ``{"record": bytes}``, read when they are asked for: a source
    for :class:`dl.data.batches.streams.StreamBatches`, whose ``decode`` makes arrays of them."""

    paths: Sequence[str | os.PathLike]

    @functools.cached_property
    def _ends(self) -> list[int]:
        counts = (len(_reader(os.fspath(path))) for path in self.paths)
        return list(itertools.accumulate(counts))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, row: int) -> dict[str, Any]:
        number = int(np.searchsorted(self._ends, row, side="right"))
        before = self._ends[number - 1] if number else 0
        return {"record": _reader(os.fspath(self.paths[number]))[row - before]}

    def digest(self) -> str:
        """SHA-256 (hex) of the files' contents."""
        return digest_files(self.paths)


@functools.lru_cache(maxsize=256)
def _reader(path: str) -> Any:
    """Random access to a file, opened once a process."""
    from array_record.python.array_record_data_source import ArrayRecordDataSource

    try:
        return ArrayRecordDataSource([path])
    except (RuntimeError, ValueError, OSError) as error:
        raise damaged(Path(path), first_line(error)) from None
