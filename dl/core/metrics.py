"""Metrics as pytrees that merge by addition, so any split of the data gives the same answer."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Mean(NamedTuple):
    """A weighted mean kept as its two sums: ``total`` (any shape) and ``weight`` (a scalar)."""

    total: jax.Array
    weight: jax.Array


Metrics = dict[str, Mean]


def mean(values: jax.Array, weights: jax.Array | None = None) -> Mean:
    """Mean over the leading axes of ``values [...]``; ``weights`` (same shape, or fewer trailing
    axes) count each entry, 0 for padding. Padding may hold NaN: it is never multiplied in."""
    values = jnp.asarray(values, jnp.float32)
    if weights is None:
        return Mean(values.sum(), jnp.float32(values.size))
    weights = jnp.asarray(weights, jnp.float32)
    weights = weights.reshape(weights.shape + (1,) * (values.ndim - weights.ndim))
    weights = jnp.broadcast_to(weights, values.shape)
    return Mean(jnp.where(weights > 0, values * weights, 0.0).sum(), weights.sum())


def merge(a: Metrics, b: Metrics) -> Metrics:
    """Metrics of two disjoint sets of examples together."""
    return jax.tree.map(jnp.add, a, b)


def compute(metrics: Metrics) -> dict[str, float | np.ndarray]:
    """The means, on the host: a float where the total is a scalar, else an array."""
    values = {}
    for name, (total, weight) in sorted(jax.device_get(metrics).items()):
        value = np.asarray(total, np.float64) / np.maximum(np.asarray(weight, np.float64), 1e-300)
        values[name] = float(value) if value.ndim == 0 else value
    return values
