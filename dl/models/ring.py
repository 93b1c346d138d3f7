"""Attention over a sequence that lies in pieces on a mesh's devices (Liu et al. 2023, "Ring attention").

Each device keeps the queries of its own piece of time. Keys and values go round the ring, one piece a turn,
while the softmax is summed up as in flash attention (Dao et al. 2022), so no device ever holds the
scores of more than one piece against one, nor the keys of the whole. A turn's transfer and its products
do not wait for each other. Where ``causal`` hides half of the pieces, their turns are computed all the same.
"""

import functools
import math

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P

from dl.core.target import ROWS, SEQUENCE, target

HIDDEN = -1e30  # finite, so that a row that sees nothing has no NaN
BLOCK = 512  # keys whose scores are in memory at once


def ring_attention(q, k, v, *, mask=None, causal=False, scale=None):
    """:func:`dl.models.attention.attention` on a mesh whose axis ``sequence`` cuts time.

    Args:
      q, k, v: ``[batch, time, heads or kv_heads, dim]``, of as many places.
      mask: boolean ``[batch or 1, 1, 1, time]``, of keys.
    """
    mesh = target().mesh
    assert mesh is not None
    scale = 1.0 / math.sqrt(q.shape[-1]) if scale is None else scale
    batch, time = q.shape[:2]
    seen = jnp.ones((batch, time), bool) if mask is None else mask[:, 0, 0]
    seen = jnp.broadcast_to(seen, (batch, time))
    heads = "tensor" if k.shape[2] % mesh.shape["tensor"] == 0 else None
    lies = P(ROWS, SEQUENCE, heads)
    own = functools.partial(_own, causal, scale, mesh.shape[SEQUENCE])
    mapped = jax.shard_map(
        own, mesh=mesh, in_specs=(lies,) * 3 + (P(ROWS, SEQUENCE),), out_specs=lies, check_vma=False
    )
    return mapped(q, k, v, seen)


def _grouped(q, groups: int):
    """``[batch, time, heads, dim]`` as ``[batch, groups, heads of one, time, dim]``."""
    batch, time, heads, dim = q.shape
    return q.reshape(batch, time, groups, heads // groups, dim).transpose(0, 2, 3, 1, 4)


def _ungrouped(x):
    batch, groups, each, time, dim = x.shape
    return x.transpose(0, 3, 1, 2, 4).reshape(batch, time, groups * each, dim)


def _blocks(*arrays):
    """Arrays ``[batch, time, ...]`` as ``[blocks, batch, keys, ...]``."""
    time = arrays[0].shape[1]
    each = BLOCK if time % BLOCK == 0 else time
    return tuple(
        x.reshape(x.shape[0], time // each, each, *x.shape[2:]).swapaxes(0, 1) for x in arrays
    )


def _joined(blocks):
    """``[blocks, batch, keys, ...]`` as ``[batch, time, ...]``."""
    return blocks.swapaxes(0, 1).reshape(blocks.shape[1], -1, *blocks.shape[3:])


def _scores(q, keys, seen, at, own, causal, scale):
    """Scores ``[batch, groups, heads, time, keys]`` of queries ``q`` from place ``own`` on against keys from
    place ``at`` on, and which of them are seen."""
    scores = jnp.einsum("bgrtd,bsgd->bgrts", q, keys, preferred_element_type=jnp.float32) * scale
    seen = seen[:, None, None, None]
    if causal:
        places = own + jnp.arange(q.shape[3]), at + jnp.arange(keys.shape[1])
        seen = seen & (places[1] <= places[0][:, None])
    return jnp.where(seen, scores, HIDDEN), seen


def _round(pieces, count: int):
    """Every device's piece, at the next device of the ring."""
    return jax.lax.ppermute(pieces, SEQUENCE, [(n, (n + 1) % count) for n in range(count)])


def _turns(one, kept, travelling, count: int):
    """``one(kept, travelling, turn) -> kept, changed`` for each of ``count`` turns, and what travelled.

    ``travelling`` is ``(fixed, summed)``: what goes round as it is, and what each device adds to.
    """

    def turn(carry, index):
        kept, fixed, summed = carry
        onward = _round(fixed, count)  # beside the products of this turn
        kept, summed = one(kept, fixed, summed, index)
        return (kept, onward, _round(summed, count)), None

    (kept, _, summed), _ = jax.lax.scan(turn, (kept, *travelling), jnp.arange(count))
    return kept, summed


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _own(causal, scale, count, q, k, v, seen):
    return _forward(causal, scale, count, q, k, v, seen)[0]


def _start(q, index, count):
    """First places of this device's queries, and of the keys that are here at a turn."""
    me = jax.lax.axis_index(SEQUENCE)
    return me * q.shape[1], ((me - index) % count) * q.shape[1]


def _forward(causal, scale, count, q, k, v, seen):
    rows = _grouped(q, k.shape[2])

    def one(kept, fixed, summed, index):
        own, at = _start(q, index, count)

        def block(kept, piece):
            most, total, out, at = kept
            keys, values, seen = piece
            scores, _ = _scores(rows, keys, seen, at, own, causal, scale)
            new = jnp.maximum(most, scores.max(-1))
            weights, rest = jnp.exp(scores - new[..., None]), jnp.exp(most - new)
            total = total * rest + weights.sum(-1)
            out = out * rest[..., None] + jnp.einsum(
                "bgrts,bsgd->bgrtd", weights.astype(values.dtype), values,
                preferred_element_type=jnp.float32,
            )  # fmt: skip
            return (new, total, out, at + keys.shape[1]), None

        kept, _ = jax.lax.scan(block, (*kept, at), _blocks(*fixed))
        return kept[:3], summed

    shape = rows.shape[:-1]
    none = jnp.full(shape, -jnp.inf), jnp.zeros(shape), jnp.zeros(rows.shape, jnp.float32)
    (most, total, out), _ = _turns(one, none, ((k, v, seen), ()), count)
    out = _ungrouped(out / total[..., None]).astype(q.dtype)
    return out, (q, k, v, seen, out, most, total)


def _backward(causal, scale, count, saved, given):
    q, k, v, seen, out, most, total = saved
    rows, d_out = _grouped(q, k.shape[2]), _grouped(given, k.shape[2])
    mean = (d_out.astype(jnp.float32) * _grouped(out, k.shape[2])).sum(-1, keepdims=True)

    def one(d_q, fixed, summed, index):
        own, at = _start(q, index, count)

        def block(kept, piece):
            d_q, at = kept
            keys, values, seen, d_keys, d_values = piece
            scores, seen = _scores(rows, keys, seen, at, own, causal, scale)
            weights = jnp.exp(scores - most[..., None]) / total[..., None]
            full = {"preferred_element_type": jnp.float32}
            d_values += jnp.einsum("bgrts,bgrtd->bsgd", weights.astype(q.dtype), d_out, **full)
            d_weights = jnp.einsum("bgrtd,bsgd->bgrts", d_out, values, **full)
            d_scores = jnp.where(seen, weights * (d_weights - mean) * scale, 0.0).astype(q.dtype)
            d_q += jnp.einsum("bgrts,bsgd->bgrtd", d_scores, keys, **full)
            d_keys += jnp.einsum("bgrts,bgrtd->bsgd", d_scores, rows, **full)
            return (d_q, at + keys.shape[1]), (d_keys, d_values)

        (d_q, _), blocks = jax.lax.scan(block, (d_q, at), _blocks(*fixed, *summed))
        return d_q, tuple(map(_joined, blocks))

    none = jnp.zeros(k.shape, jnp.float32), jnp.zeros(v.shape, jnp.float32)
    start = jnp.zeros(rows.shape, jnp.float32)
    d_q, (d_k, d_v) = _turns(one, start, ((k, v, seen), none), count)
    return _ungrouped(d_q).astype(q.dtype), d_k.astype(k.dtype), d_v.astype(v.dtype), None


_own.defvjp(_forward, _backward)
