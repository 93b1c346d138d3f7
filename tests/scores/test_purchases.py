"""Segments: as many as tell who buys, and what sets them apart."""

import numpy as np
import pytest

from dl.scores.purchases import chosen_segments, deviance, purchase_scores, told_apart


def test_three_kinds_of_customers_are_found():
    draw = np.random.default_rng(0)
    kind = draw.integers(0, 3, 900)
    codes = np.eye(3)[kind] + draw.normal(0, 0.05, (900, 3))
    later = draw.poisson(np.array([3.0, 0.1, 1.0])[kind])
    segments = chosen_segments(codes[:600], later[:600], codes[600:], later[600:], 8)
    own = segments.of(codes)
    if len(segments.rates) == 3:  # in the order of what they buy
        np.testing.assert_array_equal(own, np.array([2, 0, 1])[kind])
    assert len(segments.rates) >= 3
    assert (np.diff(segments.rates) >= 0).all()
    profile = np.stack([kind == 0, draw.random(900)], 1)
    said = told_apart(own, profile, later, ("is of the first kind", "says nothing"), 1)
    assert said.count("segment") == len(np.unique(own))
    assert "is of the first kind 1 (all 0)" in said.splitlines()[-1]
    same = chosen_segments(np.zeros((5, 2)), np.arange(5.0), np.zeros((3, 2)), np.ones(3))
    assert same.rates.tolist() == [2.0]


def test_scores_and_deviance_are_scikit_learns():
    from sklearn.metrics import mean_poisson_deviance, roc_auc_score, root_mean_squared_error

    draw = np.random.default_rng(0)
    later, said = draw.poisson(1.0, 50).astype(float), draw.uniform(0.1, 3, 50)
    found = purchase_scores({"later": later}, said)
    assert found["rmse"] == pytest.approx(root_mean_squared_error(later, said))
    assert found["auc"] == pytest.approx(roc_auc_score(later > 0, said))
    assert purchase_scores({"later": later}, said, later)["auc"] == 1.0
    assert deviance(later, said) == pytest.approx(mean_poisson_deviance(later, said))
    assert set(purchase_scores({"later": np.zeros(3)}, np.ones(3))) == {"rmse"}
