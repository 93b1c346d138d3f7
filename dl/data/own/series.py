"""Series: one or many, in even steps of time, with gaps as NaN.

Rows are ``series`` int32, ``values [rows, variables]`` float64, and where such columns are named ``known [rows,
columns]``, one a step, each series in one piece; its last steps are the test part.
:func:`dl.data.batches.series_windows.series_forecasting` cuts them into windows.
"""

import dataclasses
from collections import Counter
from typing import Any

import numpy as np

from dl.core.errors import UserError, bounded
from dl.data.own.columns import (
    OwnCells,
    joined,
    numbers_rows,
    read_cells,
    rows_of,
    split_column,
    table_too_large,
)
from dl.data.own.found import PARTS, Found, Line, column_called, held_said, own_info, span
from dl.data.readers.frames import Frame, coded_words, numbers
from dl.data.readers.series_tables import proposed_times, series_times, times_of_index, variable
from dl.data.readers.steps import Step, find_step, places, repeating
from dl.data.sets.catalogue import load
from dl.data.splits import Splits, take

NAMED = ("ett", "m4_hourly", "exchange_rate")
OF_NAMED = ("values",)
FOR_NAMED = ("period", "horizon", "look_back")
SERIES = ("unique_id", "series_id", "series", "item_id", "ticker", "symbol")
_COUNTED = ("t", "step", "time_idx", "minute", "hour", "day", "week", "month", "quarter", "year")
_CALENDAR = ("year", "month", "day", "hour", "minute")


@dataclasses.dataclass(frozen=True)
class OwnSeries(OwnCells):
    """Fields for the config of a script that takes series of the user's own."""

    time: str | None = None
    """your column of times; by default the one called so, or that holds dates"""
    series: tuple[str, ...] = ()
    """your column, or columns, that say which of many series a row belongs to"""
    values: tuple[str, ...] = ()
    """your columns to forecast; by default all of numbers"""
    known: tuple[str, ...] = ()
    """your columns of numbers that are known ahead, such as holidays"""
    static: tuple[str, ...] = ()
    """your columns that never change within a series"""
    ignore: tuple[str, ...] = ()
    """your columns to leave out; without one of times the rows are steps in order"""
    period: int | None = None
    """steps after which the series repeat themselves; by default proposed by the step between times"""
    horizon: int | None = None
    """steps to forecast; by default proposed by the step between times"""
    look_back: int | None = None
    """steps that a forecast sees; by default proposed by period and length"""
    stream: bool = False
    """keep your cells on disk while they are read, even if all fit into memory"""


def load_named(name: str, own: OwnSeries) -> Splits:
    """Series that go by a name, in the columns of their own."""
    splits = load(name)
    given = {field: getattr(own, field) for field in FOR_NAMED if getattr(own, field) is not None}
    info = dataclasses.replace(splits.info, details=splits.info.details | given)
    return dataclasses.replace(splits, info=info)


def read(source: Any, own: OwnSeries) -> Found:
    """The rows of all series in even steps; see the module. ``info.details`` has ``variables``, ``names`` of the
    series, ``step``, ``period``, ``horizon`` and ``look_back``."""
    for flag in FOR_NAMED:
        if getattr(own, flag) is not None:
            bounded(f"--{flag.replace('_', '-')}", getattr(own, flag), at_least=1, whole=True)
    if own.group:
        raise UserError("option-misplaced", "--group is not for series: their parts follow in time")
    disk, memory = table_too_large(source, own.stream, numbers=True)
    frames, digests, lines = read_cells(times_of_index(source), own, disk)
    lines += memory
    split = split_column(frames, own)
    frame, part, lacking = joined(frames, split)
    lines += lacking
    for heading in own.ignore:
        column_called(frame, heading, (), "--ignore")
        lines.append(Line(heading, "left out", "as --ignore says"))
    frame = dataclasses.replace(frame, columns=frame.columns.drop_columns([*own.ignore]))
    column_called(frame, own.time, (), "--time")
    lines += [Line(split, "part")] if split else []
    when, timed, how_timed = _when(frame, own)
    ids = _ids(frame, own, when, timed)
    names, code = _coded(frame, ids)
    if not timed:  # steps of each series
        order = np.argsort(code, kind="stable")
        size = np.bincount(code)
        when[order] = np.arange(len(order)) - np.repeat(np.cumsum(size) - size, size)
    order = np.lexsort((when, code))
    if moved := int((order != np.arange(len(order))).sum()):
        lines.append(Line("sorted", f"{moved:,} rows", "by series and time"))
    frame, when, code = rows_of(frame, order), when[order], code[order]
    first = np.append(True, np.diff(code) != 0)
    if (second := _second_hours(when, first)).any():
        said = "the hour that local time has twice in autumn: its first is taken"
        lines.append(Line("left out", f"{second.sum():,} rows", said))
        frame, order = rows_of(frame, np.flatnonzero(~second)), order[~second]
        when, code, first = when[~second], code[~second], first[~second]
    _refuse_repeats(frame, when, first)
    step = find_step(when, first)
    place = places(when, first, step, frame.name, frame.place)
    # From here on every step of every series has a row, and what no row of the file gives is NaN.
    length = np.zeros(len(names), np.int64)
    np.maximum.at(length, code, place + 1)
    at = (np.cumsum(length) - length)[code] + place
    headings, left_out = _headings(frame, own, {*timed, *ids, split})
    rows: dict[str, np.ndarray] = {"series": np.repeat(np.arange(len(names)), length)}
    for name, chosen in headings.items():
        rows[name] = np.full((length.sum(), len(chosen)), np.nan)
        rows[name][at] = np.stack([variable(frame, heading, True) for heading in chosen], 1)
    period, horizon, look_back, proposals = _proposed(own, step, rows["values"], length)
    if part is None:
        part = _in_time(length, own.hold_out, horizon)
        how = f"steps; the last of every series are held out, {held_said(own.hold_out)}"
    else:
        part, how = (
            _given(part[order], at, rows["series"], own.hold_out, horizon),
            "as the files say",
        )
    kept = _long_enough(rows, part, len(names), look_back + horizon)
    if not kept.any():
        raise UserError(
            "series-too-short",
            f"{frame.name}: no series has {look_back} + {horizon} steps to train on ({span(length)} in all): "
            "give smaller --look-back, --horizon or --hold-out",
        )
    names = tuple(name for name, there in zip(names, kept, strict=True) if there)
    if short := int((~kept).sum()):
        why = f"under {look_back} + {horizon} steps to train on, or a column without a value there"
        lines.append(Line("skipped", f"{short:,} series", why))
    gaps = int(length.sum() - len(at))
    chosen = kept[rows["series"]]
    rows, part = take(rows, chosen), part[chosen]
    rows["series"] = (np.cumsum(kept) - 1)[rows["series"]].astype(np.int32)
    lines += [
        Line("rows", f"{frame.rows:,}", f"{len(names):,} series of {span(length[kept])} steps"),
        Line(", ".join(timed) or "(no column)", "times", how_timed.format(step)),
    ]
    if ids:
        shown = ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
        proposed = "" if own.series else " (proposed: --series names others)"
        lines.append(Line(", ".join(ids), "names of the series", shown + proposed))
    for name, taken_for in (("values", "forecast"), ("known", "known ahead")):
        for heading, column in zip(
            headings.get(name, ()), rows.get(name, np.zeros((0, 0))).T, strict=True
        ):
            lacks = f", {np.isnan(column).sum():,} missing" if np.isnan(column).any() else ""
            extent = f"{np.nanmin(column):.6g} ... {np.nanmax(column):.6g}"
            lines.append(Line(heading, taken_for, extent + lacks))
    lines += left_out
    if gaps or np.isnan(rows["values"]).any():
        more = "left out of losses and scores; a forecast sees the last value before"
        put_in = f"{gaps:,} steps put in" if gaps else "no steps put in"
        lines.append(Line("gaps", put_in, f"what is missing is {more}"))
    details = {"variables": tuple(headings["values"]), "names": names, "step": str(step)}
    details |= {"period": period, "horizon": horizon, "look_back": look_back}
    info = own_info("series", "forecasting", digests, title=frame.name, details=details)
    return Found(rows, info, (*lines, *proposals), part, how)


def _when(frame: Frame, own: OwnSeries) -> tuple[np.ndarray, tuple[str, ...], str]:
    """Times ``[rows]``, the columns they are in, and what to say of them: of the columns year, month, ... where
    there is no other, or the numbers of the rows."""
    heading = own.time or proposed_times(frame)
    if heading:
        try:
            when, notes = series_times(frame, heading)
        except UserError as error:
            if not own.time and error.code in ("cell-unreadable", "time-missing"):
                error.message += (
                    f"; or leave it out by --ignore {heading}: then the rows are steps in order"
                )
            raise
        return when, (heading,), "; ".join([_over(when), *notes])
    lower = {heading.lower(): heading for heading in frame.headings}
    parts = [lower[name] for name in _CALENDAR if name in lower]
    if len(parts) >= 3:
        year, month, day, *clock = (numbers(frame, heading).values for heading in parts)
        when = (year - 1970).astype("datetime64[Y]").astype("datetime64[M]")
        when = (when + (month - 1).astype("timedelta64[M]")).astype("datetime64[D]")
        first = when
        when = (when + (day - 1).astype("timedelta64[D]")).astype("datetime64[s]")
        bad = (month < 1) | (month > 12) | (day < 1) | (when.astype("datetime64[M]") != first)
        for values, most in zip(clock, (24, 60), strict=False):
            bad |= (values < 0) | (values >= most)
        if bad.any():
            row = int(bad.argmax())
            cells = ", ".join(f"{name} {numbers(frame, name).values[row]:g}" for name in parts)
            raise UserError("cell-unreadable", f"{frame.place(row)}: {cells} is no moment: mend it")
        for values, unit in zip(clock, "hm", strict=False):
            when = when + values.astype(f"timedelta64[{unit}]")
        return when, tuple(parts), _over(when)
    counted = next((lower[name] for name in _COUNTED if name in lower), None)
    if counted and numbers(frame, counted).numeric:
        when, _ = series_times(frame, counted)
        return when, (counted,), _over(when)
    return np.arange(frame.rows), (), "the rows are steps in order (--time names a column of times)"


def moments(frame: Frame) -> tuple[np.ndarray, tuple[str, ...]]:
    """The times ``[rows]`` that a table seems to have, and the columns they are in."""
    return _when(frame, OwnSeries())[:2]


def _over(when: np.ndarray) -> str:
    """From when to when, for the step to be filled in."""
    if when.dtype.kind == "M" and (when == when.astype("datetime64[D]")).all():
        when = when.astype("datetime64[D]")
    return f"{when.min()} ... {when.max()}, a row every {{}}"


def _ids(frame: Frame, own: OwnSeries, when: np.ndarray, timed: tuple[str, ...]) -> tuple[str, ...]:
    """The columns that name a row's series: as given, by name, or else, where times repeat, the column
    that tells them apart, of words rather than of numbers, with the fewest different cells."""
    for heading in own.series:
        column_called(frame, heading, (), "--series")
    found = column_called(frame, None, SERIES, "")
    if own.series or found:
        return own.series or (str(found),)
    second = _second_hours(np.sort(when), np.arange(len(when)) == 0)
    if not timed or len(np.unique(when)) + second.sum() == len(when):
        return ()
    moment, fitting = np.unique(when, return_inverse=True)[1], []
    for heading in frame.headings:
        index, different = coded_words(frame, heading)
        counts = numbers(frame, heading).numeric
        apart = len(np.unique(index.astype(np.int64) * len(when) + moment)) == len(when)
        if heading not in timed and apart and len(different) * (10 if counts else 2) <= len(when):
            fitting.append((counts, len(different), heading))
    return tuple(heading for _, _, heading in sorted(fitting)[:1])


def _coded(frame: Frame, ids: tuple[str, ...]) -> tuple[tuple[str, ...], np.ndarray]:
    """The names of the series in order, and which one each row is of."""
    if not ids:
        return (frame.name,), np.zeros(frame.rows, np.int64)
    columns = [coded_words(frame, heading) for heading in ids]
    cells = [np.array([str(word) for word in different])[index] for index, different in columns]
    names, code = np.unique(
        [" / ".join(row) for row in zip(*cells, strict=True)], return_inverse=True
    )
    return tuple(names.tolist()), code


def _second_hours(when: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Which rows ``[rows]`` repeat the hour before, on one night a year, as clocks that are put back do: none
    where others repeat as well."""
    again = np.append(False, (when[1:] == when[:-1]) & ~first[1:])
    apart, none = np.diff(when)[~first[1:]], np.zeros(len(when), bool)
    if when.dtype.kind != "M" or not again.any() or np.median(apart) > np.timedelta64(1, "h"):
        return none
    hours = np.unique(when[again].astype("datetime64[h]"))
    days = hours.astype("datetime64[D]")
    months = days.astype("datetime64[M]").astype(int) % 12 + 1
    nightly = (hours - days < np.timedelta64(4, "h")) & np.isin(months, (3, 4, 9, 10, 11))
    yearly = len(np.unique(days.astype("datetime64[Y]"))) == len(days)
    return again if yearly and nightly.all() else none


def _refuse_repeats(frame: Frame, when: np.ndarray, first: np.ndarray) -> None:
    again = np.append(False, (when[1:] == when[:-1]) & ~first[1:])
    if again.any():
        row = int(np.flatnonzero(again)[0])
        raise UserError(
            "times-repeat",
            f"{frame.name}, {frame.place(row)}: {when[row]} repeats that of {frame.place(row - 1)} ({again.sum()} "
            "such rows): keep one row a time, or name by --series the columns that tell many series apart",
        )


def _headings(frame: Frame, own: OwnSeries, taken: set) -> tuple[dict[str, list[str]], list[Line]]:
    """Which columns are values, and which known ahead; and the others."""
    for flag in ("values", "known", "static"):
        for heading in getattr(own, flag):
            column_called(frame, heading, (), f"--{flag}")
    said = {*taken, *own.known, *own.static}
    uses = Counter([*(set(taken) - {None}), *own.values, *own.known, *own.static])
    if twice := [heading for heading, count in uses.items() if count > 1]:
        raise UserError(
            "column-twice",
            f"{twice[0]} is named twice, among times, --series, --values, --known and --static: leave one out",
        )
    rest = [heading for heading in frame.headings if heading not in said]
    values, left_out = list(own.values), []
    for heading in rest:
        cells = numbers(frame, heading)
        why = "not among --values" if own.values else ""
        if (not why and 10 * cells.bad.sum() > cells.present) or not cells.present:
            why = "no numbers"  # where only a few cells are none, reading the column names them
        elif not why and numbers_rows(frame, heading):
            why = "numbers the rows"
        if not why:
            values.append(heading)
        elif heading not in values:
            left_out.append(Line(heading, "left out", why))
    if not values:
        raise UserError(
            "series-no-variables",
            f"{frame.name} has no column of numbers to forecast beside {', '.join(map(str, said - {None}))}",
        )
    left_out += [Line(heading, "static", "not used by the models") for heading in own.static]
    return {"values": values, **({"known": list(own.known)} if own.known else {})}, left_out


def _proposed(own: OwnSeries, step: Step, values: np.ndarray, length: np.ndarray):
    """Period, horizon and look-back, as given or proposed, and the lines that say so."""
    usual, ahead = step.usual
    median, why = int(np.median(length)), f"usual for a row every {step}"
    period = own.period or (usual if usual and 4 * usual <= median else None)
    if period is None:
        longest = int(length.argmax())
        begin = int(length[:longest].sum())
        period, why = repeating(values[begin : begin + length[longest], 0]), "by autocorrelation"
        why = why if period > 1 else "no repetition found"
    horizon = own.horizon or max(1, min(ahead or (period if period > 1 else 12), median // 10))
    left = int(np.quantile(length, 0.25) * (1 - sum(own.hold_out))) - horizon
    look_back = max(1, min(14 * period if period > 1 else 4 * horizon, left // 2))
    look_back = own.look_back or (
        look_back - look_back % period if look_back > period else look_back
    )
    shown = {"period": f"{period} steps" if period > 1 else "none"}
    shown |= {"horizon": f"{horizon} steps", "look-back": f"{look_back} steps"}
    said = (
        "" if own.period else f"{why} (--period says another)",
        *(
            "" if getattr(own, field) else f"proposed (--{flag} says another)"
            for field, flag in (("horizon", "horizon"), ("look_back", "look-back"))
        ),
    )
    lines = [Line(name, size, more) for (name, size), more in zip(shown.items(), said, strict=True)]
    return period, horizon, look_back, lines


def _in_time(length: np.ndarray, hold_out: tuple[float, float], horizon: int) -> np.ndarray:
    """The part of every step: the last ones are test, those before validation, at least a horizon each."""
    left = np.repeat(length, length) - 1 - np.concatenate([np.arange(n) for n in length])
    held, test = (np.maximum(np.rint(share * length), horizon * (share > 0)) for share in hold_out)
    in_test, in_either = left < np.repeat(test, length), left < np.repeat(test + held, length)
    return np.where(in_test, "test", np.where(in_either, "validation", "train"))


def _given(part, at, series, hold_out, horizon) -> np.ndarray:
    """The part of every step as the rows of the file say; a step put in goes with the row before it."""
    order = list(PARTS)
    known = np.full(len(series), -1)
    known[at] = [order.index(name) for name in part]
    before = np.maximum.accumulate(np.where(known >= 0, np.arange(len(known)), 0))
    place = known[before]
    if ((np.diff(place) < 0) & (np.diff(series) == 0)).any():
        raise UserError(
            "parts-out-of-order",
            "a series has rows to train on after rows of validation or test: let its parts follow in time",
        )
    if not (place == 1).any() and hold_out[0]:
        length = np.bincount(series, place == 0).astype(np.int64)
        inner = _in_time(length, (hold_out[0], 0.0), horizon)
        place[place == 0] = np.where(inner == "train", 0, 1)
    return np.array(order)[place]


def _long_enough(
    rows: dict[str, np.ndarray], part: np.ndarray, count: int, least: int
) -> np.ndarray:
    """Which series have enough to train on, and there a value in each variable: bool ``[series]``."""
    train = part == "train"
    kept = np.bincount(rows["series"][train], minlength=count) >= least
    for column in rows["values"].T:
        there = train & ~np.isnan(column)
        kept &= np.bincount(rows["series"][there], minlength=count) > 0
    return kept
