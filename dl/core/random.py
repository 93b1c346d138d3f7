"""Randomness as a function of (seed, purpose, step, example): no generator is ever carried or split.

Two consumers that fold in different purposes never share bits, a resumed run needs no generator
state, and an example's key does not depend on how the batch is cut across devices.
"""

import zlib
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def purpose_key(key: jax.Array, purpose: str, step: jax.Array | int | None = None) -> jax.Array:
    """The key for one ``purpose`` ("init", "dropout", "shuffle", ...), at one ``step`` if given."""
    key = jax.random.fold_in(key, zlib.crc32(purpose.encode()))
    return key if step is None else jax.random.fold_in(key, step)


def example_keys(key: jax.Array, count: int) -> jax.Array:
    """One key per example of a batch, ``[count]``."""
    return jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(count))


def content_keys(key: jax.Array, rows: jax.Array) -> jax.Array:
    """One key per row of ``rows [batch, ...]``, from what the row holds: ``[batch]``.

    For noise in evaluation, where there is no step: a row gets the same whichever batch it is in.
    """
    flat = rows.reshape(len(rows), -1)
    if jnp.issubdtype(flat.dtype, jnp.floating):
        flat = jax.lax.bitcast_convert_type(flat.astype(jnp.float32), jnp.uint32)
    place = mix(jnp.arange(flat.shape[1], dtype=jnp.uint32))
    hashed = jnp.sum(mix(flat.astype(jnp.uint32) ^ place), axis=1, dtype=jnp.uint32)
    return jax.vmap(jax.random.fold_in, (None, 0))(key, hashed)


def permute(index: Any, size: int, seed: Any, epoch: Any, xp: ModuleType = jnp) -> Any:
    """The place of ``index`` in the ``epoch``-th pseudo-random permutation of ``range(size)``.

    A keyed bijection computed per element, so a batch of a shuffled epoch costs O(batch), holds no
    permutation in memory and needs no state: a balanced Feistel network on the smallest even number
    of bits that covers ``size``, cycle-walked until the value falls inside (Black & Rogaway 2002,
    "Ciphers with arbitrary finite domains"). The same bits come from NumPy on the host
    (``xp=numpy``) and from a traced program.

    Args:
      index: integer array ``[...]`` with values in ``[0, size)``.
      size: number of elements, at most 2**32.
      seed: a uint32 scalar, epoch: an integer scalar or an array like ``index``.

    Returns:
      uint32 array shaped like ``index``, a permutation of the inputs' range for each epoch.
    """
    return (_permute if xp is np else _permute_traced)(index, size, seed, epoch, xp)


def half_bits(size: int) -> int:
    """Half of the bits of the numbers that the permutations of ``range(size)`` go through."""
    return max(1, ((size - 1).bit_length() + 1) // 2)


def permute_each(index: Any, size: Any, half: Any, seed: Any, epoch: Any) -> Any:
    """:func:`permute` where ``size``, ``half`` (:func:`half_bits` of it) and ``seed`` are arrays like ``index``,
    uint32: each is permuted in a range of its own."""
    return _cycled(index, half, (jnp.uint32(1) << half) - 1, size - 1, seed, epoch, jnp)


def _permute(index: Any, size: int, seed: Any, epoch: Any, xp: ModuleType) -> Any:
    half = half_bits(size)
    # Compared with > so that size == 2**32 needs no 33rd bit.
    return _cycled(
        index, np.uint32(half), xp.uint32((1 << half) - 1), xp.uint32(size - 1), seed, epoch, xp
    )


def _cycled(
    index: Any, half: Any, mask: Any, limit: Any, seed: Any, epoch: Any, xp: ModuleType
) -> Any:
    # Mixed before the rounds are counted on: else seeds s and s + 1 would share all round keys but one,
    # and the one's shuffle would be a function of the other's.
    start = mix(seed, xp)
    with np.errstate(over="ignore"):
        rounds = [
            mix(xp.asarray(epoch, xp.uint32) ^ mix(start + np.uint32(r), xp), xp)
            for r in range(_ROUNDS)
        ]

    def cipher(value: Any) -> Any:
        left, right = value >> half, value & mask
        for key in rounds:
            left, right = right, left ^ (mix(right ^ key, xp) & mask)
        return (left << half) | right

    value = cipher(xp.asarray(index, xp.uint32))
    if xp is np:
        while (value > limit).any():
            value = np.where(value > limit, cipher(value), value)
        return value
    return jax.lax.while_loop(
        lambda v: (v > limit).any(), lambda v: jnp.where(v > limit, cipher(v), v), value
    )


# Every program that holds the cipher holds it as one call, so that Python writes it out once.
_permute_traced = jax.jit(_permute, static_argnames=("size", "xp"))

_ROUNDS = 6


def mix(value: Any, xp: ModuleType = jnp) -> Any:
    """A 32-bit finaliser with good avalanche (lowbias32, Wellons 2018); uint32 in, uint32 out."""
    with np.errstate(over="ignore"):
        value = xp.asarray(value, xp.uint32)
        value = (value ^ (value >> np.uint32(16))) * np.uint32(0x7FEB352D)
        value = (value ^ (value >> np.uint32(15))) * np.uint32(0x846CA68B)
        return value ^ (value >> np.uint32(16))
