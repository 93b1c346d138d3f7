"""The two ends of a token model, shaped for accelerators: reading rows of a table, and scoring all of it.

On a GPU the gradient of a look-up is a scatter: fast and in any order, or in order and a sort of all
its numbers. And the logits of a large vocabulary are most of a step's memory, three times over. Here the
look-up's gradient is a product with one-hot rows, and the loss is computed tile by tile, so that both
are exact, in one order, and need little room. XLA for CPU has neither trouble, and keeps its own.
"""

from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec as P

from dl.core.metrics import is_best
from dl.core.target import ROWS, SEQUENCE, cut_along_time, hold, pieces, target, tracing_for

# Numbers of a tile of rows x vocabulary, 1 GiB in float32: each tile reads and writes the table's gradient again.
TILE = 2**28
LARGE = 8192  # a vocabulary from which the loss is tiled


def by_rows(function, shared: tuple, rows: tuple):
    """``function(*shared, *rows)``, of which each device of the mesh computes the rows that it holds.

    What is summed over rows in its gradients is so summed on the device first, and between them once.
    """
    where = target()
    if where.mesh is None or rows[0].shape[0] % pieces(where.mesh):
        return function(*shared, *rows)

    def local(*arguments):
        with tracing_for(where._replace(mesh=None)):
            return function(*arguments)

    cut = (ROWS, SEQUENCE) if cut_along_time(*rows) else (ROWS,)
    specs = (P(),) * len(shared) + (P(*cut),) * len(rows)
    mapped = jax.shard_map(
        local,
        mesh=where.mesh,
        in_specs=specs,
        out_specs=P(*cut),
        axis_names={*ROWS, *cut[1:]},
        check_vma=False,
    )
    return mapped(*shared, *rows)


def _tiles(size: int, *rows: jax.Array) -> list[jax.Array]:
    """Arrays ``[n, ...]`` cut to ``[tiles, rows, ...]``, as many numbers of ``size`` a row as a tile holds;
    the last is filled up with zeros."""
    count = max(1, -(-len(rows[0]) * size // TILE))
    each = -(-len(rows[0]) // count)
    missing = count * each - len(rows[0])
    filled = (jnp.pad(x, ((0, missing), *((0, 0),) * (x.ndim - 1))) for x in rows)
    return [x.reshape(count, each, *x.shape[1:]) for x in filled]


@jax.custom_vjp
def look_up(table: jax.Array, ids: jax.Array) -> jax.Array:
    """``table[ids]``, whose gradient is summed in float32 by products with one-hot rows."""
    return table[ids]


def _look_up_gradient(saved, d):
    table, ids = saved

    def one(total, tile):
        own, given = tile
        hot = (own[:, None] == jnp.arange(len(table))).astype(given.dtype)
        exact = jax.lax.Precision.HIGHEST if given.dtype == jnp.float32 else None
        dims = (((0,), (0,)), ((), ()))
        return total + jax.lax.dot_general(
            hot, given, dims, exact, preferred_element_type=jnp.float32
        ), None

    tiles = _tiles(len(table), ids.reshape(-1), d.reshape(-1, table.shape[1]))
    total, _ = jax.lax.scan(one, jnp.zeros(table.shape, jnp.float32), tuple(tiles))
    return total.astype(table.dtype), None


look_up.defvjp(lambda table, ids: (table[ids], (table, ids)), _look_up_gradient)


def rows_of(table: jax.Array, ids: jax.Array) -> jax.Array:
    """``table[ids]``, as the platform computes its gradient best: ``ids [batch, ...]``."""
    table = hold(table, "tensor", None)  # gathered over fsdp, which cuts the rows of the batch too
    if target().platform == "cpu":
        return jnp.take(table, ids, axis=0)
    return by_rows(look_up, (table,), (ids,))


class Embed(nn.Embed):
    """``flax.linen.Embed`` in every respect, parameters included."""

    def __call__(self, inputs):
        if self.num_embeddings == 1:
            return super().__call__(inputs)
        (table,) = self.promote_dtype(self.embedding, dtype=self.dtype, inexact=False)
        return rows_of(jnp.asarray(table), inputs)

    def attend(self, query):
        query, table = self.promote_dtype(
            query, hold(self.embedding, "tensor", None), dtype=self.dtype
        )
        return jnp.dot(query, jnp.asarray(table).T)


@flax.struct.dataclass
class Unread:
    """Vectors from which an output layer makes logits, before it does: see :func:`token_losses`.

    Attributes:
      hidden: ``[batch, time, width]``.
      table: ``[vocabulary, width]``, the output layer's kernel, and ``bias [vocabulary]``.
    """

    hidden: jax.Array
    table: jax.Array
    bias: jax.Array

    @property
    def shape(self) -> tuple[int, ...]:
        """That of the logits."""
        return (*self.hidden.shape[:-1], len(self.table))

    def logits(self) -> jax.Array:
        """``[batch, time, vocabulary]``, in float32."""
        return _scores(self.table, self.bias, self.hidden)


def worth_tiling(vocabulary: int) -> bool:
    """Whether logits should be left :class:`Unread` for the loss."""
    return target().platform != "cpu" and vocabulary >= LARGE


def token_losses(unread: Unread, targets: jax.Array, smoothing: Any) -> tuple[jax.Array, jax.Array]:
    """Cross-entropy in nats and whether the best guess is right, both ``[batch, time]`` float32."""

    def local(table, bias, smoothing, hidden, targets):
        rows = hidden.reshape(-1, hidden.shape[-1])
        found = _tiled(table, bias, smoothing, rows, targets.reshape(-1))
        return tuple(x.reshape(targets.shape) for x in found)

    smoothing = jnp.asarray(smoothing, jnp.float32)
    table = hold(unread.table, "tensor", None)
    return by_rows(local, (table, unread.bias, smoothing), (unread.hidden, targets))


def _scores(table, bias, rows):
    return jnp.matmul(rows, table.T, preferred_element_type=jnp.float32) + bias.astype(jnp.float32)


@jax.custom_vjp
def _tiled(table, bias, smoothing, rows, targets):
    return _tiled_forward(table, bias, smoothing, rows, targets)[0]


def _tiled_forward(table, bias, smoothing, rows, targets):
    def one(tile):
        own, wanted = tile
        scores = _scores(table, bias, own)
        top, before, picked, summed = _read_once(scores, wanted)
        above = jnp.where(jnp.isfinite(top), top, 0.0)
        total = jnp.log(jnp.exp(scores - above[:, None]).sum(-1)) + above
        loss = total - (1.0 - smoothing) * picked - smoothing * summed / len(table)
        return loss, is_best(picked, top, before, wanted).astype(jnp.float32), total

    found = jax.lax.map(one, tuple(_tiles(len(table), rows, targets)))
    loss, hit, total = (x.reshape(-1)[: len(rows)] for x in found)
    return (loss, hit), (table, bias, smoothing, rows, targets, total)


def _read_once(scores, wanted):
    """Of scores ``[rows, vocabulary]``, read once: their maximum, that of those before the wanted one, the
    wanted one, and their sum."""
    ids = jnp.arange(scores.shape[1])
    earlier = jnp.where(ids < wanted[:, None], scores, -jnp.inf)
    own = jnp.where(ids == wanted[:, None], scores, 0.0)

    def join(a, b):
        return jnp.maximum(a[0], b[0]), jnp.maximum(a[1], b[1]), a[2] + b[2], a[3] + b[3]

    least, none = np.float32(-np.inf), np.float32(0)
    return jax.lax.reduce((scores, earlier, own, scores), (least, least, none, none), join, (1,))


def _tiled_backward(saved, gradients):
    table, bias, smoothing, rows, targets, total = saved
    count = len(table)

    def one(sums, tile):
        own, wanted, total, d = tile
        said = jnp.exp(_scores(table, bias, own) - total[:, None])
        true = jnp.where(wanted[:, None] == jnp.arange(count), 1.0 - smoothing, 0.0)
        d_scores = d[:, None] * (said - true - smoothing / count)
        d_bias, d_scores = sums[1] + d_scores.sum(0), d_scores.astype(own.dtype)
        d_own = jnp.matmul(d_scores, table, preferred_element_type=jnp.float32).astype(own.dtype)
        d_table = jnp.matmul(d_scores.T, own, preferred_element_type=jnp.float32)
        return (sums[0] + d_table, d_bias), d_own

    none = jnp.zeros(table.shape, jnp.float32), jnp.zeros(count, jnp.float32)
    tiles = tuple(_tiles(count, rows, targets, total, gradients[0]))
    (d_table, d_bias), d_rows = jax.lax.scan(one, none, tiles)
    d_rows = d_rows.reshape(-1, rows.shape[-1])[: len(rows)]
    given = d_table.astype(table.dtype), d_bias.astype(bias.dtype), jnp.zeros_like(smoothing)
    return *given, d_rows, None


_tiled.defvjp(_tiled_forward, _tiled_backward)
