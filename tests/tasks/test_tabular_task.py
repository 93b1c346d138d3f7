"""Labels of table rows, and scores of probabilities."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dl.core.metrics import compute, merge
from dl.models.tabular import TabularMLP
from dl.scores import tabular as worth
from dl.tasks import tabular as t

RNG = np.random.default_rng(0)
BATCH = {
    "numerical": RNG.normal(size=(6, 3)).astype(np.float32),
    "missing": np.zeros((6, 3), np.float32),
    "categorical": RNG.integers(0, 3, (6, 1)).astype(np.int32),
    "label": np.array([0, 1, 0, 0, 1, 0], np.int32),
}
KEY = jax.random.key(0)
MODEL = TabularMLP(2, (3,), widths=(8,), dropout=0.0)
VARIABLES = t.tabular_classification(MODEL).init(KEY, BATCH)


def test_class_weights_count_in_training_alone():
    plain = t.tabular_classification(MODEL)
    heavy = t.tabular_classification(MODEL, class_weights=jnp.array([1.0, 3.0]))
    logits = jax.jit(plain.predict)(VARIABLES, BATCH)
    nats = -jax.nn.log_softmax(logits)[jnp.arange(6), BATCH["label"]]
    weights = np.where(BATCH["label"] == 1, 3.0, 1.0)
    loss, _ = heavy.loss(VARIABLES, BATCH, KEY)
    assert float(loss) == pytest.approx(float((nats * weights).sum() / weights.sum()), rel=1e-5)
    assert compute(heavy.evaluate(VARIABLES, BATCH)) == compute(plain.evaluate(VARIABLES, BATCH))


def test_a_table_is_judged_and_predicted_without_the_weights_of_its_classes():
    weights = np.array([1.0, 3.0])
    task, say = t.of_table(MODEL, 2, weights)
    plain, _ = t.of_table(MODEL, 2, None)
    odds = np.exp(np.asarray(plain.predict(VARIABLES, BATCH), np.float64)) / weights
    chances = odds / odds.sum(1, keepdims=True)
    said = say(lambda rows: np.asarray(task.predict(VARIABLES, rows)), BATCH)
    np.testing.assert_allclose(jax.nn.softmax(said), chances, rtol=1e-5)
    found = compute(task.evaluate(VARIABLES, BATCH))
    right = np.eye(2)[BATCH["label"]]
    assert found["brier"] == pytest.approx(((chances - right) ** 2).sum(1).mean(), rel=1e-5)
    assert found["accuracy"] == (chances.argmax(1) == BATCH["label"]).mean()
    heavy = t.tabular_classification(MODEL, class_weights=weights)
    assert task.loss(VARIABLES, BATCH, KEY)[0] == heavy.loss(VARIABLES, BATCH, KEY)[0]


def test_scores_do_not_depend_on_padding():
    task = t.tabular_classification(MODEL)
    whole = compute(task.evaluate(VARIABLES, BATCH))
    first = {k: v[:4] for k, v in BATCH.items()}
    last = {k: np.concatenate([v[4:], v[:1]]) for k, v in BATCH.items()} | {
        "mask": np.array([1.0, 1, 0])
    }
    cut = merge(task.evaluate(VARIABLES, first), task.evaluate(VARIABLES, last))
    assert compute(cut) == pytest.approx(whole, rel=1e-5)


def test_regression_of_rows():
    task = t.tabular_regression(TabularMLP(1, (3,), widths=(4,)), centre=2.0)
    batch = BATCH | {"label": BATCH["label"].astype(np.float32)}
    variables = jax.jit(task.init)(KEY, batch)
    assert task.predict(variables, batch).shape == (6,)
    assert np.isfinite(task.loss(variables, batch, KEY)[0])


def test_weights_can_be_taken_out_of_the_probabilities():
    """A model fitted to a weighted coin says the weighted odds; `unweighted` brings the coin's back."""
    odds = np.array([0.9, 0.1]) * np.array([1.0, 5.0])
    logits = jnp.log(odds)
    np.testing.assert_allclose(
        jax.nn.softmax(t.unweighted(logits, jnp.array([1.0, 5.0]))), [0.9, 0.1], rtol=1e-5
    )


@settings(max_examples=10, deadline=None)
@given(st.floats(0.3, 4.0), st.integers(0, 100))
def test_temperature_finds_the_one_the_logits_were_made_with(temperature, seed):
    rng = np.random.default_rng(seed)
    true = rng.normal(size=(20000, 2)) * 2
    chance = np.exp(true[:, 1]) / np.exp(true).sum(1)
    label = (rng.random(20000) < chance).astype(int)
    assert worth.fit_temperature(true * temperature, label) == pytest.approx(temperature, rel=0.1)


def test_calibrated_probabilities_have_no_calibration_error():
    rng = np.random.default_rng(0)
    p = rng.random(200_000)
    label = (rng.random(200_000) < p).astype(int)
    honest, bold = (
        worth.binary_scores(label, p),
        worth.binary_scores(label, (p > 0.5) * 0.98 + 0.01),
    )
    assert honest["ece"] < 0.01 < 0.2 < bold["ece"]


def test_reliability_counts_every_row_once():
    said, came, count = worth.reliability(np.array([0.0, 0.05, 1.0]), np.array([0, 1, 1]), 4)
    assert count.tolist() == [2, 0, 0, 1]
    np.testing.assert_allclose(came[[0, 3]], [0.5, 1.0])
    np.testing.assert_allclose(said[[0, 3]], [0.025, 1.0])
    assert np.isnan(said[1])
