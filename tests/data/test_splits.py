"""Hold-outs and folds are seeded, exact and in proportion."""

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from mistakes import raises

from dl.data.batches import held_out
from dl.data.splits import Info, Splits, folds, hold_out

INFO = Info("set", "", "", "", "", "")
labels_of = st.lists(st.integers(0, 4), min_size=2, max_size=200)


@settings(max_examples=50, deadline=None)
@given(labels=labels_of, seed=st.integers(0, 2**31), share=st.floats(0, 0.99))
def test_held_out_rows_are_a_partition_in_proportion(labels, seed, share):
    labels = np.array(labels)
    kept, held = hold_out(len(labels), int(share * len(labels)), seed, labels)
    assert len(held) == int(share * len(labels))
    np.testing.assert_array_equal(np.sort(np.concatenate([kept, held])), np.arange(len(labels)))
    for label in np.unique(labels):
        expected = (labels == label).sum() * len(held) / len(labels)
        assert abs((labels[held] == label).sum() - expected) < 1


@settings(max_examples=50, deadline=None)
@given(labels=labels_of, seed=st.integers(0, 2**31), count=st.integers(2, 7))
def test_folds_are_even_over_rows_and_classes(labels, seed, count):
    assume(count <= len(labels))  # more would leave a fold without rows, and is refused
    labels = np.array(labels)
    fold = folds(labels, count, seed)
    sizes = np.bincount(fold, minlength=count)
    assert sizes.max() - sizes.min() <= 1
    for label in np.unique(labels):
        sizes = np.bincount(fold[labels == label], minlength=count)
        assert sizes.max() - sizes.min() <= 1


def test_the_seed_decides():
    first, again, other = (hold_out(100, 10, seed)[1] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert set(first) != set(other)


def test_a_share_is_a_share_and_too_much_is_an_error():
    assert len(hold_out(200, 0.25, 0)[1]) == 50
    assert len(hold_out(200, 0, 0)[1]) == 0
    for count, says in ((200, ("hold-out-impossible", "200 of 200")), (-1, ("range", "-1"))):
        with raises(*says):
            hold_out(200, count, 0)


def test_only_some_columns_are_taken_and_an_empty_part_stays_so():
    rows = {"image": np.zeros((3, 2)), "text": np.array(["a", "b", "c"]), "label": np.arange(3)}
    few = Splits(rows, {}, rows, Info("toy", *5 * [""])).only("image", "label")
    assert list(few.train) == list(few.test) == ["image", "label"]
    assert few.validation == {}


def test_a_part_that_is_not_there_stays_so():
    rows = np.arange(6)
    splits = Splits({"x": rows, "y": rows}, {}, {"x": rows[:2], "y": rows[:2]}, INFO)
    assert list(splits.parts) == ["train", "test"]
    doubled = splits.map(lambda part: {"x": 2 * part["x"]})
    assert doubled.validation == {}
    assert doubled.info is INFO
    np.testing.assert_array_equal(doubled.test["x"], [0, 2])
    assert list(splits.only("y").train) == ["y"]
    sets = held_out(splits, 4)
    assert (list(sets["evals"]), list(sets["tests"])) == ([], ["test"])
    assert len(sets["tests"]["test"]) == 1
