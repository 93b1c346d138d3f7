"""Tables: numerical and categorical columns, missing cells, and files or frames of the user's own."""

import dataclasses
import itertools
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from dl.core.errors import UserError, unknown
from dl.data.readers.column_types import Column, typed_column, typed_label
from dl.data.readers.csv_text import plain
from dl.data.readers.frames import Frame, read_frame
from dl.data.readers.on_disk import ROWS, SideBySide, room
from dl.data.splits import Columns, Info, Splits, folds, hold_out, pieces, row_count, take


@dataclasses.dataclass(frozen=True)
class Table:
    """A table read and typed.

    Attributes:
      columns: every feature in the order of the file.
      numerical: ``[rows, numerical columns]`` float64, NaN where missing. Times are in it as days or
        seconds since 1970 (UTC). It becomes float32 after scaling, by :func:`numerical_features`.
      categorical: ``[rows, categorical columns]`` int32, 0 where missing, else 1 + the category.
      label: int32 ``[rows]`` for classification, float64 for regression.
      target: the label's heading; classes: its values by label, empty for regression.
      notes: what was guessed of the whole file, one sentence each.
      weight: how many rows each stands for, float32 ``[rows]``; None for one each.
    """

    columns: tuple[Column, ...]
    numerical: np.ndarray
    categorical: np.ndarray
    label: np.ndarray
    target: str
    classes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    weight: np.ndarray | None = None

    @property
    def arrays(self) -> Columns:
        """The columns that splits have."""
        named = {"numerical": self.numerical, "categorical": self.categorical}
        weight = {} if self.weight is None else {"weight": self.weight}
        return {**named, "label": self.label, **weight}

    def of_kind(self, kind: str) -> tuple[Column, ...]:
        """The columns of one kind, in the order of their array."""
        return tuple(column for column in self.columns if column.kind == kind)


def read_table(
    source: Any,
    target: str,
    *,
    categorical: Sequence[str] = (),
    ignore: Sequence[str] = (),
    task: Literal["classification", "regression"] | None = None,
    **reading: Any,
) -> Table:
    """A table of csv text, Parquet or Arrow, or a frame of pandas, polars or pyarrow, its types inferred.

    A column whose cells are all numbers, or all times, is numerical, one of words categorical. One that
    is nearly all numbers has bad cells: UserError names them by line and column. What people write for
    a missing number ("n/a", "-", "#N/A", ...) is missing in a column of numbers; in one of words "NA" and
    "None" are words. :func:`summary` shows what was taken for what.

    Args:
      source, **reading: a path or frame and how to read it, as in :func:`dl.data.readers.frames.read_frame`:
        ``separator``, ``decimal``, ``thousands``, ``missing``, ``quote``, ``encoding``, ``header``,
        ``dates``.
      target: heading of the label.
      categorical: headings to take as categories although they are numbers. 1 and 1.0 are one.
      ignore: headings to leave out.
      task: None infers it: words, or 20 or fewer different whole numbers, are classes.
    """
    frame = read_frame(source, **reading)
    # The headings of a frame may be numbers; those of a Frame are text.
    target = "" if target is None else str(target)
    categorical, ignore = list(map(str, categorical)), list(map(str, ignore))
    if not target:
        raise UserError(
            "target-unnamed",
            f"target must name the column to predict: one of {', '.join(frame.headings)}",
        )
    for heading in (target, *categorical, *ignore):
        if heading not in frame.headings:
            known = [" ".join(known.split()) for known in frame.headings]  # on one line
            error = unknown(f"column of {frame.name}", heading, known)
            without = [note for note in frame.notes if "not headings" in note]
            raise UserError(error.code, "; ".join((str(error), *without))) from None
    return type_columns(frame, target, categorical=categorical, ignore=ignore, task=task)


def type_columns(
    frame: Frame,
    target: str,
    *,
    categorical: Sequence[str] = (),
    ignore: Sequence[str] | dict[str, str] = (),
    task: str | None = None,
) -> Table:
    """The :class:`Table` of a frame; the other arguments as in :func:`read_table`; ``ignore`` may say why."""
    why = ignore if isinstance(ignore, dict) else dict.fromkeys(ignore, "as asked")
    label, classes = typed_label(frame, target, task)
    columns: list[Column] = []
    values, codes = (SideBySide(frame.rows, dtype, frame.disk) for dtype in (np.float64, np.int32))
    for heading in frame.headings:
        if heading == target:
            continue
        column, array = typed_column(frame, heading, heading in categorical, why.get(heading, ""))
        columns.append(column)
        if column.kind != "ignored":
            (values if column.kind == "numerical" else codes).add(array)
    if all(column.kind == "ignored" for column in columns):
        reasons = "".join(
            f"; {column.name!r} is ignored: {column.reason}" for column in columns[:3]
        )
        raise UserError(
            "table-no-columns", f"{frame.name} has no usable column besides {target!r}{reasons}"
        )
    return Table(
        tuple(columns),
        values.whole(),
        codes.whole(),
        label,
        target,
        classes,
        frame.notes,
    )


def described(table: Table) -> list[tuple[str, str, str]]:
    """What each column was taken for, the target last: (heading, kind, what to check)."""
    lines, place = [], 0
    for column in table.columns:
        if column.kind == "numerical":
            values = table.numerical[:, place]
            place += 1
            note = f"{np.nanmin(values):.10g} ... {np.nanmax(values):.10g}"
        elif column.kind == "categorical":
            note = f"{len(column.categories)}: {_first(map(plain, column.categories), 4)}"
        else:
            note = column.reason
        missing = f", {column.missing} missing" if column.missing else ""
        check = f" ({column.note})" if column.note else ""
        lines.append((column.name, column.kind, f"{note}{missing}{check}"))
    kind = f"{len(table.classes)} classes" if table.classes else "number"
    if not table.classes and np.ptp(table.label) == 0:
        kind = "number (one value only: there is nothing to learn)"
    return [*lines, (table.target, "target", kind)]


def _first(words: Iterable[str], count: int) -> str:
    """The first words in a row, and whether there are more."""
    words = list(words)
    return ", ".join([*words[:count], *(["..."] if len(words) > count else [])])


def summary(table: Table) -> str:
    """What each column was taken for, one a line, and what was guessed, for the user to check."""
    lines = described(table)
    width = max(len(name) for name, _, _ in lines)
    shown = [f"{name:<{width}}  {kind:<11}  {note}" for name, kind, note in lines]
    return "\n".join([*shown, *([f"guessed: {'; '.join(table.notes)}"] if table.notes else [])])


def own_table(source: Any, target: str, **options: Any) -> tuple[Table, Info]:
    """A table of the user's own, by :func:`read_table`, with what there is to say about it."""
    table = read_table(source, target, **options)
    path = Path(source) if isinstance(source, str | os.PathLike) else Path("table")
    return table, Info(path.stem, path.name, "the user's", "", "table", "", table.classes)


def seen(table: Table, train: np.ndarray, keep: bool = False) -> tuple[Table, dict[str, Any]]:
    """``table`` as the training rows know it, and what ``Info.details`` tells of it.

    A category the training rows never show becomes 0, as a missing cell is, and none of its column's: other rows
    change nothing of what is learned. ``unseen`` has such by column, and ``notes`` names the columns that say
    nothing in the training rows. ``keep`` leaves such a category its code, so that all folds have as many.
    """
    unseen, disk = {}, isinstance(table.categorical, np.memmap)
    kept = SideBySide(len(table.label), np.int32, disk)
    known: dict[str, Column] = {}
    for codes, column in zip(table.categorical.T, table.of_kind("categorical"), strict=True):
        shown = np.isin(np.arange(1, len(column.categories) + 1), codes[train])
        code = np.arange(1, len(shown) + 1) if keep else np.cumsum(shown)
        trained = tuple(itertools.compress(column.categories, shown | keep))
        known[column.name] = dataclasses.replace(column, categories=trained)
        if not shown.all():
            unseen[column.name] = tuple(itertools.compress(column.categories, ~shown))
        kept.add(np.append(0, np.where(shown, code, 0)).astype(np.int32)[codes])
    columns = tuple(known.get(column.name, column) for column in table.columns)
    notes = [
        f"column {column.name!r} has no value in the training rows: it counts as missing everywhere"
        for column, values in zip(table.of_kind("numerical"), table.numerical.T, strict=True)
        if np.isnan(values[train]).all()
    ]
    details: dict[str, Any] = {"columns": columns, "target": table.target}
    details |= {"classes": table.classes, "notes": tuple(notes), "unseen": unseen}
    return dataclasses.replace(table, columns=columns, categorical=kept.whole()), details


def split(table: Table, info: Info, train, validation, test, keep: bool = False) -> Splits:
    """``table`` cut at those row indices (validation and test may be empty), as :func:`seen` in training."""
    if len(train) == 0:
        raise UserError("part-empty", "a split needs training rows")
    table, details = seen(table, train, keep)
    info = dataclasses.replace(info, classes=info.classes or table.classes, details=details)

    def part(rows) -> Columns:
        return take(table.arrays, rows) if len(rows) else {}

    return Splits(part(train), part(validation), part(test), info)


def fold_rows(
    table: Table, fold: int, count: int = 5, validation: int | float | None = None, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Training, validation and test rows of :func:`cross_validation`."""
    rows = len(table.label)
    if not 2 <= count <= rows:
        raise UserError(
            "range", f"{rows} rows cannot be cut into {count} folds: choose 2 to {rows}"
        )
    if not 0 <= fold < count:
        raise UserError("range", f"there is no fold {fold} of {count}: choose 0 to {count - 1}")
    for place, name in enumerate(table.classes):
        size = int((table.label == place).sum())
        if size < count:
            raise UserError(
                "folds-too-many",
                f"class {name!r} of {table.target!r} has {size} rows, too few for {count} folds: merge it "
                "with another, leave its rows out, or take fewer folds",
            )
    strata = table.label if table.classes else np.zeros(rows, np.int32)
    test = folds(strata, count, seed) == fold
    rest, held_out = np.flatnonzero(~test), 1 / count if validation is None else validation
    kept, held = hold_out(len(rest), held_out, seed, strata[rest])
    if held_out and not len(held):
        raise UserError(
            "hold-out-impossible",
            f"{len(rest)} rows are too few to hold {held_out:g} of them out for validation",
        )
    return rest[kept], rest[held], np.flatnonzero(test)


def cross_validation(
    table: Table,
    info: Info,
    fold: int,
    *,
    count: int = 5,
    validation: int | float | None = None,
    seed: int = 0,
) -> Splits:
    """``fold`` of ``count`` stratified folds as test, the rest train but for ``validation`` rows
    (by default a share of ``1 / count``), classes in proportion. Regression folds are plain.

    Raises:
      UserError: where ``fold`` is none of ``0 ... count - 1``, or a class has fewer rows than folds.
    """
    return split(table, info, *fold_rows(table, fold, count, validation, seed))


def numerical_features(
    splits: Splits, method: Literal["standard", "quantile"] = "standard", seed: int = 0
) -> Splits:
    """``numerical`` without NaN as float32, scaled by the training part, and ``missing`` beside it.

    ``standard``: training mean 0 and standard deviation 1. ``quantile``: training quantiles mapped
    to a normal distribution, with the small seeded noise of Gorishniy et al. 2021 ("Revisiting deep
    learning models for tabular data"). Both compute in float64. Missing cells get 0 after scaling and
    1 in ``missing`` ``[rows, numerical columns]`` float32. So does every cell of a column without any
    value in the training part; one of a single value there gets 0.
    """
    from dl.data.batches.stored import StoredColumns  # naming a set needs no batches

    width, disk = splits.train["numerical"].shape[1], isinstance(splits.train, StoredColumns)
    # One column alone is summed in pairs, as NumPy does where rows lie together, and others row by row.
    some = ROWS if disk and width > 1 else row_count(splits.train)

    def training() -> Iterator[np.ndarray]:
        for piece in pieces(splits.train, some):
            yield piece["numerical"].astype(np.float64)

    count = _total((~np.isnan(values)).astype(np.int64) for values in training())
    unknown_column = count == 0

    def known() -> Iterator[np.ndarray]:
        return (np.where(unknown_column, 0.0, values) for values in training())

    with warnings.catch_warnings():  # of pieces without a value
        warnings.simplefilter("ignore", RuntimeWarning)
        ends = [(np.nanmin(values, 0), np.nanmax(values, 0)) for values in known()]
        low, high = (np.array(each) for each in zip(*ends, strict=True))
        varies = np.nanmax(high, 0) > np.nanmin(low, 0)
    count = np.where(unknown_column, row_count(splits.train), count)
    mean = _total(_without_nan(values) for values in known()) / count
    deviation = np.sqrt(_total(_without_nan(values - mean) ** 2 for values in known()) / count)
    scale: Callable[[np.ndarray], np.ndarray]
    if method == "standard":
        deviation = np.where(deviation > 0, deviation, 1.0)
        scale = lambda values: (values - mean) / deviation  # noqa: E731
    elif method == "quantile":
        from sklearn.preprocessing import QuantileTransformer

        random, rows = np.random.default_rng(seed), row_count(splits.train)
        noisy, at = room((width, rows), np.float64, disk), 0
        for values in known():
            noise = random.normal(0, 1e-3, values.shape) * deviation
            noisy[:, at : at + len(values)] = (values + noise).T
            at += len(values)
        transformer = QuantileTransformer(
            n_quantiles=min(max(min(rows // 30, 1000), 10), rows),
            output_distribution="normal",
            subsample=None,
            random_state=seed,
        )
        found = [transformer.fit(column[:, None]).quantiles_ for column in noisy]
        if found:
            transformer.quantiles_, transformer.n_features_in_ = np.hstack(found), width
        scale = transformer.transform if found else lambda values: values
    else:
        raise unknown("scaling", method, ("standard", "quantile"))

    def part(columns: Columns) -> Columns:
        missing = np.isnan(columns["numerical"]) | unknown_column
        values = np.where(unknown_column, 0.0, columns["numerical"].astype(np.float64))
        scaled = np.where(missing | ~varies, 0.0, scale(values))
        return dict(
            columns, numerical=scaled.astype(np.float32), missing=missing.astype(np.float32)
        )

    return splits.map(part)


def feature_names(info: Info) -> dict[str, tuple[str, ...]]:
    """What the features of :func:`numerical_features` are called, for :attr:`dl.Experiment.names`."""
    kinds = {True: [], False: []}  # type: dict[bool, list[str]]
    for column in info.details["columns"]:
        kinds[bool(column.categories)].append(column.name)
    numbers, words = tuple(kinds[False]), tuple(kinds[True])
    return {"numerical": numbers, "missing": numbers, "categorical": words}


def _without_nan(values: np.ndarray) -> np.ndarray:
    return np.where(np.isnan(values), 0.0, values)


def _total(some: Iterable[np.ndarray]) -> np.ndarray:
    """The sum over all rows of pieces ``[rows, columns]``, in the order in which NumPy adds rows of the whole."""
    total = None
    for piece in some:
        both = piece if total is None else np.concatenate([total[None], piece])
        total = both.sum(0)
    assert total is not None  # there is a row to train on
    return total


def centred_label(splits: Splits) -> tuple[Splits, float, float]:
    """``splits`` with a regression ``label`` less its training mean, computed in float64 and then cast
    to float32; and that mean and the training standard deviation (1 where it is 0)."""
    label = np.asarray(splits.train["label"], np.float64)
    centre, spread = float(label.mean()), float(label.std())

    def part(columns: Columns) -> Columns:
        return dict(columns, label=(columns["label"] - centre).astype(np.float32))

    return splits.map(part), centre, spread if np.ptp(label) > 0 else 1.0


def class_weights(label: np.ndarray, classes: int, weight: np.ndarray | None = None) -> np.ndarray:
    """Weights ``[classes]`` float32 that give every class the same total, 1 on average, beside those of rows."""
    counts = np.bincount(label, weight, minlength=classes)
    least = 1 if weight is None else counts[counts > 0].min()
    return (counts.sum() / (classes * np.maximum(counts, least))).astype(np.float32)


def fitted(splits: Splits, method: Literal["standard", "quantile"], balanced: bool = False) -> Any:
    """:func:`numerical_features`, and what else is fitted to the training rows: of numbers ``(mean, spread)``, by
    which the label is centred; of classes their weights, or None where these are not ``balanced``."""
    splits = numerical_features(splits, method)
    train = splits.train
    if not splits.info.classes:
        splits, mean, spread = centred_label(splits)
        return splits, (mean, spread)
    given = train["label"], len(splits.info.classes), train.get("weight")
    return splits, class_weights(*given) if balanced else None
