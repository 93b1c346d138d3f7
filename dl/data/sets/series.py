"""Time series: values in order of time, cut into windows by :mod:`dl.data.batches.windows`."""

import io
from typing import Any

import numpy as np

from dl.core.errors import UserError, bounded
from dl.data.own.tested import tested
from dl.data.readers.files import File, damaged, read
from dl.data.readers.frames import numbers, read_frame, words
from dl.data.readers.series_tables import read_csv_series
from dl.data.splits import Columns, DataSet, Info, Splits, hold_out, rows_of, take

_ETT_VARIABLES = ("HUFL", "HULL", "MUFL", "MULL", "LUFL", "LULL", "OT")
_MONTH = 30 * 24  # hours


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
      UserError: a variable has no value in (a group of) the training part, a value is infinite or too
        large to be squared, or a later part has a group that the training part lacks.
    """
    values = np.asarray(splits.train[column], np.float64)
    group = np.asarray(splits.train[by]) if by else np.zeros(len(values), np.int32)
    if not len(values):
        raise UserError("part-empty", f"the training part has no rows to standardise {column!r} by")
    if group.dtype.kind not in "iu" or group.min() < 0:
        raise UserError(
            "group-numbers", f"column {by!r} must hold whole numbers from 0 on, one a group"
        )
    count = int(group.max()) + 1
    mean, deviation = np.zeros((2, count, *values.shape[1:]))
    for place in np.unique(group):
        part = values[group == place]
        where = f" where {by} is {place}" if by else ""
        if np.isinf(part).any():
            raise UserError("infinity", f"{column!r} holds infinity in the training part{where}")
        empty = np.isnan(part).all(0)
        if empty.any():
            names = f" of variable {np.flatnonzero(empty)[0]}" if part.ndim > 1 else ""
            raise UserError(
                "variable-empty",
                f"{column!r} has no value{names} in the training part{where}: drop it",
            )
        # Differences from a value that occurs, so that a constant's deviation is 0 and not rounding.
        first = np.take_along_axis(part, np.isnan(part).argmin(0)[None], 0)
        with np.errstate(over="ignore", invalid="ignore"):
            apart = part - first
            mean[place], deviation[place] = first[0] + np.nanmean(apart, 0), np.nanstd(apart, 0)
        if not np.isfinite(deviation[place]).all():
            raise UserError(
                "number-too-large",
                f"{column!r} reaches {np.nanmax(np.abs(part)):g} in the training part{where}, of which even "
                "float64 holds no square: divide it by a power of ten first",
            )
    deviation = np.where(deviation > 0, deviation, 1.0)

    def scaled(columns: Columns) -> Columns:
        place = columns[by] if by else np.zeros(len(columns[column]), np.int32)
        if not np.isin(place, group).all():
            raise UserError("group-unseen", f"a value of {by!r} never occurs in the training part")
        result = (np.asarray(columns[column], np.float64) - mean[place]) / deviation[place]
        if (np.abs(result) > np.finfo(np.float32).max).any():
            raise UserError(
                "number-too-large",
                f"a value of {column!r} lies {np.nanmax(np.abs(result)):g} standard deviations from the "
                "training mean, beyond float32: mend it or leave it out",
            )
        return dict(columns, **{column: result.astype(np.float32)})

    done = splits.map(scaled)
    return (done, mean, deviation) if by else (done, mean[0], deviation[0])


def scaled_series(splits: Splits) -> Splits:
    """Whatever ``dl.data.open(..., "series")`` gives, standardised: each series by itself, and what is known
    ahead; but a panel as it is, whose windows are each to be scaled by themselves."""
    if "length" in splits.train:
        return splits
    if "known" in splits.train:
        splits = standardize(splits, "known")[0]
    by = "series" if "series" in splits.train else None
    scaled, mean, spread = standardize(splits, by=by)
    if (wanted := tested()) is not None and by:  # forecasts go back into units of the series
        which = np.unique(splits.test[by])

        def back(row: int, values: np.ndarray) -> np.ndarray:
            low, unit = (x[which[row]] for x in (mean, spread))
            more = (...,) if values.ndim == 2 else (..., None)  # quantiles
            return values.astype(np.float64) * unit[more] + low[more]

        wanted.back = back
    return scaled


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

    bounded("decay", decay, at_least=0, below=1)
    values = np.asarray(values, np.float64)
    if not np.isfinite(values).all():
        raise UserError(
            "value-missing", "a missing or infinite value cannot be smoothed: fill it or cut there"
        )
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
        raise UserError(
            "split-fixed", "ett's parts are fixed by its published protocol: leave validation unset"
        )
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
            "hold-out-impossible",
            "m4_hourly takes its validation part in hours off each series' end: 0 or more",
        )
    cut = [series[: len(series) - horizon] for series in known]
    held = {"values": np.stack([series[-horizon:] for series in known])} if horizon else {}
    return Splits(pad_series(cut), held, {"values": np.stack(future)}, info)


def pad_series(series: list[np.ndarray]) -> Columns:
    """``values [n, longest]`` float64, NaN after ``length [n]``."""
    if not series:
        raise UserError("no-series", "there are no series to pad")
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
            "dl.data.sets.series.standardize scales by the training part, as published errors are",
            details={
                "variables": _ETT_VARIABLES,
                "period": 24,
                "horizon": 96,
                "look_back": 336,
            },
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
            details={"period": 24, "horizon": 48, "look_back": 336},
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
