"""Files of the user's own: which lie under a folder, of which part they are, and which of them a table names."""

import collections
import functools
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dl.core.errors import UserError
from dl.data.own.found import PARTS, Line, part_called, part_in
from dl.data.readers.files import digest_files
from dl.data.readers.given import check_plain
from dl.data.readers.picture_folders import HIDDEN

TABLES = (
    *(".csv", ".tsv", ".jsonl", ".ndjson", ".parquet", ".arrow", ".feather", ".ipc"),
    *(".array_record", ".arrayrecord"),
)
SOUNDS = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aiff", ".aif", ".au", ".caf", ".w64")


def plain_name(path: Path) -> str:
    """A file's name without the ending of its packing, and without the number of a shard after its ending."""
    return re.sub(r"(\.array_?record)-\d+-of-\d+$", r"\1", path.name.removesuffix(".gz"))


def stem(path: Path) -> str:
    """A file's name without endings of packing and format: ``train.en`` of ``train.en.txt.gz``."""
    return plain_name(path).rpartition(".")[0] or plain_name(path)


def ends(path: Path, endings: Sequence[str]) -> bool:
    """Whether a file, packed or not, ends so, in whichever case."""
    return plain_name(path).lower().endswith(tuple(endings))


def short_names(paths: Sequence[str | os.PathLike]) -> list[str]:
    """Files by their paths below the folder that all are in."""
    names = [os.fspath(path) for path in paths]
    top = os.path.commonpath([os.path.dirname(name) for name in names])
    return [name[len(top) :].lstrip(os.sep) for name in names]


def digests_under(folder: Path, paths: Iterable[Path]) -> dict[str, str]:
    """The digest of each file, called by its path from the folder: of several by part each is ``data.csv``."""
    root = folder if folder.is_dir() else folder.parent
    return {Path(os.path.relpath(p, root)).as_posix(): digest_files([p]) for p in paths}


def files_digest(title: str, tables: Iterable[str], paths: Sequence[Any]) -> dict[str, str]:
    """The digest of all files together, called ``title``, or after it where a table is called so."""
    return {f"files of {title}" if title in tables else title: digest_files(paths)}


def is_table(path: Path) -> bool:
    """Whether a file's ending says that it is a table, of text too."""
    return ends(path, (*TABLES, ".json"))


def visible(folder: Path) -> list[Path]:
    """What is in a folder, in the order of names, without what is hidden."""
    found = sorted(path for path in folder.iterdir() if not path.name.startswith(HIDDEN))
    for path in found:
        check_plain(path)
    return found


def walk(folder: Path) -> Iterator[Path]:
    """The files under a folder, relative to it, but for hidden ones and those of hidden folders."""
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith(HIDDEN))
        here = Path(place).relative_to(
            folder
        )  # cameras call pictures _MG_1.jpg: files may begin so
        for name in sorted(files):
            if not name.startswith("."):
                check_plain(Path(place, name))
                yield here / name


def files_under(folder: Path, endings: Sequence[str] = ("",)) -> list[Path]:
    """The files of :func:`walk` that end so, in the order of their folders and names."""
    found = (path for path in walk(folder) if path.name.lower().endswith(tuple(endings)))
    return sorted(found, key=lambda path: path.parts)


def files_in(path: Path) -> list[Path]:
    """The file, or all that lie in the folder (:func:`files_under`)."""
    return [path / below for below in files_under(path)] if path.is_dir() else [path]


def filled_lines(path: Path) -> list[str]:
    """The lines of a list, without those that are empty."""
    lines = path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    return [line.strip() for line in lines if line.strip()]


# -- parts -------------------------------------------------------------------------------------------


def part_by_name(path: Path) -> str | None:
    """The part that a file's or folder's own name tells of."""
    return part_in(plain_name(path))


def part_of(path: Path) -> str | None:
    """The part that the first of the folders on a path tells of, such as train2017."""
    return next((part for word in path.parts[:-1] if (part := part_in(word))), None)


def by_part(
    paths: Iterable[Path], told: Callable[[Path], str | None] = part_by_name
) -> tuple[dict[str, list[Path]], list[Path]]:
    """``(files or folders by part, those of no part)``; all are of part ``""`` where none is to train on."""
    paths, parts = list(paths), dict[str, list[Path]]()
    for path in paths:
        parts.setdefault(told(path) or "", []).append(path)
    if "train" not in parts:
        return {"": paths}, []
    return {part: parts[part] for part in PARTS if part in parts}, parts.get("", [])


def called_by_part(parts: dict[str, list[Path]]) -> dict[str, list[Path]]:
    """Of each part the files called by it alone, where there are some: train.csv, not train_ids.csv beside it."""
    exact = {
        part: [p for p in some if part and part_called(stem(p))] for part, some in parts.items()
    }
    return {part: exact[part] or some for part, some in parts.items()}


def of_no_part(paths: Sequence[Path], why: str = "no part by its name") -> list[Line]:
    """What to show of files that are left out."""
    return [Line(path.name, "left out", why) for path in paths[:5]]


def by_first_folder(paths: Sequence[Path]) -> tuple[np.ndarray | None, list[tuple[str, ...]]]:
    """The part of every path by its first folder (train, dev-clean, ...), None where these are none; and the
    folders below that one."""
    below = [path.parts[:-1] for path in paths]
    parts = [part_in(names[0]) if names else None for names in below]
    if None in parts or "train" not in parts:
        return None, below
    return np.array(parts), [names[1:] for names in below]


def numbered(paths: Sequence[Path]) -> list[Path]:
    """The tables of a folder in the order of their numbers, where their names differ in these alone, but not in
    how many there are to be; else none.

    >>> [p.name for p in numbered([Path("y-10.csv"), Path("y-9.csv")])], numbered([Path("a.csv"), Path("b.csv")])
    (['y-9.csv', 'y-10.csv'], [])
    """
    called = {
        (re.sub(r"\d+", "0", path.name), *(total for _, total in _OF_SOME.findall(path.name)))
        for path in paths
        if is_table(path)
    }
    if len(called) != 1 or not all(map(is_table, paths)):
        return []
    return sorted(paths, key=lambda path: [int(number) for number in re.findall(r"\d+", path.name)])


_OF_SOME = re.compile(r"(.*?)\d+-of-(\d+)(?!\d)")  # train-00000-of-00003.parquet


def not_here(paths: Sequence[Path]) -> list[Line]:
    """What to show where files say of how many they are, and some of those are not among ``paths``."""
    found = (_OF_SOME.match(path.name) for path in paths)
    there = collections.Counter(each.groups() for each in found if each)
    why = "by their names: the others are not here"
    return [
        Line(name.rstrip("-_.") or "table", f"{count:,} of {int(total):,} files", why)
        for (name, total), count in there.items()
        if count < int(total)
    ]


def part_lists(
    root: Path, files: Iterable[Path], stems: Iterable[str], folder: str = ""
) -> dict[str, str]:
    """The part of pictures by name without ending, as text files called train, val and test list them; of Pascal
    VOC's several the ones in ``folder``."""
    known, parts = set(stems), dict[str, str]()
    texts = [path for path in files if path.suffix.lower() == ".txt" and part_called(path.stem)]
    for path in [p for p in texts if folder in p.parts] or texts:
        listed = [
            Path(line.split()[0].replace("\\", "/")).stem for line in filled_lines(root / path)
        ]
        if listed and sum(stem in known for stem in listed) > len(listed) / 2:
            told = dict.fromkeys(listed, str(part_called(path.stem)))
            check_lists(parts, told, str(path))
            parts |= told
    return parts


def check_lists(known: dict[str, str], more: dict[str, str], name: str) -> None:
    """Raise UserError where a list says another part of a file than one before."""
    if twice := [file for file, part in more.items() if known.get(file, part) != part]:
        raise UserError(
            "parts-overlap",
            f"{name} has {len(twice):,} files that another list has for {known[twice[0]]}, such as {twice[0]}: "
            "take each out of one",
        )


# -- names -------------------------------------------------------------------------------------------


def beside_masks(paths: Iterable[Path]) -> list[Path]:
    """``paths`` without the PNG files that are masks: where every JPEG lies beside a PNG file of its name."""
    endings: dict[Path, set[str]] = collections.defaultdict(set)
    for path in (paths := list(paths)):
        endings[path.with_suffix("")].add(path.suffix.lower())
    both = all(".png" in found and found & {".jpg", ".jpeg"} for found in endings.values())
    return [path for path in paths if path.suffix.lower() != ".png"] if both else paths


_OF_TABLES = {"annotations", "annotation", "labels", "lists", "splits", "metadata", "meta", "csv"}


class Named:
    """Finds files by what a table says of them: a path or the end of one, with or without ending.

    They lie below a folder; or, where it holds none and is called as one of tables is (``annotations``), below
    the one above it.
    """

    def __init__(self, folder: Path, endings: Sequence[str]):
        there = any(path.name.lower().endswith(tuple(endings)) for path in walk(folder))
        self.places = (folder,) if there else (folder, folder.parent)
        beside = not there and folder.name.lower() in _OF_TABLES
        self.folder, self.endings = folder.parent if beside else folder, endings

    @property
    def every(self) -> list[Path]:
        """All files of these endings that there are."""
        return [self.folder / path for path in beside_masks(files_under(self.folder, self.endings))]

    @functools.cached_property
    def _named(self) -> dict[str, list[Path]]:
        named = collections.defaultdict(list)
        for path in beside_masks(files_under(self.folder, self.endings)):
            for name in {path.name, path.stem}:
                named[name].append(path)
        return named

    def all(self, asked: str | Path, part: str | None = None) -> list[Path]:
        """The files that may be meant; where the whole path says less than one, those in a folder of ``part``."""
        asked = Path(str(asked).replace("\\", "/"))
        for place in self.places if asked.suffix else ():
            if os.path.isfile(place / asked):  # which none is whose name is too long
                return [place / asked]
        above, found = asked.parent.parts, self._named.get(asked.name, [])
        for most in range(len(above), 0, -1):  # the longest end that they have in common
            if alike := [p for p in found if p.parent.parts[-most:] == above[-most:]]:
                found = alike
                break
        if len(found) > 1 and part:
            found = [path for path in found if part_of(path) == part]
        return [self.folder / path for path in found]
