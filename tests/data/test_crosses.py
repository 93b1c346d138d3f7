"""Pairs of columns become categories, as training rows have them."""

import numpy as np
from mistakes import raises

from dl.data.crosses import BINS, LEAST, crossed
from dl.data.readers.column_types import Column
from dl.data.splits import Info, Splits

COLUMNS = (
    Column("kind", "categorical", ("a", "b")),
    Column("size", "numerical"),
    Column("town", "categorical", ("x", "y", "z")),
)


def part(seed, rows=400):
    draw = np.random.default_rng(seed)
    codes = np.stack([draw.integers(0, 3, rows), draw.integers(0, 4, rows)], 1).astype(np.int32)
    numbers = draw.normal(size=(rows, 1))
    numbers[::7] = np.nan
    return {"numerical": numbers, "categorical": codes, "label": draw.integers(0, 2, rows)}


def test_pairs_that_training_has_often_get_a_number_each():
    train, test = part(0), part(1)
    train["categorical"][:, 1][train["categorical"][:, 0] == 1] = 2  # so is no other pair of 1
    info = Info("made", *5 * [""], details={"columns": COLUMNS})
    splits = crossed(Splits(train, {}, test, info), ("kind", "town"))
    names = [column.name for column in splits.info.details["columns"][3:]]
    assert names == ["kind x town", "kind x size", "town x size"]
    sizes = [len(column.categories) + 1 for column in splits.info.details["columns"][3:]]
    assert sizes == [3 * 4 + 1, 3 * (BINS + 1) + 1, 4 * (BINS + 1) + 1]
    found = splits.test["categorical"]
    np.testing.assert_array_equal(found[:, :2], test["categorical"])
    assert (found.max(0) < [3, 4, *sizes]).all()
    counts = {}
    for pair in map(tuple, train["categorical"]):
        counts[pair] = counts.get(pair, 0) + 1
    seen = {}
    for pair, code in zip(map(tuple, test["categorical"]), found[:, 2], strict=True):
        assert (code > 0) == (counts.get(pair, 0) >= LEAST)
        assert seen.setdefault(pair, code) == code
    often = [code for code in seen.values() if code]
    assert len(set(often)) == len(often)
    with raises("unknown", "column to cross", "kinds", "kind"):
        crossed(Splits(train, {}, test, info), ("kinds",))
    assert crossed(Splits(train, {}, test, info), ()).info is info
