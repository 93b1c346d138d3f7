"""Forecast the values that follow a stretch of a time series, as points or as quantiles."""

import itertools
from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from dl.core.errors import UserError
from dl.core.metrics import mean
from dl.core.task import Task
from dl.core.transforms import mean_of_values
from dl.former import found
from dl.tasks.supervised import absolute, squared, supervised

__getattr__ = found(__name__)  # what was here in earlier releases

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
    gaps: bool = False,
    known: str | None = None,
) -> Task:
    """Predict ``batch[target] [batch, horizon, variables]`` from ``batch[inputs] [batch, time, variables]``.

    Where a series has one variable, both may do without the last axis; so do predictions then.

    Args:
      model: windows to ``[batch, horizon, variables]``; with ``quantiles``, give it
        ``len(quantiles)`` times the horizon.
      error: elementwise ``(prediction, target)`` to descend, for a point forecast.
      quantiles: levels between 0 and 1 in ascending order; then the pinball loss is descended (Koenker & Bassett
        1978) and ``predict`` gives ``[batch, horizon, variables, quantiles]``, sorted so that
        quantiles never cross (Chernozhukov et al. 2010). The point forecast is the middle one.
      scale: ``past -> (centre, spread)``, such as :func:`instance_scale`, to learn in when series
        differ in size: the model sees, and the loss compares, ``(value - centre) / spread``.
      gaps: NaN in the target is a gap, which loss and scores leave out.
      known: column ``[batch, horizon, columns]`` of what is known ahead, the model's second argument, as
        :class:`dl.models.forecasters.WithKnown` takes it.

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

    def arguments(x):
        past = windows(x if known is None else x[inputs])
        centre, spread = scales(past)
        scaled = (past - centre) / spread
        return (scaled,) if known is None else (scaled, x[known])

    def split(outputs):
        """The model's long horizon as ``[batch, horizon, variables, quantiles]``."""
        batch, steps, variables = outputs.shape
        if steps % len(levels):
            raise UserError(
                "output-shape",
                f"the model forecasts {steps} steps, which are not {len(levels)} quantiles of a whole "
                "number of steps: give it len(quantiles) times the horizon",
            )
        outputs = outputs.reshape(batch, steps // len(levels), len(levels), variables)
        return jnp.moveaxis(outputs, 2, -1)

    def unscaled(outputs, past):
        centre, spread = scales(past)
        outputs = outputs.astype(jnp.float32)
        if not quantiles:
            return outputs * spread + centre
        return jnp.sort(split(outputs) * spread[..., None] + centre[..., None], -1)

    def finish(outputs, x):
        past = x if known is None else x[inputs]
        forecast = unscaled(outputs, windows(past))
        return forecast if past.ndim == 3 else jnp.squeeze(forecast, 2)

    def score(outputs, batch, train):
        outputs, mask = outputs.astype(jnp.float32), batch.get("mask")
        past, future = windows(batch[inputs]), windows(batch[target])
        if gaps:  # the value goes, since NaN times a gradient of 0 would be NaN
            there = jnp.isfinite(future).astype(jnp.float32)
            mask = there if mask is None else there * mask[:, None, None]
            future = jnp.where(there > 0, future, 0.0)
        centre, spread = scales(past)
        scaled = (future - centre) / spread
        forecast = unscaled(outputs, past)
        steps = forecast.shape[1:3]
        if steps != future.shape[1:]:
            raise UserError(
                "output-shape",
                f"the model forecasts [horizon, variables] {list(steps)} but the batch's {target!r} has "
                f"{list(future.shape[1:])}: give it as many"
                + (", times the number of quantiles" if quantiles else ""),
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

    columns = inputs if known is None else (inputs, known)
    return supervised(
        model, columns, score, arguments=arguments, finish=finish, average=mean_of_values
    )


def check_quantiles(quantiles: Sequence[float]) -> None:
    """Raises UserError unless these are levels strictly between 0 and 1, each above the one before."""
    for level in quantiles:
        if not 0.0 < level < 1.0:
            raise UserError(
                "range",
                f"quantile {level:g} is impossible: a level lies between 0 and 1, such as 0.9 for 90 %",
            )
    if any(low >= high for low, high in itertools.pairwise(quantiles)):
        ordered = " ".join(f"{level:g}" for level in sorted(set(quantiles)))
        raise UserError(
            "quantiles-unordered",
            f"quantiles {' '.join(f'{level:g}' for level in quantiles)} are out of order: give {ordered}",
        )


def pinball(prediction: jax.Array, target: jax.Array, level: ArrayLike) -> jax.Array:
    """The loss whose expectation is least at the ``level`` quantile, elementwise and broadcast.

    Twice the usual value, so that the median's is the absolute error.
    """
    short = target - prediction
    return 2.0 * jnp.maximum(level * short, (level - 1.0) * short)
