"""Arrays that are mapped from files, read only while these are what they were."""

import contextlib
import mmap
import os
import weakref
from collections.abc import Iterator, Sequence
from typing import Any

from dl.core.errors import UserError

_mapped = weakref.WeakKeyDictionary[
    mmap.mmap, tuple[int, int]
]()  # file and time of change, at first


@contextlib.contextmanager
def unbroken(*arrays: Any) -> Iterator[None]:
    """Within, arrays are read that may be mapped from files.

    Raises:
      UserError: one has been cut short since it was mapped, and to read beyond its end would end the process by
        SIGBUS; or it was written to since it was first read, and what is read is not what was digested. One that
        is deleted, or another put in its place, stays as it was for who has it mapped.
    """
    _check_unbroken(arrays)
    yield
    _check_unbroken(arrays)


def _check_unbroken(arrays: Sequence[Any]) -> None:
    for array in arrays:
        mapped = getattr(array, "_mmap", None)
        if mapped is None:
            continue
        again = "put it back as it was, then go on with --resume"
        if (there := mapped.size()) < len(mapped):
            told = f"was cut short while it was read, to {there:,} of {len(mapped):,} bytes"
            raise UserError("file-damaged", f"{array.filename} {told}: {again}")
        if array.filename is None:  # our own, without a name
            continue
        with contextlib.suppress(OSError):  # it is deleted
            stat = os.stat(array.filename)
            file, changed = _mapped.setdefault(mapped, (stat.st_ino, stat.st_mtime_ns))
            if stat.st_ino == file and stat.st_mtime_ns != changed:
                told = "was written to while it was read"
                raise UserError("file-damaged", f"{array.filename} {told}: {again}")
