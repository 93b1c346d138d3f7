"""What a named data set looks like once loaded, and how rows are held out of it."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dl.core.errors import UserError, bounded
from dl.core.random import mix, permute
from dl.data.readers.files import File

Columns = dict[str, np.ndarray]  # every column [rows, ...]


@dataclasses.dataclass(frozen=True)
class Info:
    """What to know of a data set before using it.

    Attributes:
      name: what to call it in :func:`dl.data.load`.
      title: its full name, as tables and plots should say it.
      source: who made it and where it comes from.
      licence: as commonly stated.
      task: what it is for: ``classification``, ``detection``, ``forecasting``, ...
      description: columns, shapes, units, and how it is split.
      classes: class names by label.
      details: what else a set has to say, such as tabular columns or speaker names.
      sizes: rows of each split, once loaded.
      digests: SHA-256 (hex) of each file read, once loaded.
    """

    name: str
    title: str
    source: str
    licence: str
    task: str
    description: str
    classes: tuple[str, ...] = ()
    details: dict[str, Any] = dataclasses.field(default_factory=dict)
    sizes: dict[str, int] = dataclasses.field(default_factory=dict)
    digests: dict[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Splits:
    """A data set as named columns ``[rows, ...]``; a split the set does not have is empty, ``{}``.

    A part too large for memory is a :class:`dl.data.batches.streams.FileRows`, which is read row by row.
    """

    train: Columns
    validation: Columns
    test: Columns
    info: Info

    @property
    def parts(self) -> dict[str, Columns]:
        """The columns of each part that the set has, by its name: train, validation, test."""
        named = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: columns for name, columns in named.items() if columns}

    def map(self, function: Callable[[Columns], Columns]) -> "Splits":
        """The splits whose parts are ``function(columns)`` of these; an empty part stays empty. Of a part
        that streams the function is given one row at a time, ``[1, ...]``, when that is read."""
        done: Any = {
            name: columns.map(function) if hasattr(columns, "map") else function(columns)
            for name, columns in self.parts.items()
        }
        return dataclasses.replace(self, **done)

    def before(self, name: str) -> Columns:
        """The rows in memory of all parts that come before the one called so, in the order of the parts."""
        names = ("train", "validation", "test")
        return self.joined(*names[: names.index(name)])

    def joined(self, *names: str) -> Columns:
        """The rows in memory of the parts called so, of those that there are, one after the other."""
        parts = [self.parts[name] for name in names if name in self.parts]
        return {key: np.concatenate([part[key] for part in parts]) for key in self.train}

    def by_class(self, shares: tuple[float, float] = (0.7, 0.1)) -> "Splits":
        """The same rows in parts that share no class: the first of them train, by these ``shares`` of the classes,
        the next validation, the rest test. Rows must be in memory.

        Raises:
          UserError: there are too few classes, or the rows stream.
        """
        count = len(self.info.classes)
        ends = [round(count * shares[0]), round(count * sum(shares))]
        if min(ends[0], ends[1] - ends[0], count - ends[1]) < 2:
            raise UserError(
                "class-too-few",
                f"{count} classes: at least 2 must be left for each of train, validation and test, so bring 20",
            )
        whole = in_memory(self).joined(*self.parts)
        place = np.searchsorted(ends, whole["label"], side="right")
        train, validation, test = (take(whole, np.flatnonzero(place == n)) for n in range(3))
        return Splits(train, validation, test, self.info)

    def having(self, *names: str) -> "Splits":
        """The same, where rows in memory have these columns.

        Raises:
          UserError: they lack one.
        """
        lacking = [n for n in names if isinstance(self.train, dict) and n not in self.train]
        if lacking:
            raise UserError(
                "set-of-another-kind",
                f"{self.info.title} has the columns {', '.join(self.train)}, and no {' and no '.join(lacking)}: "
                "take another set, or the script for this kind",
            )
        return self

    def only(self, *names: str) -> "Splits":
        """The same rows with these columns alone, which must be there (:meth:`having`)."""
        return self.having(*names).map(lambda columns: {name: columns[name] for name in names})


@dataclasses.dataclass(frozen=True)
class DataSet:
    """A named data set before it is read.

    Attributes:
      info: what it is.
      files: what it is made of, inside ``<data-dir>/<folder>``.
      read: ``(paths by file name, info, validation, seed) -> Splits``; ``validation`` is the user's
        wish: a number of rows, a share of them, or None for the set's own default.
      folder: the folder's name, where it is not the set's.
    """

    info: Info
    files: tuple[File, ...]
    read: Callable[[dict[str, Path], Info, int | float | None, int], Splits]
    folder: str = ""


def take(columns: Columns, rows: np.ndarray | slice) -> Columns:
    """Those ``rows`` of every column; of a part that streams they are read."""
    if not isinstance(columns, dict):
        return columns.part(rows).read()
    return {name: value[rows] for name, value in columns.items()}


def in_memory(splits: Splits, *names: str) -> Splits:
    """``splits`` as they are.

    Raises:
      UserError: one of the parts called so (by default of all) streams, and what is asked for needs all its rows.
    """
    parts = splits.parts
    if not all(isinstance(parts[name], dict) for name in names or parts if name in parts):
        raise UserError(
            "stream-not-here",
            "rows must be in memory here: leave --stream out, or bring fewer or smaller ones",
        )
    return splits


def some_rows(part: Any, most: int = 200) -> Columns:
    """``most`` rows of a part at most, drawn by seed, in their order: what describes it well enough."""
    return take(part, np.sort(shuffled(row_count(part), 0)[:most]))


def known(part: Any) -> Columns:
    """The columns of a part, of one that streams those that are known without reading its rows."""
    return part if isinstance(part, dict) else part.columns


def row_count(part: Any) -> int:
    """The rows of a part, in memory or streamed."""
    return len(next(iter(part.values()))) if isinstance(part, dict) else len(part)


def pieces(part: Any, rows: int = 1000) -> Iterator[Columns]:
    """A part's columns, some rows at a time, so that one that streams fits into memory; of ``{}`` none."""
    for start in range(0, row_count(part) if part else 0, rows):
        yield take(part, slice(start, start + rows))


def shuffled(size: int, seed: int, purpose: int = 0) -> np.ndarray:
    """A permutation of ``range(size)``, the same on every machine and NumPy."""
    order, some = np.empty(size, np.int64), 2**16  # at a time, as it takes a few numbers for each
    for start in range(0, size, some):
        places = np.arange(start, min(start + some, size))
        order[places] = permute(places, size, mix(np.uint32(seed), np), purpose, np)
    return order


def hold_out(
    size: int, count: int | float, seed: int, strata: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Rows ``(kept, held)`` of a seeded hold-out, both in ascending order.

    Args:
      size: rows there are.
      count: rows to hold out, or a share of them as a float below 1.
      strata: ``[size]`` integers; each value gives up rows in proportion (largest remainder).
    """
    held = rows_of(count, size)
    order = shuffled(size, seed)
    if strata is None:
        chosen = order[:held]
    else:
        names, counts = np.unique(strata, return_counts=True)
        share = counts * held / size
        quota = np.floor(share).astype(np.int64)
        rest = np.argsort(quota - share, kind="stable")[: held - quota.sum()]
        quota[rest] += 1
        drawn = strata[order]
        chosen = np.concatenate(
            [order[drawn == name][:q] for name, q in zip(names, quota, strict=True)]
        )
    kept = np.ones(size, bool)
    kept[chosen] = False
    return np.flatnonzero(kept), np.flatnonzero(~kept)


def labelled(train: Any, share: float, classes: Sequence[str]) -> Any:
    """That ``share`` of the training rows, drawn by seed 0, classes in proportion: those whose labels are known.

    Raises:
      UserError: the share is none, or a class would be without a row.
    """
    bounded("--labels", share, above=0, at_most=1)
    label = known(train)["label"]
    few = train if share == 1 else take(train, hold_out(len(label), share, 0, label)[1])
    if lacking := {*range(len(classes))} - {*known(few)["label"].tolist()}:
        said = f"{share:g} of {len(label):,} rows leaves none of {classes[min(lacking)]}"
        raise UserError("range", f"--labels: {said}: give a larger share")
    return few


def rows_of(count: int | float, size: int) -> int:
    """``count`` rows, or that share of ``size``; raises where none would be left to train on."""
    bounded("the rows held out", count, at_least=0)
    rows = round(count * size) if isinstance(count, float) and count < 1 else int(count)
    if not 0 <= rows < size:
        raise UserError(
            "hold-out-impossible",
            f"cannot hold {count} of {size} training rows out: choose 0 to {size - 1}, or a share below 1",
        )
    return rows


def folds(
    labels: np.ndarray, count: int = 5, seed: int = 0, group: np.ndarray | None = None
) -> np.ndarray:
    """The fold ``0 ... count - 1`` of every row, each with the classes in proportion: ``[rows]``.

    Args:
      group: ``[rows]``; rows of equal value stay in one fold. The largest groups are dealt first, each to the fold
        with the fewest rows of the group's first class, then of all.
    """
    bounded("the number of folds", count, at_least=2, at_most=len(labels), whole=True)
    fold = np.empty(len(labels), np.int32)
    order = shuffled(len(labels), seed, purpose=1)
    if group is not None:
        _, first, of_row, size = np.unique(group[order], True, True, True)
        if len(size) < count:
            raise UserError(
                "folds-too-many",
                f"{len(size)} groups are too few for {count} folds: take fewer folds",
            )
        filled, dealt = np.zeros((labels.max() + 1, count), int), np.empty(len(size), np.int32)
        for one in np.lexsort((first, -size)):
            own = filled[labels[order[first[one]]]]
            dealt[one] = np.lexsort((filled.sum(0), own))[0]
            own[dealt[one]] += size[one]
        fold[order] = dealt[of_row]
        return fold
    offset = 0  # goes on from class to class, so that the folds' sizes differ by one at most
    for label in np.unique(labels):
        rows = order[labels[order] == label]
        fold[rows] = (np.arange(len(rows)) + offset) % count
        offset += len(rows)
    return fold
