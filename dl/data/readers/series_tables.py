"""Time series out of tables: the time column, and whether its times are in order and regular."""

import dataclasses
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from dl.core.errors import UserError, unknown
from dl.data.readers.column_types import check_digits
from dl.data.readers.frames import Frame, first_rows, numbers, read_frame
from dl.data.readers.times import times, zones

_TIME_HEADINGS = ("time", "date", "datetime", "timestamp", "ds")
_COMPACT = "%Y%m%d"  # 20240131, which is a whole number too
_LOOSE = 0.05  # share of a step by which fractional times may be rounded


def read_csv_series(
    source: Any,
    name: str | None = None,
    *,
    time: str | None = None,
    sort: bool = False,
    regular: bool = True,
    keep_missing: bool = False,
    **reading: Any,
) -> tuple[list[str], np.ndarray, np.ndarray]:
    """A table of one time column and numbers: (variable names, times ``[time]``, values ``[time,
    variables]`` float64).

    Times are datetime64 in UTC, to the second or as fine as the file has them; or the file's own
    numbers, int64 or float64. What was guessed, such as a time column that is not the first, is said
    in one warning.

    Args:
      source: a file, its bytes, or a frame, as :func:`dl.data.readers.frames.read_frame` takes it.
      name: what messages call it, by default the file's name.
      time: heading of the times. None takes the first column called time, date, datetime, timestamp
        or ds, else the first that begins with a date, else the first.
      sort: bring rows that are out of order into that of time, instead of refusing them.
      regular: refuse steps of unequal length. Days, weeks, calendar months and weekdays are regular.
      keep_missing: give empty cells as NaN, a mask for you to heed, instead of refusing them.
      **reading: what else :func:`~dl.data.readers.frames.read_frame` takes: separator, decimal, dates, ...

    Raises:
      UserError: names the line of a cell that is no number or no time, of a missing one, of a row out
        of order, a repeated time, the first gap, or times of which only some say their zone.
    """
    frame = read_frame(times_of_index(source), name=name, **reading)
    found = _time_heading(frame, time)
    when, notes = series_times(frame, found)
    if time is None and found != frame.headings[0]:
        notes = (f"times are column {found!r}", *notes)
    variables = [heading for heading in frame.headings if heading != found]
    if not variables:
        also = "".join(f"; {note}" for note in frame.notes if "index" in note)
        raise UserError(
            "series-no-variables", f"{frame.name} has no column beside the times, {found!r}{also}"
        )
    values = np.stack([variable(frame, heading, keep_missing) for heading in variables], 1)
    order = np.argsort(when, kind="stable")
    if sort and (np.diff(order) != 1).any():
        moved = int((order != np.arange(len(order))).sum())
        notes = (*notes, f"{moved} rows were brought into the order of time")
        when, values = when[order], values[order]
    else:
        order = np.arange(len(order))
    # A comma is what csv says, and no guess.
    notes = (*(n for n in frame.notes if n != "cells are separated by comma"), *notes)
    if notes:
        warnings.warn(f"{frame.name}: {'; '.join(notes)}", stacklevel=2)
    check_times(when, frame.name, lambda row: frame.place(order[row]), gaps=not regular)
    return variables, when, values


def times_of_index(source: Any) -> Any:
    """A pandas frame whose index is times with those as a column; any other source as it is."""
    index = type(getattr(source, "index", None)).__name__
    if index == "PeriodIndex":
        source = source.to_timestamp()
    if index in ("DatetimeIndex", "PeriodIndex"):
        return source.rename_axis(source.index.name or "time").reset_index()
    return source


def _time_heading(frame: Frame, time: str | None) -> str:
    """The heading of the column that holds the times, which may be the first for want of a better."""
    if time is not None:
        if time not in frame.headings:
            raise unknown("column", time, frame.headings)
        return time
    return proposed_times(frame) or frame.headings[0]


def proposed_times(frame: Frame) -> str | None:
    """The heading of the column that is called as times are, or else begins with a date; None without one."""
    for heading in frame.headings:
        if heading.lower() in _TIME_HEADINGS:
            return heading
    for heading in frame.headings:
        beginning = dataclasses.replace(first_rows(frame, 20, heading), lines=None, missing=None)
        read_as = times(beginning, heading)
        if not (read_as.bad | read_as.missing).any():
            return heading
    return None


def series_times(frame: Frame, heading: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """The times ``[rows]`` and what of them was guessed."""

    def refuse(rows, code: str, what: str):
        if rows.any():
            row = int(np.flatnonzero(rows)[0])
            cell = frame.columns.column(heading)[row].as_py()
            raise UserError(
                code, f"{frame.name}, {frame.place(row)}, column {heading!r}: " + what.format(cell)
            )

    absent = "no time stands there ({!r}): every row needs its own, so fill it in or drop the row"
    if frame.dates is None:
        number = numbers(frame, heading)
        if not number.bad.any():
            refuse(number.missing, "time-missing", absent)
            compact = dataclasses.replace(frame, dates=_COMPACT)
            if not 19000101 <= number.values.min() <= number.values.max() < 21010101:
                return _exact(frame, heading, number.values), ()
            days = times(compact, heading)
            if days.bad.any():
                return _exact(frame, heading, number.values), ()
            return days.values.astype("datetime64[s]"), (f"times are read as {_COMPACT}",)
    read_as = times(frame, heading)
    form = frame.dates or "a time: say how it is written, as dates='%d.%m.%Y'"
    refuse(read_as.bad, "cell-unreadable", "cannot read {!r} as " + form)
    refuse(read_as.missing, "time-missing", absent)
    if len(read_as.choices) > 1:
        raise UserError(
            "dates-ambiguous",
            f"{frame.name}, column {heading!r}: dates such as "
            f"{frame.columns.column(heading)[0].as_py()!r} may be read as "
            f"{' or '.join(read_as.choices)}: say which, as dates=",
        )
    notes: tuple[str, ...] = ()
    if read_as.format and frame.dates is None:
        notes = (f"times are read as {read_as.format}",)
    said = zones(frame, heading)
    if len(said) > 1:
        notes += (f"times of the zones {', '.join(said)} were brought to UTC",)
    when = read_as.values
    whole = when.astype("datetime64[s]")
    return (whole if (whole == when).all() else when), notes


def _exact(frame: Frame, heading: str, values: np.ndarray) -> np.ndarray:
    """Numbers as int64 where all are whole: from the cells, as float64 ends at 2**53."""
    import pyarrow as pa

    if (values != np.floor(values)).any():
        return values
    try:
        return frame.columns.column(heading).cast(pa.int64()).to_numpy().astype(np.int64)
    except pa.ArrowInvalid:  # such as 1e3 or 5.0
        small = np.abs(values).max() < 2**53
        return values.astype(np.int64) if small else values


def variable(frame: Frame, heading: str, keep_missing: bool) -> np.ndarray:
    """A column's numbers, float64 ``[rows]``."""
    found = numbers(frame, heading)
    refused = found.bad if keep_missing else found.bad | found.missing
    if refused.any():
        row = int(np.flatnonzero(refused)[0])
        cell = frame.columns.column(heading)[row].as_py()
        where = f"{frame.name}, {frame.place(row)}, column {heading!r}"
        if found.missing[row]:
            raise UserError(
                "value-missing",
                f"{where}: no value stands there ({cell!r}; {found.missing.sum()} such cells): fill them "
                "as you see fit, or take them as NaN by keep_missing=True",
            )
        raise UserError("cell-unreadable", f"{where}: cannot read {cell!r} as a number")
    check_digits(frame, heading, found.values, "leave the column out, or write smaller numbers")
    return found.values


def check_times(
    when: np.ndarray,
    name: str,
    place: Callable[[int], str] = "row {}".format,
    *,
    gaps: bool = False,
) -> None:
    """Raises UserError where times ``[rows]``, datetime64 or numbers, run backwards, repeat or (unless
    ``gaps`` are allowed) leave steps of unequal length; ``place`` says where in ``name`` a row stands."""
    if when.ndim != 1 or when.dtype.kind not in "Miuf":
        raise UserError(
            "times-not-dates",
            f"the times of {name} must be dates or numbers, one a row, not {when.dtype}",
        )
    when = when.astype(np.int64) if when.dtype.kind == "u" else when
    lacking = np.isnat(when) if when.dtype.kind == "M" else ~np.isfinite(when)
    if lacking.any():
        raise UserError(
            "time-missing",
            f"{name}, {place(int(np.flatnonzero(lacking)[0]))}: no time stands there",
        )
    step = np.diff(when)
    zero = np.zeros((), step.dtype)[()]  # with the unit of the steps

    def refuse(wrong, code: str, what: str, remedy: str):
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0]) + 1
            raise UserError(
                code,
                f"{name}, {place(row)}: {when[row]} {what} that of {place(row - 1)}, {when[row - 1]} "
                f"({wrong.sum()} such rows): {remedy}",
            )

    order = (
        "the rows are out of order: sort them by time, or let read_csv_series do so by sort=True"
    )
    refuse(step < zero, "times-out-of-order", "is before", order)
    refuse(step == zero, "times-repeat", "repeats", "keep one row a time")
    if gaps or len(step) < 2:
        return
    kinds, counts = np.unique(step, return_counts=True)
    usual = kinds[counts.argmax()]
    if when.dtype.kind == "f":
        usual = np.median(step)
        uneven = np.abs(step - usual) > _LOOSE * usual
    else:
        uneven = step != usual
    if uneven.any() and not (when.dtype.kind == "M" and _calendar(when)):
        row = int(np.flatnonzero(uneven)[0]) + 1
        raise UserError(
            "times-uneven",
            f"{name}, {place(row)}: {when[row]} follows {when[row - 1]} by {_length(step[row - 1])} where "
            f"most rows follow by {_length(usual)} ({uneven.sum()} such gaps): add the rows that lack or "
            "cut the series there; read_csv_series takes them as they come by regular=False",
        )


def _calendar(when: np.ndarray) -> bool:
    """Whether datetime64 ``[rows]`` step by whole calendar months, from one day or from the last of each
    month, or from weekday to weekday."""
    day = when.astype("datetime64[D]")
    clock = when - day
    month = day.astype("datetime64[M]")
    if (clock != clock[0]).any():
        return False
    one = np.timedelta64(1, "D")
    in_month = day - month.astype("datetime64[D]")
    last = (day + one).astype("datetime64[M]") != month
    if (in_month == in_month[0]).all() or last.all():
        return len(set(np.diff(month).astype(int))) == 1
    return bool(np.is_busday(day).all() and (np.busday_count(day[:-1], day[1:]) == 1).all())


def _length(step) -> str:
    """A step in words: ``2 days``, ``1 hour``, or the plain number."""
    if not isinstance(step, np.timedelta64):
        return f"{step:g}"
    for seconds, word in ((86400, "day"), (3600, "hour"), (60, "minute"), (1, "second")):
        count = step / np.timedelta64(seconds, "s")
        if count >= 1:
            return f"{count:g} {word}{'' if count == 1 else 's'}"
    return str(step)
