"""Columns get the right types, and what is wrong in a file is named by line and column."""

import numpy as np
import pytest

import dl.data
from dl.core.errors import UserError
from dl.data import tables
from dl.data.splits import Info

INFO = Info("x", "x", "x", "x", "classification", "x")
HEADER = "age,town,code,constant,label\n"


def _csv(tmp_path, text):
    path = tmp_path / "own.csv"
    path.write_text(text)
    return path


def _rows(count=12):
    return "".join(
        f"{20 + i},{('Oslo', 'Rome', '?')[i % 3]},{i % 4},same,{('no', 'yes')[i % 2]}\n"
        for i in range(count)
    )


def test_types_are_inferred_and_missing_cells_kept(tmp_path):
    table = tables.read_table(_csv(tmp_path, HEADER + _rows() + "?,Oslo,1,same,no\n"), "label")
    kinds = {column.name: column.kind for column in table.columns}
    assert kinds == {
        "age": "numerical",
        "town": "categorical",
        "code": "numerical",
        "constant": "ignored",
    }
    assert table.classes == ("no", "yes")
    assert np.isnan(table.numerical[-1, 0])
    assert table.categorical[:3, 0].tolist() == [1, 2, 0]
    assert table.columns[1].missing == 4
    assert "constant  ignored      one value only" in tables.summary(table)


def test_numbers_may_be_declared_categories_and_columns_left_out(tmp_path):
    path = _csv(tmp_path, HEADER + _rows())
    table = tables.read_table(path, "label", categorical=("code",), ignore=("age",))
    assert [c.name for c in table.of_kind("categorical")] == ["town", "code"]
    assert table.numerical.shape == (12, 0)


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_other_separators(tmp_path, delimiter):
    text = (HEADER + _rows()).replace(",", delimiter)
    assert len(tables.read_table(_csv(tmp_path, text), "label").label) == 12


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (HEADER + _rows() + "old,Oslo,1,same,no\n", r"column 'age' .* \(line 14: 'old'\)"),
        (HEADER + _rows() + "20,Oslo,1,same\n", "line 14: 4 cells, expected 5"),
        (HEADER + _rows() + "20,Oslo,1,same,?\n", "line 14: the target 'label' is missing"),
        (HEADER + _rows() + "inf,Oslo,1,same,no\n", "line 14: 'inf'"),
        ("a,a,label\n1,2,3\n", "each differently"),
        (HEADER, "no rows"),
        ("age,lable\n1,2\n", "did you mean 'lable'"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, text, words):
    with pytest.raises(UserError, match=words):
        tables.read_table(_csv(tmp_path, text), "label")


def test_absent_and_undecodable_files(tmp_path):
    with pytest.raises(UserError, match="there is no file"):
        tables.read_table(tmp_path / "absent.csv", "label")
    (tmp_path / "latin.csv").write_bytes("größe,label\n1,2\n".encode("latin-1"))
    with pytest.raises(UserError, match="not UTF-8"):
        tables.read_table(tmp_path / "latin.csv", "label")


def test_the_target_decides_the_task(tmp_path):
    rows = "".join(f"{i},{i / 7:.3f}\n" for i in range(30))
    table = tables.read_table(_csv(tmp_path, "a,label\n" + rows), "label")
    assert table.classes == ()
    assert table.label.dtype == np.float64  # float32 comes after centring
    rows = "".join(f"{i},{10 - i % 3}\n" for i in range(30))
    table = tables.read_table(_csv(tmp_path, "a,label\n" + rows), "label")
    assert table.classes == ("8", "9", "10")


def test_a_category_unseen_in_training_is_as_if_missing(tmp_path):
    table = tables.read_table(_csv(tmp_path, HEADER + _rows()), "label")
    oslo = np.flatnonzero(table.categorical[:, 0] == 1)
    rest = np.flatnonzero(table.categorical[:, 0] != 1)
    splits = tables.split(table, INFO, rest, [], oslo)
    assert (splits.test["categorical"][:, 0] == 0).all()
    assert set(splits.train["categorical"][:, 0]) == {0, 2}
    assert splits.validation == {}


def test_folds_cover_every_row_once(tmp_path):
    table = tables.read_table(_csv(tmp_path, HEADER + _rows(50)), "label")
    ages = []
    for fold in range(5):
        splits = tables.cross_validation(table, INFO, fold)
        ages += splits.test["numerical"][:, 0].tolist()
        assert splits.test["label"].mean() == 0.5
        assert len(splits.validation["label"]) == 8
    assert sorted(ages) == list(range(20, 70))


@pytest.mark.parametrize("method", ["standard", "quantile"])
def test_scaled_features_have_no_nan_and_know_training_only(method):
    random = np.random.default_rng(0)
    train = random.exponential(5, (500, 2)).astype(np.float32)
    train[:50, 1] = np.nan
    parts = [{"numerical": x} for x in (train, train[:100] * 3)]
    splits = dl.data.Splits(parts[0], {}, parts[1], INFO)
    scaled = tables.numerical_features(splits, method)
    numbers = scaled.train["numerical"]
    assert np.abs(numbers[50:].mean(0)).max() < 0.1
    assert np.abs(numbers[50:].std(0) - 1).max() < 0.1
    np.testing.assert_array_equal(scaled.train["missing"][:, 1], np.arange(500) < 50)
    assert (numbers[:50, 1] == 0).all()
    assert np.isfinite(scaled.test["numerical"]).all()
    assert scaled.test["numerical"].mean() > 0.5


def test_class_weights_balance():
    weights = tables.class_weights(np.array([0, 0, 0, 1]), 2)
    np.testing.assert_allclose(weights, [2 / 3, 2])


@pytest.mark.data
def test_published_tables(data_dir):
    adult = dl.data.load("adult", data_dir)
    assert adult.info.classes == ("<=50K", ">50K")
    assert [len(adult.info.details["columns"]), adult.train["numerical"].shape[1]] == [14, 6]
    assert abs(adult.test["label"].mean() - 0.2362) < 1e-4  # 3,846 of 16,281
    table, info = dl.data.load_table("mammography", data_dir)
    assert (table.label.sum(), info.classes[1]) == (260, "calcification")
    table, info = dl.data.load_table("pima", data_dir)
    assert int(np.isnan(table.numerical).sum()) == 5 + 35 + 227 + 374 + 11
    table, info = dl.data.load_table("german", data_dir)
    assert (table.label.sum(), info.classes[1]) == (300, "bad")
    with pytest.raises(UserError, match="without an official split"):
        dl.data.load_table("adult", data_dir)
