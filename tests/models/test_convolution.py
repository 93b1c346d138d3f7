"""The CPU formulation of convolution agrees with XLA's in values and gradients."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dl.models.cnn import CNN
from dl.models.convolution import Conv, has_slow_convolution, max_pool, patches_convolution

CASES = [
    # input shape, features, window, strides, padding
    ((2, 8, 9, 3), 4, (3, 3), (1, 1), "SAME"),
    ((2, 8, 9, 3), 4, (3, 2), (2, 2), "SAME"),
    ((2, 11, 7, 1), 5, (5, 5), (1, 2), "VALID"),
    ((2, 6, 6, 3), 4, (1, 1), (1, 1), "SAME"),
    ((3, 20, 2), 4, (5,), (2,), ((4, 0),)),
    ((1, 5, 6, 7, 2), 3, (2, 3, 3), (1, 1, 1), "SAME"),
    ((2, 9, 9, 2), 3, (2, 2), (3, 2), "VALID"),  # the last rows and columns are in no window
    ((2, 5, 5, 2), 3, (2, 2), (1, 1), ((3, 2), (2, 3))),  # more padding than window
]


def drawn(model, shape):
    """Numbers of a shape, and the model's variables for them, by one program."""

    def draw():
        x = jax.random.normal(jax.random.key(0), shape)
        return x, model.init(jax.random.key(1), x)

    return jax.jit(draw)()


@pytest.mark.parametrize(("shape", "features", "window", "strides", "padding"), CASES)
def test_patches_agree_with_xla(shape, features, window, strides, padding):
    reference = nn.Conv(features, window, strides, padding)
    x, variables = drawn(reference, shape)

    def ours(x, variables):
        kernel, bias = variables["params"]["kernel"], variables["params"]["bias"]
        return patches_convolution(x, kernel, strides, padding) + bias

    def theirs(x, variables):
        return reference.apply(variables, x)

    one, other = (jax.jit(f)(x, variables) for f in (ours, theirs))
    np.testing.assert_allclose(one, other, atol=1e-5)
    gradients = [
        jax.jit(jax.grad(lambda x, v, f=f: jnp.sin(f(x, v)).sum(), (0, 1)))(x, variables)
        for f in (ours, theirs)
    ]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), *gradients)


@pytest.mark.parametrize(("shape", "features", "window", "strides", "padding"), CASES)
def test_conv_has_flax_convs_values_and_first_and_second_gradients(
    shape, features, window, strides, padding
):
    models = [make(features, window, strides, padding) for make in (Conv, nn.Conv)]
    x, variables = drawn(models[1], shape)

    def value(model, x, v):
        return jnp.sin(model.apply(v, x)).sum()

    def penalty(model, x, v):  # as in WGAN-GP: a loss of the gradient
        by_x, by_v = jax.grad(value, (1, 2))(model, x, v)
        return sum(jnp.sum(jnp.tanh(leaf)) for leaf in jax.tree.leaves((by_x, by_v)))

    for function, close in ((value, 3e-5), (penalty, 3e-4)):
        ours, theirs = [
            jax.jit(jax.value_and_grad(lambda x, v, m=m, f=function: f(m, x, v), (0, 1)))(
                x, variables
            )
            for m in models
        ]
        for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
            np.testing.assert_allclose(a, b, atol=close, rtol=1e-4)


def test_lanes_have_the_gradients_of_each_alone():
    x = jax.random.normal(jax.random.key(0), (3, 2, 7, 8, 3))
    model = Conv(4, (3, 3), (2, 1))
    variables = jax.vmap(lambda key: model.init(key, x[0]))(jax.random.split(jax.random.key(1), 3))

    def gradients(v, x):
        return jax.grad(lambda v, x: jnp.sin(model.apply(v, x)).sum(), (0, 1))(v, x)

    side_by_side = jax.jit(jax.vmap(gradients))(variables, x)
    in_turn = jax.lax.map(lambda lane: gradients(*lane), (variables, x))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), side_by_side, in_turn)
    assert "feature_group_count=3" not in str(jax.make_jaxpr(jax.vmap(gradients))(variables, x))


@pytest.mark.parametrize(
    ("window", "strides", "padding"),
    [
        ((2, 2), (2, 2), "VALID"),
        ((3, 3), (2, 2), "SAME"),
        ((2, 3), None, "VALID"),
        ((3, 3), (2, 2), ((1, 1), (1, 1))),
    ],
)
def test_max_pool_is_flaxs_in_values_and_gradients_with_ties(window, strides, padding):
    x = nn.relu(jax.random.normal(jax.random.key(0), (2, 7, 9, 3)))  # half of it ties, at 0

    def gradient(pool):
        return jax.grad(lambda x: jnp.sum(jnp.cos(pool(x, window, strides, padding)) * 3))(x)

    np.testing.assert_array_equal(
        max_pool(x, window, strides, padding), nn.max_pool(x, window, strides, padding)
    )
    np.testing.assert_allclose(gradient(max_pool), gradient(nn.max_pool), atol=1e-6)


@pytest.mark.parametrize("place", [(0, 0), (0, 1), (1, 1)])
def test_max_pool_lets_no_nan_pass_unseen(place):
    x = jnp.ones((1, 2, 2, 1)).at[0, *place, 0].set(jnp.nan)
    assert jnp.isnan(max_pool(x, (2, 2), (2, 2))).all()


def test_conv_is_flax_conv_with_the_same_parameters():
    x = jnp.ones((1, 4, 4, 2))
    ours, theirs = Conv(3, (3, 3)), nn.Conv(3, (3, 3))
    variables = ours.init(jax.random.key(0), x)
    chex_equal = jax.tree.map(np.array_equal, variables, theirs.init(jax.random.key(0), x))
    assert all(jax.tree.leaves(chex_equal))


@pytest.mark.parametrize("options", [{"kernel_dilation": 2}, {"feature_group_count": 2}])
def test_dilated_and_grouped_windows_still_work(options):
    ours, theirs = Conv(4, (3, 3), **options), nn.Conv(4, (3, 3), **options)
    x, variables = drawn(ours, (1, 8, 8, 4))
    np.testing.assert_allclose(ours.apply(variables, x), theirs.apply(variables, x), atol=1e-6)


@pytest.mark.parametrize("model", [CNN(3, (4, 4)), nn.Conv(3, (3, 3))], ids=["ours", "flax"])
def test_only_convolutions_slow_in_a_loop_keep_a_run_out_of_it(model):
    x = jnp.ones((1, 8, 8, 2))
    variables = jax.eval_shape(model.init, jax.random.key(0), x)
    found = jax.make_jaxpr(jax.grad(lambda v: model.apply(v, x).sum()))(variables)
    assert has_slow_convolution(found.jaxpr) == isinstance(model, nn.Conv)
