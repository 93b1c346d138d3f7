"""Text and tokens on disk, for corpora that do not fit into memory."""

import array
import dataclasses
import gzip
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from dl.core.errors import UserError
from dl.data.own.lines import text_of, texts_column
from dl.data.readers.encodings import encoding_by_mark
from dl.data.readers.on_disk import Store

LONGEST = 1000  # characters of a row; a longer line is several
BLOCK = 2**20  # characters of text that are read at once, some more or fewer
_PIECE = 2**16  # that are cut into tokens at once: tokenizers take some hundred bytes for each


def rows_of(text: str) -> list[str]:
    """Lines with their ends, long ones in several; end to end they are the text."""
    return [
        line[start : start + LONGEST]
        for line in text.splitlines(keepends=True)
        for start in range(0, len(line), LONGEST)
    ]


def text_blocks(path: Path, encoding: str | None) -> Iterator[str]:
    """The text of a file as :func:`dl.data.own.lines.text_of` gives it, some whole lines at a time.

    Raises:
      UserError: as that does.
    """
    with path.open("rb") as raw:
        opened: Any = gzip.open if raw.read(2) == b"\x1f\x8b" else open
    try:
        with opened(path, "rb") as file:
            head = file.read(2**16)
        archive = head[257:262] == b"ustar" or head[:4] == b"PK\x03\x04"
        if archive or head.count(0) > len(head) // 5:
            yield text_of(path, encoding)  # which says what is amiss, or that nothing is
            return
        mark = "\ufeff"
        with opened(path, "rt", encoding=encoding or encoding_by_mark(head)) as file:
            while lines := file.readlines(BLOCK):
                yield "".join(lines).removeprefix(mark)
                mark = ""
    except (ValueError, LookupError, OSError, EOFError):
        text_of(path, encoding)  # says what is amiss
        raise


class TextSink:
    """Strings that come one after another and become a column ``[rows]``, in memory or on disk."""

    def __init__(self, disk: bool):
        self.texts: list[str] = []
        self.store = Store(np.uint8) if disk else None
        self.ends = array.array("q")

    def add(self, text: str) -> None:
        if self.store is None:
            self.texts.append(text)
        else:
            self.store.write(text.encode("utf-8", "surrogatepass"))
            self.ends.append(self.store.size)

    def column(self) -> Any:
        if self.store is None:
            return texts_column(self.texts)
        ends = np.array(self.ends, np.int64)
        return StoredText(self.store.mapped(), np.append(0, ends[:-1]).astype(np.int64), ends)


def stripped_lines(path: Path, encoding: str | None) -> Iterator[str]:
    """:func:`dl.data.own.lines.lines_of`, some lines in memory at a time."""
    rest = ""  # of a block, which ends with a line; the file's last end begins no other
    for block in text_blocks(path, encoding):
        *whole, rest = (rest + block).split("\n")
        yield from (line.strip() for line in whole)
    if rest:
        yield rest.strip()


@dataclasses.dataclass(frozen=True, eq=False)
class StoredText:
    """Strings ``[rows]`` in a file, read when they are asked for; a row is a block of lines.

    Attributes:
      data: the bytes of all, UTF-8.
      starts, stops: int64 ``[rows]``, where each lies.
    """

    data: np.ndarray
    starts: np.ndarray
    stops: np.ndarray
    dtype = np.dtype(object)
    shape = property(lambda self: (len(self),))

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, rows: Any) -> Any:
        if isinstance(rows, int | np.integer):
            return (
                self.data[self.starts[rows] : self.stops[rows]]
                .tobytes()
                .decode("utf-8", "surrogatepass")
            )
        return StoredText(self.data, self.starts[rows], self.stops[rows])

    def __iter__(self) -> Iterator[str]:
        return (self[row] for row in range(len(self)))

    def lines(self, most: int, blocks: int = 10) -> list[str]:
        """Some rows as they would be in memory, of the beginnings of evenly spaced blocks."""
        chosen = np.unique(np.linspace(0, len(self) - 1, min(len(self), blocks)).astype(int))
        share = -(-most // len(chosen))
        return [row for place in chosen for row in rows_of(self[int(place)])[:share]]

    def pieces(self, after: bool = False) -> Iterator[str]:
        """The text in pieces that end before white space, with which words and marks are over, or ``after`` it."""
        edge, rest = re.compile(r"\S(?=\s)" if after else r"\s(?=\S)"), ""
        for some in (b[n : n + _PIECE] for b in self for n in range(0, len(b), _PIECE)):
            rest += some
            if last := edge.search(rest[::-1]):  # the last one, as it is found backwards
                place = len(rest) - last.end()
                yield rest[:place]
                rest = rest[place:]
        if rest:
            yield rest


def stored(documents: Iterable[tuple[str, Iterable[str]]]) -> tuple["Blocks", list[UserError]]:
    """Documents, each its part and its text in blocks of whole rows, written to disk; and the errors of those that
    cannot be read, which are left out as those without text are."""
    kept, rows = Store(np.uint8), array.array("q")  # as there may be very many
    errors: list[UserError] = []
    parts: dict[str, int] = {}
    number = 0
    for part, blocks in documents:
        before, blank, mine = kept.size, True, array.array("q")
        code = parts.setdefault(str(part), len(parts))
        try:
            for block in blocks:
                start = kept.size
                kept.write(block.encode())
                size = len(block), len(rows_of(block))
                mine.extend((start, kept.size, number, *size, code))
                blank = blank and not block.strip()
        except UserError as error:
            errors.append(error)
            blank = True
        if blank:
            kept.back(before)
        else:
            rows.extend(mine)
            number += 1
    columns = np.array(rows, np.int64).reshape(-1, 6).T
    text = StoredText(kept.mapped(), *columns[:2])
    part_of = np.array([*parts] or [""])[columns[5]]
    document, characters, rows_in = columns[2].astype(np.int32), columns[3], columns[4]
    return Blocks(text, document, characters, rows_in, part_of), errors


@dataclasses.dataclass(frozen=True, eq=False)
class Blocks:
    """Text on disk, and of each row its document, its characters, the rows it would be in memory, and its part."""

    text: StoredText
    document: np.ndarray
    characters: np.ndarray
    rows: np.ndarray
    part: np.ndarray

    def cut(self, row: int, place: int) -> "Blocks":
        """The same with a row cut in two, the first of ``place`` characters."""
        block, text = self.text[row], self.text
        edge = text.starts[row] + len(block[:place].encode())
        two = [np.insert(column, row, column[row]) for column in (self.document, self.part)]
        sizes = np.insert(self.characters, row, place)
        counts = np.insert(self.rows, row, len(rows_of(block[:place])))
        sizes[row + 1] -= place
        counts[row + 1] -= counts[row]
        starts, stops = np.insert(text.starts, row + 1, edge), np.insert(text.stops, row, edge)
        return Blocks(StoredText(text.data, starts, stops), two[0], sizes, counts, two[1])

    def cut_by(self, part: np.ndarray) -> tuple["Blocks", np.ndarray]:
        """The blocks, cut where ``part``, of each row that there would be in memory, changes; and that of each."""
        blocks, ends = self, np.cumsum(self.rows)
        for row in np.flatnonzero(part[1:] != part[:-1])[::-1] + 1:
            block = int(np.searchsorted(ends, row, side="right"))
            if inner := int(row - ends[block] + self.rows[block]):
                blocks = blocks.cut(block, sum(map(len, rows_of(self.text[block])[:inner])))
        return blocks, part[np.cumsum(blocks.rows) - blocks.rows]


def in_order(blocks: Blocks, shares: tuple[float, float]) -> tuple[Blocks, np.ndarray] | None:
    """The blocks, cut where a part begins, and the part of each: by characters, at the beginnings of rows. None of
    too few rows for that."""
    total = int(blocks.characters.sum())
    validation, test = (share * total for share in shares)
    part = np.full(len(blocks.text), "train", "<U10")
    for name, edge in (("validation", total - test - validation), ("test", total - test)):
        ends = np.cumsum(blocks.characters)
        row = int(np.searchsorted(ends, edge, side="right"))
        if row < len(ends):
            begin = ends[row] - blocks.characters[row]
            inner = np.cumsum([0, *map(len, rows_of(blocks.text[row]))])
            place = int(inner[np.searchsorted(begin + inner[1:], edge, side="right")])
            if place:
                blocks, part = blocks.cut(row, place), np.insert(part, row, part[row])
                row += 1
        part[row:] = name
    enough = len(set(part)) == 1 + sum(share > 0 for share in shares)
    return (blocks, part) if enough else None
