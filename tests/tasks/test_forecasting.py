"""The forecasting task and its scores."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dl.core.metrics import compute, merge
from dl.data import windows
from dl.data.splits import Info, Splits
from dl.models.forecasters import NLinear, TimeLinear
from dl.tasks import forecasting as f
from dl.tasks.baselines import compared

INFO = Info("waves", *5 * [""])
KEY = jax.random.key(0)
BATCH = {
    "past": jax.random.normal(KEY, (6, 24, 2)),
    "future": jax.random.normal(jax.random.key(1), (6, 8, 2)),
}


def test_mse_and_mae_are_those_of_predict():
    task = f.forecasting(NLinear(8))
    variables = jax.jit(task.init)(KEY, BATCH)
    wrong = np.asarray(task.predict(variables, BATCH["past"]) - BATCH["future"])
    scores = compute(task.evaluate(variables, BATCH))
    assert scores["mse"] == pytest.approx(np.square(wrong).mean(), rel=1e-5)
    assert scores["mae"] == pytest.approx(np.abs(wrong).mean(), rel=1e-5)
    assert scores["loss"] == scores["mse"]


@pytest.mark.parametrize("quantiles", [(), (0.1, 0.5, 0.9)])
def test_scores_do_not_depend_on_how_the_set_is_cut(quantiles):
    task = f.forecasting(NLinear(8 * max(len(quantiles), 1)), quantiles=quantiles)
    variables = jax.jit(task.init)(KEY, BATCH)
    whole = compute(task.evaluate(variables, BATCH))
    first = {k: v[:4] for k, v in BATCH.items()}
    last = {k: jnp.concatenate([v[4:], v[:2] * jnp.nan]) for k, v in BATCH.items()}
    last["mask"] = jnp.array([1.0, 1.0, 0.0, 0.0])
    cut = compute(merge(task.evaluate(variables, first), task.evaluate(variables, last)))
    assert cut == pytest.approx(whole, rel=1e-5)


def test_scaled_learning_follows_the_series_size():
    """In instance scale a thousandfold series is the same example: same loss, forecast a thousandfold."""
    task = f.forecasting(TimeLinear(8), scale=f.instance_scale)
    variables = jax.jit(task.init)(KEY, BATCH)
    large = {k: 1000.0 * v + 50.0 for k, v in BATCH.items()}
    small, big = (compute(task.evaluate(variables, b)) for b in (BATCH, large))
    assert big["loss"] == pytest.approx(small["loss"], rel=1e-3)
    assert big["mae"] == pytest.approx(1000 * small["mae"], rel=1e-3)


def test_single_series_need_no_variable_axis():
    task = f.forecasting(NLinear(24), quantiles=(0.1, 0.5, 0.9), scale=f.instance_scale)
    batch = {k: v[..., 0] for k, v in BATCH.items()}
    variables = jax.jit(task.init)(KEY, batch)
    assert task.predict(variables, batch["past"]).shape == (6, 8, 3)
    assert np.isfinite(task.loss(variables, batch, KEY)[0])


def test_quantile_forecasts_are_in_order_and_learn_their_coverage():
    """On pure noise a constant forecaster's 10 % and 90 % quantiles come to hold 80 % of it."""
    import optax

    task = f.forecasting(TimeLinear(3), quantiles=(0.1, 0.5, 0.9))
    noise = jax.random.normal(KEY, (2000, 1, 1))
    batch = {"past": jnp.zeros((2000, 1, 1)), "future": noise}
    variables = jax.jit(task.init)(KEY, batch)
    optimizer = optax.adam(0.05)

    def step(carry, _):
        params, state = carry
        grads = jax.grad(lambda p: task.loss({"params": p}, batch, KEY)[0])(params)
        updates, state = optimizer.update(grads, state)
        return (optax.apply_updates(params, updates), state), None

    start = variables["params"], optimizer.init(variables["params"])
    (params, _), _ = jax.lax.scan(step, start, length=200)
    forecast = jax.jit(task.predict)({"params": params}, batch["past"])
    assert (np.diff(forecast, axis=-1) >= 0).all()
    assert compute(task.evaluate({"params": params}, batch))["coverage"] == pytest.approx(
        0.8, abs=0.02
    )


def test_median_pinball_is_the_absolute_error():
    y, x = BATCH["future"], BATCH["past"][:, :8]
    np.testing.assert_allclose(f.pinball(x, y, 0.5), jnp.abs(x - y), rtol=1e-6)


def test_seasonal_naive_repeats_the_last_period():
    assert f.seasonal_naive(jnp.arange(10), 7, 3).tolist() == [7, 8, 9, 7, 8, 9, 7]
    columns = jnp.stack([jnp.arange(10)] * 2, 1)[None]
    assert f.seasonal_naive(columns, 4, 3, axis=1)[0, :, 1].tolist() == [7, 8, 9, 7]


def test_m4_scores_by_hand():
    history = jnp.array([1.0, 2.0, 3.0, 5.0, 7.0])
    future, forecast = jnp.array([4.0, 6.0]), jnp.array([6.0, 6.0])
    naive = (2 + 3 + 4) / 3  # |3-1|, |5-2|, |7-3|
    assert f.naive_error(history, 2) == pytest.approx(naive)
    assert f.smape(forecast, future) == pytest.approx(200 * (2 / 10 + 0) / 2)
    assert f.mase(forecast, future, naive) == pytest.approx(1.0 / naive)


@settings(max_examples=30, deadline=None)
@given(st.integers(5, 40), st.integers(1, 4))
def test_naive_error_ignores_what_follows_the_length(length, period):
    values = np.random.default_rng(length).normal(size=60).astype(np.float32)
    padded = np.where(np.arange(60) < length, values, np.nan)
    got = f.naive_error(jnp.asarray(padded), period, jnp.asarray(length))
    assert float(got) == pytest.approx(float(f.naive_error(values[:length], period)), rel=1e-5)


@settings(max_examples=30, deadline=None)
@given(st.floats(0.1, 1e3))
def test_smape_and_mase_do_not_depend_on_the_unit(unit):
    a, b = np.abs(BATCH["past"][0, :8, 0]) + 0.1, np.abs(BATCH["future"][0, :, 0]) + 0.1
    assert f.smape(unit * a, unit * b) == pytest.approx(float(f.smape(a, b)), rel=1e-4)
    assert f.mase(unit * a, unit * b, unit) == pytest.approx(float(f.mase(a, b, 1.0)), rel=1e-4)


def test_point_scores_are_the_means_over_values_or_over_series():
    forecast, future = np.asarray(BATCH["past"][:, :8]), np.asarray(BATCH["future"])
    scores = f.point_scores(forecast, future)
    assert scores["mse"] == pytest.approx(np.square(forecast - future).mean(), rel=1e-5)
    each = f.mase(forecast[..., 0], future[..., 0], np.arange(1.0, 7.0))
    scores = f.point_scores(forecast[..., 0], future[..., 0], np.arange(1.0, 7.0))
    assert scores["mase"] == pytest.approx(float(each.mean()))
    assert set(scores) == {"smape", "mase"}


def test_rivals_know_a_series_that_repeats_and_see_every_window_once():
    hours = np.arange(24 * 12, dtype=np.float32)
    values = np.stack([np.sin(2 * np.pi * hours / 24), np.cos(2 * np.pi * hours / 24)], 1)
    parts = [{"values": part} for part in np.split(values, [144, 216])]
    train, held, _ = windows.forecasting(Splits(*parts, INFO), 48, 12, 8, eval_batch_size=10)
    found = compared(train.ordered(7), {"validation": held}, 24)["validation"]
    assert found.past.shape == (72 - 12 + 1, 48, 2)
    np.testing.assert_array_equal(found.future[0], values[144:156])
    for forecast in (found.forecasts["naive"], found.forecasts["linear"]):
        np.testing.assert_allclose(forecast, found.future, atol=0.02)
