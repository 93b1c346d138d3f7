"""Forecast the values that follow a stretch of a time series, as points or as quantiles."""

import itertools
from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from dl.core.errors import UserError
from dl.core.metrics import mean
from dl.core.task import Task, mean_of_values
from dl.tasks.supervised import absolute, squared, supervised

Scale = Callable[[jax.Array], tuple[jax.Array, jax.Array]]


def instance_scale(past: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mean and standard deviation of every window of ``past [..., time, variables]``, over time,
    ``[..., 1, variables]``; a window that never changes, to the rounding of float32, is only centred."""
    centre = past.mean(-2, keepdims=True)
    spread = jnp.sqrt(jnp.square(past - centre).mean(-2, keepdims=True))
    return centre, jnp.where(spread > 1e-6 * jnp.abs(centre), spread, 1.0)


def forecasting(
    model: nn.Module,
    *,
    inputs: str = "past",
    target: str = "future",
    error: Callable[[jax.Array, jax.Array], jax.Array] = squared,
    quantiles: Sequence[float] = (),
    scale: Scale | None = None,
) -> Task:
    """Predict ``batch[target] [batch, horizon, variables]`` from ``batch[inputs] [batch, time, variables]``.

    Where a series has one variable, both may do without the last axis; so does ``predict`` then.

    Args:
      model: windows to ``[batch, horizon, variables]``; with ``quantiles``, give it
        ``len(quantiles)`` times the horizon.
      error: elementwise ``(prediction, target)`` to descend, for a point forecast.
      quantiles: levels between 0 and 1 in ascending order; then the pinball loss is descended (Koenker & Bassett
        1978) and ``predict`` gives ``[batch, horizon, variables, quantiles]``, sorted so that
        quantiles never cross (Chernozhukov et al. 2010). The point forecast is the middle one.
      scale: ``past -> (centre, spread)``, such as :func:`instance_scale`, to learn in when series
        differ in size: the model sees, and the loss compares, ``(value - centre) / spread``.

    Metrics: ``loss`` (in scaled values if ``scale`` is given); ``mse`` and ``mae`` in the units of the
    batch; with quantiles also ``coverage``, the share of values between the first and the last.

    Raises:
      UserError: the quantiles are out of order or outside (0, 1); or, when it is traced, the model's
        horizon is not the target's.
    """
    check_quantiles(quantiles)
    levels = jnp.array(quantiles, jnp.float32)

    def windows(values):
        values = values.astype(jnp.float32)
        return values if values.ndim == 3 else values[..., None]

    def scales(past):
        return (jnp.float32(0), jnp.float32(1)) if scale is None else scale(past)

    def arguments(past):
        past = windows(past)
        centre, spread = scales(past)
        return ((past - centre) / spread,)

    def split(outputs):
        """The model's long horizon as ``[batch, horizon, variables, quantiles]``."""
        batch, steps, variables = outputs.shape
        if steps % len(levels):
            raise UserError(
                f"the model forecasts {steps} steps, which are not {len(levels)} quantiles of a whole "
                "number of steps: give it len(quantiles) times the horizon"
            )
        outputs = outputs.reshape(batch, steps // len(levels), len(levels), variables)
        return jnp.moveaxis(outputs, 2, -1)

    def unscaled(outputs, past):
        centre, spread = scales(past)
        outputs = outputs.astype(jnp.float32)
        if not quantiles:
            return outputs * spread + centre
        return jnp.sort(split(outputs) * spread[..., None] + centre[..., None], -1)

    def finish(outputs, past):
        forecast = unscaled(outputs, windows(past))
        return forecast if past.ndim == 3 else jnp.squeeze(forecast, 2)

    def score(outputs, batch, train):
        outputs, mask = outputs.astype(jnp.float32), batch.get("mask")
        past, future = windows(batch[inputs]), windows(batch[target])
        centre, spread = scales(past)
        scaled = (future - centre) / spread
        forecast = unscaled(outputs, past)
        steps = forecast.shape[1:3]
        if steps != future.shape[1:]:
            raise UserError(
                f"the model forecasts [horizon, variables] {list(steps)} but the batch's {target!r} has "
                f"{list(future.shape[1:])}: give it as many"
                + (", times the number of quantiles" if quantiles else "")
            )
        if not quantiles:
            loss, point, extra = error(outputs, scaled), forecast, {}
        else:
            loss = pinball(split(outputs), scaled[..., None], levels).mean(-1)
            point = forecast[..., len(levels) // 2]
            inside = (forecast[..., 0] <= future) & (future <= forecast[..., -1])
            extra = {"coverage": mean(inside, mask)}
        return {
            "loss": mean(loss, mask),
            "mse": mean(squared(point, future), mask),
            "mae": mean(absolute(point, future), mask),
            **extra,
        }

    return supervised(
        model, inputs, score, arguments=arguments, finish=finish, average=mean_of_values
    )


def check_quantiles(quantiles: Sequence[float]) -> None:
    """Raises UserError unless these are levels strictly between 0 and 1, each above the one before."""
    for level in quantiles:
        if not 0.0 < level < 1.0:
            raise UserError(
                f"quantile {level:g} is impossible: a level lies between 0 and 1, such as 0.9 for 90 %"
            )
    if any(low >= high for low, high in itertools.pairwise(quantiles)):
        ordered = " ".join(f"{level:g}" for level in sorted(set(quantiles)))
        raise UserError(
            f"quantiles {' '.join(f'{level:g}' for level in quantiles)} are out of order: give {ordered}"
        )


def pinball(prediction: jax.Array, target: jax.Array, level: ArrayLike) -> jax.Array:
    """The loss whose expectation is least at the ``level`` quantile, elementwise and broadcast.

    Twice the usual value, so that the median's is the absolute error.
    """
    short = target - prediction
    return 2.0 * jnp.maximum(level * short, (level - 1.0) * short)


def seasonal_naive(history: ArrayLike, horizon: int, period: int, axis: int = -1) -> np.ndarray:
    """The last ``period`` values of ``history`` over and over: ``[..., time]`` to float64 ``[...,
    horizon]``, or so along another ``axis``. NaN for a step whose phase the history does not reach back
    to, or knows no value of."""
    _check_period(period)
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
    _check_period(period)
    history = np.asarray(history, np.float64)
    if length is not None:
        length = np.asarray(length)
        if length.shape != history.shape[:-1]:
            raise UserError(
                f"lengths {list(length.shape)} do not fit series {list(history.shape)}: give one a series"
            )
        if length.size and not 0 <= length.min() <= length.max() <= history.shape[-1]:
            raise UserError(
                f"lengths from {length.min()} to {length.max()} do not fit series of "
                f"{history.shape[-1]} values"
            )
        places = np.arange(history.shape[-1])
        history = np.where(places < length[..., None], history, np.nan)
    if np.isinf(history).any():
        raise UserError("a series holds infinity: mark what is missing by NaN")
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
            f"naive errors {list(naive.shape)} do not fit forecasts {list(forecast.shape)}: give one a "
            "series"
        )
    if (naive < 0).any() or np.isinf(naive).any():
        raise UserError("a naive error is never negative or infinite: take those of naive_error")
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


def _check_period(period: int) -> None:
    if period < 1:
        raise UserError(f"a period of {period} steps is impossible: give 1 or more")


def _pair(forecast: ArrayLike, future: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Both as float64, an infinite forecast as NaN; raises where their shapes differ."""
    forecast, future = np.asarray(forecast, np.float64), np.asarray(future, np.float64)
    if forecast.shape != future.shape or not forecast.ndim:
        raise UserError(
            f"a forecast {list(forecast.shape)} of values {list(future.shape)}: both need the same shape"
        )
    if np.isinf(future).any():
        raise UserError("the values to forecast hold infinity: mark what is missing by NaN")
    return np.where(np.isfinite(forecast), forecast, np.nan), future


def _mean_where(values: np.ndarray, there: np.ndarray) -> np.ndarray:
    """The mean over the last axis of the values that are ``there``, NaN where there is none."""
    count = there.sum(-1)
    total = np.where(there, values, 0.0).sum(-1)
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
