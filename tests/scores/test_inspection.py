import numpy as np
import pytest
from mistakes import raises
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from dl.scores.inspection import balanced_accuracy, inspection_measure, judged, worst_places

DRAW = np.random.default_rng(0)


def test_the_worst_places_are_the_highest_of_the_pixels_that_count():
    chance = DRAW.random((3, 5, 6, 2))
    segments = DRAW.integers(-1, 2, (3, 5, 6))
    segments[1], segments[2] = -1, -1
    segments[2, 0, :2] = 0
    chance /= chance.sum(-1, keepdims=True)
    found = worst_places(np.log(chance), segments, pixels=4)
    best = np.sort(chance[0][segments[0] >= 0], 0)[-4:]
    np.testing.assert_allclose(found[0], best.mean(0))
    assert found[1].tolist() == [0, 0]  # nothing counts
    np.testing.assert_allclose(found[2], chance[2, 0, :2].mean(0))  # fewer than asked for


def test_parts_are_judged_at_the_threshold_that_validation_chooses():
    held = {
        "label": np.array([0, 0, 1, 2]),
        "found": np.array([[0.1, 0], [0.2, 0], [0.6, 0.1], [0.1, 0.7]]),
    }
    label = DRAW.integers(0, 3, 60)
    other = {"label": label, "found": DRAW.random((60, 2)) * 0.5 + 0.3 * np.eye(3)[label][:, 1:]}
    measure = inspection_measure(lambda predictor, columns: columns["found"], held)
    said = measure(None, other, "test")
    assert said["auc"] == pytest.approx(roc_auc_score(label > 0, other["found"].max(1)))
    threshold = 0.4  # halfway between the validation rows of both kinds
    guess = judged(other["found"], threshold)
    assert said["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(label, guess))
    assert said["specificity"] == pytest.approx(
        (other["found"][label == 0].max(1) < threshold).mean()
    )
    assert balanced_accuracy(label, label) == 1
    assert measure(None, held, "validation")["balanced_accuracy"] == 1
    with raises("target-one-class", "4"):
        inspection_measure(None, {"label": np.ones(4)})
