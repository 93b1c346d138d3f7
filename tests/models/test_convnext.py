"""ConvNeXt against the same layers in NumPy, values and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import slopes
from mistakes import raises
from scipy.special import erf

from dl.models.convnext import ConvNeXt
from dl.models.convolution import has_slow_convolution

MODEL = ConvNeXt(3, (4, 6), (1, 1), patch=2)
X = np.random.default_rng(0).normal(size=(2, 9, 8, 3))  # the last row is in no patch


def norm(x, p):
    x = x - x.mean(-1, keepdims=True)
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * p["scale"] + p["bias"]


def dense(x, p):
    return x @ p["kernel"] + p["bias"]


def cut(x, p):
    """A strided convolution of windows that do not overlap."""
    side = p["kernel"].shape[0]
    rows, columns = x.shape[1] // side, x.shape[2] // side
    out = np.zeros((len(x), rows, columns, p["kernel"].shape[-1])) + p["bias"]
    for i in range(rows):
        for j in range(columns):
            part = x[:, i * side : (i + 1) * side, j * side : (j + 1) * side]
            out[:, i, j] += np.tensordot(part, p["kernel"], 3)
    return out


def depthwise(x, p):
    height, width = x.shape[1:3]
    padded, out = np.pad(x, ((0, 0), (3, 3), (3, 3), (0, 0))), np.zeros_like(x) + p["bias"]
    for i in range(height):
        for j in range(width):
            window = padded[:, i : i + 7, j : j + 7]
            out[:, i, j] += (window * p["kernel"][:, :, 0]).sum((1, 2))
    return out


def network(p):
    x = norm(cut(X, p["patches_0"]), p["norm_0"])
    for stage, depth in enumerate(MODEL.depths):
        if stage:
            x = cut(norm(x, p[f"norm_{stage}"]), p[f"patches_{stage}"])
        for place in range(depth):
            b = p[f"block_{stage}_{place}"]
            h = dense(norm(depthwise(x, b["depthwise"]), b["norm"]), b["in"])
            x = x + b["scale"] * dense(h * (1 + erf(h / np.sqrt(2))) / 2, b["out"])
    return dense(norm(x.mean((1, 2)), p["norm"]), p["head"])


@pytest.mark.slow  # XLA compiles 49 shifted products for each block
def test_values_and_gradients_are_those_of_numpy():
    x = jnp.asarray(X, jnp.float32)
    params = jax.jit(MODEL.init)(jax.random.key(0), x)["params"]
    params = jax.tree.map(lambda p: p + 0.1 * jnp.cos(jnp.arange(p.size)).reshape(p.shape), params)

    def run(params):
        logits = MODEL.apply({"params": params}, x)
        return jnp.sum(jnp.sin(logits)), logits

    traced = jax.jit(jax.grad(run, has_aux=True)).trace(params)
    assert not has_slow_convolution(traced.jaxpr.jaxpr)
    gradients, logits = traced.lower().compile()(params)
    exact = jax.tree.map(lambda p: np.asarray(p, np.float64), params)
    np.testing.assert_allclose(logits, network(exact), atol=1e-5)
    slopes.agree(lambda p: np.sin(network(p)).sum(), params, gradients)


def test_has_as_many_parameters_as_the_published_network():
    shapes = jax.eval_shape(ConvNeXt(1000).init, jax.random.key(0), jnp.ones((1, 224, 224, 3)))
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == 28_589_128  # ConvNeXt-T


def test_a_picture_that_is_halved_to_nothing_is_named():
    with raises("picture-too-small", "3 stages", "patches of 4", "side of 8"):
        jax.eval_shape(
            ConvNeXt(2, (4, 4, 4), (1,) * 3).init, jax.random.key(0), jnp.ones((1, 8, 9, 1))
        )
