"""Batches of one fold among several, which may be traced: the data of all are the program's argument."""

import math
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import struct

from dl.core.errors import UserError, bounded
from dl.core.random import half_bits, permute_each
from dl.core.task import Batch
from dl.data.batches.resident import (
    Arrays,
    Resident,
    check_batch_size,
    digest_arrays,
    keep_mask_free,
    stream_seed,
)
from dl.data.folded import Folds


@struct.dataclass
class _Folded(Resident):
    """Rows of all folds end to end.

    Attributes:
      table: uint32 ``[folds, numbers]``: of each fold its first row, its rows, and what else the batches need.
      fold: whose rows the batches hold; largest: the rows of the largest fold.
    """

    table: Any
    fold: Any
    batch_size: int = struct.field(pytree_node=False)
    largest: int = struct.field(pytree_node=False)

    @property
    def size(self) -> int:
        """Rows of the largest fold: all folds take equally many steps."""
        return self.largest

    def digest(self) -> str:
        """Of all folds: their runs have the same data."""
        return digest_arrays({**self.arrays, "folds": np.asarray(self.table)})


@struct.dataclass
class FoldedTrain(_Folded):
    """The batches that :func:`dl.data.batches.train_batches` makes of the fold alone."""

    seed: Any

    def indices(self, step: Any) -> Any:
        start, size, half, cycle = jnp.asarray(self.table)[self.fold]
        batch = jnp.uint32(self.batch_size)
        step = jnp.asarray(step, jnp.uint32)  # as in stream_rows, its numbers traced
        position = (step % cycle) * batch + jnp.arange(self.batch_size, dtype=jnp.uint32)
        epoch = (step // cycle) * (cycle * batch // size) + position // size
        return start + permute_each(position % size, size, half, self.seed, epoch)

    def __getitem__(self, step: Any) -> Batch:
        rows = self.indices(step)
        return {name: value[rows] for name, value in self.arrays.items()}


@struct.dataclass
class FoldedEval(_Folded):
    """A fold in order; batches are as many as the largest fold has, masked beyond its own rows.

    Attributes:
      rows: what its rows are in the data (see :class:`~dl.data.folded.Folds`), or None.
    """

    rows: Any

    def __len__(self) -> int:
        return -(-self.largest // self.batch_size)

    def _rows(self, index: Any) -> Any:
        start, size = (jnp.asarray(self.table)[self.fold, n].astype(jnp.int32) for n in (0, 1))
        place = index * self.batch_size + jnp.arange(self.batch_size)
        return start + jnp.minimum(place, size - 1), (place < size).astype(jnp.float32)

    def alone(self) -> tuple[Arrays, Any]:
        """The fold's columns, on the host, and what its rows are in the data."""
        start, size = np.asarray(self.table)[int(self.fold)].astype(int)
        rows = slice(start, start + size)
        columns = {name: np.asarray(x)[rows] for name, x in self.arrays.items()}
        return columns, np.arange(size) if self.rows is None else np.asarray(self.rows)[rows]

    def indices(self, step: Any) -> Any:
        return self._rows(step)[0]

    def __getitem__(self, index: Any) -> Batch:
        rows, mask = self._rows(index)
        return {**{name: value[rows] for name, value in self.arrays.items()}, "mask": mask}


def folded_train(folds: Folds, fold: Any, batch_size: int, seed: Any) -> FoldedTrain:
    """Training batches of a fold, shuffled by seed."""
    sizes = folds.size.astype(int)
    check_batch_size(batch_size, int(sizes.min()), "training examples of the smallest fold")
    cycles = [int(n) // math.gcd(int(n), batch_size) for n in sizes]
    if (max(cycles) + 1) * batch_size >= 2**32:
        raise UserError("too-many-rows", "--folds: too many examples to shuffle on the device")
    half = [half_bits(int(n)) for n in sizes]
    table = np.stack([folds.start, sizes, half, cycles], 1).astype(np.uint32)
    return FoldedTrain(
        folds.pool, table, _fold(fold), batch_size, int(sizes.max()), stream_seed(seed)
    )


def folded_eval(folds: Folds, fold: Any, batch_size: int) -> FoldedEval:
    """One ordered pass over a fold."""
    keep_mask_free(folds.pool)
    bounded("batch size", batch_size, at_least=1, whole=True)
    largest = int(folds.size.max())
    table = np.stack([folds.start, folds.size], 1)
    size = min(batch_size, largest)
    return FoldedEval(folds.pool, table, _fold(fold), size, largest, folds.rows)


def _fold(fold: Any) -> Any:
    return np.int32(fold) if isinstance(fold, int) else fold
