"""What forecasts are worth, on the host in float64: NaN marks a missing value."""

import numpy as np
from jax.typing import ArrayLike

from dl.core.errors import UserError, bounded


def seasonal_naive(history: ArrayLike, horizon: int, period: int, axis: int = -1) -> np.ndarray:
    """The last ``period`` values of ``history`` over and over: ``[..., time]`` to float64 ``[...,
    horizon]``, or so along another ``axis``. NaN for a step whose phase the history does not reach back
    to, or knows no value of."""
    bounded("period", period, at_least=1, whole=True)
    history = np.moveaxis(np.asarray(history, np.float64), axis, -1)
    lacking = max(period - history.shape[-1], 0)
    front = np.full((*history.shape[:-1], lacking), np.nan)
    last = np.concatenate([front, history], axis=-1)[..., -period:]
    return np.moveaxis(last[..., np.arange(horizon) % period], -1, axis)


def smape(forecast: ArrayLike, future: ArrayLike) -> np.ndarray:
    """Symmetric mean absolute percentage error, in percent, of each series: ``[..., horizon]`` to
    float64 ``[...]``, ``mean 200 |y - f| / (|y| + |f|)`` as the M4 competition counts it (Makridakis et
    al. 2020). The competition's figure is the mean over series. 0 where both are 0.

    Missing values (NaN) of ``future`` are left out, as in all scores of this file; a series of nothing
    else has no score, NaN. A missing or infinite forecast of a value that is there makes its series' NaN.
    """
    forecast, future = _pair(forecast, future)
    gap, size = np.abs(future - forecast), np.abs(future) + np.abs(forecast)
    share = np.divide(gap, size, out=np.zeros_like(gap), where=size != 0)
    return _mean_where(200.0 * share, ~np.isnan(future))


def naive_error(history: ArrayLike, period: int, length: ArrayLike | None = None) -> np.ndarray:
    """In-sample mean absolute error of the seasonal naive forecast, ``[..., time]`` to float64 ``[...]``,
    over the pairs of values ``period`` apart that are both there (not NaN); NaN where there is none.

    ``length [...]``: how many values of each series are real; what follows may hold anything.
    """
    bounded("period", period, at_least=1, whole=True)
    history = np.asarray(history, np.float64)
    if length is not None:
        length = np.asarray(length)
        if length.shape != history.shape[:-1]:
            raise UserError(
                "shapes-differ",
                f"lengths {list(length.shape)} do not fit series {list(history.shape)}: give one a series",
            )
        if length.size and not 0 <= length.min() <= length.max() <= history.shape[-1]:
            raise UserError(
                "length-beyond-series",
                f"lengths from {length.min()} to {length.max()} do not fit series of "
                f"{history.shape[-1]} values",
            )
        places = np.arange(history.shape[-1])
        history = np.where(places < length[..., None], history, np.nan)
    if np.isinf(history).any():
        raise UserError("infinity", "a series holds infinity: mark what is missing by NaN")
    errors = np.abs(history[..., period:] - history[..., :-period])
    return _mean_where(errors, ~np.isnan(errors))


def mase(forecast: ArrayLike, future: ArrayLike, naive: ArrayLike) -> np.ndarray:
    """Mean absolute scaled error of each series (Hyndman & Koehler 2006), ``[..., horizon]`` to float64
    ``[...]``; ``naive [...]`` is :func:`naive_error` of the series before (period 24 for M4 hourly).

    NaN where the naive error is 0 or NaN: a constant series, or one no longer than the period, has no
    scale. Missing values as in :func:`smape`.
    """
    forecast, future = _pair(forecast, future)
    naive = np.asarray(naive, np.float64)
    if naive.shape != forecast.shape[:-1]:
        raise UserError(
            "shapes-differ",
            f"naive errors {list(naive.shape)} do not fit forecasts {list(forecast.shape)}: give one a "
            "series",
        )
    if (naive < 0).any() or np.isinf(naive).any():
        raise UserError(
            "naive-error-impossible",
            "a naive error is never negative or infinite: take those of naive_error",
        )
    error = _mean_where(np.abs(future - forecast), ~np.isnan(future))
    scaled = np.full(error.shape, np.nan)
    with np.errstate(over="ignore"):
        np.divide(error, naive, out=scaled, where=naive > 0)
    return np.where(np.isfinite(scaled), scaled, np.nan)


def point_scores(
    forecast: ArrayLike, future: ArrayLike, naive: ArrayLike | None = None
) -> dict[str, float]:
    """``mse`` and ``mae`` of forecasts ``[windows, horizon, variables]``, every value alike; or, where
    ``naive [series]`` is given as for :func:`mase`, the ``smape`` and ``mase`` of forecasts ``[series,
    horizon]``, every series alike.

    What has no score is left out of the mean: a missing value or series, or for ``mase`` a series
    without a scale; the mean of nothing is NaN. A forecast that fails to be a number where there is
    one to forecast is no such case, and makes the mean NaN.
    """
    forecast, future = _pair(forecast, future)
    there = ~np.isnan(future)
    if naive is not None:
        scored, scaled = there.any(-1), np.asarray(naive, np.float64) > 0
        errors = mase(forecast, future, naive)
        return {
            "smape": float(_mean_where(smape(forecast, future).reshape(-1), scored.reshape(-1))),
            "mase": float(_mean_where(errors.reshape(-1), (scored & scaled).reshape(-1))),
        }
    gap, there = (forecast - future).reshape(-1), there.reshape(-1)
    return {
        "mse": float(_mean_where(np.square(gap), there)),
        "mae": float(_mean_where(np.abs(gap), there)),
    }


def _pair(forecast: ArrayLike, future: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Both as float64, an infinite forecast as NaN; raises where their shapes differ."""
    forecast, future = np.asarray(forecast, np.float64), np.asarray(future, np.float64)
    if forecast.shape != future.shape or not forecast.ndim:
        raise UserError(
            "shapes-differ",
            f"a forecast {list(forecast.shape)} of values {list(future.shape)}: both need the same shape",
        )
    if np.isinf(future).any():
        raise UserError(
            "infinity", "the values to forecast hold infinity: mark what is missing by NaN"
        )
    return np.where(np.isfinite(forecast), forecast, np.nan), future


def _mean_where(values: np.ndarray, there: np.ndarray) -> np.ndarray:
    """The mean over the last axis of the values that are ``there``, NaN where there is none."""
    count = there.sum(-1)
    total = np.where(there, values, 0.0).sum(-1)
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
