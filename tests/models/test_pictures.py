"""Networks for pictures by their names: usual sizes, and what is not of a network."""

import jax
import jax.numpy as jnp
import pytest
from mistakes import raises

from dl.models.pictures import USUAL, picture_classifier


@pytest.mark.parametrize("kind", USUAL)
@pytest.mark.parametrize("size", [(8, 8), (28, 28), (96, 64)])
def test_every_network_takes_pictures_of_usual_sizes(kind, size):
    model = picture_classifier(kind, 5, size)
    x = jax.ShapeDtypeStruct((2, *size, 1), jnp.float32)
    assert jax.eval_shape(lambda x: model.init_with_output(jax.random.key(0), x)[0], x).shape == (
        2,
        5,
    )


def test_a_usual_patch_leaves_few_of_a_small_picture():
    sizes = (8, 28, 32, 224)
    assert [picture_classifier("vit", 2, (s, s)).patch for s in sizes] == [1, 4, 4, 14]
    assert [picture_classifier("convnext", 2, (s, s)).patch for s in sizes] == [1, 2, 2, 4]


def test_heads_share_the_width_evenly():
    heads = [
        picture_classifier("vit", 2, (8, 8), widths=(w,)).body.heads for w in (8, 64, 100, 192)
    ]
    assert heads == [1, 2, 2, 6]


def test_what_is_not_of_a_network_is_named():
    size = (8, 8)
    with raises("unknown", "'resnext'", "did you mean"):
        picture_classifier("resnext", 2, size)
    with raises("option-misplaced", "--patch", "resnet"):
        picture_classifier("resnet", 2, size, patch=2)
    with raises("option-misplaced", "mixer", "one width"):
        picture_classifier("mixer", 2, size, widths=(8, 8))
    with raises("range", "--depth", "not 0"):
        picture_classifier("vit", 2, size, depth=0)
    with raises("range", "--widths", "not 0"):
        picture_classifier("cnn", 2, size, widths=(8, 0))
    with raises("indivisible", "31 x 37", "--size"):
        picture_classifier("vit", 2, (31, 37))
