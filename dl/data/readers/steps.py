"""The step between the rows of a time series, and where on it each row lies, so that gaps can be put in."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np

from dl.core.errors import UserError

_SPARSE = 10  # steps a row: beyond this the rows are events at any time, and no series with gaps
_LOOSE = 0.05  # share of a step by which fractional times may be rounded
_DAY = 86400


class Step(NamedTuple):
    """``size`` calendar months, one weekday, or an even stretch: a timedelta64 or a number."""

    kind: Literal["months", "weekdays", "even"]
    size: Any

    def __str__(self) -> str:
        if self.kind == "weekdays":
            return "weekday"
        size = self.size
        words: tuple[tuple[int, str], ...] = ((12, "year"), (3, "quarter"), (1, "month"))
        if self.kind == "even":
            words = (
                (7 * _DAY, "week"),
                (_DAY, "day"),
                (3600, "hour"),
                (60, "minute"),
                (1, "second"),
            )
            size = self.seconds or size
        if self.kind == "even" and self.seconds is None:
            return "unit" if size == 1 else f"{size:g} units"
        unit, word = next(((n, w) for n, w in words if size % n == 0), (1, "second"))
        return word if size == unit else f"{size / unit:g} {word}s"

    @property
    def seconds(self) -> float | None:
        """Its length in seconds; None where it is a number or has no fixed length."""
        timed = self.kind == "even" and isinstance(self.size, np.timedelta64)
        return float(self.size / np.timedelta64(1, "s")) if timed else None

    @property
    def usual(self) -> tuple[int | None, int | None]:
        """The period and horizon that are usual for it, None where none is; the horizons of a month and more
        are those of the M4 competition (Makridakis et al. 2020), as are a day's, a week's and an hour's."""
        if self.kind == "months":
            return {1: (12, 18), 3: (4, 8), 12: (1, 6)}.get(self.size, (None, None))
        if self.kind == "weekdays":
            return 5, 10
        seconds = self.seconds
        known: dict[float | None, tuple[int, int]] = {
            _DAY: (7, 14),
            7 * _DAY: (52, 13),
            3600: (24, 48),
        }
        if seconds in known:
            return known[seconds]
        if seconds and 60 <= seconds < _DAY and _DAY % seconds == 0:
            return int(_DAY / seconds), int(_DAY / seconds)
        return None, None


def find_step(when: np.ndarray, first: np.ndarray) -> Step:
    """The step of ``when [rows]``, datetime64 or numbers in order in each series; ``first [rows]`` is True where
    a series begins."""
    apart = np.diff(when)[~first[1:]]
    if when.dtype.kind == "M":
        if not len(apart):
            return Step("even", np.timedelta64(1, "D"))
        day = when.astype("datetime64[D]")
        month, one = day.astype("datetime64[M]"), np.timedelta64(1, "D")
        usual = _most(apart)
        if (when - day == (when - day)[0]).all():
            in_month = day - month.astype("datetime64[D]")
            last = (day + one).astype("datetime64[M]") != month
            if usual >= 28 * one and ((in_month == in_month[0]).all() or last.all()):
                months = np.diff(month.astype(np.int64))[~first[1:]]
                return Step("months", int(np.gcd.reduce(months)))
            if usual == one and np.is_busday(day).all() and (apart == 3 * one).any():
                return Step("weekdays", 1)
        if (apart % usual == np.timedelta64(0)).all():
            return Step("even", usual)
        return Step("even", np.array(_common(apart)).astype(apart.dtype)[()])
    if not len(apart):
        return Step("even", 1)
    if when.dtype.kind == "f":
        return Step("even", float(np.median(apart)))
    usual = _most(apart)
    return Step("even", int(usual if (apart % usual == 0).all() else _common(apart)))


def places(
    when: np.ndarray, first: np.ndarray, step: Step, name: str, place: Callable[[int], str]
) -> np.ndarray:
    """How many steps each row comes after the first of its series, int64 ``[rows]``.

    Raises:
      UserError: rows lie between the steps, or so far apart that nearly all of the series would be gaps.
    """
    begin = np.maximum.accumulate(np.where(first, np.arange(len(when)), 0))
    if step.kind == "weekdays":
        day = when.astype("datetime64[D]")
        found = np.busday_count(day[begin], day).astype(np.int64)
    elif step.kind == "months":
        month = when.astype("datetime64[M]").astype(np.int64)
        found = (month - month[begin]) // step.size
    else:
        steps = (when - when[begin]) / step.size
        found = np.rint(steps).astype(np.int64)
        if (off := np.abs(steps - found) > _LOOSE).any():
            row = int(np.flatnonzero(off)[0])
            raise _uneven(name, f"{place(row)}: {when[row]} lies between steps of {step}")
    longest = np.append(found[1:][first[1:]] * 0 + found[:-1][first[1:]], found[-1:])
    if (longest + 1).sum() > _SPARSE * len(when) + 100:
        raise _uneven(
            name, f"in steps of {step} {(longest + 1).sum():,} rows would hold {len(when):,}"
        )
    return found


def _uneven(name: str, what: str) -> UserError:
    return UserError(
        "times-uneven",
        f"{name}, {what}: bring the rows to even steps first, as by pandas' resample('1h').mean()",
    )


def _most(apart: np.ndarray):
    kinds, counts = np.unique(apart, return_counts=True)
    return kinds[counts.argmax()]


def _common(apart: np.ndarray) -> int:
    return int(np.gcd.reduce(apart.astype(np.int64)))


def repeating(values: np.ndarray) -> int:
    """The lag at which the changes of ``values [time]`` agree best with themselves (autocorrelation above 0.3);
    1 where there is none. NaN counts for nothing."""
    change = np.diff(values)
    change = np.where(np.isnan(change), 0.0, change - np.nanmean(change)) if len(change) else change
    lags = min(len(change) // 3, 2000)
    if lags < 4 or not change.any():
        return 1
    spectrum = np.abs(np.fft.rfft(change, 2 * len(change))) ** 2
    agreed = np.fft.irfft(spectrum)[: lags + 1]
    agreed = agreed / agreed[0] * len(change) / (len(change) - np.arange(lags + 1))
    below = int(np.argmax(agreed < 0)) or lags  # a slow wave agrees with itself at small lags too
    peaks = [
        lag
        for lag in range(below + 1, lags)
        if agreed[lag] > max(0.3, agreed[lag - 1], agreed[lag + 1])
    ]
    best = max((agreed[lag] for lag in peaks), default=0.0)
    return next((lag for lag in peaks if agreed[lag] > 0.9 * best), 1)
