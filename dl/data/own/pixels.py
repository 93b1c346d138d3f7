"""What all kinds of pictures of the user's own share: where they lie, how large they are, how they are read."""

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dl.core.errors import UserError, bounded
from dl.data.batches.streams import FileRows
from dl.data.own.found import Line, span
from dl.data.readers.files import for_each
from dl.data.readers.pictures import Fit, Header, read_header, read_pixels
from dl.data.splits import Columns
from dl.platform import host_memory

SMALL = 128  # longest side of pictures that are taken as they are
OF_NO_PART = "in no list or folder of train, val and test"
_QUICK = 100 << 20  # bytes of pictures that are decoded in some seconds
SIDE = 64  # shorter side that others are proposed to have


def no_columns(own: Any, why: str, *more: str) -> None:
    """Raise UserError where the user names a column, and there is none."""
    for flag in ("split", "group", *more):
        if getattr(own, flag):
            said = f"--{flag} names a column, and {why}: leave it out, or give the table"
            raise UserError("option-misplaced", said)


def headers_of(
    files: Sequence[Any], names: Sequence[str] | None = None, upright: bool = True
) -> np.ndarray:
    """Height, width and 1 for grey of every picture: int64 ``[pictures, 3]``.

    Args:
      files: paths, or the files' bytes; names: what errors call them, by default their paths.

    Raises:
      UserError: a file is no picture; it names the first and says how many more are none.
    """
    headers = np.zeros((len(files), 3), np.int64)

    def name(row: int) -> str | None:
        return None if names is None else names[row]

    def look(row: int) -> Header:
        return read_header(files[row], name(row), upright=upright)

    try:
        for row, header in for_each(look, range(len(files)), "looking at the pictures"):
            headers[row] = header
    except UserError:  # count those that are cut off further in, too, where that is quick
        sizes = (len(f) if isinstance(f, bytes) else os.path.getsize(f) for f in files)
        if sum(sizes) < _QUICK:
            rows = range(len(files))
            for _ in for_each(
                lambda row: read_pixels(files[row], name(row)), rows, "looking for more"
            ):
                pass
        raise
    return headers


def shown_sizes(headers: np.ndarray) -> str:
    """``height 60 to 300, median 100; width 40 to 200, median 80`` (each by itself) of sides ``[n, 2]``."""
    return f"height {span(headers[:, 0])}; width {span(headers[:, 1])}"


def proposed_size(headers: np.ndarray, size: tuple[int, ...], fit: Fit) -> tuple[int, int, str]:
    """Height and width for pictures that are to be classified, and how they come to it, in words."""
    sizes = headers[:, :2]
    height, width = (int(side) for side in np.median(sizes, 0))
    alike = bool((sizes == sizes[0]).all())
    if size:
        height, width = given_size(size)
    elif alike and max(height, width) <= SMALL:
        return height, width, "as they are"
    else:
        scale = min(1.0, SIDE / min(height, width))
        height, width = (round(side * scale) for side in (height, width))
        if not alike:
            height = width = min(height, width)
    if alike and tuple(sizes[0]) == (height, width):
        return height, width, "as they are"
    ways = {
        "cut": "scaled to cover that and cut to their middle",
        "pad": "scaled to lie within that, amid black",
        "stretch": "stretched to that",
    }
    same = (sizes[:, 0] * width == sizes[:, 1] * height).all()
    return height, width, "scaled down to that" if same else f"{ways[fit]} (--fit)"


def given_size(size: tuple[int, ...]) -> tuple[int, int]:
    """Height and width of ``--size``; raises UserError where they are none."""
    for side in size:
        bounded("--size", side, at_least=1, whole=True)
    if len(size) > 2:
        raise UserError(
            "size-given", f"--size takes one number, or height and width, not {len(size)}"
        )
    return size[0], size[-1]


def rows_from(
    columns: Columns, decode: Callable, bytes_a_row: int, stream: bool, workers: int = 0
) -> tuple[Any, Line]:
    """Rows in memory, or where they would take more than a quarter of it (or ``stream``) read as needed; and
    the line that says so."""
    bounded("--workers", workers, at_least=0, whole=True)
    rows = FileRows(columns, decode, processes=workers)
    stream, line = too_large(bytes_a_row * len(rows), stream)
    return rows if stream else rows.read("decoding the pictures"), line


def too_large(size: int, stream: bool) -> tuple[bool, Line]:
    """Whether ``size`` bytes are above a quarter of the memory (or ``stream`` asks for it), and the line of it."""
    memory, mebibytes = host_memory(), size / 2**20
    said = f"{mebibytes:,.0f} MiB decoded" if mebibytes >= 1 else "under 1 MiB decoded"
    if stream or size > memory / 4:
        why = "--stream" if stream else f"above a quarter of the {memory / 2**30:,.0f} GiB here"
        return True, Line("memory", "read from disk as needed", f"{said}, {why}")
    return False, Line("memory", "all in memory", said)
