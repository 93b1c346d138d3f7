"""Paths as a user gives them: which are files at all."""

import json
import os
import stat
from pathlib import Path
from typing import Any

from dl.core.errors import UserError

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
    try:
        return json.loads(path.read_text("utf-8"))
    except RecursionError:
        raise ValueError("brackets too deep") from None
