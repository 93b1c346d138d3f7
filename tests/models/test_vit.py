"""ViT: its patches are a strided convolution's, and it is built of the one Transformer."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from mistakes import raises

from dl.models.transformer import Transformer
from dl.models.vit import ViT, patches


def test_patches_times_a_kernel_is_a_strided_convolution():
    x = jax.random.normal(jax.random.key(0), (2, 8, 12, 3))
    kernel = jax.random.normal(jax.random.key(1), (4, 4, 3, 5))
    conv = nn.Conv(5, (4, 4), (4, 4), use_bias=False).apply({"params": {"kernel": kernel}}, x)
    ours = patches(x, 4) @ kernel.reshape(-1, 5)
    np.testing.assert_allclose(ours.reshape(2, 2, 3, 5), conv, atol=1e-4)


def test_shapes_and_gradients():
    model = ViT(10, Transformer(16, 2, 2), patch=4)
    x = jax.random.normal(jax.random.key(0), (2, 8, 8, 1))
    variables = jax.jit(model.init)(jax.random.key(1), x)
    loss = jax.jit(jax.grad(lambda v: jnp.sum(model.apply(v, x) ** 2)))
    grads = loss(variables)
    assert model.apply(variables, x).shape == (2, 10)
    assert all(jnp.abs(g).max() > 0 for g in jax.tree.leaves(grads))


def test_a_picture_that_does_not_fit_is_named():
    with raises("indivisible", "9 x 8", "patches of 4"):
        patches(jnp.zeros((1, 9, 8, 1)), 4)
