"""Batches of sets that are larger than memory or costly to decode, read ahead by Grain.

The contract is that of :mod:`dl.data.batches`: ``batches[step]`` depends on (seed, step) alone and has
the same rows as a set on the device would. So there is no iterator state to save: reading goes on from
any step, which is what a resumed run asks for.
"""

import dataclasses
import hashlib
import os
import unicodedata
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from dl.core.errors import UserError, unknown
from dl.data.batches import check_arrays, digest_arrays, eval_rows, keep_mask_free, stream_rows
from dl.data.pictures import fit, read_pixels
from dl.data.sources import digest_files

Row = dict[str, Any]


class Source(Protocol):
    """Rows by number. A source may also have ``take(rows) -> columns``, to read many at once, and
    ``digest() -> str``."""

    def __len__(self) -> int: ...

    def __getitem__(self, row: int) -> Row: ...


@dataclasses.dataclass(frozen=True)
class ArraySource:
    """Rows of arrays ``[rows, ...]``, in memory or mapped from disk.

    ``files`` are those that the arrays are the whole of, column after column, if they are mapped.
    """

    arrays: Mapping[str, np.ndarray]
    files: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values())))

    def __getitem__(self, row: int) -> Row:
        return {name: value[row] for name, value in self.arrays.items()}

    def take(self, rows: np.ndarray) -> Row:
        return {name: np.asarray(value[rows]) for name, value in self.arrays.items()}

    def digest(self) -> str:
        """SHA-256 (hex) of the columns' names and of all their bytes."""
        if self.files:
            content = f"{digest_files(self.files)}{tuple(self.arrays)}"
            return hashlib.sha256(content.encode()).hexdigest()
        words = {
            n: np.array([repr(v) for v in a]) for n, a in self.arrays.items() if a.dtype == object
        }
        return digest_arrays({**self.arrays, **words})


def open_arrays(paths: Mapping[str, str | os.PathLike]) -> ArraySource:
    """``.npy`` files as columns, mapped and not read: memory stays constant whatever their size."""
    arrays = {}
    for name, path in paths.items():
        try:
            arrays[name] = np.load(Path(path), mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise UserError(f"cannot map {path} as a .npy file: {error}") from None
    check_arrays(arrays)
    return ArraySource(arrays, tuple(str(path) for path in paths.values()))


@dataclasses.dataclass(frozen=True)
class FileSource:
    """Labelled files: a row is ``{'file': path, 'label': int32}``, to be read by a decode function."""

    paths: tuple[str, ...]
    labels: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> Row:
        return {"file": self.paths[row], "label": np.int32(self.labels[row])}

    def digest(self) -> str:
        """SHA-256 (hex) of every file's content and of the labels, wherever the files lie."""
        return hashlib.sha256(f"{digest_files(self.paths)}{self.labels}".encode()).hexdigest()


PICTURES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")


def image_folder(folder: str | os.PathLike) -> tuple[FileSource, tuple[str, ...]]:
    """The pictures under ``folder``, whose subfolders are the classes; and the classes' names.

    Files count as pictures by their endings, :data:`PICTURES` in whichever case. Those in folders
    inside a class belong to that class. Classes and files come in the order of their names' code
    points (after Unicode's NFC), on every file system and in every locale.

    Left out are folders whose names begin with ``.``, ``_``, ``@`` or ``$`` (.ipynb_checkpoints,
    __MACOSX, @eaDir), files whose names begin with ``.``, Thumbs.db and desktop.ini, files with other
    endings, pictures in no class's folder, links to nothing, and linked folders inside a class. One
    warning counts and names these, classes without a picture (which keep their number), classes
    whose names differ in case alone, and pictures in folders inside a class.

    No file is opened here: a damaged picture stops the reading with its name. To find them all first,
    read every row once (``for row in range(len(source)): decode(source[row])``).
    """
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise UserError(f"there is no folder {root}")
    left: dict[str, list[str]] = {}  # why files and folders are left out, and which
    listed = sorted(os.listdir(root), key=_order)
    folders = [name for name in listed if (root / name).is_dir()]
    for name in folders:
        if name.startswith(_HIDDEN):
            left.setdefault("hidden folders", []).append(name)
    for name in listed:
        if name not in folders:
            reason = _no_picture(root / name) or "pictures in no class's folder"
            left.setdefault(reason, []).append(name)
    classes = [name for name in folders if not name.startswith(_HIDDEN)]
    files = [_pictures_under(root / name, root, left) for name in classes]
    odd = [f"left out {len(names)} {why} ({_some(names)})" for why, names in left.items()]
    if not any(files):
        raise UserError(
            f"{root} has no pictures in subfolders named after their classes"
            + "".join(f"; {words}" for words in odd)
        )
    if empty := [name for name, found in zip(classes, files, strict=True) if not found]:
        odd.append(f"no picture in {len(empty)} of {len(classes)} classes ({_some(empty)})")
    folded = [unicodedata.normalize("NFC", name).casefold() for name in classes]
    if alike := [name for name, key in zip(classes, folded, strict=True) if folded.count(key) > 1]:
        odd.append(f"classes whose names differ in case alone ({_some(alike)})")
    inner = [path for found in files for path in found if len(Path(path).parts) > 2]
    if inner:
        odd.append(f"{len(inner)} pictures lie in folders inside a class ({_some(inner)})")
    if odd:
        warnings.warn(f"{root}: {'; '.join(odd)}", stacklevel=2)
    paths = tuple(str(root / path) for found in files for path in found)
    labels = tuple(label for label, found in enumerate(files) for _ in found)
    return FileSource(paths, labels), tuple(unicodedata.normalize("NFC", name) for name in classes)


_HIDDEN = (".", "_", "@", "$")


def _order(path: str) -> tuple:
    """Sorts paths by their parts, the same wherever they lie."""
    return tuple((unicodedata.normalize("NFC", part), part) for part in Path(path).parts)


def _no_picture(path: Path) -> str:
    """Why a file is left out; empty for a picture."""
    if path.name.startswith(".") or path.name.lower() in ("thumbs.db", "desktop.ini"):
        return "hidden files"
    if path.suffix.lower() not in PICTURES:
        return f"files ending in {path.suffix}" if path.suffix else "files without an ending"
    return "" if path.is_file() else "links to nothing"


def _pictures_under(folder: Path, root: Path, left: dict[str, list[str]]) -> list[str]:
    """Paths from ``root`` of the pictures in a class's folder; ``left`` gains what is left out."""

    def stop(error: OSError):
        raise UserError(f"cannot list {error.filename}: {error.strerror}") from None

    found = []
    for place, folders, files in os.walk(folder, onerror=stop):
        here = Path(place).relative_to(root)
        linked = {name for name in folders if os.path.islink(os.path.join(place, name))}
        hidden = {name for name in folders if name.startswith(_HIDDEN)}
        for why, names in (("hidden folders", hidden), ("linked folders", linked - hidden)):
            if names:
                left.setdefault(why, []).extend(str(here / name) for name in sorted(names))
        folders[:] = sorted(set(folders) - linked - hidden)
        for name in sorted(files):
            if reason := _no_picture(Path(place, name)):
                left.setdefault(reason, []).append(str(here / name))
            else:
                found.append(str(here / name))
    return sorted(found, key=_order)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


@dataclasses.dataclass(frozen=True)
class DecodeImage:
    """Read a :class:`FileSource` row's picture as ``image`` uint8 ``[height, width, 3]``, scaled so
    that it covers the size and cut to its middle; see :func:`dl.data.pictures.read_pixels`.

    ``background`` is the grey or (red, green, blue) behind what is transparent, in 0..255.
    """

    height: int
    width: int
    background: int | tuple[int, int, int] = 255

    def __call__(self, row: Row) -> Row:
        pixels = read_pixels(row["file"], background=self.background)
        return {"image": fit(pixels, self.height, self.width), "label": row["label"]}


def _host_batch(source: Source, rows: np.ndarray, decode: Callable[[Row], Row] | None) -> Row:
    """Rows decoded and stacked; raises UserError naming the row that cannot be."""
    if decode is None and hasattr(source, "take"):
        return source.take(rows)
    decoded = []
    for row in rows.tolist():
        try:
            decoded.append(source[row] if decode is None else decode(source[row]))
        except UserError as error:
            raise UserError(f"reading row {row} failed: {error}") from None
        except Exception as error:
            raise UserError(f"reading row {row} failed: {type(error).__name__}: {error}") from error
    columns = {}
    for name in decoded[0]:
        try:
            columns[name] = np.stack([np.asarray(item[name]) for item in decoded])
        except ValueError:
            shapes = sorted({np.shape(item[name]) for item in decoded})
            raise UserError(
                f"{name!r} has rows of different shapes ({shapes[0]}, {shapes[-1]}): give "
                "a decode function that brings them to one shape"
            ) from None
        if columns[name].dtype.kind in "OSU":
            raise UserError(f"{name!r} holds {columns[name].dtype}, not numbers: decode or drop it")
    return columns


def _read_ahead(batches, start: int, stop: int) -> Iterator[Row]:
    """``batches[start], batches[start + 1], ...`` in order, decoded ahead of need."""
    import grain
    from absl import flags

    if not flags.FLAGS.is_parsed():  # Grain's processes read absl's flags
        flags.FLAGS.mark_as_parsed()
    ahead = max(batches.prefetch, batches.threads)
    options = grain.ReadOptions(num_threads=batches.threads, prefetch_buffer_size=ahead)
    dataset = grain.MapDataset.range(start, stop).map(batches.__getitem__).to_iter_dataset(options)
    if batches.processes:
        workers = grain.multiprocessing.MultiprocessingOptions(num_workers=batches.processes)
        dataset = dataset.mp_prefetch(workers)
    reader = iter(dataset)
    try:
        for batch in reader:
            # Processes hand over shared memory; a copy frees it now, not whenever Python exits.
            yield {n: np.array(v) for n, v in batch.items()} if batches.processes else batch
    except RuntimeError as error:
        if "terminated unexpectedly" not in str(error):
            raise
        raise UserError(
            f"a reading process died ({str(error).split('.')[0]}): usually it ran out of memory; use "
            "fewer processes, or processes=0 to see what its decode function does"
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
        if self.batch_size > self.size:
            raise UserError(
                f"batch size {self.batch_size} is impossible with {self.size} training examples: "
                f"choose 1 to {self.size}"
            )

    @property
    def size(self) -> int:
        return len(self.source)

    def indices(self, step) -> np.ndarray:
        """The rows of the whole batch of ``step``, all shards', ``[batch_size]``."""
        return stream_rows(step, self.size, self.batch_size, np.uint32(self.seed), np)

    def __getitem__(self, step) -> Row:
        """This shard's part of the batch of ``step``."""
        return _host_batch(self.source, _piece(self.indices(int(step)), self.shard), self.decode)

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
        batch = _host_batch(self.source, _piece(rows, self.shard), self.decode)
        keep_mask_free(batch)
        return {**batch, "mask": _piece(mask, self.shard)}

    def iterate(self, start: int = 0) -> Iterator[Row]:
        return _read_ahead(self, start, len(self))

    def digest(self) -> str:
        """See :func:`source_digest`."""
        return source_digest(self.source)


def _check_stream(batches) -> None:
    index, count = batches.shard
    if batches.batch_size < 1 or batches.size < 1:
        raise UserError(f"{batches.size} rows in batches of {batches.batch_size} cannot be read")
    if not 0 <= index < count or batches.batch_size % count:
        raise UserError(
            f"shard {index} of {count} is impossible with batches of {batches.batch_size}: the batch "
            "size must be a multiple of the number of shards"
        )


def _piece(rows: np.ndarray, shard: tuple[int, int]) -> np.ndarray:
    index, count = shard
    part = len(rows) // count
    return rows[index * part : (index + 1) * part]


def source_digest(source: Source, samples: int = 64) -> str:
    """SHA-256 (hex) that tells sets apart: the source's own ``digest``, which all sources of ``dl``
    have and which covers every byte.

    A foreign source without one is not read whole: its digest is of the number of rows and the whole
    content of ``samples`` evenly spaced ones, in which a path of a file stands for the file's content.
    A change that touches none of those rows goes unseen.
    """
    own = getattr(source, "digest", None)
    if own is not None:
        return own()
    hasher = hashlib.sha256(str(len(source)).encode())
    for row in np.unique(np.linspace(0, len(source) - 1, samples).astype(np.int64)).tolist():
        for name, value in sorted(source[row].items()):
            hasher.update(name.encode())
            if isinstance(value, str | os.PathLike) and os.path.isfile(value):
                hasher.update(digest_files([value]).encode())
                continue
            array = np.ascontiguousarray(value)
            content = array.tobytes() if array.dtype != object else repr(value).encode()
            hasher.update(f"{array.dtype}{array.shape}".encode() + content)
    return hasher.hexdigest()


def column_source(columns: Mapping[str, np.ndarray], names: Sequence[str]) -> ArraySource:
    """An :class:`ArraySource` of some of a data set's columns."""
    for name in names:
        if name not in columns:
            raise unknown("column", name, columns)
    return ArraySource({name: columns[name] for name in names})
