"""Time series: values in order of time, cut into windows by :mod:`dl.data.windows`."""

import csv
import io

import numpy as np

from dl.core.errors import UserError
from dl.data.sources import File, damaged, read
from dl.data.splits import Columns, DataSet, Info, Splits, hold_out, rows_of, take

_ETT_VARIABLES = ("HUFL", "HULL", "MUFL", "MULL", "LUFL", "LULL", "OT")
_MONTH = 30 * 24  # hours


def read_csv_series(data: bytes, name: str) -> tuple[list[str], np.ndarray, np.ndarray]:
    """A csv file of one time column and numbers: (variable names, times, values ``[time, variables]``).

    Times are datetime64[s]; UserError names the line and column of a bad cell.
    """
    rows = csv.reader(io.StringIO(data.decode("utf-8-sig")))
    header = next(rows, [])
    times, values = [], []
    for line, row in enumerate(rows, 2):
        if len(row) != len(header):
            raise UserError(f"{name}, line {line}: {len(row)} cells under {len(header)} headings")
        for column, cell in enumerate(row):
            try:
                if column == 0:
                    times.append(np.datetime64(cell.strip(), "s"))
                else:
                    values.append(float(cell))
            except ValueError:
                raise UserError(
                    f"{name}, line {line}, column {header[column]!r}: cannot read {cell!r}"
                ) from None
    if not times:
        raise UserError(f"{name} has no rows")
    return header[1:], np.array(times), np.array(values, np.float64).reshape(len(times), -1)


def standardize(
    splits: Splits, column: str = "values", by: str | None = None
) -> tuple[Splits, np.ndarray, np.ndarray]:
    """``splits`` with ``column`` in float32 standard deviations from the training mean.

    Returns the splits, and the training part's mean and standard deviation: ``[variables]``, or
    ``[groups, variables]`` with one for each value of the integer column ``by`` (such as an operating
    condition). A variable that never changes there is only centred.
    """
    values = np.asarray(splits.train[column], np.float64)
    group = splits.train[by] if by else np.zeros(len(values), np.int32)
    count = int(group.max()) + 1
    mean, deviation = np.zeros((2, count, *values.shape[1:]))
    for place in np.unique(group):
        part = values[group == place]
        mean[place], deviation[place] = part.mean(0), part.std(0)
    # A constant sensor's deviation is rounding noise, not 0, so it is judged against its level.
    deviation = np.where(deviation > 1e-9 * np.maximum(np.abs(mean), 1.0), deviation, 1.0)

    def scaled(columns: Columns) -> Columns:
        if not columns:
            return columns
        place = columns[by] if by else np.zeros(len(columns[column]), np.int32)
        if not np.isin(place, group).all():
            raise UserError(f"a value of {by!r} never occurs in the training part")
        result = (columns[column] - mean[place]) / deviation[place]
        return dict(columns, **{column: result.astype(np.float32)})

    parts = (scaled(splits.train), scaled(splits.validation), scaled(splits.test))
    if by is None:
        mean, deviation = mean[0], deviation[0]
    return Splits(*parts, splits.info), mean, deviation


def smoothed(values: np.ndarray, group: np.ndarray, decay: float) -> np.ndarray:
    """The running average of each value and those before it in its group, float32: weight ``1 - decay``
    for the newest, nothing from the future.

    Args:
      values: ``[rows, variables]``; group: ``[rows]``, each group (an engine, say) in one piece.
    """
    from scipy.signal import lfilter

    result = np.empty(values.shape, np.float32)
    for name in np.unique(group):
        rows = np.flatnonzero(group == name)
        part = values[rows]
        start = decay * part[:1]  # as if the first value had stood for ever
        result[rows] = lfilter([1 - decay], [1, -decay], part, axis=0, zi=start)[0]
    return result


def _read_ett(paths, info, validation, seed) -> Splits:
    (path,) = paths.values()
    names, times, values = read_csv_series(read(path), path.name)
    if tuple(names) != _ETT_VARIABLES or len(times) < 20 * _MONTH:
        raise damaged(path, f"{len(times)} rows of {', '.join(names)}")
    columns = {"time": times, "values": values}
    if validation is not None:
        raise UserError("ett's parts are fixed by its published protocol: leave validation unset")
    train = take(columns, slice(0, 12 * _MONTH))
    held = take(columns, slice(12 * _MONTH, 16 * _MONTH))
    return Splits(train, held, take(columns, slice(16 * _MONTH, 20 * _MONTH)), info)


def _read_m4(paths, info, validation, seed) -> Splits:
    def rows(path) -> tuple[list[str], list[np.ndarray]]:
        table = list(csv.reader(io.StringIO(read(path).decode())))[1:]
        try:
            return [row[0] for row in table], [
                np.array([float(cell) for cell in row[1:] if cell not in ("", "NA")])
                for row in table
            ]
        except (ValueError, IndexError) as error:
            raise damaged(path, error) from None

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
