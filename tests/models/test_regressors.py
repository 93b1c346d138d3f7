"""Regressors over windows of sensors."""

import jax
import numpy as np
import pytest

from dl.models.regressors import ConvRegressor, LSTMRegressor

X = jax.random.normal(jax.random.key(0), (3, 12, 5))


@pytest.mark.parametrize(
    "model",
    [
        ConvRegressor((2, 2), window=4, hidden=6),
        ConvRegressor((2, 2), window=4, hidden=6, mixed=True),
        LSTMRegressor(4, 1, hidden=3),
    ],
    ids=["per sensor", "mixed", "lstm"],
)
def test_one_number_an_example_and_dropout_only_in_training(model):
    variables = jax.jit(model.init)(jax.random.key(1), X)
    y = model.apply(variables, X)
    assert y.shape == (3,)
    np.testing.assert_array_equal(y, model.apply(variables, X))
    rngs = {"dropout": jax.random.key(2)}
    assert not np.allclose(y, model.apply(variables, X, train=True, rngs=rngs))


def test_per_sensor_filters_are_those_of_the_paper():
    """FN = 10 filters of FL = 10 in four layers, one of 3, 100 units: 10,000-odd weights before them."""
    model = ConvRegressor()
    params = model.init(jax.random.key(1), jax.random.normal(jax.random.key(0), (1, 30, 14)))[
        "params"
    ]
    shapes = [params[f"Conv_{i}"]["kernel"].shape for i in range(5)]
    assert shapes == [(10, 1, 1, 10), *[(10, 1, 10, 10)] * 3, (3, 1, 10, 1)]
    assert params["Dense_0"]["kernel"].shape == (30 * 14, 100)
