"""Regression and the prognostics score."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dl.core.metrics import compute, merge
from dl.models.regressors import LSTMRegressor
from dl.tasks.regression import nasa_score, regression

KEY = jax.random.key(0)
BATCH = {
    "window": jax.random.normal(KEY, (5, 6, 3)),
    "rul": 60 + 10 * jax.random.normal(jax.random.key(1), (5,)),
}
TASK = regression(
    LSTMRegressor(4, 1, hidden=3),
    inputs="window",
    target="rul",
    centre=60.0,
    spread=20.0,
    scores={"nasa": nasa_score},
)


def test_errors_are_in_the_targets_unit_and_the_loss_is_scaled():
    variables = TASK.init(KEY, BATCH)
    scores = compute(TASK.evaluate(variables, BATCH))
    wrong = np.asarray(TASK.predict(variables, BATCH) - BATCH["rul"])
    assert scores["mse"] == pytest.approx(np.square(wrong).mean(), rel=1e-4)
    assert scores["loss"] == pytest.approx(scores["mse"] / 20.0**2, rel=1e-4)
    assert scores["nasa"] == pytest.approx(float(nasa_score(wrong, 0.0).mean()), rel=1e-4)


def test_scores_do_not_depend_on_padding():
    variables = TASK.init(KEY, BATCH)
    whole = compute(TASK.evaluate(variables, BATCH))
    first = {k: v[:3] for k, v in BATCH.items()}
    last = {k: jnp.concatenate([v[3:], v[:1] * jnp.nan]) for k, v in BATCH.items()}
    last["mask"] = jnp.array([1.0, 1.0, 0.0])
    cut = merge(TASK.evaluate(variables, first), TASK.evaluate(variables, last))
    assert compute(cut) == pytest.approx(whole, rel=1e-5)


def test_nasa_score_by_the_published_formula():
    d = np.array([-26.0, 0.0, 20.0])
    expected = [np.exp(2.0) - 1, 0.0, np.exp(2.0) - 1]
    np.testing.assert_allclose(nasa_score(d + 50.0, jnp.full(3, 50.0)), expected, rtol=1e-6)


def test_a_late_warning_costs_more_than_an_early_one():
    d = jnp.linspace(1.0, 50.0, 20)
    assert (nasa_score(d, 0.0) > nasa_score(-d, 0.0)).all()


def test_an_origin_moves_predictions_and_no_score():
    """Targets at 1e9, less it in float64, are judged as those near 0; predict adds it again."""
    moved = regression(
        LSTMRegressor(4, 1, hidden=3), inputs="window", target="rul", spread=20.0, origin=1e9
    )
    plain = regression(LSTMRegressor(4, 1, hidden=3), inputs="window", target="rul", spread=20.0)
    variables = plain.init(KEY, BATCH)
    assert compute(moved.evaluate(variables, BATCH)) == compute(plain.evaluate(variables, BATCH))
    said = [np.asarray(task.predict(variables, BATCH)) for task in (plain, moved)]
    np.testing.assert_allclose(said[1], said[0] + 1e9, rtol=1e-7)
