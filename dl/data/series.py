"""Time series: values in order of time, cut into windows by :mod:`dl.data.windows`."""

import dataclasses
import io
import re
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from dl.core.errors import UserError, unknown
from dl.data.frames import Frame, numbers, read_frame, times, words
from dl.data.sources import File, damaged, read
from dl.data.splits import Columns, DataSet, Info, Splits, hold_out, rows_of, take

_ETT_VARIABLES = ("HUFL", "HULL", "MUFL", "MULL", "LUFL", "LULL", "OT")
_MONTH = 30 * 24  # hours
_TIME_HEADINGS = ("time", "date", "datetime", "timestamp", "ds")
_ZONE = re.compile(r"\d[T ]\d\d(?::?\d\d){0,2}(?:\.\d+)? ?(Z|[+-]\d\d(?::?\d\d)?)$")
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
      source: a file, its bytes, or a frame, as :func:`dl.data.frames.read_frame` takes it.
      name: what messages call it, by default the file's name.
      time: heading of the times. None takes the first column called time, date, datetime, timestamp
        or ds, else the first that begins with a date, else the first.
      sort: bring rows that are out of order into that of time, instead of refusing them.
      regular: refuse steps of unequal length. Days, weeks, calendar months and weekdays are regular.
      keep_missing: give empty cells as NaN, a mask for you to heed, instead of refusing them.
      **reading: what else :func:`~dl.data.frames.read_frame` takes: separator, decimal, dates, ...

    Raises:
      UserError: names the line of a cell that is no number or no time, of a missing one, of a row out
        of order, a repeated time, the first gap, or times of which only some say their zone.
    """
    if type(getattr(source, "index", None)).__name__ == "DatetimeIndex":
        source = source.rename_axis(source.index.name or "time").reset_index()  # pandas
    frame = read_frame(source, name=name, **reading)
    found = _time_heading(frame, time)
    when, notes = _times(frame, found)
    if time is None and found != frame.headings[0]:
        notes = (f"times are column {found!r}", *notes)
    variables = [heading for heading in frame.headings if heading != found]
    if not variables:
        raise UserError(f"{frame.name} has no column beside the times, {found!r}")
    values = np.stack([_variable(frame, heading, keep_missing) for heading in variables], 1)
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


def _time_heading(frame: Frame, time: str | None) -> str:
    """The heading of the column that holds the times."""
    if time is not None:
        if time not in frame.headings:
            raise unknown("column", time, frame.headings)
        return time
    for heading in frame.headings:
        if heading.lower() in _TIME_HEADINGS:
            return heading
    for heading in frame.headings:
        beginning = Frame(heading, frame.columns.slice(0, 20), dates=frame.dates)
        read_as = times(beginning, heading)
        if not (read_as.bad | read_as.missing).any():
            return heading
    return frame.headings[0]


def _times(frame: Frame, heading: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """The times ``[rows]`` and what of them was guessed."""

    def refuse(rows, what: str):
        if rows.any():
            row = int(np.flatnonzero(rows)[0])
            cell = frame.columns.column(heading)[row].as_py()
            raise UserError(
                f"{frame.name}, {frame.place(row)}, column {heading!r}: " + what.format(cell)
            )

    absent = "no time stands there ({!r}): every row needs its own, so fill it in or drop the row"
    if frame.dates is None:
        number = numbers(frame, heading)
        if not number.bad.any():
            refuse(number.missing, absent)
            compact = dataclasses.replace(frame, dates=_COMPACT)
            if not 19000101 <= number.values.min() <= number.values.max() < 21010101:
                return _exact(frame, heading, number.values), ()
            days = times(compact, heading)
            if days.bad.any():
                return _exact(frame, heading, number.values), ()
            return days.values.astype("datetime64[s]"), (f"times are read as {_COMPACT}",)
    read_as = times(frame, heading)
    form = "a time" if frame.dates is None else frame.dates
    refuse(read_as.bad, "cannot read {!r} as " + form)
    refuse(read_as.missing, absent)
    if len(read_as.choices) > 1:
        raise UserError(
            f"{frame.name}, column {heading!r}: dates such as "
            f"{frame.columns.column(heading)[0].as_py()!r} may be read as "
            f"{' or '.join(read_as.choices)}: say which, as dates="
        )
    notes: tuple[str, ...] = ()
    if read_as.format and frame.dates is None:
        notes = (f"times are read as {read_as.format}",)
    zones = [match[1] if (match := _ZONE.search(cell)) else "" for cell in words(frame, heading)]
    if len(set(zones)) > 1:
        other = next(row for row, zone in enumerate(zones) if zone != zones[0])
        if "" in zones:
            has, lacks = (0, other) if zones[0] else (other, 0)
            raise UserError(
                f"{frame.name}, column {heading!r}: {frame.place(has)} says its time zone and "
                f"{frame.place(lacks)} does not: write all times in one zone"
            )
        notes += (f"times of the zones {', '.join(sorted(set(zones)))} were brought to UTC",)
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


def _variable(frame: Frame, heading: str, keep_missing: bool) -> np.ndarray:
    """A column's numbers, float64 ``[rows]``."""
    found = numbers(frame, heading)
    refused = found.bad if keep_missing else found.bad | found.missing
    if refused.any():
        row = int(np.flatnonzero(refused)[0])
        cell = frame.columns.column(heading)[row].as_py()
        what = f"cannot read {cell!r} as a number"
        if found.missing[row]:
            what = (
                f"no value stands there ({cell!r}; {found.missing.sum()} such cells): fill them as you "
                "see fit, or take them as NaN by keep_missing=True"
            )
        raise UserError(f"{frame.name}, {frame.place(row)}, column {heading!r}: {what}")
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
            f"the times of {name} must be dates or numbers, one a row, not {when.dtype}"
        )
    when = when.astype(np.int64) if when.dtype.kind == "u" else when
    lacking = np.isnat(when) if when.dtype.kind == "M" else ~np.isfinite(when)
    if lacking.any():
        raise UserError(f"{name}, {place(int(np.flatnonzero(lacking)[0]))}: no time stands there")
    step = np.diff(when)
    zero = step.dtype.type(0)
    for wrong, what, remedy in (
        (
            step < zero,
            "is before",
            "the rows are out of order: sort them by time, or let read_csv_series do so by sort=True",
        ),
        (step == zero, "repeats", "keep one row a time"),
    ):
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0]) + 1
            raise UserError(
                f"{name}, {place(row)}: {when[row]} {what} that of {place(row - 1)}, {when[row - 1]} "
                f"({wrong.sum()} such rows): {remedy}"
            )
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
            f"{name}, {place(row)}: {when[row]} follows {when[row - 1]} by {_length(step[row - 1])} where "
            f"most rows follow by {_length(usual)} ({uneven.sum()} such gaps): add the rows that lack or "
            "cut the series there; read_csv_series takes them as they come by regular=False"
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


def standardize(
    splits: Splits, column: str = "values", by: str | None = None
) -> tuple[Splits, np.ndarray, np.ndarray]:
    """``splits`` with ``column`` in float32 standard deviations from the training mean, computed in
    float64 and cast last.

    Returns the splits, and the training part's mean and standard deviation: ``[variables]``, or
    ``[groups, variables]`` with one for each value of the integer column ``by`` (such as an operating
    condition). A variable that never changes there is only centred. Missing values (NaN) stay missing,
    and count for neither.

    Raises:
      UserError: a variable has no value in (a group of) the training part, a value is infinite, or a
        later part has a group that the training part lacks.
    """
    values = np.asarray(splits.train[column], np.float64)
    group = np.asarray(splits.train[by]) if by else np.zeros(len(values), np.int32)
    if not len(values):
        raise UserError(f"the training part has no rows to standardise {column!r} by")
    if group.dtype.kind not in "iu" or group.min() < 0:
        raise UserError(f"column {by!r} must hold whole numbers from 0 on, one a group")
    count = int(group.max()) + 1
    mean, deviation = np.zeros((2, count, *values.shape[1:]))
    for place in np.unique(group):
        part = values[group == place]
        where = f" where {by} is {place}" if by else ""
        if np.isinf(part).any():
            raise UserError(f"{column!r} holds infinity in the training part{where}")
        empty = np.isnan(part).all(0)
        if empty.any():
            names = f" of variable {np.flatnonzero(empty)[0]}" if part.ndim > 1 else ""
            raise UserError(f"{column!r} has no value{names} in the training part{where}: drop it")
        # Differences from a value that occurs, so that a constant's deviation is 0 and not rounding.
        first = np.take_along_axis(part, np.isnan(part).argmin(0)[None], 0)
        apart = part - first
        mean[place], deviation[place] = first[0] + np.nanmean(apart, 0), np.nanstd(apart, 0)
    deviation = np.where(deviation > 0, deviation, 1.0)

    def scaled(columns: Columns) -> Columns:
        if not columns:
            return columns
        place = columns[by] if by else np.zeros(len(columns[column]), np.int32)
        if not np.isin(place, group).all():
            raise UserError(f"a value of {by!r} never occurs in the training part")
        result = (np.asarray(columns[column], np.float64) - mean[place]) / deviation[place]
        if (np.abs(result) > np.finfo(np.float32).max).any():
            raise UserError(
                f"a value of {column!r} lies {np.nanmax(np.abs(result)):g} standard deviations from the "
                "training mean, beyond float32: mend it or leave it out"
            )
        return dict(columns, **{column: result.astype(np.float32)})

    parts = (scaled(splits.train), scaled(splits.validation), scaled(splits.test))
    if by is None:
        mean, deviation = mean[0], deviation[0]
    return Splits(*parts, splits.info), mean, deviation


def smoothed(values: np.ndarray, group: np.ndarray, decay: float) -> np.ndarray:
    """The running average of each value and those before it in its group, float64: weight ``1 - decay``
    for the newest, nothing from the future.

    Args:
      values: ``[rows, variables]``; group: ``[rows]``, each group (an engine, say) in one piece.
      decay: from 0, which averages nothing, to below 1.

    Raises:
      UserError: the decay is outside [0, 1), or a value is missing, which would spread to all after it.
    """
    from scipy.signal import lfilter

    if not 0 <= decay < 1:
        raise UserError(f"a decay of {decay:g} is impossible: give 0 or more and less than 1")
    values = np.asarray(values, np.float64)
    if not np.isfinite(values).all():
        raise UserError("a missing or infinite value cannot be smoothed: fill it or cut there")
    result = np.empty(values.shape)
    for name in np.unique(group):
        rows = np.flatnonzero(group == name)
        part = values[rows]
        # As if the first value had stood for ever; differences from it, so that a high level costs no
        # digits.
        result[rows] = part[:1] + lfilter([1 - decay], [1, -decay], part - part[:1], axis=0)
    return result


def _read_ett(paths, info, validation, seed) -> Splits:
    (path,) = paths.values()
    form: dict[str, Any] = {"separator": ",", "decimal": ".", "thousands": "", "quote": '"'}
    names, when, values = read_csv_series(path, header=True, time="date", **form)
    if tuple(names) != _ETT_VARIABLES or len(when) < 20 * _MONTH:
        raise damaged(path, f"{len(when)} rows of {', '.join(names)}")
    columns = {"time": when, "values": values}
    if validation is not None:
        raise UserError("ett's parts are fixed by its published protocol: leave validation unset")
    train = take(columns, slice(0, 12 * _MONTH))
    held = take(columns, slice(12 * _MONTH, 16 * _MONTH))
    return Splits(train, held, take(columns, slice(16 * _MONTH, 20 * _MONTH)), info)


def _read_m4(paths, info, validation, seed) -> Splits:
    def rows(path) -> tuple[list[str], list[np.ndarray]]:
        frame = read_frame(path, separator=",", decimal=".", thousands="", quote='"', header=True)
        first, *steps = frame.headings
        columns = [numbers(frame, heading) for heading in steps]
        table = np.stack([column.values for column in columns], 1)
        there = ~np.isnan(table)
        length = there.sum(1)
        # A series ends where its cells are empty; none may be empty before.
        whole = (there == (np.arange(len(steps)) < length[:, None])).all()
        if not whole or any(column.bad.any() for column in columns):
            raise damaged(path, "a value is missing within a series, or no number")
        pieces = zip(table, length, strict=True)
        return list(words(frame, first)), [row[:count] for row, count in pieces]

    (names, known), (test_names, future) = (
        rows(paths[f"Hourly-{p}.csv"]) for p in ("train", "test")
    )
    if names != test_names or any(len(series) != 48 for series in future):
        raise damaged(paths["Hourly-test.csv"], "it does not continue the training series")
    horizon = 48 if validation is None else validation
    if not isinstance(horizon, int) or not 0 <= horizon < min(len(series) for series in known):
        raise UserError(
            "m4_hourly takes its validation part in hours off each series' end: 0 or more"
        )
    cut = [series[: len(series) - horizon] for series in known]
    held = {"values": np.stack([series[-horizon:] for series in known])} if horizon else {}
    return Splits(pad_series(cut), held, {"values": np.stack(future)}, info)


def pad_series(series: list[np.ndarray]) -> Columns:
    """``values [n, longest]`` float64, NaN after ``length [n]``."""
    if not series:
        raise UserError("there are no series to pad")
    length = np.array([len(item) for item in series], np.int32)
    values = np.full((len(series), length.max()), np.nan)
    for row, item in enumerate(series):
        values[row, : len(item)] = item
    return {"values": values, "length": length}


def _read_cmapss(paths, info, validation, seed) -> Splits:
    def table(path) -> np.ndarray:
        try:
            values = np.loadtxt(io.BytesIO(read(path)), ndmin=2)
        except ValueError as error:
            raise damaged(path, error) from None
        if values.shape[1] != 26:
            raise damaged(path, f"{values.shape[1]} columns, not 26")
        return values

    def columns(values: np.ndarray, left: np.ndarray) -> Columns:
        unit, cycle = values[:, 0].astype(np.int32), values[:, 1].astype(np.int32)
        last = np.zeros(unit.max() + 1, np.int32)
        np.maximum.at(last, unit, cycle)
        return {
            "unit": unit,
            "cycle": cycle,
            # Altitude in thousands of feet, to the nearest, tells the six conditions of FD002 apart.
            "condition": np.round(values[:, 2]).astype(np.int32),
            "settings": values[:, 2:5],
            "sensors": values[:, 5:],
            "rul": (last[unit] - cycle + left[unit - 1]).astype(np.float32),
        }

    run = table(paths["train_FD001.txt"])
    engines = int(run[:, 0].max())
    train = columns(run, np.zeros(engines))
    try:
        left = np.loadtxt(io.BytesIO(read(paths["RUL_FD001.txt"])), ndmin=1)
        test = columns(table(paths["test_FD001.txt"]), left)
    except (ValueError, IndexError) as error:
        raise damaged(paths["RUL_FD001.txt"], error) from None
    count = rows_of(20 if validation is None else validation, engines)
    held = np.isin(train["unit"], hold_out(engines, count, seed)[1] + 1)
    return Splits(take(train, ~held), take(train, held) if count else {}, test, info)


_M4 = "https://raw.githubusercontent.com/Mcompetitions/M4-methods/master/Dataset/"
_CMAPSS = (
    "https://raw.githubusercontent.com/hankroark/Turbofan-Engine-Degradation/master/CMAPSSData/"
)

SETS = (
    DataSet(
        Info(
            "ett",
            "ETTh1 electricity transformer temperature",
            "Zhou et al. 2021, zhouhaoyi/ETDataset",
            "CC BY-ND 4.0",
            "forecasting",
            "time [rows] and values [rows, 7] (float64, as measured), hourly: 12, 4 and 4 months of "
            "30 days to train, validate and test, each part following the one before. "
            "dl.data.series.standardize scales by the training part, as published errors are",
            details={"variables": _ETT_VARIABLES},
        ),
        (
            File(
                "ETTh1.csv",
                ("https://raw.githubusercontent.com/zhouhaoyi/ETDataset/main/ETT-small/ETTh1.csv",),
                ("f18de3ad269cef59bb07b5438d79bb3042d3be49bdeecf01c1cd6d29695ee066",),
                2589657,
            ),
        ),
        _read_ett,
    ),
    DataSet(
        Info(
            "m4_hourly",
            "M4 competition, hourly series",
            "Makridakis et al. 2018, Mcompetitions/M4-methods",
            "free for research",
            "forecasting",
            "train: values [414, longest] padded with NaN after length [414]; test: values [414, 48], "
            "the hours that follow. The validation part is the last 48 known hours of each series, "
            "taken off train; validation=0 leaves them in train, as the competition had it",
            details={"period": 24, "horizon": 48},
        ),
        (
            File(
                "Hourly-train.csv",
                (_M4 + "Train/Hourly-train.csv",),
                ("ea59b7783573c49077a835ab6465c7d66f1474783360f310988a9a737fbca62f",),
            ),
            File(
                "Hourly-test.csv",
                (_M4 + "Test/Hourly-test.csv",),
                ("71a57fccb15e534d973626ada4fb87febf789e9317715b7cc6dd3b5f90db6f42",),
            ),
        ),
        _read_m4,
    ),
    DataSet(
        Info(
            "cmapss",
            "C-MAPSS turbofan degradation, FD001",
            "Saxena & Goebel 2008, NASA",
            "US government work",
            "regression",
            "one row a flight cycle: unit, cycle, condition (operating), settings [rows, 3], sensors "
            "[rows, 21], rul (cycles left, uncapped). 100 engines run to failure, 20 of them held "
            "out by seed for validation; "
            "100 test engines cut off, whose true cycles left are known at their last row",
        ),
        tuple(
            File(name, (_CMAPSS + name,), (digest,))
            for name, digest in {
                "train_FD001.txt": "963b5e22825b34d8b21c69e1aeb4af3e647050eb672ee8834ba4b5d91d2de0f8",
                "test_FD001.txt": "3cda7109ce17bafb5443f2ac926cfcf88154b941b8c4cf95eb55d1ddd6f52851",
                "RUL_FD001.txt": "a19c8ec94931949d0485bdc35118206e9c81c4547b422efb9cf86f4ceddbceca",
            }.items()
        ),
        _read_cmapss,
    ),
)
