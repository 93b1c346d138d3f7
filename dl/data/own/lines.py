"""What the kinds of text share: how text is read, as a table, and in lines."""

import dataclasses
import functools
import itertools
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dl.core.errors import UserError
from dl.data.own.columns import table_too_large
from dl.data.own.found import Line, OwnSheet, sheet_options
from dl.data.own.paths import ends
from dl.data.own.pixels import too_large
from dl.data.readers.csv_text import plain, short
from dl.data.readers.encodings import decoded
from dl.data.readers.files import read
from dl.data.readers.frames import Frame, first_rows, read_frame, words
from dl.data.readers.on_disk import ROWS

TEXTS = (
    *("text", "sentence", "review", "content", "question", "comment", "message", "tweet", "body"),
    *("document", "utterance", "phrase", "description", "title", "sequence"),
)
TEXT_FILES = (".csv", ".tsv", ".txt", ".data", ".dat")


def text_of(path: Path, encoding: str | None = None) -> str:
    """The text of a file, packed or not, its lines ended by ``\\n`` alone."""
    return text_in(read(path), path.name, encoding)


def text_in(data: bytes, name: str, encoding: str | None = None) -> str:
    """The text of a file's bytes, its lines ended by ``\\n`` alone."""
    if data[257:262] == b"ustar" or data[:4] == b"PK\x03\x04":
        raise UserError("archive", f"{name} is an archive of files: unpack it, and name its folder")
    text = decoded(data, name, encoding)
    return text.replace("\r\n", "\n").replace("\r", "\n")


def lines_of(path: Path, encoding: str | None = None) -> list[str]:
    """The lines of a file of text, without ends and surrounding space."""
    text = text_of(path, encoding)
    return [line.strip() for line in text.removesuffix("\n").split("\n")] if text else []


def tab_separated(lines: Sequence[str]) -> bool:
    """Whether nearly every line has as many tabs as most have."""
    counts = np.array([line.count("\t") for line in lines if line.strip()])
    return bool(counts.size) and (counts > 0).mean() > 0.95


def text_table(source: Any, own: OwnSheet, name: str = "", disk: bool = False) -> Frame:
    """A table of text. In text between tabs a quote is a quote, unless every cell that begins with one is
    enclosed by two; a first line that is rather a row is none of headings.

    Args:
      source: a path, bytes, or what else :func:`dl.data.readers.frames.read_frame` takes.
      own: how it is written, where the user says so.
      name: of bytes, which are text where it ends so.
      disk: whether the cells of a file are to stay on disk.
    """
    options, data = sheet_options(own) | {"disk": disk}, source
    if isinstance(source, str | os.PathLike):
        name, data = Path(source).name, Path(source) if disk else read(Path(source))
    if not isinstance(data, bytes | Path) or not ends(Path(name), TEXT_FILES):
        return read_frame(source, name=name or None, **options)
    blocks = _blocks(data, name, own.encoding)
    lines = itertools.chain.from_iterable(block.split("\n") for block in blocks())
    if not own.separator and tab_separated([*itertools.islice(lines, 1000)]):
        begun, whole = r'(?:^|\t)"', r'(?:^|\t)"(?:[^"]|"")*"(?=\t|$)'
        cells = [0, 0]
        for block in blocks():
            cells = [
                n + len(re.findall(p, block, re.M))
                for n, p in zip(cells, (begun, whole), strict=True)
            ]
        options |= {"separator": "\t", "quote": '"' if cells[0] == cells[1] else ""}
    frame = read_frame(data, name=name, **options)
    if own.headings or any(note.startswith("the first line") for note in frame.notes):
        return frame
    if not _a_row(frame):
        return frame
    names = [f"column_{place}" for place in range(1, len(frame.headings) + 1)]
    said = f"the first line ({', '.join(map(short, frame.headings[:3]))}) is taken for a row"
    frame = read_frame(data, name=name, **options | {"header": names})
    return dataclasses.replace(frame, notes=(*frame.notes, said))


def _blocks(data: bytes | Path, name: str, encoding: str | None) -> Callable[[], Iterable[str]]:
    """The text of a file, some whole lines at a time where it stays on disk, as often as it is asked for."""
    if isinstance(data, Path):
        from dl.data.own.stored import text_blocks

        return functools.partial(text_blocks, data, encoding)
    text = [text_in(data, name, encoding)]
    return lambda: text


def _a_row(frame: Frame) -> bool:
    """Whether the headings are rather cells: sentences, or a word that its own column has again and again."""
    if any(len(heading.split()) > 3 or heading[-1:] in ".!?" for heading in frame.headings):
        return True
    frame = first_rows(frame, 1000)
    for heading in frame.headings:
        cells = words(frame, heading).tolist()
        if cells.count(heading) > 1 and len(set(cells)) < len(cells) / 2:
            return True
    return False


def lengths(frame: Frame, in_words: bool = False) -> dict[str, float]:
    """How many characters (or words) the cells of each column of words have in the mean; columns of numbers are
    left out."""
    found, frame = {}, first_rows(frame, 1000)
    for heading in frame.headings:
        cells = [cell for cell in words(frame, heading) if cell is not None]
        if cells and not all(re.fullmatch(r"[-+.,\d]+|true|false", c, re.I) for c in cells):
            found[heading] = float(
                np.mean([len(cell.split() if in_words else cell) for cell in cells])
            )
    return found


def prose(frame: Frame) -> list[str]:
    """The columns that hold texts rather than names: called so, of several words, or long, as of DNA."""
    frame = first_rows(frame, 1000)
    sizes, long = lengths(frame, in_words=True), lengths(frame)
    found = []
    for heading, size in sizes.items():
        cells = [cell for cell in words(frame, heading) if cell is not None]
        joined = "".join("".join(cells).split())
        letters = sum(map(str.isalpha, joined)) / max(1, len(joined))
        running = (size >= 3 and letters > 0.5) or (long[heading] >= 25 and letters > 0.9)
        if heading.lower() in TEXTS or (running and 2 * len(set(cells)) > len(cells)):
            found.append(heading)
    return found


def not_texts(frame: Frame, what: str) -> UserError:
    """The error for a table of which no column holds what is asked for."""
    return UserError(
        "text-unnamed",
        f"{frame.name} is a table, and no column of it looks like {what}: `dl run tabular` trains on tables; or "
        f"name the column by --text, one of {', '.join(map(plain, frame.headings[:12]))}",
    )


def texts_too_large(source: Any, files: Sequence[Path], stream: bool) -> tuple[bool, list[Line]]:
    """Whether the texts of files, or else of a table, are to stay on disk, and the line of it."""
    if not files:
        return table_too_large(source, stream, 2)
    size = sum(path.stat().st_size for path in files)  # four times that as strings and as tokens
    disk, line = too_large(4 * size, stream)
    return disk, [line]


def words_by_row(frame: Frame, heading: str) -> Iterator[str | None]:
    """:func:`dl.data.readers.frames.words`, some rows in memory at a time."""
    for start in range(0, frame.rows, ROWS):
        piece = dataclasses.replace(frame, columns=frame.columns.slice(start, ROWS), lines=None)
        yield from words(piece, heading).tolist()


def texts_column(texts: Sequence[str]) -> np.ndarray:
    """Strings as a column ``[rows]`` of objects: an array of fixed width holds the longest as often as there are
    rows."""
    column = np.empty(len(texts), object)
    column[:] = texts
    return column
