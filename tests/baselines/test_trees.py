"""Boosted trees beside scikit-learn's own, and on classes that are rare or missing."""

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier

from dl.baselines.trees import boosted_trees, matrix, tree_predictions


def columns(label, seed=0):
    rng = np.random.default_rng(seed)
    label = np.asarray(label, np.int32)
    numbers = label[:, None] + rng.normal(0, 0.1, (len(label), 2))
    return {
        "numerical": numbers.astype(np.float32),
        "categorical": np.zeros((len(label), 1), np.int32),
        "label": label,
    }


def test_predictions_are_scikit_learns():
    train, other = columns([0, 1, 2] * 40), columns([0, 1, 2] * 10, seed=1)
    trees = boosted_trees(train, other, 3)
    assert isinstance(trees.model, HistGradientBoostingClassifier)
    said = tree_predictions(trees, other)
    np.testing.assert_array_equal(said, trees.model.predict_proba(matrix(other)))
    assert (said.argmax(-1) == other["label"]).mean() > 0.9


@pytest.mark.parametrize("label", [
    [0, 1] * 60 + [2],  # of one row, which cannot lie on both sides of a cut
    [0, 2] * 60,  # a class that training lacks has no chance
    [0, 1, 2, 3, 4, 5] * 3,  # more classes than a tenth has rows
])  # fmt: skip
def test_rare_and_missing_classes_are_no_mistake(label):
    classes = max(label) + 1
    test = columns(range(classes), seed=1)
    said = tree_predictions(boosted_trees(columns(label), columns(label, 2), classes), test)
    assert said.shape == (classes, classes)
    np.testing.assert_allclose(said.sum(-1), 1, rtol=1e-6)
    assert not said[:, [c for c in range(classes) if c not in label]].any()


@pytest.mark.parametrize("known", [0, 1, 19])
def test_a_number_that_hardly_a_row_has_is_no_mistake(known):
    label = np.array([0, 1] * 60, np.int32)
    train = columns(label)
    rare = np.full((len(label), 1), np.nan, np.float32)
    rare[:known] = label[:known, None]
    more = {**train, "numerical": np.concatenate([rare, train["numerical"]], 1)}
    test = {**more, "numerical": np.concatenate([1 - label[:, None], train["numerical"]], 1)}
    plain = tree_predictions(boosted_trees(train, train, 2), train)
    np.testing.assert_array_equal(tree_predictions(boosted_trees(more, more, 2), test), plain)
