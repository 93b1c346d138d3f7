"""Metrics as pytrees that merge by addition, so any split of the data gives the same answer.

A mean of nothing (a class that is nowhere, a picture that is void everywhere, padding alone) is NaN once
computed. It weighs 0 until then, so a mean over several such things leaves it out by itself.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dl.core.errors import UserError


class Mean(NamedTuple):
    """A weighted mean kept as its two sums: ``total`` (any shape) and ``weight`` (a scalar)."""

    total: jax.Array
    weight: jax.Array


class MeanOfMeans(Mean):
    """Means of several things, each over all examples, that count alike in the end.

    ``total`` and ``weight [things]``; once computed it is one number, the mean of those whose weight is not 0.
    """

    __slots__ = ()


Metrics = dict[str, Mean]


def mean(values: jax.Array, weights: jax.Array | None = None) -> Mean:
    """Mean over all entries of ``values [...]``; ``weights`` (same shape, or without trailing axes, or 1 in
    those) count each entry, 0 for padding and for what cannot be scored. An entry of weight 0 may hold
    NaN: it is never multiplied in, and its gradient is 0.

    Raises:
      UserError: ``weights`` are not shaped as the leading axes of ``values``.
    """
    values = jnp.asarray(values, jnp.float32)
    if weights is None:
        return Mean(values.sum(), jnp.float32(values.size))
    weights = jnp.asarray(weights, jnp.float32)
    axes = zip(weights.shape, values.shape, strict=False)
    if weights.ndim > values.ndim or any(
        mine != theirs and not (mine == 1 and axis) for axis, (mine, theirs) in enumerate(axes)
    ):
        raise UserError(
            "mean-weights",
            f"a mean of values {list(values.shape)} has weights {list(weights.shape)}: give one weight an "
            "entry, or one for each row of the leading axes",
        )
    weights = weights.reshape(weights.shape + (1,) * (values.ndim - weights.ndim))
    weights = jnp.broadcast_to(weights, values.shape)
    counted = weights != 0
    # The entry goes before the product does: NaN times 0 would be NaN in the gradient, too.
    values = jnp.where(counted, values, 0.0)
    return Mean(jnp.where(counted, values * weights, 0.0).sum(), weights.sum())


def merge(a: Metrics, b: Metrics) -> Metrics:
    """Metrics of two disjoint sets of examples together."""
    return jax.tree.map(jnp.add, a, b)


def compute(metrics: Metrics) -> dict[str, float | np.ndarray]:
    """The means, on the host: a float where the total is a scalar, else an array; NaN where nothing was
    counted."""
    values = {}
    for name, found in sorted(jax.device_get(metrics).items()):
        total, weight = (np.asarray(part, np.float64) for part in found)
        with np.errstate(divide="ignore", invalid="ignore"):
            value = np.where(weight == 0, np.nan, total / weight)
        if isinstance(found, MeanOfMeans):
            there = value[weight != 0]
            value = np.asarray(there.mean() if there.size else np.nan)
        values[name] = float(value) if value.ndim == 0 else value
    return values


def best_class(scores: jax.Array) -> jax.Array:
    """The class of the highest of ``scores [..., classes]``, the first of equals: int32 ``[...]``.

    Where a score is NaN it is ``classes``, which is no class: a guess that was never made hits nothing.
    """
    scores = jax.lax.stop_gradient(scores)
    place = jnp.arange(scores.shape[-1], dtype=jnp.int32)
    # The least of the places of the highest: on CPU XLA takes a third of an argmax's time for it.
    best = jnp.where(scores == scores.max(-1, keepdims=True), place, scores.shape[-1])
    return best.min(-1)


def hits(scores: jax.Array, label: jax.Array) -> jax.Array:
    """Whether ``label [...]`` int is the :func:`best_class` of ``scores [..., classes]``: bool ``[...]``.

    Never where a score is NaN or the label is negative.
    """
    scores, label = jax.lax.stop_gradient(scores), label.astype(jnp.int32)[..., None]
    top = scores.max(-1)
    own = jnp.take_along_axis(scores, label, axis=-1)[..., 0]
    # A maximum over the classes before the label: half the time of finding the best class itself.
    before = jnp.where(jnp.arange(scores.shape[-1]) < label, scores, -jnp.inf).max(-1)
    return is_best(own, top, before, label[..., 0])


def is_best(own: jax.Array, top: jax.Array, before: jax.Array, label: jax.Array) -> jax.Array:
    """Whether a label's ``own`` score makes it the :func:`best_class`: of the ``top`` score of all classes, and
    that ``before`` the label."""
    return (own >= top) & (before < top) & (label >= 0)
