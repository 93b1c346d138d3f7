"""Clips with a class each: rows of numbers that follow one another, as joints in a film or what sensors read.

Columns: ``values`` float32 ``[n, longest, features]``, 0 after the end; ``length`` int32 ``[n]``; ``label`` int32
``[n]``. A table has a row a moment, and says of which clip it is.
"""

import dataclasses
from typing import Any

import numpy as np

from dl.core.errors import UserError
from dl.data.own.classes import class_lines, coded
from dl.data.own.columns import OwnCells, joined, read_cells, split_column, which_column
from dl.data.own.found import Found, Line, column_called, own_info, span
from dl.data.readers.frames import Frame, coded_words, numbers, only_numbers
from dl.data.readers.series_tables import series_times
from dl.data.sets.catalogue import load
from dl.data.splits import Splits
from dl.platform import host_memory

NAMED = ("jhmdb_pose", "radhar")
OF_NAMED = ("values", "length", "label", "test_in")
FOR_NAMED = ("official",)
# Not y, which points have.
LABELS = ("label", "labels", "class", "category", "target", "activity", "gesture", "state")
CLIPS = ("sequence", "sequence_id", "clip", "video", "recording", "session", "trial", "series_id")
TIMES = ("time", "frame", "step", "t", "measurement_number", "timestamp")


@dataclasses.dataclass(frozen=True)
class OwnClips(OwnCells):
    """Fields for the config of a script that takes clips with a class each."""

    sequence: str | None = None
    """your column that says which clip a row belongs to, where it is not called so"""
    label: str | None = None
    """your column of the classes, the same in all rows of a clip"""
    time: str | None = None
    """your column that orders the rows of a clip; without one they are in order"""
    values: tuple[str, ...] = ()
    """your columns of numbers; by default all others"""
    official: int = 1
    """which of a named set's official splits to take: 1, 2 or 3 of jhmdb_pose"""


def load_named(name: str, own: OwnClips) -> Splits:
    """A set that goes by a name, in one of its official splits; a tenth of its training clips is validation."""
    from dl.data.sets.clips import official_split

    return official_split(load(name), own.official)


def read(source: Any, own: OwnClips) -> Found:
    """Clips of a table, see the module.

    Raises:
      UserError: a column cannot be told, or a clip has two classes, parts or groups.
    """
    from dl.data.sets.clips import padded

    frames, digests, lines = read_cells(source, own)
    split = split_column(frames, own)
    frame, part, lacking = joined(frames, split)
    which = column_called(frame, own.sequence, CLIPS, "--sequence")
    label = column_called(frame, own.label, LABELS, "--label")
    time = column_called(frame, own.time, TIMES, "--time")
    if which is None:
        raise UserError("column-unnamed", which_column(frame, "name of the clip", "--sequence"))
    if label is None:
        raise UserError("target-unnamed", which_column(frame, "classes", "--label"))
    code, names = coded_words(frame, which)
    if time is not None:
        when, _ = series_times(frame, time)
        order = np.lexsort((when, code))
    else:
        order = np.argsort(code, kind="stable")
    start = np.flatnonzero(np.append(True, np.diff(code[order]) != 0))
    length = np.diff(np.append(start, len(order)))

    def once(heading: str) -> np.ndarray:
        """The one word that all rows of each clip hold in a column, ``[clips]``."""
        index, different = coded_words(frame, heading)
        index = index[order]
        if (torn := np.flatnonzero(index != np.repeat(index[start], length))).size:
            name = names[code[order][torn[0]]]
            raise UserError(
                "clip-torn",
                f"{frame.name}: clip {name!r} has several values of {heading!r}, which must be one for all "
                "its rows: mend the file, or name the column that tells clips apart by --sequence",
            )
        return np.asarray(different, object)[index[start]]

    used = {which: "clip", label: "label"} | ({time: "time"} if time else {})
    used |= {split: "part"} if split else {}
    used |= {own.group: "group"} if own.group else {}
    words = ["" if word is None else str(word) for word in once(label)]
    if "" in words:
        said = f"{words.count(''):,} clips have no class in {label!r}: leave their rows out"
        raise UserError("label-missing", f"{frame.name}: {said}")
    if split:
        once(split)
    classes, labels = coded(words)
    chosen, more = _values(frame, own, used)
    cells = np.stack([_filled(numbers(frame, h).values[order], start) for h in chosen], 1)
    if 4 * len(start) * length.max() * len(chosen) > host_memory() // 2:
        raise UserError(
            "clips-too-large",
            f"{len(start):,} clips of up to {length.max():,} rows do not fit into memory: cut the longest",
        )
    lines += [
        *lacking,
        *(Line(heading, taken) for heading, taken in used.items()),
        *more,
        Line("clips", f"{len(start):,}", f"rows of each: {span(length)}"),
        *class_lines(classes, labels, f"clips of {frame.name}", least=1.01),
    ]
    return Found(
        {**padded(cells, np.append(start, len(order))), "label": labels},
        own_info(
            frame.name, "classification", digests, classes=classes, details={"values": chosen}
        ),
        tuple(lines),
        None if part is None else part[order][start],
        strata=labels,
        group=np.unique(once(own.group).astype(str), return_inverse=True)[1] if own.group else None,
        names=[str(names[code[order][row]]) for row in start],
    )


def _values(frame: Frame, own: OwnClips, used: Any) -> tuple[list[str], list[Line]]:
    """The columns of numbers, and the lines about them."""
    for heading in own.values:
        column_called(frame, heading, (), "--values")
    chosen, lines, gaps = [], [], 0
    for heading in own.values or [h for h in frame.headings if h not in used]:
        cells = numbers(frame, heading)
        if cells.numeric:
            chosen.append(heading)
            gaps += int(cells.missing.sum())
        elif own.values and cells.present:
            only_numbers(frame, heading, "mend them, or leave it out of --values")
        else:
            lines.append(Line(heading, "left out", "no numbers"))
    if not chosen:
        raise UserError(
            "series-no-variables", f"{frame.name} has no column of numbers beside {', '.join(used)}"
        )
    named = f"{len(chosen)}: {', '.join(chosen[:12])}{', ...' if len(chosen) > 12 else ''}"
    told = f"{gaps:,} missing cells lie on a line between their neighbours" if gaps else ""
    return chosen, [*lines, Line("values", named, told)]


def _filled(values: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Each clip's gaps on a line between the values beside them; 0 where a clip has none at all."""
    if not np.isnan(values).any():
        return values
    values = values.copy()
    for first, last in zip(start, np.append(start[1:], len(values)), strict=True):
        piece = values[first:last]
        there = ~np.isnan(piece)
        at = np.arange(len(piece))
        values[first:last] = np.interp(at, at[there], piece[there]) if there.any() else 0.0
    return values
