"""The CPU formulation of convolution agrees with XLA's in values and gradients."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dl.models.convolution import Conv, patches_convolution

CASES = [
    # input shape, features, window, strides, padding
    ((2, 8, 9, 3), 4, (3, 3), (1, 1), "SAME"),
    ((2, 8, 9, 3), 4, (3, 2), (2, 2), "SAME"),
    ((2, 11, 7, 1), 5, (5, 5), (1, 2), "VALID"),
    ((2, 6, 6, 3), 4, (1, 1), (1, 1), "SAME"),
    ((3, 20, 2), 4, (5,), (2,), ((4, 0),)),
    ((1, 5, 6, 7, 2), 3, (2, 3, 3), (1, 1, 1), "SAME"),
]


@pytest.mark.parametrize(("shape", "features", "window", "strides", "padding"), CASES)
def test_patches_agree_with_xla(shape, features, window, strides, padding):
    x = jax.random.normal(jax.random.key(0), shape)
    reference = nn.Conv(features, window, strides, padding)
    variables = reference.init(jax.random.key(1), x)

    def ours(x, variables):
        kernel, bias = variables["params"]["kernel"], variables["params"]["bias"]
        return patches_convolution(x, kernel, strides, padding) + bias

    def theirs(x, variables):
        return reference.apply(variables, x)

    np.testing.assert_allclose(ours(x, variables), theirs(x, variables), atol=1e-5)
    gradients = [
        jax.grad(lambda x, v, f=f: jnp.sin(f(x, v)).sum(), (0, 1))(x, variables)
        for f in (ours, theirs)
    ]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), *gradients)


def test_conv_is_flax_conv_with_the_same_parameters():
    x = jnp.ones((1, 4, 4, 2))
    ours, theirs = Conv(3, (3, 3)), nn.Conv(3, (3, 3))
    variables = ours.init(jax.random.key(0), x)
    chex_equal = jax.tree.map(np.array_equal, variables, theirs.init(jax.random.key(0), x))
    assert all(jax.tree.leaves(chex_equal))


@pytest.mark.parametrize("options", [{"kernel_dilation": 2}, {"feature_group_count": 2}])
def test_dilated_and_grouped_windows_still_work(options):
    x = jax.random.normal(jax.random.key(0), (1, 8, 8, 4))
    ours, theirs = Conv(4, (3, 3), **options), nn.Conv(4, (3, 3), **options)
    variables = ours.init(jax.random.key(1), x)
    np.testing.assert_allclose(ours.apply(variables, x), theirs.apply(variables, x), atol=1e-6)
