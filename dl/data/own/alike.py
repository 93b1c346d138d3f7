"""Another file read as the one that a model was trained on: columns and classes by their names."""

import dataclasses
import importlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, get_args

import numpy as np

from dl.core.errors import UserError
from dl.data.own.classes import known_classes
from dl.data.own.door import Kind
from dl.data.own.found import Line, in_fields, show
from dl.data.own.tested import with_fields
from dl.data.readers.csv_text import plain
from dl.data.readers.files import digest_files
from dl.data.readers.given import given_path
from dl.data.splits import Columns, Splits, take
from dl.data.splits import known as columns_of

_KINDS = (
    *("pictures", "texts", "recordings", "table", "pairs", "corpus"),
    *("clouds", "clips", "questions", "records"),
)
_COLUMNS = {"clips": "values", "records": "variables"}  # what tells the user's columns of numbers


def open_alike(data: Any, splits: Splits, **fields: Any) -> Columns:
    """All rows of another file or folder, as those of ``splits`` were read: to predict, or to score, by a model
    that was trained on these.

    >>> rows = open_alike("new_pets", splits)  # doctest: +SKIP

    Columns are found by their names in the file trained on, and a class has the number that its name has there.
    Pictures come to that size and number of channels, recordings to that rate and length.

    Args:
      data: a file or folder; a frame for tables and texts.
      splits: what :func:`dl.data.open` gave of what was trained on, of one of these kinds.
      **fields: of the kind, where this file is written otherwise.

    Returns:
      ``{name: [rows, ...]}``; of a table without the target there is no ``label``.

    Raises:
      UserError: a column is missing, or a class was never trained on.
    """
    return read_like(data, splits, **fields)[0]


def read_like(data: Any, splits: Splits, /, **fields: Any) -> tuple[Columns, np.ndarray | None]:
    """As :func:`open_alike`, and the place of every row as :class:`dl.data.own.found.Found` has it."""
    details = splits.info.details
    kind = details.get("kind")
    if kind in get_args(Kind) and kind not in _KINDS:
        raise UserError(
            "set-of-another-kind",
            f"what was trained on {kind} cannot be judged by other files yet, only what was on "
            f"{', '.join(_KINDS)}: train with these files as the test part, or, of boxes, masks, transcripts, "
            "series and ratings, score what `dl predict` says of them",
        )
    if kind not in _KINDS or (kind in _COLUMNS and _COLUMNS[kind] not in details):
        raise UserError(
            "set-of-another-kind",
            f"{splits.info.title} is no file of yours of {', '.join(_KINDS)}: only such are read alike",
        )
    own = with_fields(details["own"], {**_sizes(splits, kind), **fields})
    source = data
    if isinstance(data, str | os.PathLike):
        source = given_path(data).absolute()
        if not source.exists():
            raise UserError("data-unknown", f"no file or folder {data} is here")
    try:
        if kind == "table":
            from dl.data.own.columns import tables_in
            from dl.data.own.table import read_alike

            rows, lines = read_alike(source, splits.info, own)
            title = getattr(source, "name", "the table")
            files = []
            if isinstance(source, Path):
                files = [p for _, p in tables_in(source)[0]] if source.is_dir() else [source]
            digests = [digest_files([file]) for file in files]
            lines = (*_same(digests, splits), *lines)
            show(dataclasses.replace(splits.info, title=title, details={"lines": lines}))
            return rows, np.arange(len(rows["numerical"]))
        with known_classes():
            found = importlib.import_module(f"dl.data.own.{kind}").read(source, own)
    except UserError as error:
        error.message = in_fields(error.message, "fields")
        raise
    lines = (*_same(found.info.digests.values(), splits), *found.lines)
    show(dataclasses.replace(found.info, details={"lines": lines}))
    if kind in ("pairs", "corpus"):
        two = ("languages" in details and found.info.details.get("languages")) or ()
        turned = len(two) == 2 and tuple(two) == tuple(details["languages"])[::-1]
        other = {"source": "target", "target": "source"} if turned else {}
        names = columns_of(splits.train)
        return {name: found.rows[other.get(name, name)] for name in names}, None
    known = splits.info.classes
    if new := [name for name in found.info.classes if name not in known]:
        raise UserError(
            "class-unseen",
            f"{found.info.title} has classes that were not there in training ({', '.join(map(plain, new[:4]))}): "
            f"known are {', '.join(map(plain, known[:8]))}",
        )
    number = np.array([known.index(name) for name in found.info.classes], np.int32)
    rows = dict(found.rows if isinstance(found.rows, dict) else found.rows.read())
    rows["label"] = number[rows["label"]]
    if kind == "records":
        from dl.data.own.records import by_name

        by_name(rows, found.info, details)
    return _like(rows, take(splits.train, slice(1)), found.info.title), found.place


def _same(digests: Iterable[str], splits: Splits) -> list[Line]:
    """The line that says so where files are those that were trained on."""
    told = "files of the run's own data", "what they give says little of new ones"
    return [Line("check", *told)] if {*digests} & {*splits.info.digests.values()} else []


def _sizes(splits: Splits, kind: str) -> dict[str, Any]:
    """The fields that bring rows to the shape of those trained on."""
    one = take(splits.train, slice(1))
    more: dict[str, Any] = {"split": None, "group": None}
    if kind == "pictures":
        more |= {"size": one["image"].shape[1:3], "stream": False}
    if kind == "recordings":
        rate = splits.info.details["rate"]
        more |= {"rate": rate, "seconds": one["waveform"].shape[1] / rate}
    if kind == "clips":
        more["values"] = tuple(splits.info.details["values"])
    if kind == "corpus":  # all of it is judged
        more |= {"hold_out": (0.0, 0.0), "in_order": True}
    return {} if kind == "table" else more


def _like(rows: Columns, one: Columns, title: str) -> Columns:
    """``rows`` with as many channels, and at least as many samples or moments, as ``one`` has."""
    if "image" in rows and rows["image"].shape[-1] != (channels := one["image"].shape[-1]):
        if channels == 1:
            raise UserError(
                "picture-channels",
                f"{title} has colours, and training had grey pictures: make them grey",
            )
        rows["image"] = np.repeat(rows["image"], channels, -1)
    if {"values", "length"} <= rows.keys():  # of clips
        lacking = one["values"].shape[1] - rows["values"].shape[1]
        rows["values"] = np.pad(rows["values"], ((0, 0), (0, max(0, lacking)), (0, 0)))
    if "waveform" in rows:
        lacking = one["waveform"].shape[1] - rows["waveform"].shape[1]
        rows["waveform"] = np.pad(rows["waveform"], ((0, 0), (0, max(0, lacking))))
    return rows
