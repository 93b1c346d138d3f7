"""Prices of shares or the like, a row a share and day: columns as of :mod:`dl.data.markets`."""

import dataclasses
from typing import Any

import numpy as np

from dl.core.errors import UserError
from dl.data.own.columns import (
    OwnCells,
    column_lines,
    joined,
    read_cells,
    rows_of,
    split_column,
    taken,
    which_column,
)
from dl.data.own.found import Found, Line, column_called, held_said, own_info, span
from dl.data.own.series import SERIES
from dl.data.readers.frames import only_numbers, words
from dl.data.readers.series_tables import proposed_times, series_times

NAMED = ("stocknet_prices",)
OF_NAMED = ("share", "day", "prices")
CALLED = {
    "open": ("open", "opening"),
    "high": ("high",),
    "low": ("low",),
    "close": ("close", "closing", "price", "last"),
    "adjusted": (
        "adj close",
        "adj_close",
        "adjclose",
        "adjusted close",
        "adjusted_close",
        "adjusted",
    ),
}


@dataclasses.dataclass(frozen=True)
class OwnPrices(OwnCells):
    """Fields for the config of a script that takes prices, a row a share and day."""

    share: str | None = None
    """your column of the share; by default the one called ticker, symbol, ..., and without one all are of one"""
    time: str | None = None
    """your column of days; by default the one called so, or that holds dates"""
    close: str | None = None
    """your column of the close; by default the one called close or price. Open, high, low and adjusted close are
    taken where columns are called so"""


def read(source: Any, own: OwnPrices) -> Found:
    """The prices of a table, by day; the last days are test, those before validation.

    Raises:
      UserError: a column cannot be told, a day has two prices of a share, or the parts do not follow in time.
    """
    if own.group:
        raise UserError("option-misplaced", "--group is not for prices: their parts follow in time")
    frames, digests, lines = read_cells(source, own)
    split = split_column(frames, own)
    frame, part, lacking = joined(frames, split)
    share = column_called(frame, own.share, ("share", "stock", *SERIES), "--share")
    time = column_called(frame, own.time, (), "--time") or proposed_times(frame)
    if time is None:
        raise UserError("column-unnamed", which_column(frame, "days", "--time"))
    found = {name: column_called(frame, None, called, "") for name, called in CALLED.items()}
    found["close"] = column_called(frame, own.close, CALLED["close"], "--close")
    close = found["close"] or found["adjusted"]
    if close is None:
        raise UserError("column-unnamed", which_column(frame, "closing prices", "--close"))
    columns = {name: only_numbers(frame, heading or close) for name, heading in found.items()}
    prices = np.stack([*columns.values()], 1)
    kept = np.flatnonzero((prices > 0).all(1))
    if not len(kept):
        raise UserError("table-empty", f"{frame.name} has no row with prices above 0")
    skipped, frame, prices = len(prices) - len(kept), rows_of(frame, kept), prices[kept]
    part = None if part is None else part[kept]
    when, _ = series_times(frame, time)
    if when.dtype.kind == "M" and (when == when.astype("datetime64[D]")).all():
        when = when.astype("datetime64[D]")
    days, day = np.unique(when, return_inverse=True)
    cells = words(frame, share).astype(str) if share else np.full(len(day), "share")
    names, code = np.unique(cells, return_inverse=True)
    order = np.lexsort((code, day))
    rows = {"share": code.astype(np.int32), "day": day.astype(np.int32), "prices": prices}
    rows = {name: column[order] for name, column in rows.items()}
    pair = rows["day"].astype(np.int64) * len(names) + rows["share"]
    if (again := np.diff(pair) == 0).any():
        row = int(order[1:][again][0])
        raise UserError(
            "times-repeat",
            f"{frame.name}, {frame.place(row)}: {names[code[row]]} has two rows of {when[row]}: keep one, or name "
            "the column that tells shares apart by --share",
        )
    place = _given(day, part, own, len(days)) if part is not None else _in_time(own, len(days))
    used = {time: taken("day", "--time", own.time), close: taken("close", "--close", own.close)}
    others = {heading: name for name, heading in found.items() if heading and heading != close}
    used |= {heading: taken(name, "", heading) for heading, name in others.items()}
    used |= {share: taken("share", "--share", own.share)} if share else {}
    used |= {split: taken("part", "", split)} if split else {}
    size = np.bincount(code, minlength=len(names))
    lines += [*lacking, *column_lines(frame, used)]
    lines += [Line("shares", f"{len(names):,}", f"days of each: {span(size)}")]
    lines += [Line("days", f"{len(days):,}", f"{days[0]} ... {days[-1]}")]
    lines += [Line("skipped", f"{skipped:,} rows", "a price is missing or 0")] if skipped else []
    details = {"shares": tuple(map(str, names)), "days": tuple(map(str, days))}
    named = {"title": frame.name, "classes": ("falls", "rises"), "details": details}
    how = "as the files say" if part is not None else f"by day: {held_said(own.hold_out)}"
    info = own_info("prices", "classification", digests, **named)
    return Found(rows, info, tuple(lines), place[rows["day"]], how)


def _in_time(own: OwnPrices, days: int) -> np.ndarray:
    """The part of every day, by the shares held out."""
    left = np.arange(days)[::-1]
    held, test = (max(round(share * days), share > 0) for share in own.hold_out)
    return np.where(left < test, "test", np.where(left < test + held, "validation", "train"))


def _given(day: np.ndarray, part: np.ndarray, own: OwnPrices, days: int) -> np.ndarray:
    """The part of every day as the rows say, which must follow in time; the last training days are validation
    where there is none."""
    order = ["train", "validation", "test"]
    place = np.array([order.index(name) for name in part])
    low, high = np.full(days, 3), np.full(days, -1)
    np.minimum.at(low, day, place)
    np.maximum.at(high, day, place)
    if (low != high).any() or (np.diff(low) < 0).any():
        raise UserError(
            "parts-out-of-order",
            "a day is in two parts, or one to train on comes after those held out: let the parts follow in time",
        )
    if not (low == 1).any() and own.hold_out[0]:
        train = np.flatnonzero(low == 0)
        low[train[len(train) - max(1, round(own.hold_out[0] * len(train))) :]] = 1
    return np.array(order)[low]
