"""Attention over a sequence that lies in pieces on a mesh's devices (Liu et al. 2023, "Ring attention").

Each device keeps the queries of its own piece of time. Keys and values go round the ring, one piece a turn,
while the softmax is summed up as in flash attention (Dao et al. 2022), so no device ever holds the
scores of more than one piece against one, nor the keys of the whole. A turn's transfer and its products
do not wait for each other. What ``causal`` hides of other pieces is not computed: for that each device has a half
from the front of time and one from the end, so that all have as much to do (Dubey et al. 2024, "The Llama 3 Herd
of Models", section 3.3.2).
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
    count = mesh.shape[SEQUENCE]
    seen = jnp.ones((batch, time), bool) if mask is None else mask[:, 0, 0]
    seen = jnp.broadcast_to(seen, (batch, time))
    if causal and (
        more := -time % (2 * count)
    ):  # places after all others, whose queries see none of them
        ends = ((0, 0), (0, more), (0, 0), (0, 0))
        q, k, v, seen = (jnp.pad(x, ends[: x.ndim]) for x in (q, k, v, seen))
    heads = "tensor" if k.shape[2] % mesh.shape["tensor"] == 0 else None
    lies = P(ROWS, SEQUENCE, heads)
    own = functools.partial(_own, causal, scale, count)
    mapped = jax.shard_map(
        own, mesh=mesh, in_specs=(lies,) * 3 + (P(ROWS, SEQUENCE),), out_specs=lies, check_vma=False
    )
    return mapped(q, k, v, seen)[:, :time]


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


def _scores(q, keys, seen, at, causal, scale):
    """Scores ``[batch, groups, heads, time, keys]`` of queries against keys from their place ``at`` on, and which
    of them are seen."""
    scores = jnp.einsum("bgrtd,bsgd->bgrts", q, keys, preferred_element_type=jnp.float32) * scale
    seen = seen[:, None, None, None]
    if causal:
        seen = seen & (at + jnp.arange(keys.shape[1]) <= jnp.arange(q.shape[3])[:, None])
    return jnp.where(seen, scores, HIDDEN), seen


def _sent(pieces, way):
    return jax.lax.ppermute(pieces, SEQUENCE, way)


def _round(pieces, count: int):
    """Every device's piece, at the next device of the ring."""
    return _sent(pieces, [(n, (n + 1) % count) for n in range(count)])


def _turns(one, kept, travelling, count: int):
    """``one(kept, *travelling, turn) -> kept, summed`` for each of ``count`` turns, the first of which is None;
    and what was summed, at home again.

    ``travelling`` is ``(fixed, summed)``: what goes round as it is, and what each device adds to.
    """

    def turn(carry, index):
        kept, fixed, summed = carry
        onward = _round(fixed, count)  # beside the products of this turn
        kept, summed = one(kept, fixed, summed, index)
        return (kept, onward, _round(summed, count)), None

    carry, _ = turn((kept, *travelling), None)
    (kept, _, summed), _ = jax.lax.scan(turn, carry, jnp.arange(1, count))
    return kept, summed


def _dealt(causal, count, *arrays):
    """Pieces of time ``[batch, time, ...]`` as ``[1, batch, time, ...]``; of a causal ring as
    ``[2, batch, time / 2, ...]``, the n-th half from the front of all time and the n-th from its end."""
    if not causal:
        return tuple(x[None] for x in arrays)
    ways, in_order = _folds(count)

    def fold(x):
        x = jnp.stack(
            [_sent(half, way) for half, way in zip(jnp.split(x, 2, 1), ways, strict=True)]
        )
        return jnp.where(in_order, x, x[::-1])

    return tuple(map(fold, arrays))


def _home(causal, count, *arrays):
    """The inverse of :func:`_dealt`."""
    if not causal:
        return tuple(x[0] for x in arrays)
    ways, in_order = _folds(count)

    def unfold(x):
        x = jnp.where(in_order, x, x[::-1])
        back = [[(there, here) for here, there in way] for way in ways]
        return jnp.concatenate([_sent(half, way) for half, way in zip(x, back, strict=True)], 1)

    return tuple(map(unfold, arrays))


def _folds(count):
    """Where each device's first half goes, and its second; and whether those that come are in that order."""
    places = [min(half, 2 * count - 1 - half) for half in range(2 * count)]
    ways = [list(enumerate(places[first::2])) for first in (0, 1)]
    return ways, jax.lax.axis_index(SEQUENCE) % 2 == 0


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _own(causal, scale, count, q, k, v, seen):
    return _forward(causal, scale, count, q, k, v, seen)[0]


def _absorbed(kept, rows, piece, scale, causal):
    """The softmax so far, ``(most, total, out)``, with one piece of keys more."""

    def block(kept, piece):
        most, total, out, at = kept
        keys, values, seen = piece
        scores, _ = _scores(rows, keys, seen, at, causal, scale)
        new = jnp.maximum(most, scores.max(-1))
        weights, rest = jnp.exp(scores - new[..., None]), jnp.exp(most - new)
        total = total * rest + weights.sum(-1)
        out = out * rest[..., None] + jnp.einsum(
            "bgrts,bsgd->bgrtd", weights.astype(values.dtype), values,
            preferred_element_type=jnp.float32,
        )  # fmt: skip
        return (new, total, out, at + keys.shape[1]), None

    kept, _ = jax.lax.scan(block, (*kept, 0), _blocks(*piece))
    return kept[:3]


def _returned(d_q, rows, piece, sums, scale, causal):
    """The gradients of queries so far, and those of a piece's keys and values, with the products of both more.

    ``rows`` are ``(q, d_out, mean, most, total)``: queries, the gradients of their outputs, and the softmax.
    """
    q, d_out, mean, most, total = rows
    full = {"preferred_element_type": jnp.float32}

    def block(kept, piece):
        d_q, at = kept
        keys, values, seen, d_keys, d_values = piece
        scores, seen = _scores(q, keys, seen, at, causal, scale)
        weights = jnp.exp(scores - most[..., None]) / total[..., None]
        d_values += jnp.einsum("bgrts,bgrtd->bsgd", weights.astype(q.dtype), d_out, **full)
        d_weights = jnp.einsum("bgrtd,bsgd->bgrts", d_out, values, **full)
        d_scores = jnp.where(seen, weights * (d_weights - mean) * scale, 0.0).astype(q.dtype)
        d_q += jnp.einsum("bgrts,bsgd->bgrtd", d_scores, keys, **full)
        d_keys += jnp.einsum("bgrts,bgrtd->bsgd", d_scores, q, **full)
        return (d_q, at + keys.shape[1]), (d_keys, d_values)

    (d_q, _), blocks = jax.lax.scan(block, (d_q, 0), _blocks(*piece, *sums))
    return d_q, tuple(map(_joined, blocks))


def _pairs(causal, meet):
    """Which halves of queries meet which halves of keys, as :func:`_turns` takes it, by
    ``meet(kept, summed, queries, keys, fixed, causal) -> kept, summed``.

    Of a causal ring a device has the n-th half from the front of time and the n-th from the end. So at every turn
    but the first half of the products are hidden, and those that are not are as many on every device: the later
    queries against the earlier keys, and the halves of that end at which the keys are the earlier ones.
    """

    def one(kept, fixed, summed, index):
        if not causal:
            return meet(kept, summed, 0, 0, fixed, False)
        if index is None:
            for queries, keys in ((0, 0), (1, 0), (1, 1)):
                kept, summed = meet(kept, summed, queries, keys, fixed, queries == keys)
            return kept, summed
        kept, summed = meet(kept, summed, 1, 0, fixed, False)
        end = jnp.where(index <= jax.lax.axis_index(SEQUENCE), 0, 1)  # 0: an earlier device's
        return meet(kept, summed, end, end, fixed, False)

    return one


def _at(tree, half):
    take = functools.partial(jax.lax.dynamic_index_in_dim, index=half, keepdims=False)
    return jax.tree.map(take, tree)


def _put(tree, new, half):
    put = functools.partial(jax.lax.dynamic_update_index_in_dim, index=half, axis=0)
    return jax.tree.map(put, tree, new)


def _by_half(function, *arrays):
    return tuple(map(jax.vmap(function), arrays))


def _forward(causal, scale, count, q, k, v, seen):
    groups = k.shape[2]
    q, k, v, seen = _dealt(causal, count, q, k, v, seen)
    (rows,) = _by_half(lambda x: _grouped(x, groups), q)

    def meet(kept, summed, queries, keys, fixed, causal):
        new = _absorbed(_at(kept, queries), _at(rows, queries), _at(fixed, keys), scale, causal)
        return _put(kept, new, queries), summed

    shape = rows.shape[:-1]
    none = jnp.full(shape, -jnp.inf), jnp.zeros(shape), jnp.zeros(rows.shape, jnp.float32)
    (most, total, out), _ = _turns(_pairs(causal, meet), none, ((k, v, seen), ()), count)
    (out,) = _by_half(lambda x: _ungrouped(x).astype(q.dtype), out / total[..., None])
    return _home(causal, count, out)[0], (q, k, v, seen, out, most, total)


def _backward(causal, scale, count, saved, given):
    q, k, v, seen, out, most, total = saved
    groups = k.shape[3]
    given = _dealt(causal, count, given)[0]
    rows, out, d_out = _by_half(lambda x: _grouped(x, groups), q, out, given)
    mean = (d_out.astype(jnp.float32) * out).sum(-1, keepdims=True)
    rows = rows, d_out, mean, most, total

    def meet(d_q, summed, queries, keys, fixed, causal):
        own, piece, sums = _at(rows, queries), _at(fixed, keys), _at(summed, keys)
        new, sums = _returned(_at(d_q, queries), own, piece, sums, scale, causal)
        return _put(d_q, new, queries), _put(summed, sums, keys)

    none = jnp.zeros(k.shape, jnp.float32), jnp.zeros(v.shape, jnp.float32)
    start = jnp.zeros(rows[0].shape, jnp.float32)
    d_q, (d_k, d_v) = _turns(_pairs(causal, meet), start, ((k, v, seen), none), count)
    (d_q,) = _by_half(_ungrouped, d_q)
    found = (x.astype(q.dtype) for x in (d_q, d_k, d_v))
    return *_home(causal, count, *found), None


_own.defvjp(_forward, _backward)
