"""What the kinds of text share: how text is read, as a table, and in lines."""

import dataclasses
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dl.core.errors import UserError
from dl.data.own.found import OwnFiles
from dl.data.own.paths import plain_name
from dl.data.readers.csv_text import decoded, short
from dl.data.readers.files import read
from dl.data.readers.frames import Frame, read_frame, words


@dataclasses.dataclass(frozen=True)
class OwnText(OwnFiles):
    """Fields for the config of a script that takes text of the user's own, of whatever kind."""

    encoding: str | None = None
    """of your files, where it is not UTF-8, such as cp1252"""


def text_of(path: Path, encoding: str | None = None) -> str:
    """The text of a file, packed or not, its lines ended by ``\\n`` alone."""
    data = read(path)
    if data[257:262] == b"ustar" or data[:4] == b"PK\x03\x04":
        raise UserError(
            "archive", f"{path.name} is an archive of files: unpack it, and name its folder"
        )
    text = decoded(data, path.name, encoding)
    return text.replace("\r\n", "\n").replace("\r", "\n")


def lines_of(path: Path, encoding: str | None = None) -> list[str]:
    """The lines of a file of text, without ends and surrounding space."""
    lines = text_of(path, encoding).removesuffix("\n").split("\n")
    return [line.strip() for line in lines]


def tab_separated(lines: Sequence[str]) -> bool:
    """Whether nearly every line has as many tabs as most have."""
    counts = np.array([line.count("\t") for line in lines if line.strip()])
    return bool(counts.size) and (counts > 0).mean() > 0.95


def text_table(source: Any, encoding: str | None = None) -> Frame:
    """A table of text. In text between tabs a quote is a quote, unless every cell that begins with one is
    enclosed by two; a first line that is rather a row is none of headings.

    Args:
      source: a path, or what else :func:`dl.data.readers.frames.read_frame` takes.
    """
    if not isinstance(source, str | os.PathLike):
        return read_frame(source)
    path = Path(source)
    options: dict[str, Any] = {"encoding": encoding}
    if not plain_name(path).lower().endswith((".csv", ".tsv", ".txt", ".data", ".dat")):
        return read_frame(path)
    text = text_of(path, encoding)
    if tab_separated(text.split("\n")[:1000]):
        begun, whole = r'(?:^|\t)"', r'(?:^|\t)"(?:[^"]|"")*"(?=\t|$)'
        quoted = len(re.findall(begun, text, re.M)) == len(re.findall(whole, text, re.M))
        options |= {"separator": "\t", "quote": '"' if quoted else ""}
    frame = read_frame(path, **options)
    if any(note.startswith("the first line") for note in frame.notes) or not _a_row(frame):
        return frame
    names = [f"column_{place}" for place in range(1, len(frame.headings) + 1)]
    said = f"the first line ({', '.join(map(short, frame.headings[:3]))}) is taken for a row"
    frame = read_frame(path, **options, header=names)
    return dataclasses.replace(frame, notes=(*frame.notes, said))


def _a_row(frame: Frame) -> bool:
    """Whether the headings are rather cells: sentences, or a word that its own column has again and again."""
    if any(len(heading.split()) > 3 or heading[-1:] in ".!?" for heading in frame.headings):
        return True
    for heading in frame.headings:
        cells = words(frame, heading)[:1000].tolist()
        if cells.count(heading) > 1 and len(set(cells)) < len(cells) / 2:
            return True
    return False


def lengths(frame: Frame) -> dict[str, float]:
    """How many characters the cells of each column of words have in the mean; columns of numbers are left out."""
    found = {}
    for heading in frame.headings:
        cells = [cell for cell in words(frame, heading)[:1000] if cell is not None]
        if cells and not all(re.fullmatch(r"[-+.,\d]+|true|false", c, re.I) for c in cells):
            found[heading] = float(np.mean([len(cell) for cell in cells]))
    return found


def texts_column(texts: Sequence[str]) -> np.ndarray:
    """Strings as a column ``[rows]`` of objects: an array of fixed width holds the longest as often as there are
    rows."""
    column = np.empty(len(texts), object)
    column[:] = texts
    return column
