"""Back-propagation against finite differences, and gradients that vanish where they should."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from dl.runs.scripts import load_script

Config, build = load_script(Path(__file__).parents[2] / "experiments" / "gradient_flow.py")


@pytest.mark.parametrize("model", ["rnn", "lstm", "gru", "mlp"])
def test_gradients_match_finite_differences(model):
    config = Config(model=model, layers=2, features=3, length=6, examples=8, batch_size=8)
    experiment = build(config)
    task, batch = experiment.task, experiment.data[0]
    params = jax.jit(task.init)(jax.random.key(0), batch)["params"]
    flat, unravel = ravel_pytree(params)

    def loss(flat):
        return task.loss({"params": unravel(flat)}, batch, jax.random.key(1))[0]

    @jax.jit
    def both(flat, nudges):
        differences = jax.lax.map(lambda d: loss(flat + d) - loss(flat - d), nudges)
        return jax.grad(loss)(flat), differences

    places = np.random.default_rng(0).choice(len(flat), 20, replace=False)
    nudge = 1e-2  # the loss is in float32: a smaller one drowns in rounding
    slope, differences = both(flat, nudge * jnp.eye(len(flat))[places])
    np.testing.assert_allclose(slope[places], differences / (2 * nudge), rtol=1e-2, atol=3e-4)


def test_sigmoid_layers_starve_the_first_and_relu_does_not():
    def ratio(activation):
        config = Config(model="mlp", activation=activation, layers=12, features=32)
        experiment = build(config)
        batch = experiment.data[0]
        params = jax.jit(experiment.task.init)(jax.random.key(0), batch)["params"]

        def loss(params):
            return experiment.task.loss({"params": params}, batch, jax.random.key(1))[0]

        slopes = jax.jit(jax.grad(loss))(params)
        first, last = (np.linalg.norm(slopes[name]["kernel"]) for name in ("Dense_0", "Dense_11"))
        return first / last

    assert ratio("sigmoid") < 1e-4
    assert ratio("relu") > 1e-2
