"""Paths as a user gives them: which are files at all."""

import json
import os
import stat
from pathlib import Path
from typing import Any

from dl.core.errors import UserError
from dl.platform import host_memory

_JSON = 2**27  # bytes of a file of JSON that is read whole


def given_path(name: str | os.PathLike) -> Path:
    """The path that a user names, with ``~`` for a home folder.

    Raises:
      UserError: it is no path or empty, speaks of no user's home, or is no file or folder (:func:`check_plain`).
    """
    if not isinstance(name, str | os.PathLike):
        raise UserError(
            "data-unknown", f"a file or folder goes by its path, and {name!r:.40} is none"
        )
    if not os.fspath(name):
        raise UserError("data-unknown", "a path is empty: name a file or a folder, . for this one")
    try:
        path = Path(name).expanduser()
        path.exists()
    except RuntimeError:
        raise UserError("file-missing", f"{name}: there is no home of that user here") from None
    except OSError as error:  # too long a name, or a folder that one may not look into
        raise UserError("file-read", f"cannot look for {name}: {error.strerror}") from None
    check_plain(path)
    return path


def check_plain(path: Path) -> None:
    """Raise UserError where a pipe or a device is there, which may never end and is not read twice."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return  # who reads it says what is amiss
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        kind = "pipe" if stat.S_ISFIFO(mode) else "socket" if stat.S_ISSOCK(mode) else "device"
        raise UserError(
            "not-a-file",
            f"{path} is a {kind}, not a file: write what it gives to a file, or take it away",
        )


def says(path: Path, *words: bytes, piece: int = 1 << 20) -> bool:
    """Whether all of ``words`` stand somewhere in a file, of which ``piece`` bytes are held at a time."""
    missing, kept, most = set(words), b"", max(map(len, words))
    with path.open("rb") as file:
        while missing and (more := file.read(piece)):
            here = kept + more
            missing = {word for word in missing if word not in here}
            kept = here[-most:]  # a word may begin in this piece and end in the next
    return not missing


def check_json(path: Path) -> None:
    """Look at a file of JSON before it is read, such as a config or a vocabulary: its values take up to twenty
    times its bytes.

    Raises:
      UserError: a pipe or a device; OSError: there is none; ValueError: it is too large.
    """
    check_plain(path)
    if (size := path.stat().st_size) > _JSON:
        raise ValueError(f"{size:,} bytes are too many")


def json_in(path: Path) -> Any:
    """What a file of JSON holds; raises as :func:`check_json`, and ValueError where it is none."""
    check_json(path)
    return parse_json(path.read_bytes(), path)


def parse_json(text: bytes, name: object) -> Any:
    """What JSON of the user's says.

    Raises:
      ValueError: it is none, or its brackets are too deep; UserError: see :func:`check_parsed`.
    """
    check_parsed(text, name)
    try:
        return json.loads(text.decode("utf-8-sig"))
    except RecursionError:
        raise ValueError("brackets too deep") from None


def check_parsed(text: bytes, name: object) -> None:
    """Raise UserError where what JSON holds would take more than half of the memory, by its marks: an object of
    one entry is 232 bytes, a list 64, what stands before a comma 40 and more."""
    size = len(text) + 240 * text.count(b"{") + 64 * text.count(b"[") + 60 * text.count(b",")
    if size > (most := max(_JSON, host_memory() // 2)):
        raise UserError(
            "json-too-large",
            f"{name} has {len(text):,} bytes of JSON, whose values take some {size:,} of memory, and {most:,} are "
            "the most here: cut it into several files, or read it where there is more",
        )
