"""Series whose variables are seen at times of their own: an hourly grid, what is seen on it, and how long ago."""

from typing import Any

import numpy as np

from dl.data.splits import Columns, Splits

COLUMNS = ("values", "seen", "last", "gap", "fixed")  # that networks take (dl.models.irregular)
SUMMARIES = ("first", "last", "least", "most", "mean", "spread", "count")


def hourly(
    row: np.ndarray,
    hour: np.ndarray,
    variable: np.ndarray,
    value: np.ndarray,
    shape: tuple[int, int, int],
) -> np.ndarray:
    """The last value of each hour, NaN where there is none: float32 ``[rows, hours, variables]``, by ``shape``.

    Args:
      row, hour, variable, value: ``[events]``; hours since the beginning; what is after the last is not
        looked at, and the very end belongs to it.
    """
    grid = np.full(shape, np.nan, np.float32)
    seen = (hour >= 0) & (hour <= shape[1]) & ~np.isnan(value)
    order = np.flatnonzero(seen)[np.argsort(hour[seen], kind="stable")]
    at = np.minimum(hour[order].astype(int), shape[1] - 1)
    grid[row[order], at, variable[order]] = value[order]  # the last of equal places stays
    return grid


def filled(splits: Splits) -> Splits:
    """``values [rows, hours, variables]`` and ``static [rows, features]`` with NaN as what networks take.

    Both are scaled by the training rows' means and deviations, cut off at five of these, and 0 where missing.
    Beside them stand ``seen`` (1 where there is a value), ``last`` (the value before, 0 without one), ``gap``
    (hours since then, or since the beginning: delta of Che et al. 2018), ``static_seen``, and ``summary``, each
    variable's :data:`SUMMARIES`. What is known of an hour hangs on no later one.
    """
    values, static = (_scale(splits.train[name]) for name in ("values", "static"))
    summary = _scale(summaries(splits.train, values))

    def part(columns: Columns) -> Columns:
        seen = ~np.isnan(columns["values"])
        scaled = values(columns["values"])
        last, gap = np.zeros_like(scaled), np.zeros_like(scaled)
        for hour in range(1, scaled.shape[1]):
            before = seen[:, hour - 1]
            last[:, hour] = np.where(before, scaled[:, hour - 1], last[:, hour - 1])
            gap[:, hour] = 1 + np.where(before, 0, gap[:, hour - 1])
        found = {"values": scaled, "seen": seen.astype(np.float32), "last": last, "gap": gap}
        found |= {
            "static": static(columns["static"]),
            "summary": summary(summaries(columns, values)),
        }
        found["static_seen"] = (~np.isnan(columns["static"])).astype(np.float32)
        return found | {"label": columns["label"]}

    return splits.map(part)


def beside_fixed(splits: Splits, summary: bool = True) -> Splits:
    """What :func:`filled` gives as :data:`COLUMNS` and ``label``: ``fixed [rows, features]`` is what is static,
    whether it is known and, where asked for, each variable's ``summary``."""
    names = ("static", "static_seen", *(["summary"] if summary else []))

    def joined(part: Columns) -> Columns:
        kept = {name: part[name] for name in (*COLUMNS[:-1], "label")}
        return kept | {"fixed": np.concatenate([part[name] for name in names], 1)}

    return splits.map(joined)


def summaries(columns: Columns, scale: Any = None) -> np.ndarray:
    """:data:`SUMMARIES` of each variable over the hours, NaN where it was never seen, float32 ``[rows, variables *
    summaries]``."""
    values = columns["values"]
    seen = ~np.isnan(values)
    values = values if scale is None else np.where(seen, scale(values), np.nan)
    count = seen.sum(1)
    never = count == 0
    first = np.take_along_axis(values, seen.argmax(1)[:, None], 1)[:, 0]
    last = np.take_along_axis(values, values.shape[1] - 1 - seen[:, ::-1].argmax(1)[:, None], 1)[
        :, 0
    ]
    least, most = np.where(seen, values, np.inf).min(1), np.where(seen, values, -np.inf).max(1)
    total = np.where(seen, values, 0).sum(1)
    mean = total / np.maximum(count, 1)
    spread = np.sqrt(np.where(seen, (values - mean[:, None]) ** 2, 0).sum(1) / np.maximum(count, 1))
    each = (np.where(never, np.nan, x) for x in (first, last, least, most, mean, spread))
    return np.concatenate([*each, np.log1p(count)], 1).astype(np.float32)


def table(splits: Splits) -> Splits:
    """The summaries and what is fixed as a table for trees (:mod:`dl.data.tables`), NaN where missing."""

    def part(columns: Columns) -> Columns:
        numbers = np.concatenate([summaries(columns), columns["static"]], 1)
        empty = np.zeros((len(numbers), 0), np.int32)
        return {"numerical": numbers, "categorical": empty, "label": columns["label"]}

    return splits.map(part)


def _scale(train: np.ndarray) -> Any:
    """``values -> scaled`` by the training values, of every axis but the last: without its extremes, for a slip of
    the pen may be a thousandfold."""
    flat = train.reshape(-1, train.shape[-1]).astype(np.float64)
    known = [column[~np.isnan(column)] for column in flat.T]
    ends = [np.quantile(x, (0.001, 0.999)) if x.size else (0.0, 0.0) for x in known]
    inner = [
        np.clip(x, *end) if x.size else np.zeros(1) for x, end in zip(known, ends, strict=True)
    ]
    mean = np.array([x.mean() for x in inner])
    deviation = np.array([x.std() or 1.0 for x in inner])

    def scaled(values: np.ndarray) -> np.ndarray:
        return np.nan_to_num(np.clip((values - mean) / deviation, -5, 5)).astype(np.float32)

    return scaled
