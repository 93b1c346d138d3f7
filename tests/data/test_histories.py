"""What users took, as rows of a language model, against loops by hand."""

import numpy as np
import pytest
from mistakes import raises

import dl
from dl.data.histories import histories


def splits_of(train, validation=(), test=()):
    def columns(rows):
        names = ("user", "item", "time")
        return {n: np.array([r[k] for r in rows], np.int32) for k, n in enumerate(names)}

    parts = (columns(rows) if rows else {} for rows in (train, validation, test))
    return dl.data.Splits(*parts, dl.data.Info("ratings", *5 * [""]))  # type: ignore[call-arg]


def test_rows_by_hand():
    train = [(0, 5, 1), (1, 2, 1), (0, 3, 2), (0, 4, 3)]
    rows = histories(splits_of(train, [(0, 1, 4), (1, 0, 4)], [(0, 2, 5)]), 4)
    assert rows.train["user"].tolist() == [0, 1]
    assert rows.train["length"].tolist() == [3, 1]
    assert rows.train["inputs"].tolist() == [[0, 6, 4, 0], [0, 0, 0, 0]]
    assert rows.train["targets"].tolist() == [[6, 4, 5, 0], [3, 0, 0, 0]]
    assert rows.train["weight"].tolist() == [[1, 1, 1, 0], [1, 0, 0, 0]]
    assert rows.validation["inputs"].tolist() == [[0, 6, 4, 5], [0, 3, 0, 0]]
    assert rows.validation["targets"].tolist() == [[0, 0, 0, 2], [0, 1, 0, 0]]
    assert rows.validation["weight"].tolist() == [[0, 0, 0, 1], [0, 1, 0, 0]]
    assert rows.test["inputs"].tolist() == [[6, 4, 5, 2]]  # the last that the context holds


@pytest.mark.parametrize("length", [1, 3, 4, 5, 8, 9, 23])
@pytest.mark.parametrize("context", [2, 4, 5])
def test_every_item_is_a_target_once_after_the_items_before_it(length, context):
    items = np.random.default_rng(length).permutation(50)[:length]
    rows = histories(splits_of([(7, i, t) for t, i in enumerate(items)]), context).train
    told = []
    for inputs, targets, weight in zip(
        *(rows[n] for n in ("inputs", "targets", "weight")), strict=True
    ):
        for place in np.flatnonzero(weight):
            number = list(items).index(targets[place] - 1)
            told.append(number)
            before = [0, *(items[:number] + 1)]
            assert inputs[: place + 1].tolist() == before[-(place + 1) :]
            assert place + 1 >= min(len(before), (context + 1) // 2)  # enough is seen
    assert sorted(told) == list(range(length))


def test_times_order_and_a_user_without_a_history_begins_with_nothing():
    rows = histories(splits_of([(0, 1, 9), (0, 2, 5)], [(4, 3, 1)]), 3)
    assert rows.train["inputs"].tolist() == [[0, 3, 0]]
    assert rows.validation["inputs"].tolist() == [[0, 0, 0]]
    assert rows.validation["targets"].tolist() == [[4, 0, 0]]
    with raises("range", "--context"):
        histories(splits_of([(0, 1, 9)]), 1)


def test_what_comes_later_changes_nothing_before_it():
    draw = np.random.default_rng(0)
    ratings = [(u, int(draw.integers(0, 30)), t) for u in range(6) for t in range(9)]
    parts = [[r for r in ratings if r[2] < 7], *([r for r in ratings if r[2] == t] for t in (7, 8))]
    one = histories(splits_of(*parts), 5)
    parts[2] = [(u, (i + 1) % 30, t) for u, i, t in parts[2]]
    two = histories(splits_of(*parts), 5)
    parts[1] = [(u, (i + 1) % 30, t) for u, i, t in parts[1]]
    three = histories(splits_of(*parts), 5)
    for name in one.train:
        np.testing.assert_array_equal(one.train[name], three.train[name])
        np.testing.assert_array_equal(one.validation[name], two.validation[name])
    np.testing.assert_array_equal(one.test["inputs"], two.test["inputs"])
    np.testing.assert_array_equal(one.validation["inputs"], three.validation["inputs"])
    assert (one.test["inputs"] != three.test["inputs"]).any()  # what is past then is seen
