"""A look at the rows finds repeats, and columns that say nothing or too much."""

import numpy as np
import pytest

from dl.data.survey import alone, constant, exact_keys, near_keys, repeats, shrunk


def test_repeats_within_and_between_parts_are_counted_and_contradictions_named():
    train = {"text": np.array(["a", "b", "a"]), "label": np.array([0, 1, 0])}
    test = {"text": np.array(["b", "c", "c"]), "label": np.array([0, 1, 1])}
    parts = {"train": train, "test": test}
    found = repeats(parts, exact_keys(parts))
    assert found.within == {"train": 1, "test": 1}
    assert found.between == {("train", "test"): 1}
    assert found.contradicting == 1
    assert (("train", 1), ("test", 0)) in found.examples


def test_texts_of_the_same_words_are_near():
    columns = {"text": np.array(["A fine film!", "a  fine film", "a fine fil m"])}
    one, two, three = near_keys({"train": columns})["train"]
    assert one == two != three
    assert len(set(exact_keys({"train": columns})["train"])) == 3


def test_pictures_that_look_alike_are_near_and_others_are_not():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (3, 6, 6, 3)).repeat(8, 1).repeat(8, 2).astype(np.uint8)
    images[1] = np.clip(images[0].astype(int) + rng.integers(-2, 3, images[0].shape), 0, 255)
    grey = shrunk(images, 12)
    np.testing.assert_allclose(
        grey[2], images[2].mean(-1).reshape(12, 4, 12, 4).mean((1, 3)), rtol=1e-5
    )
    assert np.abs(grey[0] - grey[1]).max() < 2
    parts = {"train": {"image": images[:1]}, "test": {"image": images[1:]}}
    found = repeats(parts, near_keys(parts))
    assert found.between == {("train", "test"): 1}
    assert found.examples == [(("train", 0), ("test", 0))]


def test_numbers_are_near_in_three_digits():
    values = np.array([[1.2341, np.nan], [1.2344, np.nan], [1.25, np.nan], [0.0, -5e-9]])
    one, two, three, _ = near_keys({"train": {"numerical": values}})["train"]
    assert one == two != three


@pytest.mark.parametrize("values", [[1.0, np.nan, 1.0], [np.nan, np.nan], [2, 2]])
def test_constant_columns_are_told(values):
    assert constant(np.array(values))
    assert not constant(np.array([*values, 7, 8]))


def test_a_column_that_gives_the_label_away_takes_all_errors_away():
    rng = np.random.default_rng(1)
    label, truth = rng.integers(0, 3, (2, 600))
    assert alone(label * 2.5, label, truth * 2.5, truth, 3) == 1
    assert alone(label + 1, label, truth + 1, truth, 3) == 1
    assert alone(rng.normal(size=600), label, rng.normal(size=600), truth, 3) < 0.2
    assert alone(label * 1.0, label * 4.0, truth * 1.0, truth * 4.0, 0) == pytest.approx(1)
    missing = np.where(label == 2, np.nan, 0.0), np.where(truth == 2, np.nan, 0.0)
    assert 0.3 < alone(missing[0], label, missing[1], truth, 3) < 0.7


def test_days_are_no_repeats_for_being_of_one_decade():
    days = np.stack([18262.0 + np.arange(700), np.arange(700) % 2], 1)
    assert len(set(near_keys({"train": {"numerical": days}})["train"].tolist())) > 650
