import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mistakes import raises
from sklearn.metrics import balanced_accuracy_score, recall_score, roc_curve

from dl.scores.two_classes import at_threshold, chosen_threshold, two_class_measure

DRAW = np.random.default_rng(0)


@given(
    st.lists(st.tuples(st.booleans(), st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.9, 1.0])), min_size=2)
)
def test_no_other_threshold_is_better(rows):
    label, probability = (np.array(x, float) for x in zip(*rows, strict=True))
    if label.min() == label.max():
        return
    best = balanced_accuracy_score(label, probability >= chosen_threshold(label, probability))
    every = np.append(np.unique(probability), 2.0)
    others = [balanced_accuracy_score(label, probability >= cut) for cut in every]
    assert best == pytest.approx(max(others))


def test_scores_are_scikit_learns():
    label = DRAW.integers(0, 2, 300)
    probability = np.clip(0.3 * label + DRAW.random(300) * 0.7, 0, 1)
    threshold = chosen_threshold(label, probability)
    found = at_threshold(label, probability, threshold)
    said = probability >= threshold
    assert found["accuracy_at_threshold"] == pytest.approx((said == label).mean())
    assert found["sensitivity"] == pytest.approx(recall_score(label, said))
    assert found["specificity"] == pytest.approx(recall_score(label, said, pos_label=0))
    false, true, _ = roc_curve(label, probability, drop_intermediate=False)
    assert found["sensitivity"] + found["specificity"] - 1 == pytest.approx((true - false).max())
    with raises("target-one-class", "300"):
        chosen_threshold(np.ones(300), probability)


def test_the_threshold_is_validations():
    rows = {"x": np.array([-2.0, 0.0, 1.0, 2.0]), "label": np.array([0, 0, 1, 1])}
    test = {"x": np.array([0.4, 0.6, 3.0]), "label": np.array([0, 1, 0])}
    seen = []

    def predictor(columns):
        seen.append(len(columns["x"]))
        return np.stack([0 * columns["x"], columns["x"]], 1)

    measure = two_class_measure(rows, rows)
    found = measure(predictor, test, "test")  # cut at the probability of 0.5 or so
    assert found["sensitivity"] == 1
    assert found["specificity"] == 0.5
    assert found["accuracy_at_threshold"] == pytest.approx(2 / 3)
    assert found["auc"] == 0.5
    assert measure(predictor, rows, "validation")["accuracy_at_threshold"] == 1
    assert seen == [3, 4, 4]
    for known in ({}, {"label": np.ones(4, int)}):  # no validation, or of one class
        few = two_class_measure(rows, known)(predictor, test, "test")
        assert few.keys() == {"auc", "average_precision", "ece"}
