"""Tables: numerical and categorical columns, missing cells, and csv files of the user's own."""

import csv
import dataclasses
import io
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from dl.core.errors import UserError, unknown
from dl.data.sources import read
from dl.data.splits import Columns, Info, Splits, folds, hold_out, take

MISSING = ("", "?", "NA", "N/A", "NaN", "nan", "null", "None")


@dataclasses.dataclass(frozen=True)
class Column:
    """One feature: its heading, what it was taken for, its ``categories`` by code - 1, and its
    ``missing`` cells. An ``ignored`` column is in no array; ``reason`` says why."""

    name: str
    kind: Literal["numerical", "categorical", "ignored"]
    categories: tuple[str, ...] = ()
    missing: int = 0
    reason: str = ""


@dataclasses.dataclass(frozen=True)
class Table:
    """A table read and typed.

    Attributes:
      columns: every feature in the order of the file.
      numerical: ``[rows, numerical columns]`` float32, NaN where missing.
      categorical: ``[rows, categorical columns]`` int32, 0 where missing, else 1 + the category.
      label: int32 ``[rows]`` for classification, float32 for regression.
      target: the label's heading; classes: its values by label, empty for regression.
    """

    columns: tuple[Column, ...]
    numerical: np.ndarray
    categorical: np.ndarray
    label: np.ndarray
    target: str
    classes: tuple[str, ...] = ()

    def of_kind(self, kind: str) -> tuple[Column, ...]:
        """The columns of one kind, in the order of their array."""
        return tuple(column for column in self.columns if column.kind == kind)


def read_table(
    path: str | os.PathLike,
    target: str,
    *,
    categorical: Sequence[str] = (),
    ignore: Sequence[str] = (),
    task: Literal["classification", "regression"] | None = None,
) -> Table:
    """A csv file (separated by comma, semicolon or tab; first line headings), its types inferred.

    A column whose cells are all numbers is numerical, one of words categorical. One that is nearly
    all numbers has bad cells: UserError names them by line and column.

    Args:
      target: heading of the label.
      categorical: headings to take as categories although they are numbers.
      ignore: headings to leave out.
      task: None infers it: words, or 20 or fewer different whole numbers, are classes.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise UserError(f"there is no file {path}")
    try:
        text = read(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text ({error}): save it as UTF-8") from None
    first = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=first.count)
    headings, cells, lines = parse_cells(text, path.name, delimiter=delimiter)
    if not first.strip() or len(set(headings)) != len(headings):
        raise UserError(f"{path}: the first line must name every column, each differently")
    for name in (target, *categorical, *ignore):
        if name not in headings:
            raise unknown(f"column of {path.name}", name, headings)
    return type_columns(
        headings, cells, lines, target, path.name, categorical=categorical, ignore=ignore, task=task
    )


def parse_cells(
    text: str, name: str, headings: Sequence[str] | None = None, delimiter: str = ","
) -> tuple[list[str], list[list[str]], list[int]]:
    """Headings, stripped cells by row and the file's line of each row; rows of another length raise.

    ``headings`` None takes them from the first line.
    """
    rows = csv.reader(io.StringIO(text), delimiter=delimiter, skipinitialspace=True)
    names = [cell.strip() for cell in next(rows, [])] if headings is None else list(headings)
    cells, lines = [], []
    for row in rows:
        if not row or (len(row) == 1 and not row[0].strip()):
            continue
        if len(row) != len(names):
            raise UserError(
                f"{name}, line {rows.line_num}: {len(row)} cells, expected {len(names)}"
            )
        cells.append([cell.strip().strip("'") for cell in row])
        lines.append(rows.line_num)
    if not cells:
        raise UserError(f"{name} has no rows")
    return names, cells, lines


def type_columns(
    headings: Sequence[str],
    cells: list[list[str]],
    lines: list[int],
    target: str,
    name: str,
    *,
    categorical: Sequence[str] = (),
    ignore: Sequence[str] = (),
    task: str | None = None,
) -> Table:
    """The :class:`Table` of raw cells; the other arguments as in :func:`read_table`."""
    columns, numbers, codes = [], [], []
    for place, heading in enumerate(headings):
        if heading == target:
            label, classes = _label([row[place] for row in cells], lines, heading, name, task)
            continue
        raw = [row[place] for row in cells]
        column, values = _column(
            raw, lines, heading, name, heading in categorical, heading in ignore
        )
        columns.append(column)
        if column.kind == "numerical":
            numbers.append(values)
        elif column.kind == "categorical":
            codes.append(values)
    if not numbers and not codes:
        raise UserError(f"{name} has no usable column besides {target!r}")
    rows = len(cells)
    return Table(
        tuple(columns),
        np.stack(numbers, 1).astype(np.float32) if numbers else np.zeros((rows, 0), np.float32),
        np.stack(codes, 1).astype(np.int32) if codes else np.zeros((rows, 0), np.int32),
        label,
        target,
        classes,
    )


def _number(cell: str) -> float | None:
    """The number in a cell, NaN where it is missing, None where it is something else."""
    if cell in MISSING:
        return np.nan
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if np.isfinite(value) else None


def _column(raw, lines, heading, name, as_category, ignored):
    absent = sum(cell in MISSING for cell in raw)
    if ignored:
        return Column(heading, "ignored", missing=absent, reason="as asked"), None
    numbers = [_number(cell) for cell in raw]
    bad = [row for row, value in enumerate(numbers) if value is None]
    present = len(raw) - absent
    if not as_category and not bad and present:
        return Column(heading, "numerical", missing=absent), np.array(numbers, np.float64)
    if not as_category and 0 < len(bad) <= 0.1 * present:
        shown = "; ".join(f"line {lines[row]}: {raw[row]!r}" for row in bad[:3])
        raise UserError(
            f"{name}, column {heading!r} is numbers but for {len(bad)} bad cells ({shown}"
            f"{'; ...' if len(bad) > 3 else ''}): mend them, or declare the column categorical"
        )
    categories = sorted(set(raw) - set(MISSING))
    if len(categories) < 2:
        return Column(heading, "ignored", missing=absent, reason="one value only"), None
    if not as_category and len(categories) > max(50, present // 2):
        return Column(heading, "ignored", missing=absent, reason="nearly every cell differs"), None
    code = {category: place for place, category in enumerate(categories, 1)}
    values = np.array([code.get(cell, 0) for cell in raw], np.int32)
    return Column(heading, "categorical", tuple(categories), absent), values


def _label(raw, lines, heading, name, task):
    for cell, line in zip(raw, lines, strict=True):
        if cell in MISSING:
            raise UserError(f"{name}, line {line}: the target {heading!r} is missing")
    numbers = [_number(cell) for cell in raw]
    numeric = all(value is not None for value in numbers)
    if task is None:
        few = len(set(raw)) <= 20 and numeric and all(float(cell).is_integer() for cell in raw)
        task = "classification" if few or not numeric else "regression"
    if task == "regression":
        for value, cell, line in zip(numbers, raw, lines, strict=True):
            if value is None:
                raise UserError(
                    f"{name}, line {line}, column {heading!r}: {cell!r} is not a number"
                )
        return np.array(numbers, np.float32), ()
    classes = sorted(set(raw), key=float) if numeric else sorted(set(raw))
    if not 2 <= len(classes) <= max(2, len(raw) // 2):
        raise UserError(
            f"{name}: target {heading!r} has {len(classes)} values, too few or too many"
        )
    code = {value: place for place, value in enumerate(classes)}
    return np.array([code[cell] for cell in raw], np.int32), tuple(classes)


def summary(table: Table) -> str:
    """The inferred types, one column a line, for the user to check."""
    width = max(len(column.name) for column in table.columns)
    lines, place = [], 0
    for column in table.columns:
        if column.kind == "numerical":
            values = table.numerical[:, place]
            place += 1
            note = f"{np.nanmin(values):g} ... {np.nanmax(values):g}"
        elif column.kind == "categorical":
            shown = ", ".join(column.categories[:4])
            note = (
                f"{len(column.categories)}: {shown}{', ...' if len(column.categories) > 4 else ''}"
            )
        else:
            note = column.reason
        missing = f", {column.missing} missing" if column.missing else ""
        lines.append(f"{column.name:<{width}}  {column.kind:<11}  {note}{missing}")
    kind = f"{len(table.classes)} classes" if table.classes else "number"
    lines.append(f"{table.target:<{width}}  {'target':<11}  {kind}")
    return "\n".join(lines)


def own_table(path: str | os.PathLike, target: str) -> tuple[Table, Info]:
    """A csv file of the user's own, by :func:`read_table`, with what there is to say about it."""
    table, name = read_table(path, target), Path(path)
    return table, Info(name.stem, name.name, "the user's", "", "table", "", table.classes)


def split(table: Table, info: Info, train, validation, test) -> Splits:
    """``table`` cut at those row indices (any may be empty). A category the training rows never show
    becomes 0, as a missing cell is: nothing could be learned of it."""
    codes = table.categorical
    for place in range(codes.shape[1]):
        seen = np.isin(codes[:, place], codes[train, place])
        codes = codes.copy()
        codes[~seen, place] = 0
    columns = {"numerical": table.numerical, "categorical": codes, "label": table.label}

    def part(rows) -> Columns:
        return take(columns, rows) if len(rows) else {}

    details = {"columns": table.columns, "target": table.target}
    classes = info.classes or table.classes
    info = dataclasses.replace(info, classes=classes, details=details)
    return Splits(part(train), part(validation), part(test), info)


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
    (by default a share of ``1 / count``), classes in proportion. Regression folds are plain."""
    strata = table.label if table.classes else np.zeros(len(table.label), np.int32)
    test = folds(strata, count, seed) == fold
    rest, held_out = np.flatnonzero(~test), 1 / count if validation is None else validation
    kept, held = hold_out(len(rest), held_out, seed, strata[rest])
    return split(table, info, rest[kept], rest[held], np.flatnonzero(test))


def numerical_features(
    splits: Splits, method: Literal["standard", "quantile"] = "standard", seed: int = 0
) -> Splits:
    """``numerical`` without NaN, scaled by the training part, and ``missing`` beside it.

    ``standard``: training mean 0 and standard deviation 1. ``quantile``: training quantiles mapped
    to a normal distribution, with the small seeded noise of Gorishniy et al. 2021 ("Revisiting deep
    learning models for tabular data"). Missing cells get 0 after scaling and 1 in ``missing``
    ``[rows, numerical columns]`` float32.
    """
    train = splits.train["numerical"].astype(np.float64)
    scale: Callable[[np.ndarray], np.ndarray]
    if method == "standard":
        mean, deviation = np.nanmean(train, 0), np.nanstd(train, 0)
        deviation = np.where(deviation > 0, deviation, 1.0)
        scale = lambda values: (values - mean) / deviation  # noqa: E731
    elif method == "quantile":
        from sklearn.preprocessing import QuantileTransformer

        noise = np.random.default_rng(seed).normal(0, 1e-3, train.shape) * np.nanstd(train, 0)
        quantiles = max(min(len(train) // 30, 1000), 10)
        transformer = QuantileTransformer(
            n_quantiles=quantiles, output_distribution="normal", subsample=None, random_state=seed
        )
        scale = transformer.fit(train + noise).transform
    else:
        raise unknown("scaling", method, ("standard", "quantile"))

    def part(columns: Columns) -> Columns:
        if not columns:
            return columns
        missing = np.isnan(columns["numerical"])
        scaled = np.where(missing, 0.0, scale(columns["numerical"].astype(np.float64)))
        return dict(
            columns, numerical=scaled.astype(np.float32), missing=missing.astype(np.float32)
        )

    return Splits(part(splits.train), part(splits.validation), part(splits.test), splits.info)


def class_weights(label: np.ndarray, classes: int) -> np.ndarray:
    """Weights ``[classes]`` float32 that give every class the same total, 1 on average."""
    counts = np.bincount(label, minlength=classes)
    return (len(label) / (classes * np.maximum(counts, 1))).astype(np.float32)
