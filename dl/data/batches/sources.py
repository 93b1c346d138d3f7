"""Rows by number, in memory, mapped from disk, or as someone else's class gives them."""

import dataclasses
import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from dl.core.errors import UserError, one_line, unknown
from dl.data.batches.resident import check_arrays, digest_arrays
from dl.data.readers.files import digest_files
from dl.data.readers.mapped import check_in_place, remembered, unbroken

Row = dict[str, Any]


class Source(Protocol):
    """Rows by number. A source may also have ``take(rows) -> columns``, to read many at once, and
    ``digest() -> str``."""

    def __len__(self) -> int: ...

    def __getitem__(self, row: int) -> Row: ...


@dataclasses.dataclass(frozen=True)
class ArraySource:
    """Rows of arrays ``[rows, ...]``, in memory or mapped from disk.

    ``files`` are those that the arrays are the whole of, column after column, if they are mapped.
    """

    arrays: Mapping[str, np.ndarray]
    files: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values())))

    def __getitem__(self, row: int) -> Row:
        with unbroken(*self.arrays.values()):
            return {name: value[row] for name, value in self.arrays.items()}

    def take(self, rows: np.ndarray) -> Row:
        with unbroken(*self.arrays.values()):
            return {name: np.asarray(value[rows]) for name, value in self.arrays.items()}

    def digest(self) -> str:
        """SHA-256 (hex) of the columns' names and of all their bytes."""
        if self.files:
            check_in_place(*self.arrays.values())
            content = f"{digest_files(self.files)}{tuple(self.arrays)}"
            return hashlib.sha256(content.encode()).hexdigest()
        words = {
            n: np.array([repr(v) for v in a]) for n, a in self.arrays.items() if a.dtype == object
        }
        return digest_arrays({**self.arrays, **words})


def open_arrays(paths: Mapping[str, str | os.PathLike]) -> ArraySource:
    """``.npy`` files as columns, mapped and not read: memory stays constant whatever their size."""
    arrays = {}
    for name, path in paths.items():
        try:
            arrays[name] = remembered(np.load(Path(path), mmap_mode="r", allow_pickle=False))
        except Exception as error:  # NumPy raises all kinds over a damaged header
            told = f"cannot map {path} as a .npy file: {one_line(error)}"
            raise UserError("file-read", told) from None
    check_arrays(arrays)
    return ArraySource(arrays, tuple(str(path) for path in paths.values()))


def source_digest(source: Source, samples: int = 64) -> str:
    """SHA-256 (hex) that tells sets apart: the source's own ``digest``, which all sources of ``dl``
    have and which covers every byte.

    A foreign source without one is not read whole: its digest is of the number of rows and the whole
    content of ``samples`` evenly spaced ones, in which a path of a file stands for the file's content.
    A change that touches none of those rows goes unseen.
    """
    own = getattr(source, "digest", None)
    if own is not None:
        return own()
    hasher = hashlib.sha256(str(len(source)).encode())
    for row in np.unique(np.linspace(0, len(source) - 1, samples).astype(np.int64)).tolist():
        for name, value in sorted(source[row].items()):
            hasher.update(name.encode())
            if isinstance(value, str | os.PathLike) and os.path.isfile(value):
                hasher.update(digest_files([value]).encode())
                continue
            array = np.ascontiguousarray(value)
            content = array.tobytes() if array.dtype != object else repr(value).encode()
            hasher.update(f"{array.dtype}{array.shape}".encode() + content)
    return hasher.hexdigest()


def column_source(columns: Mapping[str, np.ndarray], names: Sequence[str]) -> ArraySource:
    """An :class:`ArraySource` of some of a data set's columns."""
    for name in names:
        if name not in columns:
            raise unknown("column", name, columns)
    return ArraySource({name: columns[name] for name in names})
