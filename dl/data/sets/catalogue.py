"""The data sets that go by a name."""

import dataclasses
import functools
import os

from dl.core.errors import unknown
from dl.data.readers.files import data_folder, fetch, sha256
from dl.data.sets import (
    annotated,
    clips,
    health,
    images,
    interactions,
    markets,
    masked,
    packed_images,
    purchases,
    questions,
    sequences,
    series,
    shapes,
)
from dl.data.sets import recordings as audio
from dl.data.sets import tables as named_tables
from dl.data.sets import text as corpora
from dl.data.splits import DataSet, Info, Splits
from dl.data.tables import Table

_SETS: dict[str, DataSet] = {
    dataset.info.name: dataset
    for module in (
        *(images, packed_images, annotated, masked, corpora, audio, series, clips, shapes),
        *(named_tables, interactions, sequences, health, questions, markets, purchases),
    )
    for dataset in module.SETS
}


def names() -> tuple[str, ...]:
    """Names that :func:`load` knows, besides ``tfds:NAME`` for every set of TensorFlow Datasets."""
    return tuple(_SETS)


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
        from dl.data.sets.tfds import load_tfds

        name = name.removeprefix("tfds:")
        return measured(load_tfds(name, data_dir, validation=validation, seed=seed), {})
    paths = _paths(_dataset(name), data_dir)
    files = tuple((file, path, path.stat().st_mtime_ns) for file, path in paths.items())
    return _read(name, files, validation, seed)


# An experiment is built several times, inside traces too: the same arrays serve every time.
@functools.lru_cache(maxsize=4, typed=True)
def _read(name: str, files: tuple, validation: int | float | None, seed: int) -> Splits:
    dataset, paths = _dataset(name), {file: path for file, path, _ in files}
    digests = {path.name: sha256(path) for path in paths.values()}
    splits = measured(dataset.read(paths, dataset.info, validation, seed), digests)
    for columns in splits.parts.values():
        for column in columns.values():
            column.flags.writeable = False
    return splits


def load_table(name: str, data_dir: str | os.PathLike | None = None) -> tuple[Table, Info]:
    """A table without an official split, whole, for :func:`dl.data.tables.cross_validation`."""
    if name not in named_tables.FOLDED:
        raise unknown("table without an official split", name, named_tables.FOLDED)
    return named_tables.read_named(name, _paths(_SETS[name], data_dir))


def prepare(name: str, data_dir: str | os.PathLike | None = None) -> Info:
    """Download and decode a data set now, so that training starts at once; says what came of it."""
    return load(name, data_dir).info


def measured(splits: Splits, digests: dict[str, str]) -> Splits:
    """``splits`` whose info tells their sizes and the files' digests."""
    sizes = {name: len(next(iter(columns.values()))) for name, columns in splits.parts.items()}
    info = dataclasses.replace(splits.info, sizes=sizes, digests=digests)
    return dataclasses.replace(splits, info=info)


def _dataset(name: str) -> DataSet:
    if name not in _SETS:
        raise unknown("data set", name, (*_SETS, "tfds:NAME"))
    return _SETS[name]


def _paths(dataset: DataSet, data_dir) -> dict:
    folder = data_folder(data_dir) / (dataset.folder or dataset.info.name)
    return fetch(folder, dataset.files, dataset.info.title)
