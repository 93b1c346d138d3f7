"""U-Net."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dl.models.unet import UNet, depth_to_space


def test_gives_logits_for_every_pixel_of_any_picture_it_can_halve():
    model = UNet(3, (2, 4, 8))
    variables = jax.eval_shape(model.init, jax.random.key(0), jnp.ones((1, 8, 8, 1)))
    shape = jax.eval_shape(model.apply, variables, jnp.ones((2, 12, 16, 1))).shape
    assert shape == (2, 12, 16, 3)
    with pytest.raises(ValueError, match="multiples of 4"):
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
    assert depth_to_space(x)[0, :, :, 0].tolist() == [[0, 1], [2, 3]]
