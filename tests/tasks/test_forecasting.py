"""The forecasting task and its scores."""

import math
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mistakes import raises

from dl.baselines.linear_forecast import Compared, compared, fit_linear
from dl.core.metrics import compute, merge
from dl.data.batches import windows
from dl.data.splits import Info, Splits
from dl.models.forecasters import NLinear, TimeLinear
from dl.scores import forecasting as worth
from dl.tasks import forecasting as f

INFO = Info("waves", *5 * [""])
KEY = jax.random.key(0)
BATCH = {
    "past": jax.random.normal(KEY, (6, 24, 2)),
    "future": jax.random.normal(jax.random.key(1), (6, 8, 2)),
}


def test_mse_and_mae_are_those_of_predict():
    task = f.forecasting(NLinear(8))
    variables = jax.jit(task.init)(KEY, BATCH)
    wrong = np.asarray(task.predict(variables, BATCH) - BATCH["future"])
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
    assert task.predict(variables, batch).shape == (6, 8, 3)
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
    forecast = jax.jit(task.predict)({"params": params}, batch)
    assert (np.diff(forecast, axis=-1) >= 0).all()
    assert compute(task.evaluate({"params": params}, batch))["coverage"] == pytest.approx(
        0.8, abs=0.02
    )


def test_median_pinball_is_the_absolute_error():
    y, x = BATCH["future"], BATCH["past"][:, :8]
    np.testing.assert_allclose(f.pinball(x, y, 0.5), jnp.abs(x - y), rtol=1e-6)


def test_seasonal_naive_repeats_the_last_period():
    assert worth.seasonal_naive(jnp.arange(10), 7, 3).tolist() == [7, 8, 9, 7, 8, 9, 7]
    columns = jnp.stack([jnp.arange(10)] * 2, 1)[None]
    assert worth.seasonal_naive(columns, 4, 3, axis=1)[0, :, 1].tolist() == [7, 8, 9, 7]


def test_m4_scores_by_hand():
    history = jnp.array([1.0, 2.0, 3.0, 5.0, 7.0])
    future, forecast = jnp.array([4.0, 6.0]), jnp.array([6.0, 6.0])
    naive = (2 + 3 + 4) / 3  # |3-1|, |5-2|, |7-3|
    assert worth.naive_error(history, 2) == pytest.approx(naive)
    assert worth.smape(forecast, future) == pytest.approx(200 * (2 / 10 + 0) / 2)
    assert worth.mase(forecast, future, naive) == pytest.approx(1.0 / naive)


@settings(max_examples=30, deadline=None)
@given(st.integers(5, 40), st.integers(1, 4))
def test_naive_error_ignores_what_follows_the_length(length, period):
    values = np.random.default_rng(length).normal(size=60).astype(np.float32)
    padded = np.where(np.arange(60) < length, values, np.nan)
    got = worth.naive_error(jnp.asarray(padded), period, jnp.asarray(length))
    assert float(got) == pytest.approx(float(worth.naive_error(values[:length], period)), rel=1e-5)


@settings(max_examples=30, deadline=None)
@given(st.floats(0.1, 1e3))
def test_smape_and_mase_do_not_depend_on_the_unit(unit):
    a, b = np.abs(BATCH["past"][0, :8, 0]) + 0.1, np.abs(BATCH["future"][0, :, 0]) + 0.1
    assert worth.smape(unit * a, unit * b) == pytest.approx(float(worth.smape(a, b)), rel=1e-4)
    assert worth.mase(unit * a, unit * b, unit) == pytest.approx(
        float(worth.mase(a, b, 1.0)), rel=1e-4
    )


def test_point_scores_are_the_means_over_values_or_over_series():
    forecast, future = np.asarray(BATCH["past"][:, :8]), np.asarray(BATCH["future"])
    scores = worth.point_scores(forecast, future)
    assert scores["mse"] == pytest.approx(np.square(forecast - future).mean(), rel=1e-5)
    each = worth.mase(forecast[..., 0], future[..., 0], np.arange(1.0, 7.0))
    scores = worth.point_scores(forecast[..., 0], future[..., 0], np.arange(1.0, 7.0))
    assert scores["mase"] == pytest.approx(float(each.mean()))
    assert set(scores) == {"smape", "mase"}


def test_rivals_know_a_series_that_repeats_and_see_every_window_once():
    hours = np.arange(24 * 12, dtype=np.float32)
    values = np.stack([np.sin(2 * np.pi * hours / 24), np.cos(2 * np.pi * hours / 24)], 1)
    parts = [{"values": part} for part in np.split(values, [144, 216])]
    train, held, _ = windows.forecasting(Splits(*parts, INFO), 48, 12, 8, eval_batch_size=10)  # type: ignore[call-arg]
    found = compared(train.ordered(7), {"validation": held}, 24)["validation"]
    assert found.past.shape == (72 - 12 + 1, 48, 2)
    np.testing.assert_array_equal(found.future[0], values[144:156])
    for forecast in (found.forecasts["naive"], found.forecasts["linear"]):
        np.testing.assert_allclose(forecast, found.future, atol=0.02)


def test_rivals_are_scored_beside_a_forecast_of_ones_own():
    draw = np.random.default_rng(0)
    past, future, own = (
        draw.normal(size=(3, 8)),
        draw.normal(size=(3, 4)),
        draw.normal(size=(3, 4, 3)),
    )
    naive, errors = draw.normal(size=(3, 4)), np.array([1.0, 2.0, 3.0])
    panel = Compared(past, future, {"naive": naive}, errors)
    expected = worth.point_scores(naive, future, errors)
    assert panel.scores() == {f"naive_{name}": value for name, value in expected.items()}
    middle = worth.point_scores(own[..., 1], future, errors)
    assert panel.scores(own) == panel.scores() | middle
    assert set(Compared(past, future, {"naive": naive}).scores()) == {"naive_mse", "naive_mae"}


# Independent scores: one value after another in Python's floats, summed exactly.


def _mean(values):
    values = list(values)
    return math.fsum(values) / len(values) if values else math.nan


def _naive_by_hand(series, period):
    pairs = zip(series[period:], series, strict=False)
    return _mean(abs(now - before) for now, before in pairs if not math.isnan(now - before))


def _smape_by_hand(forecast, future):
    return _mean(
        0.0 if y == f == 0 else 200 * abs(y - f) / (abs(y) + abs(f))
        for f, y in zip(forecast, future, strict=True)
        if not math.isnan(y)
    )


def _mase_by_hand(forecast, future, naive):
    pairs = zip(forecast, future, strict=True)
    error = _mean(abs(y - f) for f, y in pairs if not math.isnan(y))
    return math.nan if math.isnan(naive) or naive == 0 else error / naive


def _present(values):
    return [value for value in values if not math.isnan(value)]


@st.composite
def panels(draw):
    """Histories with lengths, forecasts and truths of a few series at any level, some constant, some
    with any values missing."""
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    series, steps, horizon = (draw(st.integers(1, n)) for n in (5, 12, 4))
    level = draw(st.sampled_from([0.0, 1.0, -1e3, 1e9, 1e12]))
    values = level + np.round(rng.normal(size=(series, steps + 2 * horizon)), 3)
    values[rng.random(series) < 0.3] = level
    past, future, forecast = np.split(values, [steps, steps + horizon], axis=1)
    for part in (past, future):
        part[rng.random(part.shape) < draw(st.sampled_from([0.0, 0.3, 1.0]))] = np.nan
    return past, rng.integers(0, steps + 1, series), future, forecast


@settings(max_examples=150, deadline=None)
@given(panels(), st.integers(1, 6))
def test_every_score_is_that_of_a_computation_by_hand(panel, period):
    past, length, future, forecast = panel
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        naive = worth.naive_error(past, period, length)
        found = {
            "smape": worth.smape(forecast, future),
            "mase": worth.mase(forecast, future, naive),
            **worth.point_scores(forecast[..., None], future[..., None]),
        }
        means = worth.point_scores(forecast, future, naive)
    rows = range(len(past))
    each = {
        "naive": [_naive_by_hand(past[i, : length[i]].tolist(), period) for i in rows],
        "smape": [_smape_by_hand(forecast[i].tolist(), future[i].tolist()) for i in rows],
    }
    scales = each["naive"]
    each["mase"] = [
        _mase_by_hand(forecast[i].tolist(), future[i].tolist(), scales[i]) for i in rows
    ]
    close = {"rel": 1e-12, "nan_ok": True}
    assert naive.tolist() == pytest.approx(scales, **close)
    for name in ("smape", "mase"):
        assert found[name].tolist() == pytest.approx(each[name], **close)
        assert means[name] == pytest.approx(_mean(_present(each[name])), **close)
        assert not np.isinf(found[name]).any()
        assert not (found[name] < 0).any()
    gaps = _present((forecast - future).reshape(-1).tolist())
    assert found["mse"] == pytest.approx(_mean(gap**2 for gap in gaps), **close)
    assert found["mae"] == pytest.approx(_mean(map(abs, gaps)), **close)


@settings(max_examples=60, deadline=None)
@given(panels(), st.integers(1, 15), st.integers(1, 9))
def test_seasonal_naive_takes_the_value_whole_periods_before(panel, period, horizon):
    past = panel[0]
    found = worth.seasonal_naive(past, horizon, period)
    assert found.dtype == np.float64
    for row, series in zip(found, past, strict=True):
        for step, value in enumerate(row):
            back = len(series) + step
            while back >= len(series):
                back -= period
            assert value == (series[back] if back >= 0 else np.nan) or (
                math.isnan(value) and (back < 0 or math.isnan(series[back]))
            )
    moved = worth.seasonal_naive(past.T, horizon, period, axis=0)
    np.testing.assert_array_equal(moved.T, found)


def test_what_has_no_score_is_nan_and_left_out_of_the_mean():
    ones, line = np.ones(3), np.array([1.0, 2.0, 3.0])
    assert math.isnan(worth.mase(ones, line, worth.naive_error(np.ones(50), 24)))
    assert math.isnan(worth.naive_error(np.arange(10.0), 24))
    short = worth.naive_error(np.pad(np.arange(10.0), (0, 40)), 24, np.array(10))
    assert math.isnan(short)
    assert math.isnan(worth.mase(ones, line, short))
    scales = np.r_[0.0, np.nan, np.ones(98)]
    scores = worth.point_scores(np.ones((100, 3)), np.full((100, 3), 2.0), scales)
    assert scores == {"smape": pytest.approx(200 / 3), "mase": 1.0}
    t = np.arange(100.0)
    naive = worth.naive_error(1e9 + t % 24 * 0.5 + t * 0.01, 24)
    assert naive == pytest.approx(0.24, rel=1e-6)
    assert math.isnan(worth.mase(ones, line, 1e-320))  # no number that float64 has
    nothing = worth.point_scores(np.ones((2, 3)), np.full((2, 3), np.nan), np.ones(2))
    assert all(math.isnan(value) for value in nothing.values())


@pytest.mark.parametrize("failed", [np.nan, np.inf, -np.inf])
def test_a_forecast_that_failed_is_not_left_out(failed):
    """A network that diverged on one series has no good score from the others."""
    forecast, future = np.ones((4, 3)), np.full((4, 3), 2.0)
    forecast[2, 1] = failed
    for scores in (
        worth.point_scores(forecast, future, np.ones(4)),
        worth.point_scores(forecast[..., None], future[..., None]),
    ):
        assert all(math.isnan(value) for value in scores.values())
    future[2, 1] = np.nan  # there is nothing to forecast there
    scores = worth.point_scores(forecast, future, np.ones(4))
    assert scores == {"smape": pytest.approx(200 / 3), "mase": 1.0}


@pytest.mark.parametrize(
    ("score", "says"),
    [
        (lambda: worth.mase(np.ones(3), np.ones(1), 1.0), ("shapes-differ",)),
        (lambda: worth.smape(np.ones((2, 3)), np.ones(3)), ("shapes-differ",)),
        (lambda: worth.point_scores(np.ones((2, 3, 1)), np.ones((2, 1, 1))), ("shapes-differ",)),
        (lambda: worth.mase(np.ones((2, 3)), np.ones((2, 3)), 1.0), ("shapes-differ", "one a series")),
        (lambda: worth.mase(np.ones(3), np.ones(3), -1.0), ("naive-error-impossible", "naive_error")),
        (lambda: worth.smape(np.ones(3), np.r_[1, 2, np.inf]), ("infinity", "NaN")),
        (lambda: worth.naive_error(np.r_[1, 2, np.inf], 1), ("infinity", "NaN")),
        (lambda: worth.naive_error(np.ones(5), 0), ("range", "period", "not 0")),
        (lambda: worth.seasonal_naive(np.ones(5), 3, -1), ("range", "period", "not -1")),
        (lambda: worth.naive_error(np.ones((2, 5)), 1, np.array([3])), ("shapes-differ", "one a series")),
        (lambda: worth.naive_error(np.ones((2, 5)), 1, np.array([3, 6])), ("length-beyond-series", "3 to 6")),
        (lambda: fit_linear([]), ("nothing-to-fit",)),
    ],
)  # fmt: skip
def test_scores_of_what_does_not_fit_are_errors(score, says):
    with raises(*says):
        score()


@pytest.mark.parametrize(
    ("quantiles", "says"),
    [
        ((0.9, 0.5, 0.1), ("quantiles-unordered", "0.9 0.5 0.1", "give 0.1 0.5 0.9")),
        ((0.5, 0.5), ("quantiles-unordered", "give 0.5")),
        ((0.1, 0.5, 90.0), ("range", "quantile 90 ")),
        ((0.0, 0.5), ("range", "quantile 0 ")),
        ((0.5, 1.0), ("range", "quantile 1 ")),
        ((-0.1,), ("range", "quantile -0.1 ")),
        ((math.nan,), ("range", "quantile nan ")),
    ],
)
def test_quantiles_out_of_order_or_range_are_errors(quantiles, says):
    with raises(*says):
        f.forecasting(NLinear(8), quantiles=quantiles)


@pytest.mark.parametrize(
    ("horizon", "quantiles", "says"),
    [
        (1, (), ("output-shape", "[1, 2]", "'future' has [8, 2]")),
        (8, (0.1, 0.9), ("output-shape", "[4, 2]", "times the number of quantiles")),
        (9, (0.1, 0.9), ("output-shape", "9 steps", "2 quantiles")),
    ],
)
def test_a_model_of_another_horizon_is_never_broadcast(horizon, quantiles, says):
    task = f.forecasting(NLinear(horizon), quantiles=quantiles)
    variables = jax.jit(task.init)(KEY, BATCH)
    with raises(*says):
        task.evaluate(variables, BATCH)


@pytest.mark.parametrize("unit", [1e-9, 1.0, 1e9])
def test_instance_scale_knows_series_of_any_unit_and_constants(unit):
    past = unit * (3.0 + np.sin(np.arange(24.0)))
    windows_ = np.stack([past, np.full(24, 7.3 * unit), np.zeros(24)])[..., None]
    centre, spread = f.instance_scale(jnp.asarray(windows_, jnp.float32))
    assert centre[0, 0, 0] == pytest.approx(past.mean(), rel=1e-5)
    assert spread[:, 0, 0].tolist() == pytest.approx([past.std(), 1.0, 1.0], rel=1e-4)


def test_rivals_of_a_series_at_a_high_level_are_those_of_the_series_itself():
    values = np.random.default_rng(0).normal(size=(216, 1)).cumsum(0)
    found = []
    for level in (0.0, 1e9):
        parts = [{"values": part} for part in np.split(values + level, [144, 180])]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            train, held, _ = windows.forecasting(Splits(*parts, INFO), 24, 6, 8)  # type: ignore[call-arg]
        found.append(compared(train.ordered(50), {"x": held}, 12)["x"])
        np.testing.assert_allclose(found[-1].future[0], values[144:150] + level, atol=1e-6)
    low, high = found
    for name, forecast in high.forecasts.items():
        assert forecast.dtype == np.float64
        np.testing.assert_allclose(forecast - 1e9, low.forecasts[name], atol=2e-5)


def test_the_linear_rival_is_least_squares_and_windows_without_movement_count_nothing():
    rng = np.random.default_rng(0)
    past, future = rng.normal(size=(60, 5)), rng.normal(size=(60, 2))
    level = past.mean(1, keepdims=True)
    x, y = past - level, future - level
    penalty = 0.1 * np.trace(x.T @ x) / 5 * np.eye(5)
    expected = np.linalg.inv(x.T @ x + penalty) @ x.T @ y
    np.testing.assert_allclose(fit_linear([(past, future)], ridge=0.1).weight, expected, atol=1e-10)
    still = np.full((4, 5), 0.1), rng.normal(size=(4, 2))
    for relative in (False, True):
        alone = fit_linear([(past, future)], relative=relative).weight
        joined = fit_linear([(past, future), still], relative=relative).weight
        np.testing.assert_allclose(joined, alone, atol=1e-10)
    assert not fit_linear([still]).weight.any()


@pytest.mark.parametrize("quantiles", [(), (0.1, 0.5, 0.9)])
def test_gaps_count_for_nothing(quantiles):
    past, future = np.array(BATCH["past"]), np.array(BATCH["future"])
    future[1, 0] = np.nan
    task = f.forecasting(TimeLinear(8 * max(1, len(quantiles))), quantiles=quantiles, gaps=True)
    variables = task.init(KEY, BATCH)

    def loss(variables):
        outputs, _ = task.apply(variables, {"past": past}, None)
        found = task.score(outputs, {"past": past, "future": future}, True)
        return found["loss"].total, found

    (_, found), slope = jax.value_and_grad(loss, has_aux=True)(variables)
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(slope))
    assert {float(value.weight) for value in found.values()} == {6 * 8 * 2 - 2}
    whole = f.forecasting(TimeLinear(8 * max(1, len(quantiles))), quantiles=quantiles)
    outputs, _ = whole.apply(variables, {"past": past}, None)
    rows = [0, 2, 3, 4, 5]  # those without a gap
    for name, value in task.score(
        outputs[rows, :], {"past": past[rows], "future": future[rows]}, False
    ).items():
        of_all = whole.score(outputs[rows, :], {"past": past[rows], "future": future[rows]}, False)
        np.testing.assert_allclose(value.total, of_all[name].total, rtol=1e-6)
