"""Data sets cut into batches, as pure functions of (seed, step).

Training batches walk through one endless stream of shuffled epochs: step ``s`` holds the positions
``s * batch_size ... (s + 1) * batch_size - 1`` of it, so every example is seen exactly once an epoch
and nothing is dropped where an epoch ends inside a batch. Evaluation batches go through the set once,
in order, the last one padded and masked.
"""

import hashlib
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from dl.core.errors import UserError, bounded, unknown
from dl.core.random import half_bits, mix, permute, permute_each
from dl.core.task import Batch
from dl.data.splits import Splits, row_count

Arrays = dict[str, Any]  # named arrays, every one [examples, ...]


def stream_rows(step, size: int, batch_size: int, seed, xp=jnp):
    """The rows of a ``size``-row set in the batch of ``step``: uint32 ``[batch_size]``.

    ``xp`` is jax.numpy (traced, uint32 arithmetic) or numpy (any size); both give the same rows.
    """
    # The stream repeats its (epoch, row) pattern every `cycle` steps; reducing the step first keeps
    # the products below 2**32 however long the run is.
    cycle = size // math.gcd(size, batch_size)
    if xp is not np and (cycle + 1) * batch_size >= 2**32:
        raise UserError(
            "too-many-rows",
            f"{size} examples are too many to shuffle on the device: stream them instead",
        )
    integer = xp.int64 if xp is np else xp.uint32
    step = xp.asarray(step, integer)
    epochs_a_cycle = cycle * batch_size // size
    position = (step % integer(cycle)) * integer(batch_size) + xp.arange(batch_size, dtype=integer)
    epoch = (step // integer(cycle)) * integer(epochs_a_cycle) + position // integer(size)
    return permute(position % integer(size), size, seed, epoch, xp)


def eval_rows(index, size: int, batch_size: int, xp=jnp):
    """Rows and mask, both ``[batch_size]``, of the ``index``-th evaluation batch; padding repeats
    the last row under mask 0."""
    rows = index * batch_size + xp.arange(batch_size)
    return xp.minimum(rows, size - 1), (rows < size).astype(xp.float32)


def check_arrays(arrays: Arrays) -> int:
    """The number of examples in ``arrays``; raises where the columns disagree, are
    empty or hold no numbers."""
    sizes = {name: len(value) for name, value in arrays.items()}
    if len(set(sizes.values())) != 1 or not min(sizes.values()):
        raise UserError(
            "column-lengths",
            f"every column of a data set needs the same, non-zero length; got {sizes}",
        )
    for name, value in arrays.items():
        if isinstance(value, np.ndarray) and value.dtype.kind in "OSUMm":
            raise UserError(
                "column-not-numbers",
                f"column {name!r} holds {value.dtype}, which no device computes with: encode or drop it",
            )
    return next(iter(sizes.values()))


def check_batch_size(batch_size: int, size: int, of: str, least: int = 1) -> None:
    """Raises where ``batch_size`` is not from ``least`` to ``size``, the number ``of`` what batches hold."""
    bounded("batch size", batch_size, whole=True)
    if not least <= batch_size <= size:
        raise UserError(
            "batch-size-impossible",
            f"batch size {batch_size} is impossible with {size} {of}: choose {least} to {size}",
        )


def keep_mask_free(names) -> None:
    """Raises where a column is called ``mask``, which marks the real rows of a padded batch."""
    if "mask" in names:
        raise UserError(
            "mask-column",
            "a column may not be called 'mask', which marks a batch's real rows: rename it",
        )


def stream_seed(seed: Any) -> Any:
    """A shuffle's ``seed`` as uint32, unless it is traced."""
    if not isinstance(seed, int):
        return seed
    if not 0 <= seed < 2**32:
        raise UserError("range", f"seed must be from 0 to 2**32 - 1, not {seed}")
    return np.uint32(seed)


def digest_arrays(arrays: Arrays, orders: Mapping[str, np.ndarray] | None = None) -> str:
    """SHA-256 (hex) of named arrays: names, dtypes, shapes and bytes; of some in another order of their rows, of
    which only a part is in memory at a time."""
    hasher = hashlib.sha256()
    for name, value in sorted(arrays.items()):
        order = (orders or {}).get(name)
        array = np.ascontiguousarray(value)
        hasher.update(f"{name}{array.dtype}{array.shape}".encode())
        some = (
            [slice(None)]
            if order is None
            else (order[n : n + 8192] for n in range(0, len(order), 8192))
        )
        for rows in some:
            hasher.update(np.ascontiguousarray(array[rows]).reshape(-1).view(np.uint8).data)
    return hasher.hexdigest()


@struct.dataclass
class Resident:
    """A set that lives on the device, ``arrays`` of columns ``[examples, ...]``.

    A pytree: passed into the compiled step as an argument, where ``batches[step]`` is a gather.
    """

    arrays: Arrays

    @property
    def size(self) -> int:
        return len(next(iter(self.arrays.values())))

    @property
    def columns(self) -> Arrays:
        """All that the columns of a batch are taken from."""
        return self.arrays

    def digest(self) -> str:
        return digest_arrays(self.arrays)


@struct.dataclass
class TrainBatches(Resident):
    """Shuffled training batches."""

    seed: Any
    batch_size: int = struct.field(pytree_node=False)

    def indices(self, step):
        host = isinstance(step, int) and not isinstance(self.seed, jax.Array)
        return stream_rows(step, self.size, self.batch_size, self.seed, np if host else jnp)

    def __getitem__(self, step) -> Batch:
        rows = self.indices(step)
        return {name: value[rows] for name, value in self.arrays.items()}


@struct.dataclass
class BalancedBatches(Resident):
    """Training batches with as many rows of each class: as many positions of the stream as there are classes hold
    one of each, in an order of their own, and each class goes through its rows in shuffled epochs.

    Attributes:
      order: the rows, class by class, ``[examples]``.
      table: of each class its first place in ``order``, its rows and their :func:`half_bits`, ``[3, classes]``.
    """

    order: Any
    table: Any
    seed: Any
    batch_size: int = struct.field(pytree_node=False)

    def indices(self, step):
        classes = self.table.shape[1]
        position = jnp.uint32(step) * jnp.uint32(self.batch_size)
        position += jnp.arange(self.batch_size, dtype=jnp.uint32)
        draw = position // jnp.uint32(classes)  # of its class
        own = permute(position % jnp.uint32(classes), classes, mix(self.seed) ^ _CLASSES, draw)
        start, size, half = jnp.asarray(self.table)[:, own]
        seed = mix(self.seed) ^ mix(own + 1)  # classes of one size have orders of their own
        place = permute_each(draw % size, size, half, seed, draw // size)
        return jnp.asarray(self.order)[start + place]

    def __getitem__(self, step) -> Batch:
        rows = self.indices(step)
        return {name: value[rows] for name, value in self.arrays.items()}


_CLASSES = np.uint32(0x9E3779B9)  # so that the order of classes is no row's


def _balanced(arrays: Arrays, batch_size: int, seed: Any, balance: str) -> BalancedBatches:
    if balance not in arrays:
        raise unknown("column to balance by,", balance, arrays)
    found = np.asarray(arrays[balance])
    if found.ndim != 1 or found.dtype.kind not in "biu":
        raise UserError(
            "balance-not-classes",
            f"column {balance!r} holds {found.dtype}{list(found.shape)}: batches are balanced by one class number "
            "a row",
        )
    _, sizes = np.unique(found, return_counts=True)
    table = [np.cumsum(sizes) - sizes, sizes, [half_bits(int(size)) for size in sizes]]
    order = np.argsort(found, kind="stable").astype(np.uint32)
    return BalancedBatches(arrays, order, np.array(table, np.uint32), stream_seed(seed), batch_size)


@struct.dataclass
class EvalBatches(Resident):
    """A whole set in order, for evaluation; the last batch is padded and masked."""

    batch_size: int = struct.field(pytree_node=False)

    def __len__(self) -> int:
        return -(-self.size // self.batch_size)

    def indices(self, step):
        return eval_rows(step, self.size, self.batch_size)[0]

    def __getitem__(self, index) -> Batch:
        rows, mask = eval_rows(index, self.size, self.batch_size)
        return {**{name: value[rows] for name, value in self.arrays.items()}, "mask": mask}


def train_batches(
    arrays: Arrays,
    batch_size: int,
    seed: Any = 0,
    balance: str | None = None,
    at_most: bool = False,
) -> TrainBatches | BalancedBatches:
    """Endless shuffled batches of in-memory ``arrays``, gathered on the device; or, of a part that streams,
    the same batches read ahead.

    Args:
      balance: a column of class numbers, of which batches hold as many rows of each: a row's chance is inverse to
        the frequency of its class. An epoch is still as many rows as there are.
      at_most: of fewer rows than ``batch_size`` a batch holds all, of folds as many as the smallest has; as suits
        small files of a user's own.

    Raises:
      UserError: there are too few rows, or no such column; or a part that streams, or folds, are to be balanced.
    """
    if at_most:
        rows = arrays.smallest() if hasattr(arrays, "smallest") else row_count(arrays)
        batch_size = min(batch_size, rows)
    if hasattr(arrays, "train_batches"):
        if balance is not None and hasattr(arrays, "smallest"):
            raise UserError(
                "balance-folds",
                "rows that are cut into folds cannot be balanced: leave out the folds, or the balance",
            )
        if balance is not None:
            raise UserError(
                "balance-streams",
                "batches that stream from disk cannot be balanced: take fewer or smaller examples, which fit into "
                "memory, or leave the balance out",
            )
        return arrays.train_batches(batch_size, seed)
    size = check_arrays(arrays)
    check_batch_size(batch_size, size, "training examples")
    if balance is not None:
        return _balanced(arrays, batch_size, seed, balance)
    return TrainBatches(arrays, stream_seed(seed), batch_size)


def eval_batches(arrays: Arrays, batch_size: int) -> EvalBatches:
    """One ordered pass over in-memory ``arrays``, or over a part that streams, padded and masked."""
    if hasattr(arrays, "eval_batches"):
        return arrays.eval_batches(batch_size)
    size = check_arrays(arrays)
    keep_mask_free(arrays)
    bounded("batch size", batch_size, at_least=1, whole=True)
    return EvalBatches(arrays, min(batch_size, size))


def held_out(splits: Splits | Mapping[str, Any], batch_size: int = 0) -> dict[str, Any]:
    """``evals`` and ``tests`` of an experiment: the parts of ``splits`` that it is not trained on, in evaluation
    batches of that size; or those batches themselves, by set.

    Raises:
      UserError: the user's own files have no validation part, which is to choose the step.
    """
    if not isinstance(splits, Splits):
        choosing = {name: own for name, own in splits.items() if name == "validation"}
        return {"evals": choosing, "tests": {n: b for n, b in splits.items() if n not in choosing}}
    if not splits.validation and "lines" in splits.info.details:
        raise UserError(
            "part-empty",
            f"{splits.info.title} has no validation part, which is to choose the best step: give --hold-out a "
            "first share above 0",
        )
    parts = {"evals": ("validation", splits.validation), "tests": ("test", splits.test)}
    return {
        kind: {name: eval_batches(columns, batch_size)} if columns else {}
        for kind, (name, columns) in parts.items()
    }


@struct.dataclass
class Window:
    """Consecutive batches ``start, start + 1, ...`` already at hand, under the same contract.

    What the loop feeds the compiled steps from a set that streams from disk: leaves are
    ``[window, batch, ...]``.
    """

    arrays: Arrays
    start: Any

    def __getitem__(self, step) -> Batch:
        offset = step - self.start
        return jax.tree.map(lambda x: x[offset], self.arrays)
