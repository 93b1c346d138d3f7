"""Networks for tables and the embeddings of their numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dl.models.tabular import (
    CategoryEmbedding,
    FeatureDense,
    FTTransformer,
    LinearEmbedding,
    PeriodicEmbedding,
    PiecewiseLinearEmbedding,
    TabularMLP,
    TabularResNet,
    piecewise_linear,
    quantile_edges,
)

RNG = np.random.default_rng(0)
NUMBERS = RNG.normal(size=(5, 3)).astype(np.float32)
MISSING = np.zeros((5, 3), np.float32)
CODES = RNG.integers(0, 4, (5, 2)).astype(np.int32)
EDGES = quantile_edges(RNG.normal(size=(100, 3)), 4)
SIZES = (4, 6)


@pytest.mark.parametrize(
    "model",
    [
        TabularMLP(2, SIZES, widths=(8,)),
        TabularMLP(2, SIZES, PiecewiseLinearEmbedding(EDGES, 4), widths=(8,)),
        TabularResNet(2, SIZES, PeriodicEmbedding(4, 3), width=8, hidden=8, blocks=1),
        FTTransformer(2, SIZES, size=8, heads=2, layers=2),
        FTTransformer(2, SIZES, PeriodicEmbedding(8, 3), size=8, heads=2, layers=1),
    ],
    ids=["mlp", "mlp-q", "resnet-plr", "ft", "ft-plr"],
)
def test_every_kind_of_column_reaches_the_output(model):
    variables = jax.jit(model.init)(jax.random.key(0), NUMBERS, MISSING, CODES)
    run = jax.jit(lambda *columns: model.apply(variables, *columns))
    y = run(NUMBERS, MISSING, CODES)
    assert y.shape == (5, 2)
    assert not np.allclose(y, run(NUMBERS + 0.3, MISSING, CODES))
    assert not np.allclose(y, run(NUMBERS, 1.0 - MISSING, CODES))
    assert not np.allclose(y, run(NUMBERS, MISSING, (CODES + 1) % 4))


@pytest.mark.parametrize("model", [TabularMLP(2, widths=(4,)), FTTransformer(2, (3,), size=8)])
def test_tables_of_one_kind_of_column_work(model):
    codes = np.zeros((5, len(model.cardinalities)), np.int32)
    numbers = np.zeros((5, 0 if model.cardinalities else 3), np.float32)
    y, _ = jax.jit(model.init_with_output)(jax.random.key(0), numbers, numbers, codes)
    assert y.shape == (5, 2)


def test_feature_dense_is_a_linear_map_for_each_feature():
    model, x = FeatureDense(4), RNG.normal(size=(5, 3, 2)).astype(np.float32)
    y, variables = model.init_with_output(jax.random.key(0), x)
    kernel, bias = variables["params"]["kernel"], variables["params"]["bias"]
    for n in range(3):
        np.testing.assert_allclose(y[:, n], x[:, n] @ kernel[n] + bias[n], atol=1e-6)


def test_periodic_embedding_by_the_papers_formula():
    model = PeriodicEmbedding(size=4, frequencies=3)
    y, variables = model.init_with_output(jax.random.key(0), NUMBERS)
    params = jax.tree.map(np.asarray, variables["params"])
    for n in range(3):
        angle = 2 * np.pi * params["frequency"][n] * NUMBERS[:, n : n + 1]
        waves = np.concatenate([np.cos(angle), np.sin(angle)], -1)
        linear = params["FeatureDense_0"]
        expected = np.maximum(waves @ linear["kernel"][n] + linear["bias"][n], 0)
        np.testing.assert_allclose(y[:, n], expected, atol=1e-5)


def test_piecewise_linear_by_hand():
    edges = jnp.array([[0.0, 1.0, 3.0, 4.0]])
    x = jnp.array([[-0.5], [0.25], [2.0], [6.0]])
    expected = [[-0.5, 0, 0], [0.25, 0, 0], [1, 0.5, 0], [1, 1, 3.0]]
    np.testing.assert_allclose(piecewise_linear(x, edges)[:, 0], expected)


def test_a_feature_of_two_values_has_one_bin():
    edges = quantile_edges(np.array([[0.0], [1.0], [1.0], [np.nan]] * 5), 4)
    np.testing.assert_allclose(
        piecewise_linear(jnp.array([[0.0], [1.0], [1.5]]), edges).sum(-1), [[0], [1], [1.5]]
    )


def test_a_constant_feature_stays_finite():
    edges = quantile_edges(np.full((9, 1), 7.0), 4)
    assert np.isfinite(piecewise_linear(jnp.array([[7.0], [8.0]]), edges)).all()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 12))
def test_piecewise_linear_loses_nothing(seed, bins):
    """The encoding, weighed by the bins' widths, gives the number back: even beyond the edges."""
    rng = np.random.default_rng(seed)
    values = np.round(rng.normal(size=(40, 2)), 1)
    edges = quantile_edges(values, bins)
    x = rng.normal(size=(10, 2)).astype(np.float32) * 3
    back = (piecewise_linear(jnp.asarray(x), edges) * np.diff(edges)).sum(-1) + edges[:, 0]
    np.testing.assert_allclose(back, x, atol=1e-4)


def test_categories_have_tables_apart():
    model = CategoryEmbedding((2, 3), 4)
    codes = jnp.array([[0, 0], [1, 2]])
    y, variables = model.init_with_output(jax.random.key(0), codes)
    table = variables["params"]["table"]
    np.testing.assert_array_equal(y, table[jnp.array([[0, 2], [1, 4]])])


def test_linear_embedding_is_linear():
    model = LinearEmbedding(4)
    y, variables = model.init_with_output(jax.random.key(0), NUMBERS)
    base = model.apply(variables, 0 * NUMBERS)
    np.testing.assert_allclose(
        model.apply(variables, 2 * NUMBERS) - base, 2 * (y - base), atol=1e-5
    )
