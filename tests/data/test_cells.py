"""Rows of a table are told as its file has them."""

import numpy as np

from dl.data import tables
from dl.data.cells import table_cells
from dl.data.splits import Info

FILE = """age,born,town,seen,label
20,1990-02-01,Oslo,2020-01-01 10:00,no
30.25,1991-03-05,,2020-01-02 11:30,yes
,,Rome,2020-01-03 12:45:30,no
1234567,1999-12-31,Oslo,2020-01-04 00:00,yes
"""


def test_cells_are_those_of_the_file(tmp_path):
    (tmp_path / "own.csv").write_text(FILE)
    table = tables.read_table(tmp_path / "own.csv", "label")
    info = Info("x", "x", "x", "x", "classification", "x")
    splits = tables.split(table, info, np.array([0, 3]), np.array([2]), np.array([1, 3]))
    cells = table_cells(splits)
    first, second = cells("test", 0), cells("test", 1)
    assert list(first) == ["age", "born", "town", "seen", "label"]
    assert list(first.values()) == [
        *("30.25", "1991-03-05", "(missing, or new)", "2020-01-02 11:30:00", "yes")
    ]
    assert list(second.values()) == ["1234567", "1999-12-31", "Oslo", "2020-01-04 00:00:00", "yes"]
    # Rome is in no training row: it counts as missing, and is not said to be missing.
    held = list(cells("validation", 0).values())
    assert held[:3] == ["(missing)", "(missing)", "(missing, or new)"]
