"""Named tables and the user's own come through one door, and options of the one are not for the other."""

import numpy as np
import pytest
from mistakes import raises

from dl.data.sets import own
from dl.data.sets.own import OwnTable, table_splits


@pytest.fixture
def loans(tmp_path):
    rows = [
        f"{20 + n},{'Oslo' if n % 3 else 'Bergen'},{'yes' if n % 2 else 'no'}" for n in range(40)
    ]
    path = tmp_path / "loans.csv"
    path.write_text("\n".join(["age,town,repaid", *rows]))
    return str(path)


def test_ones_own_is_cut_into_folds_and_told_of(loans):
    first, second = (table_splits(None, OwnTable(loans, "repaid"), fold) for fold in (0, 1))
    assert first.info.classes == ("no", "yes")
    assert {name: len(part["label"]) for name, part in first.parts.items()} == {
        "train": 26,
        "validation": 6,
        "test": 8,
    }
    assert not np.array_equal(first.test["numerical"], second.test["numerical"])
    (told,) = first.info.details["told"]
    assert "age" in told
    assert "categorical" in told


def test_it_is_read_as_said(loans):
    splits = table_splits(None, OwnTable(loans, "repaid", ignore=("town",)))
    assert splits.train["categorical"].shape == (26, 0)


def test_options_of_the_one_are_refused_for_the_other(loans, monkeypatch):
    with raises("option-misplaced", "target, separator", "leave them out"):
        table_splits("pima", OwnTable(target="x"))
    with raises("option-misplaced"):
        table_splits("adult", OwnTable(categorical=("x",)))
    with raises("options-exclusive", "pima"):
        table_splits("pima", OwnTable(loans, "repaid"))
    monkeypatch.setattr(own, "load", lambda name: pytest.fail("read"))
    with raises("split-fixed", "adult"):
        table_splits("adult", OwnTable(), 2)
