"""Rows told apart by what a column of their table holds: words, or numbers in bins of as many rows each."""

import csv
import dataclasses
import functools
import itertools
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dl.core.errors import UserError
from dl.data.own.columns import joined, of_cells, read_tables
from dl.data.own.found import column_called, sheet_options
from dl.data.own.lines import text_table
from dl.data.own.picture_tables import tables_of
from dl.data.own.tested import Tested
from dl.data.readers.csv_text import plain
from dl.data.readers.frames import WORDS_MISSING, Frame, numbers, read_frame, words
from dl.data.readers.given import given_path

BINS = 4  # of a column of numbers that has more values than
VALUES = 8
MOST = 20  # words that have a slice each; the others share one
Slices = dict[str, np.ndarray]  # rows of the test part by what they share


def columns_named(given: str | Sequence[str]) -> list[str]:
    """The headings that ``--slice`` names, each once: a text ``COLUMN,COLUMN``, where quotes are around
    one that holds commas, or a list of headings as they are.

    >>> columns_named('city, "born, died"'), columns_named(["born, died"])
    (['city', 'born, died'], ['born, died'])
    """
    if not isinstance(given, str):
        return list(dict.fromkeys(given))
    cells = next(csv.reader([given], skipinitialspace=True), [])
    found = list(dict.fromkeys(filter(None, map(str.strip, cells))))
    if given.strip() and not found:
        raise UserError(
            "column-unknown", f"{given!r} names no column to slice by: give COLUMN[,COLUMN]"
        )
    return found


def slices_of(tested: Tested, columns: Sequence[str]) -> dict[str, Slices]:
    """The rows of a test part by the values of each column of its table, whether a model reads that or not.

    Args:
      tested: what stood in for the test part while the experiment was built.
      columns: headings.

    Returns:
      By column and value the rows; a number has its value where there are few, else a quarter of the rows.

    Raises:
      UserError: the rows are of no table, or it has no such column.
    """
    source = tested.source
    if isinstance(source, str | os.PathLike):
        source = given_path(source).absolute()
    gone = isinstance(source, Path) and not source.exists()  # a set of a hub
    if tested.place is None or tested.info is None or gone:
        raise UserError(
            "slice-no-table",
            "--slice is for rows of a table (of cells, of texts with a class, or that names pictures): these data "
            "have none, so give one by --data, or leave it out",
        )
    details = tested.info.details
    own = dataclasses.replace(details["own"], **tested.fields)
    read: Any = functools.partial(read_frame, **sheet_options(own))
    if details["kind"] == "texts":
        read = functools.partial(text_table, own=own, disk=False)
    if details["kind"] == "pictures":
        frames = tables_of(source, own)[0]
    elif isinstance(source, Path) and source.is_dir():
        frames = read_tables(source, read)[0]
    else:
        frames = [("", of_cells(read(source)))]
    # Tables without the target, as competitions have for the test part, were left out.
    target = details.get("target")
    frames = [(p, f) for p, f in frames if target is None or target in f.headings] or frames[:1]
    first = frames[0][1]
    for name in columns:
        column_called(first, name, (), "--slice")
    if odd := [f.name for _, f in frames if set(f.headings) != set(first.headings)]:
        raise UserError(
            "table-columns-differ",
            f"{odd[0]} has other columns than {first.name}: judge the tables one by one to slice them",
        )
    frame = joined(frames, None, None, columns)[0]
    return {name: _by_value(frame, name, tested.place) for name in columns}


def _told_apart(numbers: np.ndarray, digits: int) -> list[str]:
    """Different numbers in so many digits, or in as many as tell them apart."""
    for more in range(digits, 18):
        told = [f"{number:.{more}g}" for number in numbers.tolist()]
        if len(set(told)) == len(told):
            break
    return told


def _by_value(frame: Frame, heading: str, place: np.ndarray) -> Slices:
    found = numbers(frame, heading)
    values, missing = found.values[place], found.missing[place]
    known = np.unique(values[~missing])
    slices: Slices = {}
    if found.numeric and not found.unit and len(known) > VALUES:
        edges = np.unique(np.quantile(values[~missing], np.linspace(0, 1, BINS + 1)))
        which = np.searchsorted(edges[1:-1], values, side="right")
        told = _told_apart(edges, 6)
        for number, (low, high) in enumerate(itertools.pairwise(told)):
            slices[f"{low} ... {high}"] = np.flatnonzero(~missing & (which == number))
    elif found.numeric and not found.unit:
        named = zip(_told_apart(known, 10), known, strict=True)
        slices = {name: np.flatnonzero(values == value) for name, value in named}
    else:
        cells = np.array(words(frame, heading), object)[place]
        missing = np.array([cell is None or str(cell) in WORDS_MISSING for cell in cells], bool)
        said = np.array([plain(str(cell)) for cell in cells], object)
        common = Counter(said[~missing].tolist()).most_common()
        slices = {name: np.flatnonzero((said == name) & ~missing) for name, _ in common[:MOST]}
        if rest := {name for name, _ in common[MOST:]}:
            others = np.array([name in rest for name in said]) & ~missing
            slices[f"({len(rest):,} others)"] = np.flatnonzero(others)
    if missing.any():
        slices["(missing)"] = np.flatnonzero(missing)
    return slices
