"""Purchases, a row each: who bought when, and perhaps what for. A row of the parts is a customer, see
:mod:`dl.data.customers`."""

import dataclasses
from typing import Any, NamedTuple

import numpy as np

from dl.core.errors import UserError
from dl.data.customers import customers_at
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
from dl.data.own.found import Found, Line, column_called, own_info, span
from dl.data.readers.frames import only_numbers, words
from dl.data.readers.series_tables import proposed_times, series_times
from dl.data.splits import Columns

NAMED = ("cdnow",)
OF_NAMED = ("repeat", "recency", "age", "history", "profile", "later")
CUSTOMERS = ("customer", "customer_id", "customerid", "customer id", "client", "user", "user_id")
ITEMS = ("items", "quantity", "units", "count")
AMOUNTS = ("amount", "price", "value", "revenue", "total", "dollars", "spend")


@dataclasses.dataclass(frozen=True)
class OwnPurchases(OwnCells):
    """Fields for the config of a script that takes purchases, a row each."""

    customer: str | None = None
    """your column of customers; by default the one called so"""
    time: str | None = None
    """your column of days; by default the one called so, or that holds dates"""
    items: str | None = None
    """your column of how many were bought; by default the one called quantity, ..., and without one 1"""
    amount: str | None = None
    """your column of what they cost; by default the one called amount, price, ..., and without one 0"""
    cut: str | None = None
    """the first day to foretell, such as 2024-07-01; by default the middle of the time. Later purchases are never
    looked at but to judge by"""


class Bought(NamedTuple):
    """Purchases, arrays ``[rows]``: whose, an index into ``names``; the day, counted from 1970; how many things
    and for how much. ``lines`` say what was taken for what; ``skipped`` rows have no customer."""

    title: str
    names: np.ndarray
    customer: np.ndarray
    day: np.ndarray
    items: np.ndarray
    amount: np.ndarray
    digests: dict[str, str]
    lines: tuple[Line, ...]
    skipped: int

    def customers(self, cut: int, ahead: int) -> tuple[Columns, tuple[str, ...]]:
        """See :func:`dl.data.customers.customers_at`; and what each row's customer is called."""
        rows, kept = customers_at(
            self.customer, self.day, self.items, self.amount, cut=cut, ahead=ahead
        )
        return rows, tuple(str(self.names[n]) for n in kept)


def day_of(cut: str) -> int:
    """The day, counted from 1970, that is written as 2024-07-01."""
    try:
        return int(np.datetime64(cut, "D").astype(int))
    except ValueError:
        raise UserError("times-not-dates", f"--cut {cut}: write it as 2024-07-01") from None


def bought(source: Any, own: OwnPurchases) -> Bought:
    """The purchases of a table.

    Raises:
      UserError: a column cannot be told.
    """
    frames, digests, lines = read_cells(source, own)
    if split_column(frames, own) or len(frames) > 1 or own.in_order or own.group:
        raise UserError(
            "option-misplaced",
            "purchases are cut by customers, drawn by seed: bring one table, without a column of parts, and leave "
            "--split, --group and --in-order out",
        )
    frame, _, _ = joined(frames)
    who = column_called(frame, own.customer, CUSTOMERS, "--customer")
    if who is None:
        raise UserError("column-unnamed", which_column(frame, "customers", "--customer"))
    time = column_called(frame, own.time, (), "--time") or proposed_times(frame)
    if time is None:
        raise UserError("column-unnamed", which_column(frame, "days", "--time"))
    items = column_called(frame, own.items, ITEMS, "--items")
    amount = column_called(frame, own.amount, AMOUNTS, "--amount")
    cells = words(frame, who)
    known = np.array([cell is not None for cell in cells])
    skipped, frame = int((~known).sum()), rows_of(frame, np.flatnonzero(known))
    names, index = np.unique(cells[known].astype(str), return_inverse=True)
    when, _ = series_times(frame, time)
    if when.dtype.kind != "M":
        raise UserError(
            "times-not-dates", f"--time {time} holds numbers: give dates, or say how by --dates"
        )
    day = when.astype("datetime64[D]").astype(int)

    def column(heading: str | None, without: float) -> np.ndarray:
        if heading is None:
            return np.full(len(day), without)
        found = only_numbers(frame, heading)
        return np.where(np.isnan(found), without, found)

    used = {who: taken("customer", "--customer", own.customer)}
    used |= {time: taken("day", "--time", own.time)}
    used |= {items: taken("items", "--items", own.items)} if items else {}
    used |= {amount: taken("amount", "--amount", own.amount)} if amount else {}
    lines += column_lines(frame, used)
    counts = column(items, 1.0), column(amount, 0.0)
    return Bought(frame.name, names, index, day, *counts, digests, tuple(lines), skipped)


def read(source: Any, own: OwnPurchases) -> Found:
    """The customers of a table of purchases.

    Raises:
      UserError: a column cannot be told, or the cut leaves nothing before it or after it.
    """
    found = bought(source, own)
    first, last = int(found.day.min()), int(found.day.max())
    cut = day_of(own.cut) if own.cut else (first + last + 1) // 2
    if not first < cut <= last:
        over = f"{np.datetime64(first, 'D')} to {np.datetime64(last, 'D')}"
        raise UserError("range", f"--cut {own.cut} leaves one side empty: purchases are of {over}")
    rows, called = found.customers(cut, last + 1 - cut)
    cut_at, end = np.datetime64(cut, "D"), np.datetime64(last, "D")
    lines = [
        *found.lines,
        Line("purchases", f"{len(found.day):,}", f"{np.datetime64(first, 'D')} ... {end}"),
        Line("cut", str(cut_at), "" if own.cut else "the middle of the time: --cut says another"),
        Line(
            "customers",
            f"{len(called):,}",
            f"days of purchases before it: {span(rows['repeat'] + 1, 'g')}",
        ),
        Line("buy again", f"{(rows['later'] > 0).mean():.1%}", f"from {cut_at} to {end}"),
    ]
    if found.skipped:
        lines.append(Line("skipped", f"{found.skipped:,} rows", "without a customer"))
    details = {"weeks": (last + 1 - cut) / 7, "customers": called}
    info = own_info("purchases", "regression", found.digests, title=found.title, details=details)
    strata = (rows["later"] > 0).astype(int)
    return Found(rows, info, tuple(lines), strata=strata, names=called)
