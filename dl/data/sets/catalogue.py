"""The data sets that go by a name."""

import dataclasses
import functools
import importlib
import os
from pathlib import Path

from dl.core.errors import unknown
from dl.data.readers.files import data_folder, fetch, sha256
from dl.data.splits import DataSet, Info, Splits
from dl.data.tables import Table

# Rooms beside this one that hold sets: imported when a set is first asked for, so that a script starts sooner.
_ROOMS = (
    "images", "packed_images", "annotated", "masked", "text", "recordings", "series", "clips", "shapes",
    "tables", "interactions", "sequences", "health", "questions", "markets", "purchases",
)  # fmt: skip


@functools.cache
def _sets() -> dict[str, DataSet]:
    rooms = [importlib.import_module(f"dl.data.sets.{room}") for room in _ROOMS]
    return {dataset.info.name: dataset for room in rooms for dataset in room.SETS}


def names() -> tuple[str, ...]:
    """Names that :func:`load` knows, besides ``tfds:NAME`` for every set of TensorFlow Datasets."""
    return tuple(_sets())


def describe(name: str) -> Info:
    """What the data set is, without reading it."""
    if name.startswith("tfds:"):
        from dl.data.sets.tfds import describe_tfds

        return describe_tfds(name.removeprefix("tfds:"))
    return _dataset(name).info


def load(
    name: str,
    data_dir: str | os.PathLike | None = None,
    *,
    validation: int | float | None = None,
    seed: int = 0,
) -> Splits:
    """A data set by name, split.

    Files are looked up in ``<data_dir>/<name>/`` first, then downloaded there from the official
    place; UserError says which files to put where if neither works.

    Args:
      name: one of :func:`names`, or ``tfds:NAME``.
      data_dir: the folder above; None takes the run's ``data_dir``, ``$DL_DATA_DIR`` or the user's cache
        (:func:`dl.data.use_data_folder`).
      validation: rows to hold out of the training part, or a share of it as a float below 1; None
        takes the set's own validation part or default.
      seed: of every random split.
    """
    if name.startswith("tfds:"):
        return _read_tfds(name.removeprefix("tfds:"), data_folder(data_dir), validation, seed)
    paths = _paths(_dataset(name), data_dir)
    files = tuple((file, path, path.stat().st_mtime_ns) for file, path in paths.items())
    return _read(name, files, validation, seed)


# An experiment is built several times, inside traces too: the same arrays serve every time.
@functools.lru_cache(maxsize=4, typed=True)
def _read(name: str, files: tuple, validation: int | float | None, seed: int) -> Splits:
    dataset, paths = _dataset(name), {file: path for file, path, _ in files}
    digests = {path.name: sha256(path) for path in paths.values()}
    return _kept(measured(dataset.read(paths, dataset.info, validation, seed), digests))


@functools.lru_cache(maxsize=4, typed=True)
def _read_tfds(name: str, folder: Path, validation: int | float | None, seed: int) -> Splits:
    from dl.data.sets.tfds import load_tfds

    return _kept(measured(load_tfds(name, folder, validation=validation, seed=seed), {}))


def _kept(splits: Splits) -> Splits:
    """``splits`` whose columns nobody can write to, as many read them."""
    for columns in splits.parts.values():
        for column in columns.values():
            column.flags.writeable = False
    return splits


def load_table(name: str, data_dir: str | os.PathLike | None = None) -> tuple[Table, Info]:
    """A table without an official split, whole, for :func:`dl.data.tables.cross_validation`."""
    from dl.data.sets import tables

    if name not in tables.FOLDED:
        raise unknown("table without an official split", name, tables.FOLDED)
    return tables.read_named(name, _paths(_dataset(name), data_dir))


def prepare(name: str, data_dir: str | os.PathLike | None = None) -> Info:
    """Download and decode a data set now, so that training starts at once; says what came of it."""
    return load(name, data_dir).info


def measured(splits: Splits, digests: dict[str, str]) -> Splits:
    """``splits`` whose info tells their sizes and the files' digests."""
    sizes = {name: len(next(iter(columns.values()))) for name, columns in splits.parts.items()}
    info = dataclasses.replace(splits.info, sizes=sizes, digests=digests)
    return dataclasses.replace(splits, info=info)


def _dataset(name: str) -> DataSet:
    sets = _sets()
    if name not in sets:
        raise unknown("data set", name, (*sets, "tfds:NAME"))
    return sets[name]


def _paths(dataset: DataSet, data_dir) -> dict:
    folder = data_folder(data_dir) / (dataset.folder or dataset.info.name)
    return fetch(folder, dataset.files, dataset.info.title)
