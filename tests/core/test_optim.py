"""Schedules and optimisers by name are Optax's, with decay where it belongs."""

from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import dl
from dl.core.optim import OptimizerName, ScheduleName, decay_matrices


@pytest.mark.parametrize("name", get_args(ScheduleName))
def test_schedules_rise_to_the_peak_and_never_above(name):
    rate = jax.vmap(dl.schedule(name, 0.5, 100, warmup=10, end=0.1))(jnp.arange(100))
    assert rate[0] == 0.0
    np.testing.assert_allclose(rate.max(), 0.5, rtol=1e-6)
    assert rate.argmax() == 10
    if name in ("linear", "cosine", "exponential", "wsd"):
        np.testing.assert_allclose(rate[-1], 0.05, atol=0.03)


@pytest.mark.parametrize("name", get_args(OptimizerName))
def test_optimizers_descend(name):
    target = {"w": jnp.array([[1.0, -2.0], [0.5, 3.0]]), "b": jnp.array([0.3, -0.1])}
    params = jax.tree.map(jnp.zeros_like, target)
    optimizer = dl.optimizer(name, 0.05, clip=1.0)

    def loss(params):
        return sum(((params[name] - target[name]) ** 2).sum() for name in target)

    @jax.jit
    def step(params, state):
        updates, state = optimizer.update(jax.grad(loss)(params), state, params)
        return optax.apply_updates(params, updates), state

    state, before = optimizer.init(params), loss(params)
    for _ in range(60):
        params, state = step(params, state)
    assert loss(params) < 0.8 * before


def test_decay_spares_biases_and_scales():
    params = {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}
    assert decay_matrices(params) == {"kernel": True, "bias": False}
    for name in ("sgd", "adamw", "lion"):
        optimizer = dl.optimizer(name, 0.1, weight_decay=0.5)
        zeros = jax.tree.map(jnp.zeros_like, params)
        updates, _ = optimizer.update(zeros, optimizer.init(params), params)
        assert (updates["kernel"] < 0).all()
        np.testing.assert_array_equal(updates["bias"], 0.0)


def test_hyper_parameters_may_be_traced():
    def first_update(rate, decay):
        optimizer = dl.optimizer("adamw", rate, weight_decay=decay)
        params = {"w": jnp.ones((2, 2))}
        return optimizer.update(params, optimizer.init(params), params)[0]["w"][0, 0]

    lanes = jax.vmap(first_update)(jnp.array([0.1, 0.2]), jnp.array([0.0, 0.5]))
    np.testing.assert_allclose(lanes, [-0.1, -0.2 * 1.5], rtol=1e-4)


def test_unknown_names_suggest_the_right_one():
    with pytest.raises(dl.UserError, match="did you mean 'adamw'"):
        dl.optimizer("adammw", 1e-3)
    with pytest.raises(dl.UserError, match="did you mean 'cosine'"):
        dl.schedule("cosin", 1e-3, 10)
