"""Batches of sequences of similar length, and steps that compute only as far as the longest row.

Padded to one length a set of sentences is mostly padding. Two pieces avoid computing it while every
array keeps one shape, so that ``batches[step]`` stays a pure gather in one compiled program:
batches whose rows are alike in length, and a step that cuts its inputs down to the smallest of a few
sizes that holds the batch.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from dl.core.errors import bounded
from dl.core.random import mix, permute
from dl.core.step import Trim
from dl.core.task import Batch
from dl.data.batches.mixtures import Chain
from dl.data.batches.resident import (
    Arrays,
    Resident,
    check_arrays,
    check_batch_size,
    digest_arrays,
    keep_mask_free,
    stream_seed,
)
from dl.data.batches.sources import ArraySource
from dl.data.batches.stored import StoredColumns
from dl.data.batches.streams import StreamBatches


@struct.dataclass
class BucketBatches(Resident):
    """Training batches of rows of similar length, shuffled anew every epoch.

    Rows are sorted by length and dealt into pools of neighbours; an epoch shuffles each pool, cuts it
    into batches, and takes the batches of all pools in shuffled order. Every example comes exactly
    once an epoch. Where the numbers do not divide, the last rows of some batches are padding under
    ``mask`` 0, spread evenly, so a task must honour ``batch['mask']``.

    Attributes:
      arrays: columns in order of length; order: their rows in the set as given.
      edges: first row of each pool, and the end, ``[pools + 1]``.
      pool: batches a pool.
    """

    order: Any
    edges: Any
    seed: Any
    batch_size: int = struct.field(pytree_node=False)
    pool: int = struct.field(pytree_node=False)

    @property
    def steps_per_epoch(self) -> int:
        return (len(self.edges) - 1) * self.pool

    def _rows(self, step):
        return _bucket_rows(self, jnp.asarray(step, jnp.int32), jnp)

    def indices(self, step):
        return jnp.asarray(self.order)[self._rows(step)[0]]

    def __getitem__(self, step) -> Batch:
        rows, mask = self._rows(step)
        return {**{name: value[rows] for name, value in self.arrays.items()}, "mask": mask}

    def digest(self) -> str:
        return digest_arrays({**self.arrays, "order": self.order})


@dataclasses.dataclass(frozen=True)
class BucketStream(StreamBatches):
    """The batches of :class:`BucketBatches` of a part on disk, read ahead; attributes as there."""

    source: ArraySource
    order: Any = None
    edges: Any = None
    pool: int = 1

    @property
    def steps_per_epoch(self) -> int:
        return (len(self.edges) - 1) * self.pool

    def indices(self, step):
        return self.order[_bucket_rows(self, np.int32(step), np)[0]]

    def __getitem__(self, step) -> Batch:
        rows, mask = _bucket_rows(self, np.int32(step), np)
        first, last = self.shard[0] * len(rows), (self.shard[0] + 1) * len(rows)
        own = slice(first // self.shard[1], last // self.shard[1])
        return {**self.source.take(self.order[rows[own]]), "mask": mask[own]}

    def digest(self) -> str:
        arrays = self.source.arrays
        return digest_arrays({**arrays, "order": self.order}, dict.fromkeys(arrays, self.order))


def _bucket_rows(batches: Any, step: Any, xp: Any) -> tuple[Any, Any]:
    """The rows of a step, by length, and which of them are real, both ``[batch]``."""
    pool, size, edges = batches.pool, batches.size, xp.asarray(batches.edges)
    epoch, seed = step // batches.steps_per_epoch, xp.asarray(batches.seed, xp.uint32)
    steps = batches.steps_per_epoch
    batch = permute(step % steps, steps, mix(seed, xp), epoch, xp).astype(xp.int32)
    batch, part = batch // pool, batch % pool
    # Dealt like cards: the ranks beyond a pool's end fall on different batches.
    rank = xp.arange(batches.batch_size, dtype=xp.int32) * pool + part
    key = mix(seed ^ mix(batch.astype(xp.uint32) + np.uint32(1), xp), xp)
    count = edges[batch + 1] - edges[batch]  # one of two neighbouring numbers
    small = size // (len(edges) - 1)
    fewer, more = (
        permute(xp.minimum(rank, each - 1), each, key, epoch, xp).astype(xp.int32)
        for each in (small, small + 1)
    )
    rows = edges[batch] + xp.where(count == small, fewer, more)
    return rows, (rank < count).astype(xp.float32)


def bucket_batches(
    arrays: Arrays, lengths: Any, batch_size: int, seed: Any = 0, *, pool: int = 16
) -> BucketBatches | StreamBatches:
    """Length-bucketed training batches of padded ``arrays``; of those on disk they are read ahead. Of rows that
    stream and are of one length (:func:`dl.data.batches.tokens.chunks`) they are just shuffled.

    Args:
      arrays: columns ``[n, ...]``, padded as they are.
      lengths: what to sort by: a column's name, or ``[n]``, such as the longer of source and target.
      pool: batches shuffled together; more mix better, fewer pad less.
    """
    bounded("pool", pool, at_least=1, whole=True)
    if isinstance(arrays, Chain):
        return arrays.train_batches(batch_size, seed)
    size = check_arrays(arrays)
    keep_mask_free(arrays)
    check_batch_size(batch_size, size, "bucketed examples", least=2)
    lengths = arrays[lengths] if isinstance(lengths, str) else np.asarray(lengths)
    pools = math.ceil(size / (pool * batch_size))
    # Files are often sorted by label: rows of one length that fill more than a pool are drawn first.
    many = "label" in arrays and np.unique(lengths, return_counts=True)[1].max() > size / pools
    drawn = np.random.default_rng(0).permutation(size) if many else np.arange(size)
    order = np.lexsort((drawn, lengths)).astype(np.int32)
    pool = math.ceil(math.ceil(size / pools) / batch_size)
    edges = (np.arange(pools + 1, dtype=np.int64) * size // pools).astype(np.int32)
    if isinstance(arrays, StoredColumns):
        source = ArraySource(arrays)
        return BucketStream(
            source, batch_size, stream_seed(seed), order=order, edges=edges, pool=pool
        )
    return BucketBatches(
        {name: np.asarray(value)[order] for name, value in arrays.items()},
        order,
        edges,
        stream_seed(seed),
        batch_size,
        pool,
    )


def trim(
    columns: Sequence[str],
    sizes: Sequence[int],
    longest: Callable[[Batch], jax.Array] | None = None,
) -> Trim:
    """Cuts ``columns`` to the first of ``sizes`` that fits, for ``dl.Experiment(trim=...)``.

    It turns a function of a batch into one whose compiled program holds a branch for each size;
    ``longest(batch)`` (a traced scalar) chooses. Results are those of the whole width wherever the task
    masks what lies beyond a row's length.

    Args:
      columns: batch columns ``[batch, length, ...]`` to cut.
      sizes: ascending lengths; the columns' full length is added as the last.
      longest: the length the batch needs; by default the largest in its columns ``<name>_length``.
    """
    for size in sizes:
        bounded("each of the sizes", size, at_least=1, whole=True)

    def largest(batch: Batch) -> jax.Array:
        lengths = (batch[f"{name}_length"].max() for name in columns)
        return functools.reduce(jnp.maximum, lengths)

    def by_size(function):
        def call(batch: Batch):
            full = max(batch[name].shape[1] for name in columns)
            widths = [size for size in sorted(sizes) if size < full] + [full]

            def branch(width: int):
                return lambda b: function({**b, **{name: b[name][:, :width] for name in columns}})

            fits = jnp.sum((longest or largest)(batch) > jnp.array(widths[:-1], jnp.int32))
            return jax.lax.switch(fits, [branch(width) for width in widths], batch)

        return call

    return by_size
