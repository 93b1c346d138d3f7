"""Batches for language models, cut from one long array of token numbers."""

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import struct
from numpy.lib.stride_tricks import sliding_window_view

from dl.core.errors import UserError, bounded
from dl.core.random import mix
from dl.core.task import Batch
from dl.data.batches.mixtures import Chain
from dl.data.batches.resident import digest_arrays, stream_seed
from dl.data.batches.streams import FileRows, StreamBatches, piece
from dl.data.batches.windows import Slice, TrainWindows, train_windows
from dl.data.readers.files import digest_files
from dl.data.readers.mapped import check_in_place, unbroken
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
        with unbroken(self.tokens):
            windows = sliding_window_view(self.tokens, self.length + 1)[rows.astype(np.int64)]
        windows = windows.astype(np.int32, copy=False)  # files have 16 bits a token
        return {"inputs": windows[:, :-1], "targets": windows[:, 1:]}

    def digest(self) -> str:
        return digest_tokens(self.tokens)


@dataclasses.dataclass(frozen=True, eq=False)
class TokenFiles:
    """Tokens that are mapped from several files, in place of one array.

    Attributes:
      files: of each file an array ``[tokens]``.
      shares: rows of each in a cycle of training; none takes them end to end.
    """

    files: tuple[np.ndarray, ...]
    shares: tuple[int, ...] = ()

    def __len__(self) -> int:
        return sum(map(len, self.files))

    def __getitem__(self, some: slice) -> np.ndarray:
        """The first tokens, ``[:stop]``: of each file its share, or file by file."""
        stop, pieces = len(self) if some.stop is None else some.stop, []
        for number, tokens in enumerate(self.files):
            most = stop * self.shares[number] // sum(self.shares) if self.shares else stop
            pieces.append(tokens[:most])
            stop -= 0 if self.shares else len(pieces[-1])
        return np.concatenate(pieces)


def _files_of(tokens: Any) -> tuple[tuple[np.ndarray, ...], tuple[int, ...]]:
    """The arrays of tokens and their shares, of one or several files."""
    return (tokens.files, tokens.shares) if isinstance(tokens, TokenFiles) else ((tokens,), ())


def digest_tokens(tokens: np.ndarray) -> str:
    """SHA-256 (hex) of tokens: of a file that has a name its bytes', which is kept until that changes."""
    name = getattr(tokens, "filename", None)
    check_in_place(tokens)
    return digest_arrays({"token": tokens}) if name is None else digest_files([name])


def crops(tokens: Any, length: int, batch_size: int, seed: Any = 0) -> TrainWindows | StreamBatches:
    """Random crops for a causal language model: ``inputs`` and ``targets``, both int32
    ``[batch, length]``, targets one place on. An epoch has every starting place once. Of tokens that are mapped
    from disk (``np.memmap``) the same batches are read ahead of need."""
    bounded("length", length, at_least=1, whole=True)
    bounded("batch size", batch_size, at_least=1, whole=True)
    if isinstance(tokens, TokenFiles):
        return _crops_of(tokens, length).train_batches(batch_size, seed)
    _check_length(_files_of(tokens)[0], length)
    if isinstance(tokens, np.memmap):
        count = len(tokens) - length
        count -= count % batch_size if count * batch_size >= 2**31 else 0
        return StreamBatches(StoredCrops(tokens, length, count), batch_size, stream_seed(seed))
    fields = (Slice("inputs", "token", 0, length), Slice("targets", "token", 1, length))
    arrays = {"token": np.asarray(tokens, np.int32)}
    return _shufflable(train_windows(arrays, fields, batch_size, seed))


def _crops_of(tokens: Any, length: int) -> Chain:
    """All windows of ``length`` tokens, of one file or several."""
    files, shares = _files_of(tokens)
    _check_length(files, length)
    return Chain(tuple(StoredCrops(each, length, len(each) - length) for each in files), shares)


def _check_length(texts: Sequence[Any], length: int) -> None:
    for each in texts:
        if len(each) <= length:
            raise UserError(
                "text-too-short",
                f"a text of {len(each)} tokens is too short for windows of {length} and the token after: "
                f"take windows of {max(len(each) - 1, 1)} or less, or more text",
            )


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
    ended = [np.array([*sequence, end], np.int32) for sequence in sequences]
    tokens = np.concatenate([np.zeros(0, np.int32), *ended])
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
        with unbroken(self.tokens, *self.known.values()):
            return {
                "inputs": self.tokens[np.minimum(places, targets - 1)].astype(np.int32, copy=False),
                "targets": self.tokens[after].astype(np.int32, copy=False),
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
        if isinstance(part["tokens"], TokenFiles):
            files = zip(*(_files_of(column)[0] for column in part.values()), strict=True)
            return Chain(tuple(windows(dict(zip(part, each, strict=True))) for each in files))
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
        size = len(self.tokens), self.batch_size, self.length
        return _track_places(jnp.asarray(step, jnp.int32), *size, self.seed, jnp)[0]

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


def _track_places(step, tokens: int, batch_size: int, length: int, seed, xp) -> tuple[Any, Any]:
    """First position of each track's inputs in a step, ``[batch]``, and whether the tracks start anew."""
    integer = np.int64 if xp is np else np.int32
    steps = (tokens - 1) // (batch_size * length)
    spare = tokens - 1 - batch_size * steps * length
    epoch = xp.asarray(step // steps).astype(np.uint32)
    shift = mix(mix(xp.asarray(seed, np.uint32), xp) ^ epoch, xp) % np.uint32(spare + 1)
    rows = xp.arange(batch_size, dtype=integer) * (steps * length)
    return rows + shift.astype(integer) + (step % steps) * length, step % steps == 0


@dataclasses.dataclass(frozen=True)
class TrackStream(StreamBatches):
    """:class:`TrackBatches` of tokens on disk, read ahead; each of several files has ``tracks`` of its own."""

    source: Chain
    tracks: tuple[int, ...] = ()
    length: int = 1

    @property
    def size(self) -> int:
        files: Any = self.source.sources
        sizes = zip(files, self.tracks, strict=True)
        return sum((len(f.tokens) - 1) // (n * self.length) * n for f, n in sizes)

    def _at(self, step) -> tuple[np.ndarray, np.ndarray]:
        """Rows of the chain, and which of them start anew, both ``[batch]``."""
        rows, fresh, before = [], [], 0
        for file, count in zip(self.source.sources, self.tracks, strict=True):
            tokens: Any = file
            size = len(tokens.tokens), count, self.length
            places, first = _track_places(int(step), *size, self.seed, np)
            rows.append(before + places)
            fresh.append(np.full(count, first, np.float32))
            before += len(file)
        return np.concatenate(rows), np.concatenate(fresh)

    def indices(self, step) -> np.ndarray:
        return self._at(step)[0]

    def __getitem__(self, step) -> Batch:
        rows, fresh = (piece(values, self.shard) for values in self._at(step))
        return {**self.source.take(rows), "reset": fresh}


def tracks(tokens: Any, length: int, batch_size: int, seed: Any = 0) -> TrackBatches | TrackStream:
    """:class:`TrackBatches` of ``tokens``, ``length`` tokens a step; those on disk are read ahead of need."""
    bounded("length", length, at_least=1, whole=True)
    bounded("batch size", batch_size, at_least=1, whole=True)
    files, shares = _files_of(tokens)
    cycle = sum(shares) or 1
    if batch_size % cycle:
        raise UserError(
            "mixture-batch",
            f"a batch of {batch_size} tracks cannot be shared out {':'.join(map(str, shares))}: choose a multiple "
            f"of {cycle}",
        )
    counts = tuple(share * batch_size // cycle for share in shares or (1,))
    for each, count in zip(files, counts, strict=True):
        if (len(each) - 1) // (count * length) < 1:
            raise UserError(
                "text-too-short",
                f"{len(each)} tokens are too few for {count} tracks of {length} a step",
            )
    if isinstance(tokens, TokenFiles | np.memmap):
        chain = _crops_of(tokens, length)
        return TrackStream(chain, batch_size, stream_seed(seed), tracks=counts, length=length)
    tokens = np.asarray(tokens, np.int32)
    return TrackBatches(tokens, stream_seed(seed), batch_size, length)


@dataclasses.dataclass(frozen=True, eq=False)
class Chunks:
    """Rows of tokens that follow each other in a file, between ``start`` and ``end``: ``tokens`` int32
    ``[length]``, and ``tokens_length``; the last is padded with 0."""

    tokens: np.ndarray
    length: int
    start: int
    end: int

    def __len__(self) -> int:
        return -(-len(self.tokens) // (self.length - 2))

    def __getitem__(self, row: int) -> Columns:
        return {name: value[0] for name, value in self.take(np.array([row])).items()}

    def take(self, rows: np.ndarray) -> Columns:
        body = self.length - 2
        places = rows.astype(np.int64)[:, None] * body + np.arange(body)
        sizes = np.minimum(len(self.tokens) - places[:, 0], body)
        found = np.zeros((len(rows), self.length), np.int32)
        found[:, 0] = self.start
        there = np.arange(body) < sizes[:, None]
        with unbroken(self.tokens):
            found[:, 1:-1][there] = self.tokens[places[there]]
        found[np.arange(len(rows)), sizes + 1] = self.end
        return {"tokens": found, "tokens_length": (sizes + 2).astype(np.int32)}

    def digest(self) -> str:
        return hashlib.sha256(f"{digest_tokens(self.tokens)}{self}".encode()).hexdigest()

    def __repr__(self) -> str:
        return f"Chunks({self.length}, {self.start}, {self.end})"


def chunks(splits: Splits, length: int, start: int, end: int) -> Splits:
    """The parts of token files as rows of ``length`` tokens that stream, see :class:`Chunks`."""
    bounded("length", length, at_least=3, whole=True)

    def part(columns: Columns) -> Any:
        files, shares = _files_of(columns["tokens"])
        return Chain(tuple(Chunks(tokens, length, start, end) for tokens in files), shares)

    return splits.map(part)
