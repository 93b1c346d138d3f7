"""Columns of numbers in files of the data folder, a part of a table too large for memory."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from dl.data.batches.resident import stream_seed
from dl.data.batches.sources import ArraySource
from dl.data.batches.streams import StreamBatches, StreamEvalBatches
from dl.data.readers.on_disk import ROWS, Store
from dl.data.splits import Columns, pieces, row_count, take


class StoredColumns(dict[str, np.ndarray]):
    """Named columns ``[rows, ...]`` that are mapped from disk. What is made of them is on disk too."""

    def part(self, rows: np.ndarray) -> "StoredColumns":
        """Those rows, side by side on disk."""
        starts = range(0, len(rows), ROWS)
        return _written(take(self, rows[start : start + ROWS]) for start in starts)

    def map(self, function: Callable[[Columns], Columns]) -> "StoredColumns":
        """``function(columns)`` of some rows at a time; a column that it leaves as it is stays where it is."""
        same: set[str] = set()

        def changed(piece: Columns) -> Columns:
            done = function(piece)
            same.update(name for name, value in done.items() if value is piece.get(name))
            return {name: value for name, value in done.items() if name not in same}

        new = _written(changed(piece) for piece in pieces(self, ROWS))
        return StoredColumns({name: self[name] for name in same} | new)

    def train_batches(self, batch_size: int, seed: Any = 0) -> StreamBatches:
        """The batches of :func:`dl.train_batches`, read ahead."""
        return StreamBatches(ArraySource(self), batch_size, stream_seed(seed))

    def eval_batches(self, batch_size: int) -> StreamEvalBatches:
        """The batches of :func:`dl.eval_batches`, read ahead."""
        return StreamEvalBatches(ArraySource(self), min(batch_size, row_count(self)))


def _written(some: Iterable[Columns]) -> StoredColumns:
    """Pieces of columns end to end, each row beside the next."""
    stores: dict[str, Store] = {}
    shapes, rows = {}, 0
    for piece in some:
        rows += row_count(piece) if piece else 0
        for name, value in piece.items():
            stores.setdefault(name, Store(value.dtype)).write(value)
            shapes[name] = value.shape[1:]
    return StoredColumns({n: s.mapped().reshape(rows, *shapes[n]) for n, s in stores.items()})
