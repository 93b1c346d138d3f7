"""One door to data: a set that goes by a name, or files of the user's own."""

import contextlib
import dataclasses
import errno
import functools
import importlib
import itertools
import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, cast, get_args, get_origin, get_type_hints

import numpy as np

from dl.core.errors import UserError, unknown
from dl.data.folded import merged, one_fold, over_folds, recut
from dl.data.own.found import (
    Found,
    OwnFiles,
    check_shares,
    divide,
    in_fields,
    show,
    shown_before,
    singular,
)
from dl.data.own.paths import SOUNDS, ends
from dl.data.own.tested import known_fields, tested, with_tested
from dl.data.prepared import chosen
from dl.data.readers.files import data_folder
from dl.data.readers.given import given_path
from dl.data.readers.picture_folders import PICTURES
from dl.data.sets.catalogue import load
from dl.data.splits import Splits

Kind = Literal[
    "pictures",
    "boxes",
    "masks",
    "texts",
    "pairs",
    "corpus",
    "clouds",
    "recordings",
    "transcripts",
    "series",
    "clips",
    "table",
    "ratings",
    "records",
    "questions",
    "prices",
    "purchases",
]


def open(data: Any, kind: Kind | None = None, options: Any = None, **fields: Any) -> Splits:
    """Data of one kind as training, validation and test part: a named set, or files of the user's own.

    What files are taken for is shown as a table, once. The fields of the kind (``OwnPictures``, ...) say what
    the files do not: which column is the label, which the part.

    >>> splits = open("reviews.csv", "texts", label="stars", split="part")  # doctest: +SKIP

    Args:
      data: a name (:func:`dl.data.names`), ``tfds:NAME``, ``hf:NAME_OR_FOLDER``, a file or a folder; for tables,
        texts, series and ratings a frame of pandas, polars or pyarrow too.
      kind: what the data are; by default what files look like.
      options: a config with the kind's fields; **fields: the same, one by one.

    Returns:
      The splits, with the columns that the kind's module tells of. ``info.details["lines"]`` is what was shown.
      A part too large for memory is a :class:`dl.data.batches.streams.Source` instead of columns.

    Raises:
      UserError: there are no such data, they are not of that kind, or an option does not fit them.
    """
    from dl.data.own.token_files import is_token_folder

    if is_token_folder(data):
        raise UserError(
            "set-of-another-kind",
            f"{data} holds tokens: `dl run gpt --data {data}` trains on them, and so do character_rnn and bert",
        )
    if guessed := kind is None:
        from dl.data.own.kinds import guessed_kind

        named = isinstance(data, str | os.PathLike)
        kind = cast(Kind, guessed_kind(os.fspath(data)) if named else "table")
    try:
        own = _chosen(options_of(kind), options, fields)
        if over_folds(own):
            alike = dataclasses.replace(own, fold=None)
            hashed = isinstance(data, str | os.PathLike)
            every = _every_fold if hashed else _every_fold.__wrapped__
            which = os.fspath(data) if hashed else data
            at = given_path(which) if hashed else None
            seen = _signature(at, kind) if at and at.exists() else None
            return chosen(
                lambda own: every(which, seen, kind, alike, guessed, tested(), data_folder()), own
            )
        return with_tested(_opened(data, kind, own, guessed), kind, own, data)
    except UserError as error:
        tried = tested()  # a script has flags; Python, and what a run is tried on, have fields
        flags = options is not None and (tried is None or tried.data is None)
        error.message = singular(in_fields(error.message, "flags" if flags else "fields"))
        raise


def _opened(data: Any, kind: Kind, own: Any, guessed: bool) -> Splits:
    module = importlib.import_module(f"dl.data.own.{kind}")
    if kind in ("series", "corpus", "prices") and (own.folds is not None or own.fold is not None):
        raise UserError(
            "option-misplaced",
            f"--folds cuts rows at random, and a {kind} is in order: leave it out",
        )
    name = os.fspath(data) if isinstance(data, str | os.PathLike) else None
    if name is None:
        return _divided(module.read(data, own), kind, own)
    if name in module.NAMED or name.startswith("tfds:"):
        free = getattr(module, "FOR_NAMED", ())
        of_folds = ("folds", "fold") if own.folds is not None else ()
        given = [
            f.name
            for f in dataclasses.fields(own)
            if getattr(own, f.name) != f.default and f.name not in (*free, *of_folds)
        ]
        if given:
            flags = ", ".join(f"--{field.replace('_', '-')}" for field in given)
            raise UserError(
                "option-misplaced",
                f"{flags}: {name} has columns and parts of its own, so leave these out (they are for your files)",
            )
        other = _of_that_name(name)
        try:
            if not hasattr(module, "load_named") or name not in module.NAMED:
                splits = load(name).having(*getattr(module, "OF_NAMED", ()))
            if hasattr(module, "load_named"):
                splits = _load_named(name, kind, own, data_folder())
            elif hasattr(module, "named"):
                splits = module.named(splits)
            if own.folds is not None and "fold" not in free:
                splits = recut(splits, own.folds, own.fold)
        except UserError as gone:
            gone.message = f"{other}. {gone.message}" if other else gone.message
            raise
        if other:
            warnings.warn(other, stacklevel=2)
        return splits
    if name.startswith("hf:"):
        from dl.data.own.hub import read_hub

        return _divided(read_hub(name.removeprefix("hf:"), module, own), kind, own)
    path = given_path(name)
    if not path.exists():
        error = unknown("data", name, (*module.NAMED, "tfds:NAME", "hf:NAME", "a path"))
        raise UserError(
            "data-unknown", f"no file or folder {name} is here, and it is no named set: {error}"
        )
    return _read(path.absolute(), _signature(path, kind), kind, own, guessed)


def _of_that_name(name: str) -> str:
    """What to say where a named set's name is a file or folder of the user's too, or ""."""
    path = Path(name)
    if ":" in name or not path.exists() or path.resolve() == (data_folder() / name).resolve():
        return ""
    return f"{name} means the named set: for the {'folder' if path.is_dir() else 'file'} here say --data ./{name}"


def options_of(kind: str) -> type[OwnFiles]:
    """The class of the fields that say how to read files of this kind."""
    if kind not in get_args(Kind):
        raise unknown("kind of data", kind, get_args(Kind))
    module = importlib.import_module(f"dl.data.own.{kind}")
    return getattr(module, f"Own{kind.capitalize()}")


# An experiment is built several times, inside traces too: the same arrays serve every time.
@functools.lru_cache(maxsize=4)
def _load_named(name: str, kind: str, own: Any, folder: Path) -> Splits:
    return importlib.import_module(f"dl.data.own.{kind}").load_named(name, own)


@functools.lru_cache(maxsize=2)
def _every_fold(data, seen, kind, own, guessed, tested, folder) -> Callable[[Any], Splits]:
    """The splits of every fold, by the fold."""
    found = []
    for fold in range(own.folds):
        alone = dataclasses.replace(own, fold=fold)
        with one_fold(), shown_before() if fold else contextlib.nullcontext():
            found.append(with_tested(_opened(data, kind, alone, guessed), kind, alone, data))
    return merged(found)


@functools.lru_cache(maxsize=4)
def _read(path: Path, signature: Any, kind: str, own: Any, guessed: bool) -> Splits:
    from dl.data.own.kinds import check_kind, kind_lines, looks_otherwise

    check_kind(path, kind)
    try:
        found = importlib.import_module(f"dl.data.own.{kind}").read(path, own)
    except UserError as error:
        error.message = looks_otherwise(path, kind, error)
        raise
    except OSError as error:
        if error.errno == errno.EIO:  # a read gives no name, and nothing was being written
            error.filename = error.filename or str(path)
        raise
    lines = (*kind_lines(path, kind, guessed, own), *found.lines)
    return _divided(dataclasses.replace(found, lines=lines), kind, own)


def _signature(path: Path, kind: str) -> tuple:
    """Changes when a file does, or when one comes or goes, in a folder at any depth (of its first 20,000); of a
    file, which may name others there, with the pictures and recordings beside it."""
    alone = kind in ("table", "texts", "corpus", "series", "ratings")
    folder = path if path.is_dir() else path.absolute().parent
    places = folder.rglob("*") if folder == path else () if alone else _media(folder)
    some = itertools.islice(places, 20_000)
    inner = (place.stat() for place in some if not place.is_symlink())
    stat = path.stat()
    return stat.st_mtime_ns, stat.st_size, hash(tuple((s.st_mtime_ns, s.st_size) for s in inner))


def _media(folder: Path) -> Iterator[Path]:
    """The pictures and recordings under a folder, but for what runs have drawn: they do so while data are read."""
    for place, folders, files in os.walk(folder):
        if {"run.lock.json", "sweep.json"} & {*files}:
            folders.clear()
            continue
        yield from (Path(place, name) for name in files if ends(Path(name), (*PICTURES, *SOUNDS)))


def _divided(found: Found, kind: str, own: Any) -> Splits:
    """``found`` in parts, which are shown, and read-only; :func:`dl.data.open_alike` reads others so."""
    splits = divide(found, own)
    splits.info.details.update(kind=kind, own=own)
    show(splits.info)
    for part in splits.parts.values():
        for column in part.values() if isinstance(part, dict) else ():
            if isinstance(column, np.ndarray):
                column.flags.writeable = False
    return splits


def _chosen(own: type[OwnFiles], options: Any, fields: dict[str, Any]) -> Any:
    """The kind's fields, of a config and of keywords, as they would come from the command line."""
    known = known_fields(own, fields)
    chosen = {name: getattr(options, name) for name in known if hasattr(options, name)} | fields
    hints = get_type_hints(own)
    for name in (
        n for n in hints if get_origin(hints[n]) is tuple
    ):  # one value does for a tuple of one, and a number for a word
        given = chosen.get(name)
        if given is not None:
            values = tuple(given) if isinstance(given, list | tuple) else (given,)
            chosen[name] = tuple(map(str, values)) if get_args(hints[name])[0] is str else values
    for name, value in chosen.items():
        choices = [each for hint in (hints[name], *get_args(hints[name])) for each in _words(hint)]
        if choices and value is not None and value not in choices:
            raise unknown(f"--{name.replace('_', '-')}", str(value), choices)
    if "hold_out" in chosen:
        check_shares(chosen["hold_out"])
    return own(**chosen)


def _words(hint: Any) -> tuple[str, ...]:
    """The words that a field may hold; of marks their reader tells."""
    words = get_args(hint) if get_origin(hint) is Literal else ()
    return words if all(map(str.isidentifier, words)) else ()
