"""Dense, normalisation and dropout layers, shaped so that every platform computes them fast.

Leading axes are flattened first: the gradient of a product with one row axis is a plain matrix
product, while that of ``[batch, time, features]`` makes XLA for CPU transpose its operands (half the
speed), and its sums over two axes at once are slower still. A reshape costs nothing anywhere.
"""

import math
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from dl.core.errors import bounded
from dl.core.random import mix
from dl.core.target import ROWS, SEQUENCE, cut_along_time, hold, target


def symmetric_uniform(bound: float) -> nn.initializers.Initializer:
    """Uniform in ``[-bound, bound)``; Flax's own ``uniform(scale)`` draws from ``[0, scale)``."""

    def init(key, shape, dtype=jnp.float32, out_sharding=None):
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


def flat(x, *features):
    """``[..., features]`` as rows ``[n, features]``, held to the mesh's. A text that the mesh cuts along time
    stays ``[batch, time, features]``: its pieces are not rows that follow each other.

    Args:
      features: the axis of the mesh that cuts the features, as in :func:`dl.core.target.hold`.
    """
    whole = x.ndim == 3 and cut_along_time(x)
    return held(x if whole else x.reshape(-1, x.shape[-1]), *features)


def held(rows, *features):
    """What was computed of :func:`flat` rows, held like them."""
    return hold(rows, *(ROWS, SEQUENCE)[: rows.ndim - 1], *features)


class Dense(nn.Dense):
    """``flax.linen.Dense`` in every respect, parameters included."""

    @nn.compact
    def __call__(self, inputs):
        rows = held(super().__call__(flat(inputs)))
        return rows.reshape(*inputs.shape[:-1], self.features)


def recomputed(function: Callable) -> Callable:
    """``function``, cheap and a value at a time, computed again in the backward pass instead of kept: memory is
    what accelerators lack. CPUs lack neither, and keep what they have."""
    return function if target().platform == "cpu" else jax.checkpoint(function)


def remat_policy(usual: bool | Callable = False) -> Callable | None:
    """The policy of ``jax.checkpoint`` by which a layer is computed again, or None where it is kept: that of the
    run (``--remat``), else the model's ``usual`` one, of which True keeps nothing."""
    keep_none, keep_products = (
        jax.checkpoint_policies.nothing_saveable,
        jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    )
    asked = target().remat
    if asked is not None:
        return {"none": None, "products": keep_products, "all": keep_none}[asked]
    return keep_none if usual is True else usual or None


class LayerNorm(nn.Module):
    """Zero mean and unit variance over the features, then scale and bias (Ba et al. 2016).

    Any ``[..., features]``; computed in float32.
    """

    use_bias: bool = True
    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x):
        weights = [self.param("scale", nn.initializers.ones, (x.shape[-1],))]
        if self.use_bias:
            weights.append(self.param("bias", nn.initializers.zeros, (x.shape[-1],)))

        def norm(rows, scale, bias=None):
            rows = rows.astype(jnp.float32)
            rows = rows - rows.mean(-1, keepdims=True)
            rows = rows * jax.lax.rsqrt(jnp.square(rows).mean(-1, keepdims=True) + self.epsilon)
            rows = rows * scale
            return (rows if bias is None else rows + bias).astype(x.dtype)

        return held(recomputed(norm)(flat(x, None), *weights), None).reshape(x.shape)


class RMSNorm(nn.Module):
    """Unit root mean square over the features, then scale (Zhang & Sennrich 2019); in float32."""

    epsilon: float = 1e-6

    @nn.compact
    def __call__(self, x):
        def norm(rows, scale):
            rows = rows.astype(jnp.float32)
            rows = rows * jax.lax.rsqrt(jnp.square(rows).mean(-1, keepdims=True) + self.epsilon)
            return (rows * scale).astype(x.dtype)

        scale = self.param("scale", nn.initializers.ones, (x.shape[-1],))
        return held(recomputed(norm)(flat(x, None), scale), None).reshape(x.shape)


def keep_mask(key: jax.Array, shape: tuple[int, ...], rate: float | jax.Array) -> jax.Array:
    """Boolean ``shape``, each entry True with probability ``1 - rate``.

    A hash of (key, place): some ten integer operations an entry, a tenth of what Threefry takes,
    which on CPU would cost more than the layer it follows. Not for anything but noise.
    """
    words = jax.random.bits(key, (2,), jnp.uint32)
    place = jax.lax.iota(jnp.uint32, math.prod(shape)).reshape(shape)
    bits = mix(mix(place + words[0]) ^ words[1])
    return (bits >> 8).astype(jnp.float32) * 2.0**-24 >= rate


class Dropout(nn.Module):
    """Zero each entry with probability ``rate`` and scale up the rest, in training (Srivastava et al.
    2014). The rate may be traced, so that a sweep can vary it; a plain 0 costs nothing."""

    rate: float | jax.Array

    @nn.compact
    def __call__(self, x, *, train: bool):
        if not train or (not isinstance(self.rate, jax.Array) and self.rate == 0):
            return x
        bounded("a dropout rate", self.rate, at_least=0, below=1)
        keep = keep_mask(self.make_rng("dropout"), x.shape, self.rate)
        scale = jnp.asarray(1.0 / jnp.maximum(1.0 - self.rate, 1e-6), x.dtype)
        return jnp.where(keep, x * scale, jnp.zeros((), x.dtype))


Activation = Callable[[jax.Array], jax.Array]
