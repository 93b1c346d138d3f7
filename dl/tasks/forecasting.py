"""Forecast the values that follow a stretch of a time series, as points or as quantiles."""

from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from dl.core.metrics import mean
from dl.core.task import Task
from dl.tasks.supervised import absolute, squared, supervised

Scale = Callable[[jax.Array], tuple[jax.Array, jax.Array]]


def instance_scale(past: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mean and standard deviation of every window of ``past [..., time, variables]``, over time,
    ``[..., 1, variables]``; a window that never changes is only centred."""
    centre = past.mean(-2, keepdims=True)
    spread = jnp.sqrt(jnp.square(past - centre).mean(-2, keepdims=True))
    return centre, jnp.where(spread > 1e-6 * jnp.maximum(jnp.abs(centre), 1.0), spread, 1.0)


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
      quantiles: levels in ascending order; then the pinball loss is descended (Koenker & Bassett
        1978) and ``predict`` gives ``[batch, horizon, variables, quantiles]``, sorted so that
        quantiles never cross (Chernozhukov et al. 2010). The point forecast is the middle one.
      scale: ``past -> (centre, spread)``, such as :func:`instance_scale`, to learn in when series
        differ in size: the model sees, and the loss compares, ``(value - centre) / spread``.

    Metrics: ``loss`` (in scaled values if ``scale`` is given); ``mse`` and ``mae`` in the units of the
    batch; with quantiles also ``coverage``, the share of values between the first and the last.
    """
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

    return supervised(model, inputs, score, arguments=arguments, finish=finish)


def pinball(prediction: jax.Array, target: jax.Array, level: ArrayLike) -> jax.Array:
    """The loss whose expectation is least at the ``level`` quantile, elementwise and broadcast.

    Twice the usual value, so that the median's is the absolute error.
    """
    short = target - prediction
    return 2.0 * jnp.maximum(level * short, (level - 1.0) * short)


def seasonal_naive(history: ArrayLike, horizon: int, period: int, axis: int = -1) -> jax.Array:
    """The last ``period`` values of ``history`` over and over: ``[..., time]`` to ``[..., horizon]``, or
    so along another ``axis``."""
    places = jnp.arange(horizon) % period - period
    return jnp.take(jnp.asarray(history), places, axis=axis)


def smape(forecast: ArrayLike, future: ArrayLike) -> jax.Array:
    """Symmetric mean absolute percentage error, in percent, of each series: ``[..., horizon]`` to
    ``[...]``, ``mean 200 |y - f| / (|y| + |f|)`` as the M4 competition counts it (Makridakis et al.
    2020). The competition's figure is the mean over series. 0 where both are 0."""
    forecast, future = jnp.asarray(forecast), jnp.asarray(future)
    size = jnp.abs(future) + jnp.abs(forecast)
    return (200.0 * jnp.abs(future - forecast) / jnp.where(size > 0, size, 1.0)).mean(-1)


def naive_error(history: ArrayLike, period: int, length: ArrayLike | None = None) -> jax.Array:
    """In-sample mean absolute error of the seasonal naive forecast, ``[..., time]`` to ``[...]``.

    ``length [...]``: how many values of each series are real; what follows may hold anything.
    """
    history = jnp.asarray(history)
    errors = jnp.abs(history[..., period:] - history[..., :-period])
    if length is None:
        return errors.mean(-1)
    length = jnp.asarray(length)
    real = jnp.arange(errors.shape[-1]) < length[..., None] - period
    return jnp.where(real, errors, 0.0).sum(-1) / (length - period)


def mase(forecast: ArrayLike, future: ArrayLike, naive: ArrayLike) -> jax.Array:
    """Mean absolute scaled error of each series (Hyndman & Koehler 2006), ``[..., horizon]`` to
    ``[...]``; ``naive [...]`` is :func:`naive_error` of the series before (period 24 for M4 hourly)."""
    return jnp.abs(jnp.asarray(future) - forecast).mean(-1) / naive


def point_scores(
    forecast: np.ndarray, future: np.ndarray, naive: ArrayLike | None = None
) -> dict[str, float]:
    """``mse`` and ``mae`` of forecasts ``[windows, horizon, variables]``, every value alike; or, where
    ``naive [series]`` is given as for :func:`mase`, the ``smape`` and ``mase`` of forecasts ``[series,
    horizon]``, every series alike."""
    if naive is not None:
        each = {"smape": smape(forecast, future), "mase": mase(forecast, future, naive)}
        return {name: float(values.mean()) for name, values in each.items()}
    gap = (forecast - future).astype(np.float64)
    return {"mse": float(np.mean(gap**2)), "mae": float(np.abs(gap).mean())}
