"""Rows of several sources end to end, and batches that take a fixed share of each."""

import dataclasses
import functools
import hashlib
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from dl.core.errors import UserError
from dl.core.random import mix, permute
from dl.data.batches.resident import stream_seed
from dl.data.batches.sources import Row, Source, source_digest
from dl.data.batches.streams import ROWS_AHEAD, StreamBatches, StreamEvalBatches


@dataclasses.dataclass(frozen=True, eq=False)
class Chain:
    """The rows of several sources, one source after the other.

    Attributes:
      sources: rows by number, of equal columns and shapes.
      shares: rows of each in a cycle of training, see :class:`MixedBatches`; none takes them as one set.
    """

    sources: tuple[Source, ...]
    shares: tuple[int, ...] = ()

    @functools.cached_property
    def ends(self) -> np.ndarray:
        """The row at which each source is over, int64 ``[sources]``."""
        return np.cumsum([len(source) for source in self.sources])

    def __len__(self) -> int:
        return int(self.ends[-1])

    def __getitem__(self, row: int) -> Row:
        return {name: value[0] for name, value in self.take(np.array([row])).items()}

    def take(self, rows: np.ndarray) -> Row:
        rows = rows.astype(np.int64)
        which = np.searchsorted(self.ends, rows, side="right")
        columns: Row = {}
        for number in np.unique(which):
            source, places = self.sources[number], np.flatnonzero(which == number)
            inner = rows[places] - self.ends[number] + len(source)
            for name, values in _taken(source, inner).items():
                shape = (len(rows), *values.shape[1:])
                columns.setdefault(name, np.empty(shape, values.dtype))[places] = values
        return columns

    def map(self, function: Any) -> "Chain":
        """The same rows, each then changed by ``function``, of sources that can be."""
        sources: Any = self.sources
        return dataclasses.replace(self, sources=tuple(each.map(function) for each in sources))

    def train_batches(self, batch_size: int, seed: Any = 0) -> StreamBatches:
        """Endless batches, shuffled as those of :func:`dl.train_batches`, of each source its share."""
        if not self.shares:
            return StreamBatches(self, batch_size, stream_seed(seed))
        return MixedBatches(self, batch_size, stream_seed(seed))

    def eval_batches(self, batch_size: int) -> StreamEvalBatches:
        """All rows in order."""
        return StreamEvalBatches(self, min(batch_size, len(self)))

    def digest(self) -> str:
        """SHA-256 (hex) of the sources' digests and shares."""
        digests = [source_digest(source) for source in self.sources]
        if not self.shares and len(digests) == 1:
            return digests[0]
        return hashlib.sha256(f"{digests}{self.shares}".encode()).hexdigest()


def _taken(source: Any, rows: np.ndarray) -> Row:
    if hasattr(source, "take"):
        return source.take(rows)
    some = [source[row] for row in rows.tolist()]
    return {name: np.stack([np.asarray(row[name]) for row in some]) for name in some[0]}


@dataclasses.dataclass(frozen=True)
class MixedBatches(StreamBatches):
    """Endless batches of a :class:`Chain`, in cycles of ``sum(shares)`` rows of which each source has its share.

    Rows of a cycle come in shuffled order, and the rows of a source in shuffled epochs of its own. Which row of
    which source stands at a place is a function of (seed, step, place): there is no state.
    """

    source: Chain

    def indices(self, step) -> np.ndarray:
        count = max(1, ROWS_AHEAD // self.batch_size)
        block, place = divmod(int(step), count)
        sizes = tuple(len(source) for source in self.source.sources)
        rows = _mixed_rows(
            block, count * self.batch_size, sizes, self.source.shares, int(self.seed)
        )
        return rows[place * self.batch_size : (place + 1) * self.batch_size]


@functools.lru_cache(maxsize=32)
def _mixed_rows(
    block: int, count: int, sizes: tuple[int, ...], shares: tuple[int, ...], seed: int
) -> np.ndarray:
    """The chain's rows at the places ``block * count ...`` of the stream, int64 ``[count]``."""
    cycle, place = np.divmod(block * count + np.arange(count, dtype=np.int64), sum(shares))
    place = permute(place, sum(shares), np.uint32(seed), cycle, np).astype(np.int64)
    which = np.searchsorted(np.cumsum(shares), place, side="right")
    rows = np.empty(count, np.int64)
    for number, (size, share) in enumerate(zip(sizes, shares, strict=True)):
        mine = np.flatnonzero(which == number)
        epoch, row = np.divmod(cycle[mine] * share + place[mine] - sum(shares[:number]), size)
        own = mix(np.uint32(seed) ^ mix(number + 1, np), np)
        rows[mine] = sum(sizes[:number]) + permute(row, size, own, epoch, np).astype(np.int64)
    rows.flags.writeable = False
    return rows


def shares_of(weights: Sequence[str | float]) -> tuple[int, ...]:
    """The smallest whole numbers in the proportions of ``weights``: ``(7, 3)`` of ``("0.7", "0.3")``.

    Raises:
      UserError: a weight is no number above 0, or no cycle of a million rows holds their proportions.
    """
    try:
        exact = [Fraction(str(weight).strip()) for weight in weights]
    except (ValueError, ZeroDivisionError):
        exact = []
    if not exact or min(exact) <= 0:
        said = f"the weights {', '.join(map(str, weights))} must be numbers above 0, such as 0.7 and 0.3"
        raise UserError("mixture-weights", said)
    parts = [share / sum(exact) for share in exact]
    cycle = int(np.lcm.reduce([part.denominator for part in parts], dtype=object))
    if cycle > 10**6:
        raise UserError(
            "mixture-weights",
            f"the weights {', '.join(map(str, weights))} come out even only every {cycle:,} rows: round them",
        )
    return tuple(int(part * cycle) for part in parts)
