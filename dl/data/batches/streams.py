"""Batches of sets that are larger than memory or costly to decode, read ahead by Grain.

The contract is that of :mod:`dl.data.batches.resident`: ``batches[step]`` depends on (seed, step) alone and has
the same rows as a set on the device would. So there is no iterator state to save: reading goes on from
any step, which is what a resumed run asks for.
"""

import dataclasses
import functools
import hashlib
import itertools
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import jax
import numpy as np

from dl.core.errors import UserError
from dl.core.random import mix
from dl.data.batches.resident import (
    check_batch_size,
    digest_arrays,
    eval_rows,
    keep_mask_free,
    stream_rows,
    stream_seed,
)
from dl.data.batches.sources import ArraySource as ArraySource
from dl.data.batches.sources import Row, Source, source_digest
from dl.data.batches.sources import column_source as column_source
from dl.data.batches.sources import open_arrays as open_arrays
from dl.data.readers.files import digest_files, for_each
from dl.data.readers.picture_folders import FileSource as FileSource
from dl.data.readers.picture_folders import image_folder as image_folder
from dl.data.readers.pictures import Fit, fit, read_pixels
from dl.data.splits import Columns, take


@dataclasses.dataclass(frozen=True)
class DecodeImage:
    """Read a :class:`FileSource` row's picture as ``image`` uint8 ``[height, width, channels]``, brought to
    the size as :func:`dl.data.readers.pictures.fit` does it ``how``.

    ``background`` is the grey or (red, green, blue) behind what is transparent, in 0..255; ``mode`` that of
    :func:`dl.data.readers.pictures.read_pixels`.
    """

    height: int
    width: int
    background: int | tuple[int, int, int] = 255
    mode: str = "RGB"
    how: Fit = "cut"

    def __call__(self, row: Row) -> Row:
        least = 2 * max(self.height, self.width)
        pixels = read_pixels(row["file"], mode=self.mode, background=self.background, least=least)
        return {"image": fit(pixels, self.height, self.width, self.how), "label": row["label"]}


_WORTH_PROCESSES = 5000  # rows of an evaluation, before each of which processes start anew


@dataclasses.dataclass(frozen=True, eq=False)
class FileRows:
    """Rows that are read from files when they are asked for: a part of a data set too large for memory.

    Attributes:
      columns: what is known of every row without reading it, ``[rows, ...]``: paths, as objects, numbers, and
        words in a column ``text``.
      decode: ``row of columns -> row``, of equal shapes; its ``repr`` says all that it depends on.
      functions: ``columns -> columns`` of one row ``[1, ...]``, applied to what was decoded.
      draw: ``(row of columns, key) -> row``, in place of ``decode`` in training, where it differs from step to
        step; ``key`` is a number of 32 bits.
      processes: that read them ahead, see :class:`StreamBatches`.
    """

    columns: Columns
    decode: Callable[[Row], Row]
    functions: tuple[Callable[[Columns], Columns], ...] = ()
    draw: Callable[[Row, int], Row] | None = None
    processes: int = 0

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def __getitem__(self, row: int) -> Row:
        if isinstance(row, str):
            self._whole(f"[{row!r}]")
        return self.drawn(row, None)

    def _whole(self, asked: str) -> NoReturn:
        raise UserError(
            "stream-not-here",
            f"{asked} of rows that are read from disk as they are needed: leave --stream out, or bring fewer "
            "(dl.data.splits.known(part) has what is known of them unread, take(part, rows) there reads some)",
        )

    def keys(self) -> NoReturn:
        """Refuse what asks for whole columns, as ``items`` and ``values`` do: a part in memory is a dictionary."""
        self._whole("keys()")

    def items(self) -> NoReturn:
        self._whole("items()")

    def values(self) -> NoReturn:
        self._whole("values()")

    def drawn(self, row: int, key: int | None) -> Row:
        """A row, of which training sees what is drawn by ``key``."""
        known = {name: value[row] for name, value in self.columns.items()}
        drawn = key is not None and self.draw is not None
        decoded = self.draw(known, key) if drawn else self.decode(known)  # type: ignore[misc,arg-type]
        if self.functions:
            batch = {name: np.asarray(value)[None] for name, value in decoded.items()}
            for function in self.functions:
                batch = function(batch)
            decoded = {name: value[0] for name, value in batch.items()}
        return decoded

    def __or__(self, more: Columns) -> "FileRows":
        """The same rows with more columns that are known of them."""
        return dataclasses.replace(self, columns={**self.columns, **more})

    def part(self, rows: np.ndarray | slice) -> "FileRows":
        """Those rows, still to be read."""
        return dataclasses.replace(self, columns=take(self.columns, rows))

    def map(self, function: Callable[[Columns], Columns]) -> "FileRows":
        """The same rows, each then changed by ``function``."""
        return dataclasses.replace(self, functions=(*self.functions, function))

    def read(self, what: str = "reading") -> Columns:
        """All rows, by several threads.

        Raises:
          UserError: a row cannot be read; it says how many more cannot.
        """
        columns: Columns = {}
        for row, item in for_each(self.__getitem__, range(len(self)), what):
            for name, value in item.items():
                if name not in columns:
                    kind = object if isinstance(value, str) else np.asarray(value).dtype
                    columns[name] = np.empty((len(self), *np.shape(value)), kind)
                columns[name][row] = value
        return columns

    def train_batches(self, batch_size: int, seed: Any = 0) -> "StreamBatches":
        """The batches of :func:`dl.train_batches`, read ahead."""
        return StreamBatches(self, batch_size, stream_seed(seed), processes=self.processes)

    def eval_batches(self, batch_size: int) -> "StreamEvalBatches":
        """The batches of :func:`dl.eval_batches`, read ahead."""
        processes = self.processes if len(self) >= _WORTH_PROCESSES else 0
        return StreamEvalBatches(self, min(batch_size, len(self)), processes=processes)

    def digest(self) -> str:
        """SHA-256 (hex) of the files' contents, wherever they lie, and of the numbers."""
        objects = {n: v for n, v in self.columns.items() if v.dtype == object}
        paths = {n: list(v) if n == "text" else _files_digest(v) for n, v in objects.items()}
        numbers = digest_arrays({n: v for n, v in self.columns.items() if n not in paths})
        draw = "" if self.draw is None else repr(self.draw)
        return hashlib.sha256(f"{paths}{numbers}{self.decode!r}{draw}".encode()).hexdigest()


def _files_digest(files: Any) -> str:
    return files.digest() if hasattr(files, "digest") else digest_files(files)


def _host_batch(
    source: Any,
    rows: np.ndarray,
    decode: Callable[[Row], Row] | None,
    keys: np.ndarray | None = None,
) -> Row:
    """Rows decoded and stacked, those of training drawn by ``keys``; raises UserError naming the row that cannot
    be."""
    if decode is None and hasattr(source, "take"):
        return source.take(rows)
    decoded = []
    for place, row in enumerate(rows.tolist()):
        try:
            item = source[row] if keys is None else source.drawn(row, int(keys[place]))
            decoded.append(item if decode is None else decode(item))
        except UserError as error:
            raise UserError(error.code, f"reading row {row} failed: {error}") from None
        except Exception as error:
            raise UserError(
                "row-unreadable", f"reading row {row} failed: {type(error).__name__}: {error}"
            ) from error
    columns = {}
    for name in decoded[0]:
        try:
            columns[name] = np.stack([np.asarray(item[name]) for item in decoded])
        except ValueError:
            shapes = sorted({np.shape(item[name]) for item in decoded})
            raise UserError(
                "row-shapes-differ",
                f"{name!r} has rows of different shapes ({shapes[0]}, {shapes[-1]}): give "
                "a decode function that brings them to one shape",
            ) from None
        if columns[name].dtype.kind in "OSU":
            raise UserError(
                "column-not-numbers",
                f"{name!r} holds {columns[name].dtype}, not numbers: decode or drop it",
            )
    return columns


# NumPy takes as long to shuffle a few rows as some thousands.
ROWS_AHEAD = 4096


@functools.lru_cache(maxsize=32)
def _rows_ahead(block: int, count: int, size: int, batch_size: int, seed: int) -> np.ndarray:
    """The rows of ``count`` steps from ``block * count`` on, ``[count, batch_size]``."""
    steps = block * count + np.arange(count)
    rows = stream_rows(steps[:, None], size, batch_size, np.uint32(seed), np)
    rows.flags.writeable = False
    return rows


def _at_once(batches, start: int) -> int:
    """How many batches a thread reads before it hands them over, which costs as much as to read a small one."""
    if batches.processes or batches.decode is not None or not hasattr(batches.source, "take"):
        return 1
    size = sum(value.nbytes for value in batches[start].values())
    return min(64, max(1, 2**20 // max(1, size)))


def _read_several(batches, start: int, stop: int, several: int, place: int) -> list[Row]:
    first = start + place * several
    return [batches[step] for step in range(first, min(first + several, stop))]


def _read_ahead(batches, start: int, stop: int) -> Iterator[Row]:
    """``batches[start], batches[start + 1], ...`` in order, decoded ahead of need."""
    import grain
    from absl import flags

    if not flags.FLAGS.is_parsed():  # Grain's processes read absl's flags
        flags.FLAGS.mark_as_parsed()
    ahead = max(batches.prefetch, batches.threads)
    options = grain.ReadOptions(num_threads=batches.threads, prefetch_buffer_size=ahead)
    several = _at_once(batches, start)
    count = -(-(stop - start) // several)
    read = functools.partial(_read_several, batches, start, stop, several)
    dataset = grain.MapDataset.range(0, count).map(read).to_iter_dataset(options)
    if batches.processes:
        workers = grain.multiprocessing.MultiprocessingOptions(num_workers=batches.processes)
        dataset = dataset.mp_prefetch(workers)
    reader = iter(dataset)
    try:
        for batch in itertools.chain.from_iterable(reader):
            # Processes hand over shared memory; a copy frees it now, not whenever Python exits.
            yield {n: np.array(v) for n, v in batch.items()} if batches.processes else batch
    except RuntimeError as error:
        if "terminated unexpectedly" not in str(error):
            raise
        raise UserError(
            "reader-died",
            f"a reading process died ({str(error).split('.')[0]}): usually it ran out of memory; use "
            "fewer processes, or processes=0 to see what its decode function does",
        ) from None
    finally:
        close = getattr(reader, "close", None)
        if close is not None:
            close()


@dataclasses.dataclass(frozen=True)
class StreamBatches:
    """Endless shuffled batches read from a source: host arrays, ``batches[step]`` by (seed, step).

    Attributes:
      source: rows by number.
      batch_size: rows a batch, over all shards together.
      seed: of the shuffle.
      decode: ``row -> row`` of equal shapes, run in the reading threads or processes; must depend on
        the row alone.
      threads: reading at the same time (in each process).
      processes: 0 reads in this one's threads, which suits what releases Python's lock (files,
        pictures, NumPy); more suit decoding in plain Python. With processes, a script's own code must
        stand under ``if __name__ == '__main__'``.
      prefetch: batches read ahead (in each process).
      shard: ``(index, count)``: this process's rows of every batch are the ``index``-th of ``count``
        equal pieces.
    """

    source: Source
    batch_size: int
    seed: int = 0
    decode: Callable[[Row], Row] | None = None
    threads: int = 4
    processes: int = 0
    prefetch: int = 4
    shard: tuple[int, int] = (0, 1)

    def __post_init__(self) -> None:
        _check_stream(self)
        check_batch_size(self.batch_size, self.size, "training examples")
        if isinstance(self.seed, jax.core.Tracer):  # lanes of one program would share one order
            raise UserError(
                "field-traced",
                "the seed of batches that stream is traced here, and they are read on the host: give it a plain "
                "value (a sweep compiles a program for each)",
            )

    @property
    def size(self) -> int:
        return len(self.source)

    def indices(self, step) -> np.ndarray:
        """The rows of the whole batch of ``step``, all shards', ``[batch_size]``."""
        count = max(1, ROWS_AHEAD // self.batch_size)
        block, place = divmod(int(step), count)
        return _rows_ahead(block, count, self.size, self.batch_size, int(self.seed))[place]

    def __getitem__(self, step) -> Row:
        """This shard's part of the batch of ``step``."""
        rows, keys = piece(self.indices(int(step)), self.shard), None
        if getattr(self.source, "draw", None) is not None:
            places = int(step) * self.batch_size + np.arange(self.batch_size, dtype=np.int64)
            high = mix(mix(np.uint32(self.seed), np) ^ (places >> 32).astype(np.uint32), np)
            keys = piece(mix(high ^ places.astype(np.uint32), np), self.shard)
        return _host_batch(self.source, rows, self.decode, keys)

    def iterate(self, start: int = 0) -> Iterator[Row]:
        """The batches from step ``start`` on, without end, read ahead."""
        return _read_ahead(self, start, start + 2**40)

    def digest(self) -> str:
        """See :func:`source_digest`."""
        return source_digest(self.source)


@dataclasses.dataclass(frozen=True)
class StreamEvalBatches:
    """One ordered pass over a source; the last batch is padded and masked. Attributes as those of
    :class:`StreamBatches`."""

    source: Source
    batch_size: int
    decode: Callable[[Row], Row] | None = None
    threads: int = 4
    processes: int = 0
    prefetch: int = 4
    shard: tuple[int, int] = (0, 1)

    def __post_init__(self) -> None:
        _check_stream(self)

    @property
    def size(self) -> int:
        return len(self.source)

    def __len__(self) -> int:
        return -(-self.size // self.batch_size)

    def indices(self, step) -> np.ndarray:
        return eval_rows(step, self.size, self.batch_size, np)[0]

    def __getitem__(self, index) -> Row:
        rows, mask = eval_rows(int(index), self.size, self.batch_size, np)
        batch = _host_batch(self.source, piece(rows, self.shard), self.decode)
        keep_mask_free(batch)
        return {**batch, "mask": piece(mask, self.shard)}

    def iterate(self, start: int = 0) -> Iterator[Row]:
        return _read_ahead(self, start, len(self))

    def digest(self) -> str:
        """See :func:`source_digest`."""
        return source_digest(self.source)


def _check_stream(batches) -> None:
    index, count = batches.shard
    if batches.batch_size < 1 or batches.size < 1:
        raise UserError(
            "batch-size-impossible",
            f"{batches.size} rows in batches of {batches.batch_size} cannot be read",
        )
    if not 0 <= index < count or batches.batch_size % count:
        raise UserError(
            "shard-impossible",
            f"shard {index} of {count} is impossible with batches of {batches.batch_size}: the batch "
            "size must be a multiple of the number of shards",
        )


def piece(rows: np.ndarray, shard: tuple[int, int]) -> np.ndarray:
    index, count = shard
    part = len(rows) // count
    return rows[index * part : (index + 1) * part]
