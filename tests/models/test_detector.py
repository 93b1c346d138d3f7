"""The detector's geometry."""

import jax
import jax.numpy as jnp
import numpy as np

from dl.models.detector import FCOS, grid
from dl.models.resnet import ResNetFeatures

MODEL = FCOS(3, ResNetFeatures((1, 1, 1, 1), width=2), width=8, depth=1)


def test_places_cover_the_picture_at_every_stride():
    x = jnp.ones((2, 64, 96, 3))
    variables = jax.eval_shape(MODEL.init, jax.random.key(0), x)
    places = jax.eval_shape(MODEL.apply, variables, x)
    count = 8 * 12 + 4 * 6 + 2 * 3
    assert places.logits.shape == (2, count, 3)
    assert places.boxes.shape == (2, count, 4)
    assert places.centerness.shape == (2, count)
    assert places.centre.shape == (count, 2)


def test_centres_stand_in_the_middle_of_their_cells():
    centre = grid(2, 3, 8)
    assert centre.tolist() == [[4, 4], [12, 4], [20, 4], [4, 12], [12, 12], [20, 12]]


def test_starts_unsure_with_boxes_around_its_places():
    model = FCOS(3, ResNetFeatures((1, 1), width=2), (4, 8), width=8, depth=1)
    x = jax.random.normal(jax.random.key(0), (1, 20, 36, 3))  # no multiple of the largest stride
    places, _ = jax.jit(model.init_with_output)(jax.random.key(1), x)
    assert float(jax.nn.sigmoid(places.logits).max()) < 0.02
    assert (np.asarray(places.boxes[0, :, :2]) < places.centre).all()
    assert (np.asarray(places.boxes[0, :, 2:]) > places.centre).all()
