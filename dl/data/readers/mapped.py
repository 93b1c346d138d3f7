"""Arrays that are mapped from files, read only while these are what they were."""

import contextlib
import mmap
import os
import weakref
from collections.abc import Iterator, Sequence
from typing import Any

from dl.core.errors import UserError

# The file, and when it was changed, at first.
_mapped = weakref.WeakKeyDictionary[mmap.mmap, tuple[int, int]]()


def remembered(array: Any) -> Any:
    """``array``, just mapped from a file, of which it is known from now on whether that is the file still."""
    _then(array)
    return array


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


def check_in_place(*arrays: Any) -> None:
    """Raise UserError where a file has taken the place of one that is mapped, whose digest would be another's."""
    for array in arrays:
        then, now = _then(array), _now(array)
        if then is not None and now is not None and then != now:
            told = (
                "is another than when this process began to read it: start again in a new process"
            )
            raise UserError("file-damaged", f"{array.filename} {told}")


def _check_unbroken(arrays: Sequence[Any]) -> None:
    for array in arrays:
        mapped = getattr(array, "_mmap", None)
        if mapped is None:
            continue
        again = "put it back as it was, then go on with --resume"
        if (there := mapped.size()) < len(mapped):
            told = f"was cut short while it was read, to {there:,} of {len(mapped):,} bytes"
            raise UserError("file-damaged", f"{array.filename} {told}: {again}")
        then, now = _then(array), _now(array)
        if then is not None and now is not None and then[0] == now[0] and then[1] != now[1]:
            told = "was written to while it was read"
            raise UserError("file-damaged", f"{array.filename} {told}: {again}")


def _then(array: Any) -> tuple[int, int] | None:
    """Which file an array is mapped from and when it was written, as it was when first asked; None of one in
    memory, or of our own without a name."""
    mapped = getattr(array, "_mmap", None)
    if mapped is None or array.filename is None:
        return None
    if mapped not in _mapped and (now := _now(array)) is not None:
        _mapped[mapped] = now
    return _mapped.get(mapped)


def _now(array: Any) -> tuple[int, int] | None:
    try:
        stat = os.stat(array.filename)
    except (OSError, TypeError, AttributeError):  # it is deleted, or mapped from none
        return None
    return stat.st_ino, stat.st_mtime_ns
