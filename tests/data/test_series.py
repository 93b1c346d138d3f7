"""Series keep their order of time, and scaling knows the training part only."""

import numpy as np
import pytest

import dl.data
from dl.core.errors import UserError
from dl.data.series import pad_series, read_csv_series, smoothed, standardize
from dl.data.splits import Info, Splits

INFO = Info("x", "x", "x", "x", "x", "x")


def test_csv_series_and_its_bad_cells():
    names, times, values = read_csv_series(
        b"date,a,b\n2020-01-01 00:00:00,1,2\n2020-01-02,3,4\n", "x"
    )
    assert names == ["a", "b"]
    assert times[1] == np.datetime64("2020-01-02")
    np.testing.assert_array_equal(values, [[1, 2], [3, 4]])
    for text, words in (
        (b"date,a\n2020-01-01,1\n2020-01-02,x\n", "line 3, column 'a': cannot read 'x'"),
        (b"date,a\n2020-01-01\n", "line 2: 1 cells under 2 headings"),
        (b"date,a\nyesterday,1\n", "line 2, column 'date'"),
        (b"date,a\n", "no rows"),
    ):
        with pytest.raises(UserError, match=words):
            read_csv_series(text, "x")


def _splits(train, test, **columns):
    parts = [{"values": np.asarray(part, float)} for part in (train, test)]
    for name, (first, second) in columns.items():
        parts[0][name], parts[1][name] = np.array(first), np.array(second)
    return Splits(parts[0], {}, parts[1], INFO)


def test_scaling_uses_the_training_part_and_leaves_constants_alone():
    splits, mean, deviation = standardize(_splits([[0, 5], [2, 5]], [[4, 6]]))
    np.testing.assert_allclose(splits.train["values"], [[-1, 0], [1, 0]])
    np.testing.assert_allclose(splits.test["values"], [[3, 1]])
    np.testing.assert_allclose(mean, [1, 5])
    np.testing.assert_allclose(deviation, [1, 1])
    assert splits.train["values"].dtype == np.float32


def test_scaling_by_condition():
    splits = _splits([[0.0], [2.0], [10.0], [30.0]], [[20.0]], condition=([0, 0, 3, 3], [3]))
    scaled, mean, _ = standardize(splits, by="condition")
    np.testing.assert_allclose(scaled.train["values"][:, 0], [-1, 1, -1, 1])
    np.testing.assert_allclose(scaled.test["values"], [[0]])
    assert mean.shape == (4, 1)
    unseen = _splits([[0.0], [2.0]], [[1.0]], condition=([0, 0], [1]))
    with pytest.raises(UserError, match="never occurs"):
        standardize(unseen, by="condition")


def test_padded_series_end_in_nan():
    columns = pad_series([np.array([1.0, 2.0]), np.array([3.0])])
    np.testing.assert_array_equal(columns["length"], [2, 1])
    np.testing.assert_array_equal(columns["values"], [[1, 2], [3, np.nan]])


@pytest.mark.data
def test_ett_parts_follow_each_other(data_dir):
    splits = dl.data.load("ett", data_dir)
    times = np.concatenate([p["time"] for p in (splits.train, splits.validation, splits.test)])
    assert (np.diff(times) == np.timedelta64(1, "h")).all()
    assert times[0] == np.datetime64("2016-07-01")
    with pytest.raises(UserError, match="fixed by its published protocol"):
        dl.data.load("ett", data_dir, validation=10)


@pytest.mark.data
def test_m4_validation_comes_off_the_end_of_train(data_dir):
    part, whole = (dl.data.load("m4_hourly", data_dir, validation=v) for v in (None, 0))
    assert whole.validation == {}
    assert set(np.unique(whole.train["length"])) == {700, 960}
    np.testing.assert_array_equal(part.train["length"], whole.train["length"] - 48)
    for row in (0, 413):
        end = whole.train["length"][row]
        joined = np.append(part.train["values"][row, : end - 48], part.validation["values"][row])
        np.testing.assert_array_equal(joined, whole.train["values"][row, :end])
    np.testing.assert_array_equal(part.test["values"], whole.test["values"])


@pytest.mark.data
def test_engines_run_to_failure_or_to_their_published_end(data_dir):
    splits = dl.data.load("cmapss", data_dir)
    units = [set(splits.train["unit"]), set(splits.validation["unit"])]
    assert [len(part) for part in units] == [80, 20]
    assert not units[0] & units[1]
    train, test = splits.train, splits.test
    last = np.flatnonzero(np.append(np.diff(train["unit"]) != 0, True))
    assert (train["rul"][last] == 0).all()
    last = np.flatnonzero(np.append(np.diff(test["unit"]) != 0, True))
    assert test["rul"][last][:3].tolist() == [112, 98, 69]
    assert (test["rul"][last - 1] == test["rul"][last] + 1).all()


def test_smoothing_looks_back_only_and_keeps_groups_apart():
    values = np.random.default_rng(0).normal(size=(12, 2))
    unit = np.repeat([3, 1], [7, 5])
    found = smoothed(values, unit, 0.75)
    expected = np.array(values[[0, 7]]).repeat([7, 5], axis=0)
    for row in range(12):
        if row not in (0, 7):
            expected[row] = 0.75 * expected[row - 1] + 0.25 * values[row]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
