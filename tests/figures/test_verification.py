import numpy as np

from dl.figures.verification import receiver, seen_from_above, trade_off
from dl.scores.verification import Pairs, equal_error

DRAW = np.random.default_rng(0)


def test_the_curve_passes_through_the_equal_error():
    same = np.arange(200) < 60
    pairs = Pairs(DRAW.normal(size=200) + same, same)
    axes = trade_off({"one": pairs}, "faces").axes[0]
    curve, dot = axes.lines[:2]
    accepted, rejected = curve.get_xdata(), curve.get_ydata()
    assert (np.diff(accepted) >= 0).all()
    assert (np.diff(rejected) <= 0).all()
    assert dot.get_xdata()[0] == equal_error(pairs)[0]


def test_both_curves_have_their_dot_at_the_threshold_chosen():
    from scipy.special import ndtri
    from sklearn.metrics import roc_auc_score

    bad = np.arange(200) < 60
    score = DRAW.normal(size=200) + bad
    left, right = receiver({"one": Pairs(score, bad)}, {"one": 0.7}, "parts").axes
    alarms, found = (score[~bad] >= 0.7).mean(), (score[bad] >= 0.7).mean()
    assert [*left.lines[1].get_xydata()[0]] == [alarms, found]
    np.testing.assert_allclose(right.lines[1].get_xydata()[0], ndtri([alarms, 1 - found]))
    assert f"{roc_auc_score(bad, score):.3f}" in left.get_legend().get_texts()[0].get_text()


def test_every_picture_lies_at_its_vector():
    vectors = DRAW.normal(size=(7, 5))
    figure = seen_from_above(vectors, np.arange(7) % 3, np.zeros((7, 60, 40, 1), np.uint8))
    found = np.array([box.xy for box in figure.axes[0].artists])
    assert found.shape == (7, 2)
    apart = np.linalg.norm(found[:, None] - found[None], axis=-1)
    whole = np.linalg.norm(vectors[:, None] - vectors[None], axis=-1)
    assert (apart <= whole + 1e-9).all()
