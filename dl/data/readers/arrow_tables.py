"""Tables whose columns have types: Parquet, Arrow, Feather and JSON files, and frames from Python.
:func:`dl.data.readers.frames.read_frame` is the door to them."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from dl.core.errors import UserError
from dl.data.readers.csv_text import first_line
from dl.data.readers.files import check_unpacked, damaged
from dl.data.readers.given import check_parsed

DEEPEST = 64  # brackets within brackets of a JSON file
WIDEST = 100_000  # columns of csv text: each costs much more than its cells


def has_index(frame: Any) -> bool:
    """Whether a pandas frame's index is more than row numbers."""
    return type(getattr(frame, "index", None)).__name__.endswith("Index") and (
        type(frame.index).__name__ != "RangeIndex"
    )


def frame_columns(source: Any, name: str):
    """A frame from Python as a ``pyarrow.Table``."""
    import pyarrow as pa

    try:
        if type(source).__module__.partition(".")[0] == "pandas" and hasattr(source, "columns"):
            table = pa.Table.from_pandas(_with_times(source), preserve_index=False)
            return table.replace_schema_metadata()
        if isinstance(source, pa.Table):
            return source
        if (
            isinstance(source, Mapping | pa.RecordBatch)
            or hasattr(source, "__arrow_c_stream__")
            or hasattr(source, "__arrow_c_array__")
        ):
            return pa.table(source)
    except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
        raise UserError(
            "not-a-table", f"{name} is no table of plain columns: {first_line(error)}"
        ) from None
    raise UserError("not-a-table", f"{type(source).__name__} is no table: give a path or a frame")


def _with_times(frame: Any) -> Any:
    """A pandas frame with its columns of periods (months, quarters) as times, when each begins."""
    periods = [place for place, kind in enumerate(frame.dtypes) if str(kind).startswith("period[")]
    if periods:
        frame = frame.copy(deep=False)
        for place in periods:
            frame.isetitem(place, frame.iloc[:, place].dt.to_timestamp())
    return frame


def parquet_file(source: Any, path: Path, packed: int) -> Any:
    """A Parquet file of ``packed`` bytes, opened.

    Raises:
      UserError: it has far more cells than a file of its size, or a column whose name is no text.
    """
    from pyarrow import parquet

    # Else each column of a group of rows is read whole, which may be all of the file.
    try:
        file = parquet.ParquetFile(source, buffer_size=2**16, pre_buffer=False)
    except UnicodeDecodeError as error:  # the name of a column
        raise damaged(path, first_line(error)) from None
    about = file.metadata
    unpacked = sum(about.row_group(n).total_byte_size for n in range(about.num_row_groups))
    unpacked = max(unpacked, 8 * about.num_rows * about.num_columns)
    check_unpacked(path, unpacked, packed, at_once=False)
    return file


def checked(batches: Iterable[Any], path: Path, packed: int | None = None) -> Iterator[Any]:
    """Record batches or tables that hold what their types say: pyarrow believes a file's texts, and its offsets,
    which may lead out of memory.

    Raises:
      UserError: one does not, or they are far more than a file of ``packed`` bytes holds.
    """
    import pyarrow as pa

    size = 0
    for batch in batches:
        try:
            batch.validate(full=True)
            _ = batch.schema.names  # which may be no text either
        except (pa.ArrowException, ValueError) as error:
            raise damaged(path, first_line(error)) from None
        if packed is not None:
            check_unpacked(path, size := size + batch.nbytes, packed, at_once=False)
        yield batch


def file_columns(data: bytes, name: str):
    """The ``pyarrow.Table`` of a Parquet, Arrow, Feather or JSON file, None where it is something else."""
    import pyarrow as pa

    given = Path(name), len(data)
    try:
        if data[:4] == b"PAR1":
            table = parquet_file(pa.BufferReader(data), *given).read()
            return next(checked([table], given[0]))
        if data[:6] == b"ARROW1":
            file = pa.ipc.open_file(data)
            some = map(file.get_batch, range(file.num_record_batches))
            return pa.Table.from_batches(checked(some, *given), file.schema)
        if data[:4] == b"FEA1":
            from pyarrow import feather

            return next(checked([feather.read_table(pa.BufferReader(data))], given[0]))
        if data[:4] == b"\xff\xff\xff\xff":
            stream = pa.ipc.open_stream(data)
            return pa.Table.from_batches(checked(stream, *given), stream.schema)
    except (pa.ArrowException, OSError) as error:
        raise damaged(Path(name), first_line(error)) from None
    if data[:4] in (b"PK\x03\x04", b"\xd0\xcf\x11\xe0"):
        raise UserError(
            "table-spreadsheet",
            f"{name} is a spreadsheet or a zip archive: save the table as csv or Parquet",
        )
    if _JSON.match(data):
        return objects(data, name)
    first = data[: data.find(b"\n") + 1 or None]
    _check_width(name, 1 + max(map(first.count, (b"\t", b";", b"|", b","))))
    return None


def _check_width(name: str, columns: int) -> None:
    if columns > WIDEST:
        raise UserError(
            "table-wide",
            f"{name} has {columns:,} columns, and {WIDEST:,} are the most: keep those that matter, or save "
            "rows as columns",
        )


_JSON = re.compile(rb"(\xef\xbb\xbf)?\s*(\{|\[\s*\{)")
_TYPED = (b"PAR1", b"ARRO", b"FEA1", b"\xff\xff\xff\xff", b"PK\x03\x04", b"\xd0\xcf\x11\xe0")


def not_csv(head: bytes) -> bool:
    """Whether :func:`file_columns` has something to say of a file that begins so."""
    return head.startswith(_TYPED) or bool(_JSON.match(head))


def objects(data: bytes, name: str):
    """The ``pyarrow.Table`` of JSON lines, or of a JSON list of objects; ``{"a": {"b": 1}}`` is column ``a.b``."""
    import pyarrow as pa

    line = 1
    check_parsed(data, name)
    try:
        text = data.decode("utf-8-sig")
        if text.lstrip()[0] == "[":
            rows = _not_deep(json.loads(text))
        else:
            rows = []
            for each in text.split("\n"):
                rows += [_not_deep(json.loads(each))] if each.strip() else []
                line += 1
        headings = dict.fromkeys(heading for row in rows for heading in row)
        _check_width(name, len(headings))
        check_unpacked(Path(name), 8 * len(rows) * len(headings), len(data))
        columns = {heading: [row.get(heading) for row in rows] for heading in headings}
    except (
        ValueError,
        AttributeError,
        TypeError,
        RecursionError,
    ) as error:  # also of what is no object
        raise UserError(
            "json-unreadable",
            f"{name}, line {getattr(error, 'lineno', 1) + line - 1}: no JSON object a line, and no list of "
            f"objects ({first_line(error)})",
        ) from None

    def column(heading: str, cells: list):
        try:
            return pa.array(cells)
        except OverflowError:
            raise UserError(
                "number-too-large",
                f"{name}: {heading} holds whole numbers beyond 64 bits: write them as text, in quotes, or smaller",
            ) from None
        except pa.ArrowException:  # of several types
            return pa.array(
                [c if c is None or isinstance(c, str) else json.dumps(c) for c in cells],
                pa.string(),
            )

    try:
        table = pa.table({heading: column(heading, cells) for heading, cells in columns.items()})
    except UnicodeEncodeError as error:
        half = error.object[error.start]
        said = f"{name}: a text holds half a character ({half!r}): mend it"
        raise UserError("json-unreadable", said) from None
    while any(pa.types.is_struct(field.type) for field in table.schema):
        table = table.flatten()
    return table


def _not_deep(value: Any, most: int = DEEPEST) -> Any:
    """``value``; raises ValueError where its lists and objects lie deeper in each other than pyarrow can bear."""
    if isinstance(value, dict | list):
        if not most:
            raise ValueError(f"brackets within brackets, more than {DEEPEST} deep")
        for inner in value.values() if isinstance(value, dict) else value:
            if isinstance(inner, dict | list):
                _not_deep(inner, most - 1)
    return value


def is_number(kind) -> bool:
    """Whether a pyarrow type is one of numbers."""
    import pyarrow as pa

    types = pa.types
    return types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind)
