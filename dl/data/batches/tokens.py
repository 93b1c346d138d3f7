"""Batches for language models, cut from one long array of token numbers."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import struct
from numpy.lib.stride_tricks import sliding_window_view

from dl.core.errors import UserError, bounded
from dl.core.random import mix
from dl.core.task import Batch
from dl.data.batches.resident import digest_arrays, stream_seed
from dl.data.batches.streams import FileRows, StreamBatches
from dl.data.batches.windows import Slice, TrainWindows, train_windows
from dl.data.splits import Columns, Splits


@dataclasses.dataclass(frozen=True, eq=False)
class StoredCrops:
    """The windows of :func:`crops`, by their starting places, of ``tokens`` that lie on disk."""

    tokens: np.ndarray
    length: int
    count: int

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, row: int) -> Columns:
        return {name: value[0] for name, value in self.take(np.array([row])).items()}

    def take(self, rows: np.ndarray) -> Columns:
        windows = sliding_window_view(self.tokens, self.length + 1)[rows.astype(np.int64)]
        return {"inputs": windows[:, :-1], "targets": windows[:, 1:]}

    def digest(self) -> str:
        return digest_arrays({"token": self.tokens})


def crops(tokens: Any, length: int, batch_size: int, seed: Any = 0) -> TrainWindows | StreamBatches:
    """Random crops for a causal language model: ``inputs`` and ``targets``, both int32
    ``[batch, length]``, targets one place on. An epoch has every starting place once. Of tokens that are mapped
    from disk (``np.memmap``) the same batches are read ahead of need."""
    bounded("length", length, at_least=1, whole=True)
    bounded("batch size", batch_size, at_least=1, whole=True)
    if isinstance(tokens, np.memmap):
        count = len(tokens) - length
        count -= count % batch_size if count * batch_size >= 2**31 else 0
        return StreamBatches(StoredCrops(tokens, length, count), batch_size, stream_seed(seed))
    fields = (Slice("inputs", "token", 0, length), Slice("targets", "token", 1, length))
    arrays = {"token": np.asarray(tokens, np.int32)}
    return _shufflable(train_windows(arrays, fields, batch_size, seed))


def _shufflable(windows: TrainWindows) -> TrainWindows:
    """``windows``, without the last few starts where so many cannot be shuffled in 32 bits: a whole
    number of batches an epoch can be, up to four thousand million."""
    if windows.count * windows.batch_size < 2**31:
        return windows
    return dataclasses.replace(windows, count=windows.count - windows.count % windows.batch_size)


def packed_crops(
    tokens: Any, documents: Any, length: int, batch_size: int, seed: Any = 0
) -> TrainWindows:
    """:func:`crops` of packed documents, with ``document [batch, length]`` of each input, so that
    attention can stop at a document's edge (see :func:`pack`)."""
    bounded("length", length, at_least=1, whole=True)
    bounded("batch size", batch_size, at_least=1, whole=True)
    arrays = {"token": np.asarray(tokens, np.int32), "document": np.asarray(documents, np.int32)}
    fields = (
        Slice("inputs", "token", 0, length),
        Slice("targets", "token", 1, length),
        Slice("document", "document", 0, length),
    )
    return _shufflable(train_windows(arrays, fields, batch_size, seed))


def pack(sequences: Sequence[Sequence[int]], end: int) -> tuple[np.ndarray, np.ndarray]:
    """``sequences`` laid end to end, ``end`` after each: tokens and document numbers, ``[tokens]``."""
    tokens = np.concatenate([np.array([*sequence, end], np.int32) for sequence in sequences])
    lengths = [len(sequence) + 1 for sequence in sequences]
    return tokens, np.repeat(np.arange(len(sequences), dtype=np.int32), lengths)


def strided(tokens: Any, length: int, stride: int | None = None, **known: np.ndarray) -> Columns:
    """Evaluation windows that score every token but the first exactly once.

    Windows start ``stride`` apart (default ``length``); each scores only the targets that no earlier
    window has, so all but the first see at least ``length - stride`` tokens of context.

    Args:
      known: what is known of each token, ``[tokens]``, such as its ``bytes``; columns of the targets.

    Returns:
      ``inputs``, ``targets`` int32 and ``weight`` float32, all ``[windows, length]``, for
      :func:`dl.data.batches.resident.eval_batches`; weight is 0 on padding and on context.
    """
    windows = _strided(np.asarray(tokens, np.int32), length, stride, known)
    return windows.take(np.arange(len(windows)))


def _strided(tokens: np.ndarray, length: int, stride: int | None, known: Columns) -> "Strided":
    bounded("length", length, at_least=1, whole=True)
    stride = length if stride is None else stride
    if not 1 <= stride <= length:
        raise UserError("range", f"stride {stride} must be from 1 to the length {length}")
    if len(tokens) < 2:
        raise UserError("text-too-short", "a text to evaluate on needs two tokens or more")
    return Strided(tokens, length, stride, known)


@dataclasses.dataclass(frozen=True, eq=False)
class Strided:
    """The windows of :func:`strided` by their numbers; given a row with a ``window``, that one."""

    tokens: np.ndarray
    length: int
    stride: int
    known: Columns

    def __len__(self) -> int:
        return 1 + max(0, -(-(len(self.tokens) - 1 - self.length) // self.stride))

    def take(self, rows: np.ndarray) -> Columns:
        targets, length = len(self.tokens) - 1, self.length
        places = rows[:, None] * self.stride + np.arange(length)
        fresh = (np.arange(length) >= length - self.stride) | (rows[:, None] == 0)
        after = np.minimum(places + 1, targets)
        return {
            "inputs": self.tokens[np.minimum(places, targets - 1)],
            "targets": self.tokens[after],
            "weight": (fresh & (places < targets)).astype(np.float32),
        } | {name: values[after] for name, values in self.known.items()}

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        return {n: v[0] for n, v in self.take(np.asarray(row["window"])[None]).items()}

    def __repr__(self) -> str:
        known = digest_arrays({"tokens": self.tokens, **self.known})
        return f"Strided({self.length}, {self.stride}, {known})"


def held_windows(splits: Splits, length: int, stride: int | None = None) -> Splits:
    """The parts held out, as :func:`strided` windows of their ``tokens`` and what else is known of each token; of
    tokens that are mapped from disk as rows that stream."""

    def windows(part: Columns) -> Any:
        known = {name: values for name, values in part.items() if name != "tokens"}
        if not isinstance(part["tokens"], np.memmap):
            return strided(part["tokens"], length, stride, **known)
        cut = _strided(part["tokens"], length, stride, known)
        return FileRows({"window": np.arange(len(cut))}, cut)

    return dataclasses.replace(splits, train={}).map(windows)


@struct.dataclass
class TrackBatches:
    """Consecutive windows of ``batch_size`` parallel tracks, for truncated back-propagation in time.

    Row b of step s + 1 goes on where row b of step s stopped, so a recurrent state can be carried
    from step to step; ``reset [batch]`` is 1.0 where a track starts anew, at each epoch's first step.
    Each epoch starts at another place (keyed by seed and epoch), so that over the epochs every token
    is trained on although the tracks' length need not divide the text's.

    A batch holds ``inputs`` and ``targets``, int32 ``[batch, length]``, and ``reset``.
    """

    tokens: Any
    seed: Any
    batch_size: int = struct.field(pytree_node=False)
    length: int = struct.field(pytree_node=False)

    @property
    def columns(self) -> Columns:
        """All that the columns of a batch are taken from."""
        return {"inputs": self.tokens, "targets": self.tokens}

    @property
    def steps_per_epoch(self) -> int:
        return (len(self.tokens) - 1) // (self.batch_size * self.length)

    @property
    def size(self) -> int:
        """Windows an epoch."""
        return self.steps_per_epoch * self.batch_size

    def indices(self, step):
        """First position of each row's inputs, int32 ``[batch]``."""
        steps = self.steps_per_epoch
        step = jnp.asarray(step, jnp.int32)
        track = steps * self.length
        spare = len(self.tokens) - 1 - self.batch_size * track
        epoch = (step // steps).astype(jnp.uint32)
        shift = mix(mix(jnp.asarray(self.seed, jnp.uint32)) ^ epoch) % np.uint32(spare + 1)
        rows = jnp.arange(self.batch_size, dtype=jnp.int32) * track
        return rows + shift.astype(jnp.int32) + (step % steps) * self.length

    def __getitem__(self, step) -> Batch:
        places = self.indices(step)[:, None] + jnp.arange(self.length, dtype=jnp.int32)
        first = jnp.asarray(step, jnp.int32) % self.steps_per_epoch == 0
        return {
            "inputs": self.tokens[places],
            "targets": self.tokens[places + 1],
            "reset": jnp.full((self.batch_size,), first, jnp.float32),
        }

    def digest(self) -> str:
        return digest_arrays({"token": self.tokens})


def tracks(tokens: Any, length: int, batch_size: int, seed: Any = 0) -> TrackBatches:
    """:class:`TrackBatches` of ``tokens``, ``length`` tokens a step."""
    tokens = np.asarray(tokens, np.int32)
    bounded("length", length, at_least=1, whole=True)
    bounded("batch size", batch_size, at_least=1, whole=True)
    if (len(tokens) - 1) // (batch_size * length) < 1:
        raise UserError(
            "text-too-short",
            f"{len(tokens)} tokens are too few for {batch_size} tracks of {length} a step",
        )
    return TrackBatches(tokens, stream_seed(seed), batch_size, length)
