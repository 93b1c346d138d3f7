"""BG/NBD by numerical integration and by drawing customers from it."""

import numpy as np
import pytest
from mistakes import raises
from scipy.integrate import dblquad
from scipy.stats import beta, gamma

from dl.baselines.purchases import BGNBD, fit_bgnbd, purchase_rivals
from dl.data.splits import Info, Splits

MODEL = BGNBD(0.8, 6.0, 1.7, 3.0)


def one(x, recency, age):
    return {"repeat": np.array([x]), "recency": np.array([recency]), "age": np.array([age])}


@pytest.mark.parametrize("seen", [(0, 0.0, 20.0), (3, 12.0, 20.0)])
def test_the_likelihood_is_the_integral_over_customers(seen):
    x, recency, age = seen

    def density(rate, leave):
        stayed = (1 - leave) ** x * rate**x * np.exp(-rate * age)
        left = leave * (1 - leave) ** (x - 1) * rate**x * np.exp(-rate * recency) if x else 0
        drawn = gamma.pdf(rate, MODEL.r, scale=1 / MODEL.alpha) * beta.pdf(leave, MODEL.a, MODEL.b)
        return (stayed + left) * drawn

    whole, _ = dblquad(density, 0, 1, 1e-9, 8)
    assert MODEL.log_likelihood(one(*seen))[0] == pytest.approx(np.log(whole), abs=2e-3)


def drawn(count, weeks, ahead, seed=0):
    """Customers of the model: repeat, recency and age at ``weeks``, and purchases in those ahead."""
    draw = np.random.default_rng(seed)
    rate = draw.gamma(MODEL.r, 1 / MODEL.alpha, count)
    leave = draw.beta(MODEL.a, MODEL.b, count)
    now, there = np.zeros(count), np.ones(count, bool)
    x, recency, later = (np.zeros(count) for _ in range(3))
    while there.any():
        now = now + draw.exponential(1 / rate)
        early, late = there & (now < weeks), there & (now >= weeks) & (now < weeks + ahead)
        x, later = x + early, later + late
        recency = np.where(early, now, recency)
        there = (early | late) & (draw.random(count) >= leave)
    age = np.full(count, float(weeks))
    return {"repeat": x, "recency": recency, "age": age, "later": later}


def test_fitted_to_its_own_customers_it_foretells_them():
    part = drawn(30_000, 40, 30)
    found = fit_bgnbd(part)
    assert found.log_likelihood(part).mean() >= MODEL.log_likelihood(part).mean()
    assert found.r == pytest.approx(MODEL.r, rel=0.2)
    for model in (MODEL, found):
        said = model.expected(part, 30)
        assert said.mean() == pytest.approx(part["later"].mean(), rel=0.05)
        for some in (part["repeat"] == 0, part["repeat"] == 2, part["repeat"] > 4):
            assert said[some].mean() == pytest.approx(part["later"][some].mean(), rel=0.12)


def test_rivals_and_a_shop_where_nobody_comes_back():
    part = drawn(200, 40, 30) | {"profile": np.ones((200, 6))}
    info = Info("made", "made", "", "", "regression", "", details={"weeks": 30.0})
    splits = Splits(part, {}, part, info)
    found = purchase_rivals(splits, {"test": part["later"]})
    assert found["bg/nbd"] == {"test/rmse": 0.0, "test/auc": 1.0}
    assert found["mean"]["test/rmse"] == pytest.approx(part["later"].std(), rel=1e-6)
    assert found["mean"]["test/auc"] == 0.5
    with raises("nothing-to-fit", "two days"):
        fit_bgnbd(one(0, 0.0, 20.0))
