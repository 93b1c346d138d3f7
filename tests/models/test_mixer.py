"""MLP-Mixer against the same layers in NumPy, values and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import slopes

from dl.models.mixer import Mixer

MODEL = Mixer(3, width=6, layers=2, patch=2)
X = np.random.default_rng(0).normal(size=(2, 4, 6, 2))


def norm(x, p):
    x = x - x.mean(-1, keepdims=True)
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5) * p["scale"] + p["bias"]


def dense(x, p):
    return np.einsum("...i,io->...o", x, p["kernel"]) + p["bias"]


def gelu(x):
    return x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))) / 2


def network(p):
    rows = [X[:, i : i + 2, j : j + 2].reshape(2, -1) for i in (0, 2) for j in (0, 2, 4)]
    x = dense(np.stack(rows, 1), p["patches"])
    for layer in range(MODEL.layers):
        b = p[f"layer_{layer}"]
        turned = norm(x, b["patches_norm"]).transpose(0, 2, 1)
        turned = dense(gelu(dense(turned, b["patches_in"])), b["patches_out"])
        x = x + turned.transpose(0, 2, 1)
        y = dense(norm(x, b["channels_norm"]), b["channels_in"])
        x = x + dense(gelu(y), b["channels_out"])
    return dense(norm(x, p["norm"]).mean(1), p["head"])


def test_values_and_gradients_are_those_of_numpy():
    x = jnp.asarray(X, jnp.float32)
    params = jax.jit(MODEL.init)(jax.random.key(0), x)["params"]
    params = jax.tree.map(lambda p: p + 0.1 * jnp.cos(jnp.arange(p.size)).reshape(p.shape), params)

    @jax.jit
    def run(params):
        logits = MODEL.apply({"params": params}, x)
        return jnp.sum(jnp.sin(logits)), logits

    gradients, logits = jax.grad(run, has_aux=True)(params)
    exact = jax.tree.map(lambda p: np.asarray(p, np.float64), params)
    np.testing.assert_allclose(logits, network(exact), atol=1e-5)
    slopes.agree(lambda p: np.sin(network(p)).sum(), params, gradients)


def test_has_as_many_parameters_as_the_published_network():
    shapes = jax.eval_shape(Mixer(1000).init, jax.random.key(0), jnp.ones((1, 224, 224, 3)))
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == 18_528_264  # Mixer-S/16
