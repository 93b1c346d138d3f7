"""What the pixels of masks hold: their values, which of them are classes, and how these are called."""

import csv
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dl.core.errors import UserError
from dl.data.own.found import Line
from dl.data.own.lines import text_in
from dl.data.own.paths import filled_lines
from dl.data.readers.files import damaged, for_each, read
from dl.data.readers.pictures import read_classes, read_pixels

MOST = 255  # classes; more are instances, or the blur of a lossy file
MANY = 4096  # values; more are not looked at
SEEN = 400  # masks that are looked at for their values


def read_numbers(path: str) -> np.ndarray:
    """A mask's values ``[height, width]``: numbers as stored, or colours as ``red << 16 | green << 8 | blue``;
    of a JPEG, which blurs them, 0 for dark and 255 for bright."""
    if Path(path).suffix.lower() in (".jpg", ".jpeg"):
        return np.where(read_pixels(path, mode="L", upright=False)[..., 0] > 127, 255, 0)
    try:
        return read_classes(path).astype(np.int64)
    except UserError as error:
        if error.code != "label-image-mode":
            raise
    colours = read_pixels(path, upright=False).astype(np.int64)
    grey = (colours == colours[..., :1]).all()
    return colours[..., 0] if grey else (colours << np.array([16, 8, 0])).sum(-1)


def classes_of(root: Path, masks: Sequence[str], own: Any) -> tuple:
    """The masks' values by class, those that are void, the classes' names, and lines that show them."""
    some = [masks[place] for place in np.unique(np.linspace(0, len(masks) - 1, SEEN).astype(int))]
    counts: Counter = Counter()
    there: Counter = Counter()  # pixels of the masks that hold a value
    held: Counter = Counter()  # how many these are
    too_many = UserError(
        "mask-classes",
        f"the masks of {root} hold more than {MOST} values: they number single objects, or a lossy file blurred "
        "them; give one value a class, or say --stray nearest",
    )
    for _, found in for_each(_counts, some, "looking at the masks"):
        counts.update(found)
        there.update(dict.fromkeys(found, sum(found.values())))
        held.update(found.keys())
        if len(counts) > MANY:
            raise too_many
    colours, palette = max(counts) > 0xFFFF or any(v > 255 for v in counts), _palette(root)
    word = {value: word_of(value, colours) for value in counts}
    stray = _strays(counts, there, held, colours) - {v for v in counts if v in palette}
    stray = set() if own.stray == "class" or len(own.classes) == len(counts) else stray
    lines = _without(stray, counts, word, root, own.stray)
    if len(counts) > MOST + 1:
        raise too_many
    void = {value for value in counts if word[value] in own.void}
    if len(void) < len(own.void):
        raise UserError(
            "mask-value",
            f"--void {' '.join(own.void)}: the masks hold {', '.join(word[v] for v in sorted(counts))}",
        )
    plain = sorted(set(counts) - {255})
    numbered = not colours and len(counts) > 2 and plain[-1] < 4 * len(counts)
    if numbered and 255 in counts:
        void.add(255)  # as Pascal VOC and Cityscapes have it
    order = {name: place for place, name in enumerate(palette)} if colours else {}
    values = sorted(set(counts) - void, key=lambda v: (order.get(v, len(order)), v))
    if len(values) < 2:
        left = f"one value, {word[values[0]]}" if values else "none"
        more = " besides what is void" if void else ""
        raise UserError(
            "target-one-class", f"the masks of {root} hold {left}{more}: two classes are the least"
        )
    listed = list(own.classes) or _listed(root)
    if colours and palette and not own.classes:
        names = [palette.get(value, word[value]) for value in values]
    elif len(listed) == len(values):
        names = listed
    elif not colours and len(listed) > values[-1]:
        names = [listed[value] for value in values]
    elif own.classes:
        raise UserError(
            "classes-differ",
            f"--classes names {len(listed)}, and the masks hold {len(values)} values: "
            + ", ".join(word[value] for value in values),
        )
    else:
        names = [word[value] for value in values]
    total = sum(counts[value] for value in values)
    called = [
        n if n == word[v] else f"{n} (value {word[v]})" for n, v in zip(names, values, strict=True)
    ]
    shares = (f"{n}: {counts[v] / total:.1%}" for n, v in zip(called, values, strict=True))
    shown = f"{', '.join(shares)} of pixels"
    shown += "; --classes names them" * (names == [word[value] for value in values])
    shown += "; --void takes one out, such as what is not labelled" * (len(values) > 2 and not void)
    what = "colours" if colours else "two grey values" if len(values) == 2 else "numbers"
    lines += [Line("segments", f"{len(values)} classes, {what}", shown)]
    if len(some) < len(masks):
        lines.append(Line("counted", f"in {len(some)} of {len(masks):,} masks", "evenly drawn"))
    if void:
        share = sum(counts[value] for value in void) / sum(counts.values())
        said = ", ".join(word[value] for value in sorted(void))
        lines.append(Line("void", said, f"{share:.1%} of the pixels count for nothing (--void)"))
    return tuple(values), tuple(sorted(void)), tuple(names), lines


def _strays(counts: Counter, there: Counter, held: Counter, colours: bool) -> set[int]:
    """The values that are rather traces of others: on fewer than five pixels of the masks that hold them (and on
    fewer than one in 10,000); or, where masks are of grey levels or colours far apart, those near a more
    frequent one, fewer by five times, and all together on fewer than one pixel in six."""
    few = {v for v, n in counts.items() if n < min(5 * held[v], 1e-4 * there[v])}
    rest = sorted(set(counts) - few, key=lambda v: (-counts[v], v))
    if len(rest) > MANY or not (colours or any(64 <= v < 255 for v in rest)):
        return few
    peaks: list[int] = []
    near: dict[int, int] = {}  # to their peaks
    for value, level in zip(rest, channels(np.array(rest)), strict=True):
        close = [peak for peak in peaks if np.abs(level - channels(np.array(peak))).max() <= 32]
        if close:
            near[value] = close[0]
        else:
            peaks.append(value)
    lossy = len(peaks) > 1 and 6 * sum(counts[v] for v in near) < counts.total()
    lossy = lossy and all(5 * counts[value] < counts[peak] for value, peak in near.items())
    return few | set(near) if lossy else few


def _without(
    stray: set[int], counts: Counter, word: dict[int, str], root: Path, what: str
) -> list[Line]:
    """Take stray values out of ``counts``; the line that says so.

    Raises:
      UserError: the user does not say what they are.
    """
    if not stray:
        return []
    total, pixels = counts.total(), sum(counts.pop(value) for value in sorted(stray))
    shown = ", ".join(word[v] for v in sorted(stray)[:4]) + ", ..." * (len(stray) > 4)
    if what == "refuse":
        others = ", ".join(word[v] for v in sorted(counts)[:8])
        raise UserError(
            "mask-stray",
            f"the masks of {root} hold {shown} on {pixels:,} pixels, {pixels / total:.2g} of all, beside "
            f"{others}: traces of a lossy file? --stray nearest takes them for the nearest of these, --stray void "
            "for nothing, --stray class for classes",
        )
    said = "the nearest other value" if what == "nearest" else "pixels that do not count"
    return [Line("stray", shown, f"{pixels:,} pixels, taken for {said}")]


def channels(values: np.ndarray) -> np.ndarray:
    """Red, green and blue of values ``[...]``, int64 ``[..., 3]``."""
    return np.stack([values >> 16, values >> 8 & 255, values & 255], -1)


def _counts(path: str) -> dict[int, int]:
    numbers = read_numbers(path)
    if numbers.max() > 0xFFFF:
        values, counts = np.unique(numbers, return_counts=True)
    else:
        counts = np.bincount(numbers.ravel())
        values = np.flatnonzero(counts)
        counts = counts[values]
    return dict(zip(values.tolist(), counts.tolist(), strict=True))


def word_of(value: int, colours: bool = False) -> str:
    return f"#{value:06x}" if colours or value > 0xFFFF else str(value)


def _palette(root: Path) -> dict[int, str]:
    """Classes by colour, of a csv file of name, r, g and b, as CamVid's class_dict.csv is."""
    for path in sorted(root.glob("*.csv")):
        if not path.is_file() or not re.match(rb"[^,\n]*, *r *, *g *, *b", read(path), re.I):
            continue
        try:
            lines = csv.reader(text_in(read(path), path.name).split("\n"))
            rows = [[cell.strip() for cell in row] for row in lines if row][1:]
            levels = [[int(level) for level in row[1:4]] for row in rows]
            if not all(len(each) == 3 and 0 <= min(each) <= max(each) < 256 for each in levels):
                raise ValueError("colours are three whole numbers from 0 to 255")
        except (ValueError, csv.Error) as error:
            raise damaged(path, error) from None
        return {r << 16 | g << 8 | b: row[0] for (r, g, b), row in zip(levels, rows, strict=True)}
    return {}


def _listed(root: Path) -> list[str]:
    """The lines of a file that lists the classes."""
    for name in ("classes.txt", "class_names.txt", "labels.txt", "codes.txt"):
        if (root / name).is_file():
            return filled_lines(root / name)
    return []
