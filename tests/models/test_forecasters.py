"""Forecasters: shapes, the properties their papers state, and parity with the published formulas."""

from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mistakes import raises

from dl.models.forecasters import (
    TCN,
    DLinear,
    ForecasterName,
    ITransformer,
    LSTMForecaster,
    NHiTS,
    NLinear,
    PatchTST,
    RevIN,
    SparseLinear,
    TimeLinear,
    TSMixer,
    forecaster,
    moving_average,
)

X = jax.random.normal(jax.random.key(0), (2, 48, 3))


def applied(model, x=X):
    y, variables = jax.jit(lambda: model.init_with_output(jax.random.key(1), x))()
    return variables, y


@pytest.mark.parametrize(
    "model",
    [
        DLinear(12),
        DLinear(12, individual=True),
        NLinear(12),
        SparseLinear(24),
        LSTMForecaster(12, hidden=4, layers=2),
        TCN(12, widths=(4, 4)),
        RevIN(NLinear(12)),
        PatchTST(12, width=4, layers=1, heads=2, hidden=8),
        NHiTS(12, width=4),
        RevIN(TSMixer(12, width=4, layers=1)),
        RevIN(ITransformer(12, width=4, layers=1, heads=2)),
    ],
    ids=lambda model: type(model).__name__,
)
def test_forecasts_every_variable_of_the_horizon(model):
    y, _ = jax.eval_shape(model.init_with_output, jax.random.key(1), X)
    horizon = model.model.horizon if isinstance(model, RevIN) else model.horizon
    assert y.shape == (2, horizon, 3)


def test_moving_average_is_the_reference_one():
    """AvgPool1d over the series with its ends repeated, as in DLinear's published code."""
    torch = pytest.importorskip("torch")
    x = np.asarray(X)
    padded = np.concatenate([x[:, :1].repeat(12, 1), x, x[:, -1:].repeat(12, 1)], axis=1)
    pool = torch.nn.AvgPool1d(25, stride=1)
    expected = pool(torch.tensor(padded).permute(0, 2, 1)).permute(0, 2, 1).numpy()
    np.testing.assert_allclose(moving_average(X, 25), expected, atol=1e-6)


@pytest.mark.parametrize("individual", [False, True])
def test_dlinear_is_two_linear_maps_of_trend_and_rest(individual):
    model = DLinear(12, individual=individual)
    variables, y = applied(model)
    params = variables["params"]
    trend = np.asarray(moving_average(X, 25))
    rest = np.asarray(X) - trend
    for v in range(3):
        expected = 0
        for name, part in (("seasonal", rest), ("trend", trend)):
            kernel, bias = (np.asarray(params[name]["linear"][k]) for k in ("kernel", "bias"))
            kernel, bias = (kernel[v], bias[v]) if individual else (kernel, bias)
            expected = expected + part[:, :, v] @ kernel + bias
        np.testing.assert_allclose(y[:, :, v], expected, atol=1e-5)


def test_individual_maps_differ_between_variables():
    variables = TimeLinear(4, individual=True).init(jax.random.key(0), X)
    kernel = variables["params"]["linear"]["kernel"]
    assert kernel.shape == (3, 48, 4)
    assert not np.allclose(kernel[0], kernel[1])


def test_nlinear_forecasts_a_shifted_series_shifted():
    variables, y = applied(NLinear(12))
    np.testing.assert_allclose(NLinear(12).apply(variables, X + 5.0), y + 5.0, atol=1e-5)


@pytest.mark.parametrize("affine", [False, True])
def test_revin_follows_scale_and_shift_of_the_window(affine):
    model = RevIN(TCN(6, widths=(4,)), affine=affine)
    variables, y = applied(model)
    moved = jax.jit(model.apply)(variables, 3.0 * X + 7.0)
    np.testing.assert_allclose(moved, 3.0 * y + 7.0, atol=2e-3)


def test_tcn_is_causal_and_sees_its_whole_reach():
    model = TCN(1, widths=(4, 4), window=3)  # reach: 1 + 2 * 2 * (1 + 2) = 13 steps
    x = X[:1]
    variables = jax.jit(model.init)(jax.random.key(1), x)
    gradient = jax.jit(jax.grad(lambda x: model.apply(variables, x).sum()))(x)
    touched = np.flatnonzero(np.abs(gradient[0]).sum(-1))
    assert touched.min() == 48 - 13
    assert touched.max() == 47


def test_sparse_linear_maps_phases_apart():
    """A change at one phase of the period, too far from others to be smoothed, stays at that phase."""
    model = SparseLinear(48, period=24)
    variables = model.init(jax.random.key(1), X)
    base = model.apply(variables, X)
    bump = jnp.zeros_like(X).at[0, 5, 0].set(1.0).at[0, 17, 0].set(-1.0)  # mean unchanged
    change = np.asarray(model.apply(variables, X + bump) - base)[0, :, 0]
    assert set(np.flatnonzero(np.abs(change) > 1e-6) % 24) <= {5, 17}


def test_patches_of_one_variable_never_see_another():
    model = PatchTST(4, width=4, layers=1, heads=2, hidden=8)
    variables = jax.jit(model.init)(jax.random.key(1), X)
    run = jax.jit(model.apply)
    changed = np.asarray(run(variables, X.at[0, :, 1].add(1.0)) != run(variables, X))
    assert changed[0, :, 1].all()
    assert not changed[1].any()
    assert not changed[0][:, [0, 2]].any()


def dense(params, x):
    return x @ np.asarray(params["kernel"], np.float64) + np.asarray(params["bias"], np.float64)


def test_nhits_is_its_published_blocks():
    """Window by window in NumPy, float64; points stand in the middle of what they stand for."""
    model = NHiTS(10, width=6, pools=(7, 2, 1), ratios=(5, 3, 1))
    variables, y = applied(model)
    params = variables["params"]
    for row in range(2):
        for variable in range(3):
            rest = np.asarray(X[row, :, variable], np.float64)
            forecast = np.full(10, rest[-1])
            for block, (pool, ratio) in enumerate(((7, 5), (2, 3), (1, 1))):
                pieces = [rest[start : start + pool].max() for start in range(0, 48, pool)]
                first, second, last = (params[f"Dense_{3 * block + i}"] for i in range(3))
                h = np.maximum(dense(second, np.maximum(dense(first, np.array(pieces)), 0)), 0)
                theta = dense(last, h)
                points = theta[48:]
                assert len(points) == -(-10 // ratio)
                places = (np.arange(10) + 0.5) * len(points) / 10 - 0.5
                forecast += np.interp(places, np.arange(len(points)), points)
                rest = rest - theta[:48]
            np.testing.assert_allclose(y[row, :, variable], forecast, atol=2e-5)


def test_tsmixer_is_its_published_blocks():
    model = TSMixer(5, width=4, layers=2, dropout=0.0)
    variables, y = applied(model)
    params = variables["params"]

    def normed(place, x):
        flat = x.reshape(-1)
        flat = (flat - flat.mean()) / np.sqrt(flat.var() + 1e-5)
        own = params[f"LayerNorm_{place}"]
        return (flat * own["scale"] + own["bias"]).reshape(x.shape)

    for row in range(2):
        x = np.asarray(X[row], np.float64)
        for layer in range(2):
            over_time, up, down = (params[f"Dense_{3 * layer + i}"] for i in range(3))
            x = x + np.maximum(dense(over_time, normed(2 * layer, x).T), 0).T
            x = x + dense(down, np.maximum(dense(up, normed(2 * layer + 1, x)), 0))
        np.testing.assert_allclose(y[row], dense(params["head"]["linear"], x.T).T, atol=2e-5)


def test_itransformer_knows_no_order_of_variables_and_mixes_them():
    model = RevIN(ITransformer(6, width=8, layers=2, heads=2), affine=False)
    variables, y = applied(model)
    order = jnp.array([2, 0, 1])
    np.testing.assert_allclose(model.apply(variables, X[..., order]), y[..., order], atol=1e-5)
    np.testing.assert_allclose(model.apply(variables, 3 * X - 1), 3 * y - 1, atol=1e-4)
    run = jax.jit(model.apply)
    changed = run(variables, X.at[0, 5, 1].add(1.0)) != run(variables, X)
    assert changed[0].all()
    assert not changed[1].any()


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (
            SparseLinear(50, period=24),
            ("indivisible", "48 steps", "horizon of 50", "24"),
        ),
        (
            SparseLinear(18, period=9),
            ("indivisible", "48 steps", "horizon of 18", "9"),
        ),
        (PatchTST(4, patch=60), ("window-too-short", "48 steps", "patch of 60")),
    ],
)
def test_windows_that_a_model_cannot_cut_are_one_line(model, says):
    with raises(*says):
        jax.eval_shape(model.init, jax.random.key(0), X)


@pytest.mark.parametrize("kind", get_args(ForecasterName))
def test_every_forecaster_goes_by_its_name(kind):
    model = forecaster(kind, 24, 24, width=8, dropout=0.1)
    assert jax.eval_shape(model.init_with_output, jax.random.key(0), X)[0].shape == (2, 24, 3)


def test_an_unknown_forecaster_gets_a_suggestion():
    with raises("unknown", "'nliner'", "'nlinear'"):
        forecaster("nliner", 24, 24, width=8, dropout=0.1)
