"""Pairs of a table's columns as categories of their own."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from dl.core.errors import UserError, unknown
from dl.data.readers.column_types import Column
from dl.data.splits import Columns, Splits

BINS = 8
LEAST = 15  # training rows of a pair, of which else nothing is to be learned


def crossed(splits: Splits, names: Sequence[str]) -> Splits:
    """``splits`` of a table with a categorical column more for each pair of a column of ``names`` and another one
    (the wide part of Cheng et al. 2016, "Wide & deep learning for recommender systems").

    Numbers count as eighths of the training rows. A pair that fewer than 15 training rows have is 0, as what is
    missing is. ``info.details["columns"]`` has the new columns after the others.

    Raises:
      UserError: there is no such column, or the rows stream.
    """
    if not names:
        return splits
    if not isinstance(splits.train, dict):
        raise UserError("stream-not-here", "--crosses is for rows in memory: leave --stream out")
    columns = splits.info.details["columns"]
    numbers, words = ([c for c in columns if c.kind == k] for k in ("numerical", "categorical"))
    called = [column.name for column in (*words, *numbers)]
    for name in names:
        if name not in called:
            raise unknown("column to cross", name, called)
    inner = np.linspace(0, 1, BINS + 1)[1:-1]
    known = (column[~np.isnan(column)] for column in splits.train["numerical"].T)
    edges = [np.quantile(column, inner) if column.size else np.zeros(0) for column in known]

    def codes(part: Columns) -> np.ndarray:
        cut = [
            np.where(np.isnan(x), 0, 1 + np.searchsorted(own, x, side="right"))
            for x, own in zip(part["numerical"].T, edges, strict=True)
        ]
        rows = len(part["categorical"])
        return np.concatenate([part["categorical"], np.reshape(cut, (-1, rows)).T], 1)

    sizes = [len(column.categories) + 1 for column in words] + [BINS + 1] * len(numbers)
    chosen = [called.index(name) for name in names]
    pairs = [
        (a, b)
        for a in chosen
        for b in range(len(called))
        if b != a and not (b in chosen and chosen.index(b) < chosen.index(a))
    ]
    train = codes(splits.train)
    tables = []
    for a, b in pairs:
        both = train[:, a].astype(np.int64) * sizes[b] + train[:, b]
        often = np.bincount(both, minlength=sizes[a] * sizes[b]) >= LEAST
        tables.append(np.where(often, np.cumsum(often), 0).astype(np.int32))
    # As many categories as there could be, so that the folds of a table have networks of one size.
    new = tuple(
        Column(f"{called[a]} x {called[b]}", "categorical", ("",) * (sizes[a] * sizes[b]))
        for a, b in pairs
    )

    def part(rows: Columns) -> Columns:
        own = codes(rows)
        found = [
            table[own[:, a].astype(np.int64) * sizes[b] + own[:, b]]
            for (a, b), table in zip(pairs, tables, strict=True)
        ]
        more = np.stack(found, 1)
        return dict(rows, categorical=np.concatenate([rows["categorical"], more], 1))

    details = splits.info.details | {"columns": (*columns, *new)}
    info = dataclasses.replace(splits.info, details=details)
    return dataclasses.replace(splits.map(part), info=info)
