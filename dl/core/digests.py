"""Digests of arrays where they lie: the same on any number of devices and processes, whoever computes them.

Each element's bits, as a 32-bit word (two of 64 bits), are mixed with its place in the whole array by a bijection
(MurmurHash3's finaliser, Appleby 2011) and summed modulo 2^32, in four lanes of other constants. Such sums do
not depend on their order, so every device sums its own part, and 16 bytes a leaf reach the host.

One changed word is always seen, since each lane is a bijection of it. Other accidents go unseen by chance alone,
once in 2^128 if the mixing were random. It is no cryptographic digest: who wants to can make two arrays of one
digest. In arrays of more than 2^32 words, two that lie 2^32 apart may change places unseen.
"""

import contextvars
import functools
import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

KINDS = SHA, LANES = "sha256", "lanes"  # of runs before there were lanes, and of those since
KIND = contextvars.ContextVar("kind", default=LANES)  # of runs that begin here
THREADS_PAY = 2**21  # bytes to digest from which starting threads is worth its time
CHUNK = 2**14  # words that the host mixes at once, in its cache
# Of each lane: what places are multiplied by, and the mixing's two factors; all odd.
FACTORS = np.array(
    [
        (0x9E3779B1, 0x85EBCA6B, 0xC2B2AE35),
        (0xB5297A4D, 0x7FEB352D, 0x846CA68B),
        (0x68E31DA5, 0xD168AAAD, 0xAF723597),
        (0x1B56C4E9, 0x5BD1E995, 0x21F0AAAD),
    ],
    np.uint32,
)


Value = TypeVar("Value")


def lane_digests(flat: dict[str, Any]) -> tuple[dict[str, str], dict[str, bool]]:
    """The digest of each array by name, and whether it is finite.

    Host arrays are digested here, on several threads where they are large; others by their devices, all of whose
    processes must ask for the same at the same time.
    """
    far = {
        n: _program(getattr(x.sharding, "mesh", None))(x) for n, x in flat.items() if not _near(x)
    }
    found = of_each(words_on_host, {n: np.asarray(x) for n, x in flat.items() if n not in far})
    found |= {n: np.asarray(x) for n, x in far.items()}
    digests = {n: _told(x, found[n]) for n, x in flat.items()}
    return digests, {n: bool(found[n][-1]) for n in flat}


def of_each(
    function: Callable[[np.ndarray], Value], arrays: dict[str, np.ndarray]
) -> dict[str, Value]:
    """``function`` of each of the host's arrays, on several threads where they are large."""
    if sum(x.nbytes for x in arrays.values()) < THREADS_PAY:
        return {name: function(x) for name, x in arrays.items()}
    with ThreadPoolExecutor(8) as pool:
        return dict(zip(arrays, pool.map(function, arrays.values()), strict=True))


def all_finite(array: Any) -> bool:
    """Whether no element of an array is infinite or NaN; of one that lies elsewhere its devices say so."""
    if _near(array):
        return _finite(np.asarray(array))
    return bool(_finite_program(getattr(array.sharding, "mesh", None))(array))


def kind_of(digest: str) -> str:
    return LANES if digest.startswith(LANES) else SHA


def _told(array: Any, words: np.ndarray) -> str:
    kind = hashlib.sha256(f"{array.dtype}{tuple(array.shape)}".encode()).digest()
    sums = words[:-1] + np.frombuffer(kind, "<u4", len(FACTORS))
    return f"{LANES}:{sums.astype('<u4').tobytes().hex()}"


def _near(array: Any) -> bool:
    """Whether the host has all of it at hand."""
    if not isinstance(array, jax.Array):
        return True
    devices: Any = array.sharding.device_set
    return next(iter(devices)).platform == "cpu" and array.is_fully_addressable


@functools.cache
def _program(mesh: Any) -> Any:
    """:func:`words_on_devices`, compiled once for arrays of a shape that lie alike."""
    return jax.jit(words_on_devices, out_shardings=mesh and NamedSharding(mesh, P()))


@functools.cache
def _finite_program(mesh: Any) -> Any:
    return jax.jit(lambda x: jnp.isfinite(x).all(), out_shardings=mesh and NamedSharding(mesh, P()))


def words_on_devices(x: jax.Array) -> jax.Array:
    """``uint32 [5]``: the sum of each lane, and whether ``x`` is finite."""
    finite = jnp.isfinite(x).all() if jnp.issubdtype(x.dtype, jnp.inexact) else True
    if jnp.iscomplexobj(x):
        x = jnp.stack([x.real, x.imag], -1)
    limits = jnp.iinfo if jnp.issubdtype(x.dtype, jnp.integer) else jnp.finfo
    # Of int4 four, which the host keeps in a byte.
    size = 8 if x.dtype == bool else limits(x.dtype).bits
    kind = jnp.dtype(f"uint{min(size, 32)}")
    words = x if x.dtype == bool else jax.lax.bitcast_convert_type(x, kind)
    words = words.astype(jnp.uint32)
    place, stride = jnp.ones(words.shape, jnp.uint32), 1
    for axis in reversed(range(words.ndim)):
        along = jax.lax.broadcasted_iota(jnp.uint32, words.shape, axis)
        place = place + along * np.uint32(stride % 2**32)
        stride *= words.shape[axis]

    def lane(factor: np.ndarray) -> jax.Array:
        mixed = words ^ place * factor[0]
        mixed = (mixed ^ mixed >> 16) * factor[1]
        mixed = (mixed ^ mixed >> 15) * factor[2]
        return (mixed ^ mixed >> 16).sum(dtype=jnp.uint32)

    return jnp.stack([*map(lane, FACTORS), jnp.uint32(finite)])


def words_on_host(array: np.ndarray) -> np.ndarray:
    """:func:`words_on_devices` of an array in memory, to the same bits."""
    flat = np.ascontiguousarray(array).reshape(-1)
    words = flat.view(f"uint{min(8 * flat.itemsize, 32)}" if flat.dtype.kind != "c" else np.uint32)
    sums = np.zeros(len(FACTORS), np.uint64)
    mixed, moved = np.empty((2, min(CHUNK, len(words))), np.uint32)
    places = np.arange(1, len(mixed) + 1, dtype=np.uint32)
    offsets = places * FACTORS[:, :1]
    for start in range(0, len(words), CHUNK):
        piece = words[start : start + CHUNK].astype(np.uint32, copy=False)
        m, v = mixed[: len(piece)], moved[: len(piece)]
        for lane, (step, first, second) in enumerate(FACTORS):
            np.add(offsets[lane, : len(piece)], np.uint32(start * int(step) % 2**32), out=m)
            m ^= piece
            for shift, factor in ((16, first), (15, second), (16, None)):
                np.right_shift(m, shift, out=v)
                m ^= v
                if factor is not None:
                    m *= factor
            sums[lane] += m.sum(dtype=np.uint32)
    return np.append(sums % 2**32, _finite(flat)).astype(np.uint32)


def _finite(array: np.ndarray) -> bool:
    """Piece by piece, so that no copy of bfloat16 and its kin, which NumPy knows as bytes alone, is large."""
    if array.dtype.kind not in "fVc":
        return True
    flat = np.ascontiguousarray(array).reshape(-1)
    pieces = (flat[at : at + CHUNK] for at in range(0, len(flat), CHUNK))
    return all(
        np.isfinite(x.astype(np.float32) if x.dtype.kind == "V" else x).all() for x in pieces
    )
