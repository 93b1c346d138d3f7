"""U-Net."""

import jax
import jax.numpy as jnp
import numpy as np
from mistakes import raises

from dl.models.unet import Symmetrized, UNet, depth_to_space, space_to_depth


def test_gives_logits_for_every_pixel_of_any_picture_it_can_halve():
    model = UNet(3, (2, 4, 8))
    variables = jax.eval_shape(model.init, jax.random.key(0), jnp.ones((1, 8, 8, 1)))
    shape = jax.eval_shape(model.apply, variables, jnp.ones((2, 12, 16, 1))).shape
    assert shape == (2, 12, 16, 3)
    with raises("indivisible", "multiples of 4", "(10, 16)"):
        jax.eval_shape(model.apply, variables, jnp.ones((2, 10, 16, 1)))


def test_the_coarse_stages_see_beyond_a_fine_ones_reach():
    """Two 3x3 convolutions before and two after see 9 rows; the halvings between make it many more."""
    model = UNet(1, (4, 4, 4), dropout=0.0)
    x = jax.random.normal(jax.random.key(0), (1, 32, 32, 1))
    variables = jax.jit(model.init)(jax.random.key(1), x)
    gradient = jax.jit(jax.grad(lambda x: model.apply(variables, x)[0, 16, 16, 0]))(x)
    rows = np.flatnonzero(np.abs(gradient[0, :, :, 0]).sum(1))
    assert rows.max() - rows.min() > 16


def test_depth_to_space_lays_four_channels_as_a_square():
    x = jnp.arange(4.0).reshape(1, 1, 1, 4)
    assert depth_to_space(x, 2)[0, :, :, 0].tolist() == [[0, 1], [2, 3]]
    y = jax.random.normal(jax.random.key(0), (2, 6, 9, 2))
    np.testing.assert_array_equal(depth_to_space(space_to_depth(y, 3), 3), y)


def test_patches_go_in_and_come_out_as_channels():
    x = jax.random.normal(jax.random.key(0), (1, 16, 12, 1))
    model, inner = UNet(2, (4, 4), patch=2), UNet(8, (4, 4))
    variables = jax.jit(model.init)(jax.random.key(1), x)
    out = jax.jit(model.apply)(variables, x)
    expected = depth_to_space(inner.apply(variables, space_to_depth(x, 2)), 2)
    assert out.shape == (1, 16, 12, 2)
    np.testing.assert_allclose(out, expected, atol=1e-5)


def test_symmetrized_predictions_turn_with_the_picture():
    model = Symmetrized(UNet(2, (2, 4)))
    x = jax.random.normal(jax.random.key(0), (1, 8, 8, 1))
    variables = jax.jit(model.init)(jax.random.key(1), x)
    apply = jax.jit(model.apply)
    np.testing.assert_allclose(
        apply(variables, jnp.rot90(x, 1, (1, 2))),
        jnp.rot90(apply(variables, x), 1, (1, 2)),
        atol=1e-5,
    )
    np.testing.assert_allclose(
        apply(variables, jnp.flip(x, 1)), jnp.flip(apply(variables, x), 1), atol=1e-5
    )
