"""Classes of the user's own: their numbers, and what to show of them."""

import contextlib
import contextvars
import math
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from dl.core.errors import UserError
from dl.data.own.found import Line
from dl.data.readers.csv_text import plain

_known = contextvars.ContextVar("known", default=False)


@contextlib.contextmanager
def known_classes() -> Iterator[None]:
    """Within, the classes of rows are known from those trained on: one alone will do, and few rows of each."""
    token = _known.set(True)
    try:
        yield
    finally:
        _known.reset(token)


def are_known() -> bool:
    """Whether this is within :func:`known_classes`."""
    return _known.get()


def ordered(names: set[str]) -> tuple[str, ...]:
    """Numbers by size, then words by their code points."""

    def key(name: str) -> tuple:
        try:
            value = float(name)
        except ValueError:
            value = math.nan
        return (0, value, name) if math.isfinite(value) else (1, 0.0, name)

    return tuple(sorted(names, key=key))


def coded(said: Sequence[str]) -> tuple[tuple[str, ...], np.ndarray]:
    """The different classes :func:`ordered`, and the place of each row's among them, int32 ``[rows]``."""
    classes = ordered(set(said))
    number = {name: place for place, name in enumerate(classes)}
    return classes, np.array([number[name] for name in said], np.int32)


def class_lines(
    classes: Sequence[str], labels: np.ndarray, what: str, least: float = 2.0
) -> list[Line]:
    """What to show of classes: how many rows they have, the share of the largest, and which have few.

    Args:
      what: the rows are, such as ``pictures``.
      least: rows that a class must have in the mean, to be one rather than a name.

    Raises:
      UserError: there are not two classes, or so many that they are none, and they are not :func:`known_classes`.
    """
    counts = np.bincount(labels, minlength=len(classes))
    rows, there = len(labels), int((counts > 0).sum())
    if there < 2 and not are_known():
        raise UserError(
            "target-one-class",
            f"all {rows:,} {what} are of one class, {classes[labels[0]]!r}: there is nothing to tell apart; give "
            "a folder for each class, or the column of the classes by --label",
        )
    if there > 2 and there * least > rows and not are_known():
        raise UserError(
            "target-too-many-classes",
            f"{rows:,} {what} have {there:,} different classes, {classes[0]!r} and so on: name the column of the "
            "classes by --label",
        )
    share = f"{counts.max() / rows:.1%}"
    lines = [
        Line("label", f"{len(classes)} classes", counted(classes, labels)),
        Line(
            "majority",
            share,
            f"accuracy of always answering {plain(classes[int(counts.argmax())])}, over all parts",
        ),
    ]
    keys = [unicodedata.normalize("NFC", name).casefold().strip() for name in classes]
    often = Counter(keys)
    if alike := [plain(n) for n, key in zip(classes, keys, strict=True) if often[key] > 1]:
        more = f"{', '.join(alike[:6])}: they differ in case or in how their letters are composed"
        lines.append(Line("check", f"{len(alike)} classes look alike", more))
    if few := [plain(classes[label]) for label in np.flatnonzero(counts < 5).tolist()]:
        more = ", ".join(few[:6]) + (", ..." if len(few) > 6 else "")
        lines.append(Line("few", f"{len(few)} classes of fewer than 5 {what}", more))
    return lines


def counted(classes: Sequence[str], labels: np.ndarray, most: int = 12) -> str:
    """``cat: 20, dog: 12``: rows a class, the largest first; of many classes the largest and the smallest."""
    counts = np.bincount(labels, minlength=len(classes))
    order = np.argsort(-counts, kind="stable").tolist()
    shown = [f"{plain(classes[place])}: {counts[place]:,}" for place in order]
    if len(shown) <= most:
        return ", ".join(shown)
    return f"{', '.join(shown[: most - 3])}, ..., {', '.join(shown[-2:])}"
