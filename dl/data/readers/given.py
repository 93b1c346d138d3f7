"""Paths as a user gives them: which are files at all."""

import os
import stat
from pathlib import Path

from dl.core.errors import UserError


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
