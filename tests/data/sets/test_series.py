"""Series keep their order of time, and scaling knows the training part only."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mistakes import raises

import dl.data
from dl.data.sets.series import pad_series, read_csv_series, smoothed, standardize
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
        (b"date,a\n2020-01-01,1\n2020-01-02,x\n", ("cell-unreadable", "line 3, column 'a'", "'x'")),
        (b"date,a\n2020-01-01\n", ("table-ragged", "line 2: 1 cells, expected 2")),
        (b"date,a\nyesterday,1\n", ("cell-unreadable", "line 2, column 'date'")),
        (b"date,a\n", ("table-empty",)),
    ):
        with raises(*words):
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
    with raises("group-unseen", "'condition'"):
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
    with raises("split-fixed", "validation"):
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


LEVELS = st.sampled_from([0.0, 1e-9, 1.0, -1e4, 1e8, 1.7e9, 1e12])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.integers(2, 30), LEVELS, st.booleans())
def test_scaling_by_hand_at_any_level_with_missing_values(seed, rows, level, holes):
    """Against sums that are exact (math.fsum), value by value."""
    rng = np.random.default_rng(seed)
    values = level + rng.normal(size=(rows, 3))
    values[:, 2] = level + 0.1  # never changes
    if holes:
        values[rng.random(values.shape) < 0.3] = np.nan
        values[0] = level + 0.1
    later = level + rng.normal(size=(5, 3))
    splits, mean, deviation = standardize(_splits(values, later))
    for j in range(3):
        known = [x for x in values[:, j] if not math.isnan(x)]
        # Less the first, which is exact: the mean itself is rounded to the level's own spacing.
        apart = [x - known[0] for x in known]
        middle = math.fsum(apart) / len(apart)
        centre = known[0] + middle
        spread = math.sqrt(math.fsum((x - middle) ** 2 for x in apart) / len(apart))
        spread = spread if len(set(known)) > 1 else 1.0
        assert mean[j] == pytest.approx(centre, rel=1e-12, abs=1e-12)
        assert deviation[j] == pytest.approx(spread, rel=1e-6)
        for part, given_ in ((splits.train, values), (splits.test, later)):
            expected = (given_[:, j] - centre) / spread
            # A few units in float64's last place at this level, in deviations, and float32's rounding.
            slack = 4 * np.spacing(abs(level) + 1) / spread
            np.testing.assert_allclose(part["values"][:, j], expected, rtol=1e-5, atol=slack + 1e-7)
    assert splits.train["values"].dtype == np.float32


@pytest.mark.parametrize(
    ("train", "test", "says"),
    [
        ([[np.nan, 1], [np.nan, 2]], [[1, 1]], ("variable-empty", "variable 0")),
        ([[1, np.inf], [2, 1]], [[1, 1]], ("infinity", "training part")),
        ([[0, 1], [1, 2]], [[1, 1e300]], ("number-too-large", "float32")),
        ([[0, 1e300], [1, -1e300]], [[1, 1]], ("number-too-large", "1e+300", "power of ten")),
        (np.zeros((0, 2)), [[1, 1]], ("part-empty", "training part")),
    ],
)
def test_what_cannot_be_scaled_is_an_error(train, test, says):
    with raises(*says):
        standardize(_splits(train, test))


@pytest.mark.parametrize("condition", [([0, -1], [0]), ([0.5, 1.0], [1.0])])
def test_groups_are_whole_numbers_from_0(condition):
    with raises("group-numbers", "'condition'"):
        standardize(_splits([[0.0], [2.0]], [[1.0]], condition=condition), by="condition")


def test_smoothing_keeps_the_digits_of_a_high_level_and_refuses_holes():
    values = np.random.default_rng(0).normal(size=(50, 1))
    unit = np.zeros(50, int)
    high = smoothed(values + 1e9, unit, 0.9) - 1e9
    np.testing.assert_allclose(high, smoothed(values, unit, 0.9), atol=1e-6)
    with raises("value-missing"):
        smoothed(np.array([[1.0], [np.nan]]), np.zeros(2, int), 0.9)
    with raises("range", "decay", "1.5"):
        smoothed(values, unit, 1.5)


def test_no_series_cannot_be_padded():
    with raises("no-series"):
        pad_series([])
