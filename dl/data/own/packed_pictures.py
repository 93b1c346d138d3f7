"""Tables whose cells hold the pictures themselves, as the Hugging Face hub has them: Parquet and Arrow files.

A cell is the bytes of a picture's file, or ``{bytes, path}``. The bytes are copied, some rows at a time, into one
file of the data folder, from where each row is read by itself; out of a table it would have to be unpacked with
all those around it.
"""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from dl.core.errors import UserError
from dl.data.own.columns import Parts, of_cells
from dl.data.own.found import part_in
from dl.data.own.paths import by_part, digests_under, ends, files_under, not_here, part_of
from dl.data.own.picture_tables import Listed, listed_in
from dl.data.readers.csv_text import first_line
from dl.data.readers.files import damaged, digest_files
from dl.data.readers.frames import read_frame
from dl.data.readers.given import parse_json
from dl.data.readers.on_disk import Store, StoredFiles, batches
from dl.data.readers.pictures import read_header

TYPED = (".parquet", ".arrow", ".feather", ".ipc")
_AT_ONCE = 256  # rows of pictures in memory


def packed_in(source: Any, own: Any) -> tuple[Listed, StoredFiles, dict[str, str]] | None:
    """The pictures within a Parquet or Arrow file, or a folder of such: what is known of each (paths are
    ``table/row``), the bytes of its file, and the tables' digests. None where no table holds pictures.

    Raises:
      UserError: several columns hold pictures, or none says the classes; a table is damaged.
    """
    parts = _files(source)
    files = [path for some in parts.values() for path in some]
    if not files or not (columns := packed_columns(first := files[0])):
        return None
    column = own.image or columns[0]
    if column not in columns or (not own.image and len(columns) > 1):
        many = ", ".join(columns)
        raise UserError(
            "column-unnamed", f"{first.name} has pictures in {many}: say which by --image"
        )
    store, sizes = Store(np.uint8), []
    names: list[str] = []
    tables: Parts = []
    for part, some in parts.items():
        rest = []
        for path in some:
            name, rows = path.relative_to(source).as_posix() if source.is_dir() else path.name, 0
            for table in _tables(path):
                if column not in table.column_names:
                    said = f"{name} has no column {column!r}, which {first.name} has"
                    raise UserError("table-columns-differ", f"{said}: give both the same headings")
                size = _copied(table.column(column), store)
                cells = [f"{name}/{row}" for row in range(rows, rows + len(size))]
                rows += len(size)
                sizes.append(size)
                names += cells
                there = [cell if full else None for cell, full in zip(cells, size > 0, strict=True)]
                rest.append(_with(table, column, there))
        called = some[0].name + ", ..." * (len(some) > 1)
        tables.append((part, dataclasses.replace(of_cells(read_frame(_joined(rest))), name=called)))
    stops = np.cumsum(np.concatenate(sizes))
    pictures = StoredFiles(store, np.append(0, stops[:-1]), stops, digest_files(files))
    listed = listed_in(tables, source, dataclasses.replace(own, image=column), inside=True)
    row_of = {name: row for row, name in enumerate(names)}
    rows_of = np.array([row_of[name] for name in listed.paths])
    for known in _class_names(next(_tables(first))).values():
        listed = _numbered(listed, known)
    listed = dataclasses.replace(listed, lines=(*not_here(files), *listed.lines))
    return listed, pictures[rows_of], digests_under(source, files)


def _files(source: Any) -> dict[str, list[Path]]:
    """Tables with types by part, which their names tell, or else the folders above them."""
    if not isinstance(source, Path):
        return {}
    if source.is_file():
        return {"": [source]} if ends(source, TYPED) else {}
    paths = files_under(source, TYPED)
    parts, _ = by_part(paths, lambda path: part_in(path.name) or part_of(path))
    return {part: [source / path for path in some] for part, some in parts.items()}


def _tables(path: Path) -> Iterator[Any]:
    import pyarrow as pa

    try:
        for batch in batches(path, _AT_ONCE) or ():
            yield batch if isinstance(batch, pa.Table) else pa.Table.from_batches([batch])
    except (pa.ArrowException, OSError) as error:
        raise damaged(path, first_line(error)) from None


def packed_columns(path: Path) -> list[str]:
    """The columns of a Parquet or Arrow file whose first cell is a picture."""
    found: Any = next((t for t in _tables(path) if t.num_rows), None) if ends(path, TYPED) else None
    columns = []
    for field in () if found is None else found.schema:
        if not (_binary(field.type) or _with_bytes(field.type)):
            continue
        cells = _bytes(found.column(field.name).chunk(0)).drop_null()[:1].to_pylist()
        try:
            if cells and read_header(cells[0]):
                columns.append(field.name)
        except UserError:  # bytes of something else
            continue
    return columns


def _binary(kind: Any) -> bool:
    import pyarrow as pa

    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _with_bytes(kind: Any) -> bool:
    import pyarrow as pa

    names = [field.name for field in kind] if pa.types.is_struct(kind) else []
    return "bytes" in names and _binary(kind.field("bytes").type)


def _bytes(cells: Any) -> Any:
    """The binary column of one with fields."""
    return cells if _binary(cells.type) else cells.flatten()[cells.type.get_field_index("bytes")]


def _copied(column: Any, store: Store) -> np.ndarray:
    """Bytes written of every cell, int64 ``[rows]``, 0 of one without."""
    files = [file or b"" for chunk in column.chunks for file in _bytes(chunk).to_pylist()]
    for file in files:
        store.write(file)
    return np.array([len(file) for file in files], np.int64)


def _joined(tables: list[Any]) -> Any:
    import pyarrow as pa

    try:
        return pa.concat_tables(tables)
    except pa.ArrowException as error:
        said = f"the tables of a folder have other columns or types ({first_line(error)})"
        raise UserError("table-columns-differ", f"{said}: give both the same headings") from None


def _with(table: Any, column: str, cells: list[str | None]) -> Any:
    """The table with those cells in a column, and class names for class numbers."""
    import pyarrow as pa

    new = {column: cells}
    for heading, names in _class_names(table).items():
        if heading in table.column_names:
            codes = table.column(heading).to_pylist()
            new[heading] = [
                names[c] if c is not None and 0 <= c < len(names) else None for c in codes
            ]
    for heading, own in new.items():
        at = table.column_names.index(heading)
        table = table.set_column(at, heading, pa.array(own, pa.string()))
    return table


def _numbered(listed: Listed, names: list[str]) -> Listed:
    """With the numbers of the classes that the table has, less those of classes without a picture."""
    if not set(listed.classes) <= set(names):
        return listed
    classes = tuple(name for name in names if name in set(listed.classes))
    number = np.array([classes.index(name) for name in listed.classes], np.int32)
    return dataclasses.replace(listed, classes=classes, labels=number[listed.labels])


def _class_names(table: Any) -> dict[str, list[str]]:
    """The names of class numbers by column, as the ``datasets`` library notes them in the schema."""
    try:
        noted = parse_json((table.schema.metadata or {}).get(b"huggingface", b"{}"), "the schema")
        features = noted.get("info", {}).get("features", {})
        return {
            heading: list(map(str, feature["names"]))
            for heading, feature in features.items()
            if isinstance(feature, dict) and isinstance(feature.get("names"), list)
        }
    except (ValueError, AttributeError, UserError):
        return {}
