"""Cross-validation as data: a part of every fold side by side, of which a run, or a lane of a sweep, takes one."""

import contextlib
import contextvars
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dl.core.errors import UserError
from dl.data.splits import Columns, Splits, folds, row_count, take

FOLDS = 5  # where --fold is given alone
_alone = contextvars.ContextVar("alone", default=False)
_PARTS = ("train", "validation", "test")
# What only people read, or who judges one fold.
_OF_A_FOLD = ("lines", "row_names", "place", "notes", "unseen", "own", "fold_rows")


@contextlib.contextmanager
def one_fold() -> Iterator[None]:
    """Within, data are opened and prepared of one fold alone, as plain columns."""
    token = _alone.set(True)
    try:
        yield
    finally:
        _alone.reset(token)


def over_folds(config: Any) -> bool:
    """Whether ``config`` asks for all folds side by side."""
    return getattr(config, "folds", None) is not None and not _alone.get()


def part_of_fold(of_row: np.ndarray, count: int, fold: int) -> np.ndarray:
    """The part of every row where ``fold`` is test: the next fold is validation, the others are train."""
    if not 0 <= fold < count:
        raise UserError("range", f"there is no fold {fold} of {count}: choose 0 to {count - 1}")
    part = np.full(len(of_row), "train", "<U10")
    part[of_row == (fold + 1) % count] = "validation"
    part[of_row == fold] = "test"
    if count == 2:  # nothing would be left to train on
        raise UserError("range", "2 folds are one for test and one for validation: take 3 or more")
    return part


def parts_by_fold(found: Any, own: Any, seed: int) -> tuple[np.ndarray, str]:
    """The part of every row ``found`` (:class:`dl.data.own.found.Found`) where a fold is test, and the cut."""
    if found.part is not None and found.how != type(found).how:  # cut already
        return found.part, found.how
    if found.part is not None or own.in_order or own.hold_out != type(own).hold_out:
        raise UserError(
            "options-exclusive",
            "--folds cuts the rows at random: leave it out where files, --split, --time, --in-order or --hold-out "
            "say how they are cut",
        )
    assert own.fold is not None  # of all folds one is asked for at a time
    size = row_count(found.rows)
    strata = found.strata if found.strata is not None else np.zeros(size, np.int64)
    count, fold = own.folds or FOLDS, own.fold
    part = part_of_fold(folds(strata, count, seed, found.group), count, fold)
    whole = ", whole groups" if found.group is not None else ""
    return part, f"fold {fold} of {count} is test{whole}"


def recut(splits: Splits, count: int, fold: int) -> Splits:
    """A named set whose training and validation rows are cut into folds, classes in proportion.

    Rows of one ``group``, where the set has such a column, stay together. An official test part is left out.
    """
    if not isinstance(splits.train, dict):
        raise UserError(
            "folds-stream", f"{splits.info.title} streams: --folds needs rows in memory"
        )
    if splits.info.details.get("fixed"):
        raise UserError(
            "split-fixed",
            f"--folds cuts rows at random, and neighbours in {splits.info.title} are alike: leave it out, its "
            "own parts keep them together",
        )
    official = not splits.info.details.get("whole")
    whole = splits.before("test") if official else splits.joined(*_PARTS)
    strata = whole.get("label", np.zeros(0))
    if strata.ndim > 1 or strata.dtype.kind not in "iu":
        strata = np.zeros(row_count(whole), np.int64)
    part = part_of_fold(folds(strata, count, 0, whole.get("group")), count, fold)
    rows = {name: np.flatnonzero(part == name) for name in _PARTS}
    details = {**splits.info.details, "fold_rows": rows}
    sizes = {name: len(own) for name, own in rows.items()}
    info = dataclasses.replace(splits.info, details=details, sizes=sizes)
    train, validation, test = (take(whole, rows[name]) for name in _PARTS)
    return Splits(train, validation, test, info)


class Folds:
    """One part of every fold, end to end.

    Attributes:
      pool: columns ``[rows of all folds, ...]``.
      start, size: where each fold's rows begin in it, and how many they are, uint32 ``[folds]``.
      rows: what the rows of the pool are in the data, ``[rows of all folds]``; None where that is not known.
    """

    def __init__(self, parts: Sequence[Columns], rows: np.ndarray | None = None):
        if any(not isinstance(part, dict) for part in parts):
            raise UserError("folds-stream", "--folds needs rows in memory, and these stream")
        self.pool = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        self.size = np.array([row_count(part) for part in parts], np.uint32)
        self.start = (np.cumsum(self.size) - self.size).astype(np.uint32)
        self.rows = rows if rows is not None and len(rows) == self.size.sum() else None

    def part(self, fold: int) -> Columns:
        """The columns of one fold."""
        return take(self.pool, slice(self.start[fold], self.start[fold] + self.size[fold]))

    def at(self, fold: Any) -> "OneFold | TracedFold":
        """The part of one fold, which may be traced."""
        return (TracedFold if isinstance(fold, jax.core.Tracer) else OneFold)(self, fold)


class _Chosen:
    """What both kinds of a fold's part have: ``train_batches`` and ``eval_batches`` take it."""

    folds: Folds
    fold: Any

    def map(self, function: Callable[[Columns], Columns]) -> Any:
        """``function`` of the columns of every fold."""
        parts = [function(self.folds.part(n)) for n in range(len(self.folds.size))]
        return Folds(parts, self.folds.rows).at(self.fold)

    def smallest(self) -> int:
        """The rows of the smallest fold."""
        return int(self.folds.size.min())

    def train_batches(self, batch_size: int, seed: Any) -> Any:
        from dl.data.batches.folded import folded_train

        return folded_train(self.folds, self.fold, batch_size, seed)

    def eval_batches(self, batch_size: int) -> Any:
        from dl.data.batches.folded import folded_eval

        return folded_eval(self.folds, self.fold, batch_size)


class OneFold(dict, _Chosen):
    """The columns of a fold."""

    def __init__(self, folds: Folds, fold: int):
        super().__init__(folds.part(fold))
        self.folds, self.fold = folds, fold


class _Ragged:
    """A column of a traced fold where not all have equally many rows: its shape, and nothing to compute with."""

    def __init__(self, rows: int, column: np.ndarray):
        self.shape, self.dtype, self.ndim = (rows, *column.shape[1:]), column.dtype, column.ndim

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, *args: Any, **kwargs: Any) -> np.ndarray:
        raise TypeError("folds of several sizes")

    __iter__ = __getitem__ = __array__


class TracedFold(_Chosen):
    """A traced fold: its batches, and its columns, to compute with where all folds have equally many rows."""

    def __init__(self, folds: Folds, fold: Any):
        self.folds, self.fold = folds, fold

    def __getitem__(self, name: str) -> Any:
        size = self.folds.size
        column = self.folds.pool[name]
        if (size != size[0]).any():  # a traced array has one length
            return _Ragged(len(self), column)
        return jnp.asarray(column.reshape(len(size), -1, *column.shape[1:]))[self.fold]

    def __len__(self) -> int:
        return int(self.folds.size.max())

    def __contains__(self, name: object) -> bool:
        return name in self.folds.pool


def merged(results: Sequence[Any]) -> Callable[[Any], Any]:
    """``fold -> result`` of results of every fold, where the fold may be traced.

    Splits, arrays and numbers are taken at the fold, what is equal is one, and nothing else can be traced
    (TypeError).
    """
    first = results[0]
    if isinstance(first, Splits):
        parts = {}
        for name in _PARTS:
            if getattr(first, name):
                known = [r.info.details.get("fold_rows", {}).get(name) for r in results]
                rows = None if any(x is None for x in known) else np.concatenate(known)
                parts[name] = Folds([getattr(r, name) for r in results], rows)
        infos = [r.info for r in results]
        details = {
            name: merged([info.details.get(name) for info in infos])
            for name in first.info.details
            if name not in _OF_A_FOLD
        }

        def splits(fold: Any) -> Splits:
            info = infos[0]
            if isinstance(fold, jax.core.Tracer):
                taken = {n: of(fold) for n, of in details.items()}
                info = dataclasses.replace(info, details={**info.details, **taken})
            else:
                info = infos[fold]
            found: list[Any] = [parts[n].at(fold) if n in parts else {} for n in _PARTS]
            return Splits(found[0], found[1], found[2], info)

        return splits
    if isinstance(first, tuple):
        inner = [merged(each) for each in zip(*results, strict=True)]
        if hasattr(first, "_fields"):
            return lambda fold: type(first)(*(each(fold) for each in inner))
        return lambda fold: tuple(each(fold) for each in inner)
    if isinstance(first, dict) and all(x.keys() == first.keys() for x in results):
        named = {name: merged([x[name] for x in results]) for name in first}
        return lambda fold: {name: each(fold) for name, each in named.items()}

    def taken(fold: Any) -> Any:
        if not isinstance(fold, jax.core.Tracer):
            return results[fold]
        if all(x is first for x in results):
            return first
        if isinstance(first, np.ndarray | float | np.generic):
            return jnp.asarray(np.stack(results))[fold]
        if any(type(x) is not type(first) or x != first for x in results):
            raise TypeError("what is prepared differs between folds")
        return first

    return taken
