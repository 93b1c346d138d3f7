"""Folders of pictures, a folder a class, as rows to be read one by one."""

import dataclasses
import hashlib
import os
import unicodedata
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dl.core.errors import UserError
from dl.data.readers.files import digest_files
from dl.data.readers.given import check_plain, given_path

Row = dict[str, Any]
# The endings of files that count as pictures, in whichever case.
PICTURES = (
    ".bmp",
    ".gif",
    ".jpeg",
    ".jpg",
    ".pbm",
    ".pgm",
    ".png",
    ".ppm",
    ".tif",
    ".tiff",
    ".webp",
)
HIDDEN = (".", "_", "@", "$")  # how the names of hidden folders begin


@dataclasses.dataclass(frozen=True)
class FileSource:
    """Labelled files: a row is ``{'file': path, 'label': int32}``, to be read by a decode function."""

    paths: tuple[str, ...]
    labels: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> Row:
        return {"file": self.paths[row], "label": np.int32(self.labels[row])}

    def digest(self) -> str:
        """SHA-256 (hex) of every file's content and of the labels, wherever the files lie."""
        return hashlib.sha256(f"{digest_files(self.paths)}{self.labels}".encode()).hexdigest()


def image_folder(folder: str | os.PathLike) -> tuple[FileSource, tuple[str, ...]]:
    """The pictures under ``folder``, whose subfolders are the classes; and the classes' names.

    Files count as pictures by their endings, :data:`PICTURES` in whichever case. Those in folders
    inside a class belong to that class. Classes and files come in the order of their names' code
    points (after Unicode's NFC), on every file system and in every locale.

    Left out are folders whose names begin with ``.``, ``_``, ``@`` or ``$`` (.ipynb_checkpoints,
    __MACOSX, @eaDir), files whose names begin with ``.``, Thumbs.db and desktop.ini, files with other
    endings, pictures in no class's folder, links to nothing, and linked folders inside a class. One
    warning counts and names these, classes without a picture (which keep their number), classes
    whose names differ in case alone, and pictures in folders inside a class.

    No file is opened here: a damaged picture stops the reading with its name. To find them all first,
    read every row once (``for row in range(len(source)): decode(source[row])``).
    """
    root = given_path(folder)
    if not root.is_dir():
        raise UserError("folder-missing", f"there is no folder {root}")
    left: dict[str, list[str]] = {}  # why files and folders are left out, and which
    listed = sorted(os.listdir(root), key=_order)
    folders = [name for name in listed if (root / name).is_dir()]
    for name in folders:
        if name.startswith(HIDDEN):
            left.setdefault("hidden folders", []).append(name)
    for name in listed:
        if name not in folders:
            reason = _no_picture(root / name) or "pictures in no class's folder"
            left.setdefault(reason, []).append(name)
    classes = [name for name in folders if not name.startswith(HIDDEN)]
    files = [_pictures_under(root / name, root, left) for name in classes]
    odd = [f"left out {len(names)} {why} ({_some(names)})" for why, names in left.items()]
    if not any(files):
        raise UserError(
            "no-pictures",
            f"{root} has no pictures in subfolders named after their classes"
            + "".join(f"; {words}" for words in odd)
            + "; give the folder above" * ("pictures in no class's folder" in left),
        )
    if empty := [name for name, found in zip(classes, files, strict=True) if not found]:
        odd.append(f"no picture in {len(empty)} of {len(classes)} classes ({_some(empty)})")
    folded = [unicodedata.normalize("NFC", name).casefold() for name in classes]
    if alike := [name for name, key in zip(classes, folded, strict=True) if folded.count(key) > 1]:
        odd.append(f"classes whose names differ in case alone ({_some(alike)})")
    inner = [path for found in files for path in found if len(Path(path).parts) > 2]
    if inner:
        odd.append(f"{len(inner)} pictures lie in folders inside a class ({_some(inner)})")
    if odd:
        warnings.warn(f"{root}: {'; '.join(odd)}", stacklevel=2)
    paths = tuple(str(root / path) for found in files for path in found)
    labels = tuple(label for label, found in enumerate(files) for _ in found)
    return FileSource(paths, labels), tuple(unicodedata.normalize("NFC", name) for name in classes)


def _order(path: str) -> tuple:
    """Sorts paths by their parts, the same wherever they lie."""
    return tuple((unicodedata.normalize("NFC", part), part) for part in Path(path).parts)


def _no_picture(path: Path) -> str:
    """Why a file is left out; empty for a picture."""
    if path.name.startswith(".") or path.name.lower() in ("thumbs.db", "desktop.ini"):
        return "hidden files"
    if path.suffix.lower() not in PICTURES:
        return f"files ending in {path.suffix}" if path.suffix else "files without an ending"
    check_plain(path)
    return "" if path.is_file() else "links to nothing"


def _pictures_under(folder: Path, root: Path, left: dict[str, list[str]]) -> list[str]:
    """Paths from ``root`` of the pictures in a class's folder; ``left`` gains what is left out."""

    def stop(error: OSError):
        raise UserError("file-read", f"cannot list {error.filename}: {error.strerror}") from None

    found = []
    for place, folders, files in os.walk(folder, onerror=stop):
        here = Path(place).relative_to(root)
        linked = {name for name in folders if os.path.islink(os.path.join(place, name))}
        hidden = {name for name in folders if name.startswith(HIDDEN)}
        for why, names in (("hidden folders", hidden), ("linked folders", linked - hidden)):
            if names:
                left.setdefault(why, []).extend(str(here / name) for name in sorted(names))
        folders[:] = sorted(set(folders) - linked - hidden)
        for name in sorted(files):
            if reason := _no_picture(Path(place, name)):
                left.setdefault(reason, []).append(str(here / name))
            else:
                found.append(str(here / name))
    return sorted(found, key=_order)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
