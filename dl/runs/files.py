"""Single files of a run's folder. The folder may be a stranger's, so what is read is a plain file that lies
where it seems to and holds strict JSON, and nothing is written through a link; and the power may go, so what
is replaced is synced, with its name."""

import contextlib
import errno
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from dl.core.errors import UserError
from dl.platform import harmless
from dl.runs import store

DEEPEST = 64  # brackets within brackets; no record of dl's has more than five
LARGEST = 2**31  # bytes of a file that is read
PARSED = 2**27  # bytes of JSON, whose values take up to twenty times as many
SAFE = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """An OSError in it names the file, as those of a full or broken disk do not."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def gone(folder: Path) -> UserError:
    """What to say of a run's folder that is there no more."""
    return UserError(
        "file-write", f"{folder} is gone: it was moved or deleted while a run wrote to it"
    )


def printable(text: object) -> str:
    """``text`` in one line that a terminal may show (:func:`dl.platform.harmless`). What lies in an object store
    is called as it is there."""
    return harmless(store.named(str(text)))


def check_characters(place: Path) -> None:
    """Raise UserError where no checkpoint can be in a run's folder, for what it is called: Orbax looks for its own
    files as by a pattern, and takes ``gs:/`` for a store; TensorStore takes a backslash for a slash."""
    odd = ["[", "*", "?", "gs:/", *(["\\"] if os.sep == "/" else [])]
    if found := [each for each in odd if each in f"{place.absolute()}/"]:
        raise UserError(
            "path-characters",
            f"no checkpoint can be written or read in {place.absolute()}, for the {found[0]} in its name: choose "
            "another --name or --runs, start from another folder, or rename the one that is there",
        )


def on_its_way(name: str) -> bool:
    """Whether a folder of that name is one on its way out, or in, which nobody lists and a removal sweeps up."""
    return name.startswith(".") and name.endswith((".removing", ".part"))


def lies_within(path: Path, root: Path) -> bool:
    """Whether ``path``, its links followed, lies in the folder ``root``."""
    return path.resolve().is_relative_to(root.resolve())


@contextlib.contextmanager
def opened_plain(
    path: Path, root: Path | None = None, largest: int = LARGEST
) -> Iterator[BinaryIO]:
    """A file, to be read.

    Args:
      root: the folder that links may not lead out of; by default the file's own.
      largest: bytes that it may have.

    Raises:
      UserError: it is a link that leads elsewhere, a pipe, a device, or too large.
      OSError: it cannot be read.
    """
    if not lies_within(path, root or path.parent):
        raise UserError("record-damaged", f"{path} is a link out of the folder: it is not followed")
    handle = os.open(path.resolve(), os.O_RDONLY | SAFE, 0)
    found = os.fstat(handle)
    if not stat.S_ISREG(found.st_mode):  # a folder, too, which open() would call by its number
        os.close(handle)
        raise UserError("record-damaged", f"{path} is no plain file: it is not read")
    with open(handle, "rb") as file:
        if found.st_size > largest:
            raise UserError(
                "record-damaged", f"{path} has {found.st_size:,} bytes: too many to read"
            )
        yield file


def read_plain(path: Path, root: Path | None = None, largest: int = LARGEST) -> bytes:
    """The bytes of a file, as :func:`opened_plain` opens it."""
    with opened_plain(path, root, largest) as file:
        return file.read()


def opened_to_append(path: Path) -> BinaryIO:
    """The plain file ``path``, there or not, to be added to; a link is not followed."""
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | SAFE, 0o666)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "no plain file", str(path))
    return os.fdopen(handle, "ab")


def replace(path: Path, content: bytes) -> None:
    """Give the file ``path`` its content at once or not at all, whatever was there, a link included. When this
    returns, it outlasts a loss of power, and an object store has it whose it is."""
    part = path.with_name(path.name + ".part")
    part.unlink(missing_ok=True)
    with naming(path):
        with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | SAFE, 0o666), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        sync(path.parent)
    store.push(path)


def sync(path: Path) -> None:
    """Force a file, or the names in a folder, to disk, where the system lets one ask for it."""
    unable = (errno.EINVAL, errno.ENOTSUP, errno.EACCES, errno.ENXIO)
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0), 0)  # of a pipe too
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        if error.errno not in unable and os.name != "nt":
            raise


def sync_tree(path: Path) -> None:
    """Force all that lies in a folder to disk, and then the folder's own name."""
    for place, _, names in os.walk(path, topdown=False):
        for name in names:
            sync(Path(place, name))
        sync(Path(place))
    sync(path.parent)


def parse(text: bytes | str) -> Any:
    """What strict JSON says; a whole number too large for a float is infinite.

    Raises:
      ValueError: it is none: odd bytes, NaN as a literal, or brackets too deep.
    """

    def no_number(name: str) -> Any:
        raise ValueError(f"{name} is no JSON")

    def whole(digits: str) -> int | float:
        return int(digits) if len(digits) < 300 else float(digits)

    text = text.decode("utf-8") if isinstance(text, bytes) else text
    with contextlib.suppress(RecursionError):
        found = json.loads(text, parse_constant=no_number, parse_int=whole)
        if text.count("[") + text.count("{") <= DEEPEST or _depth_within(found, DEEPEST):
            return found
    raise ValueError("brackets too deep")


def _depth_within(value: Any, most: int) -> bool:
    if not isinstance(value, dict | list):
        return True
    inner = value.values() if isinstance(value, dict) else value
    return most > 0 and all(_depth_within(each, most - 1) for each in inner)
