import numpy as np
import pytest
from mistakes import raises
from sklearn.metrics import roc_curve

from dl.scores.verification import Pairs, all_pairs, equal_error, error_at, error_rates, identified

DRAW = np.random.default_rng(0)


def pairs(rows=400, ties=False):
    same = DRAW.random(rows) < 0.2
    score = DRAW.normal(size=rows) + 1.5 * same
    return Pairs(np.round(score, 1) if ties else score, same)


@pytest.mark.parametrize("ties", [False, True])
def test_rates_are_scikit_learns(ties):
    some = pairs(ties=ties)
    threshold, accepted, rejected = error_rates(some)
    wanted = roc_curve(some.same, some.score, drop_intermediate=False)
    np.testing.assert_allclose(accepted, wanted[0], atol=1e-12)
    np.testing.assert_allclose(1 - rejected, wanted[1], atol=1e-12)
    np.testing.assert_allclose(threshold[1:], wanted[2][1:])
    for place in (1, 7, -1):
        told = error_at(some, threshold[place])
        np.testing.assert_allclose(told, (accepted[place], rejected[place]), atol=1e-12)


@pytest.mark.parametrize("ties", [False, True])
def test_the_equal_error_lies_where_both_curves_cross(ties):
    some = pairs(ties=ties)
    rate, threshold = equal_error(some)
    _, accepted, rejected = error_rates(some)
    line = np.linspace(0, 1, 100_001)
    missed = np.interp(line, accepted, rejected)
    assert rate == pytest.approx(line[np.argmin(np.abs(line - missed))], abs=2e-2 if ties else 5e-3)
    assert sum(error_at(some, threshold)) / 2 == pytest.approx(rate, abs=0.05)


def test_what_is_told_apart_without_error_has_none_and_chance_has_half():
    sure = Pairs(np.array([0.9, 0.8, 0.1, 0.2]), np.array([True, True, False, False]))
    assert equal_error(sure)[0] == 0
    assert error_at(sure, equal_error(sure)[1]) == (0, 0)
    blind = Pairs(np.zeros(10), np.arange(10) < 5)
    assert equal_error(blind)[0] == pytest.approx(0.5)


def test_pairs_are_of_all_rows_and_need_two_of_one_and_two():
    vectors = DRAW.normal(size=(6, 3))
    found = all_pairs(vectors, np.array([0, 0, 1, 1, 2, 2]))
    assert len(found.score) == 15
    assert found.same.sum() == 3
    cosine = vectors[0] @ vectors[1] / np.linalg.norm(vectors[0]) / np.linalg.norm(vectors[1])
    assert found.score[0] == pytest.approx(cosine)
    with raises("target-one-class", "6"):
        all_pairs(vectors, np.arange(6))


def test_a_vector_is_called_after_its_nearest():
    known = np.array([[1.0, 0], [0, 1], [-1, 0]])
    said = identified(
        known, np.array([0, 1, 2]), np.array([[2.0, 1], [1, 3], [1, 0]]), np.array([0, 1, 2])
    )
    assert said == pytest.approx(2 / 3)
