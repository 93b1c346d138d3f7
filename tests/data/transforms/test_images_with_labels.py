"""Pictures, masks and boxes move together."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mistakes import raises

from dl.data.transforms import images_with_labels as joint

KEY = jax.random.key(1)


def _scene(count=4, size=32):
    """A bright rectangle on black, its mask and its box; one object, one empty place."""
    random = np.random.default_rng(0)
    image = np.zeros((count, size, size, 1), np.uint8)
    boxes = np.zeros((count, 2, 4), np.float32)
    for row in range(count):
        left, top = random.integers(6, size // 2, 2)
        right, bottom = np.add((left, top), random.integers(6, size // 2 - 6, 2))
        image[row, top:bottom, left:right] = 200
        boxes[row, 0] = left, top, right, bottom
    mask = (image[..., 0] > 0).astype(np.int32)
    label = np.tile([3, -1], (count, 1)).astype(np.int32)
    batch = {"image": image, "segments": mask, "boxes": boxes, "label": label}
    return {name: jnp.asarray(value) for name, value in batch.items()}


def _box_of(image):
    """The box around a picture's bright pixels."""
    rows, columns = np.flatnonzero(image.max((1, 2))), np.flatnonzero(image.max((0, 2)))
    return [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]


SCENE = _scene()


@pytest.mark.parametrize("sides", [(1.0, 0.0), (0.0, 1.0), (1.0, 1.0), (0.5, 0.5)])
def test_flips_carry_masks_and_boxes(sides):
    out = joint.random_flips(*sides)(KEY, SCENE)
    np.testing.assert_array_equal(out["segments"] > 0, out["image"][..., 0] > 0)
    for image, boxes in zip(np.asarray(out["image"]), out["boxes"], strict=True):
        assert _box_of(image) == boxes[0].tolist()
        assert boxes[1].tolist() == [0, 0, 0, 0]
    if 0.5 not in sides:
        assert (out["image"] != SCENE["image"]).any()
        back = joint.random_flips(*sides)(KEY, out)
        jax.tree.map(np.testing.assert_array_equal, back, SCENE)


def test_quarter_turns_are_the_four_turns():
    many = {
        "image": jnp.repeat(SCENE["image"][:1], 40, 0),
        "segments": jnp.repeat(SCENE["segments"][:1], 40, 0),
    }
    out = joint.random_quarter_turns()(KEY, many)
    np.testing.assert_array_equal(out["segments"] > 0, out["image"][..., 0] > 0)
    turns = {np.rot90(np.asarray(many["image"][0]), k).tobytes() for k in range(4)}
    assert {np.asarray(image).tobytes() for image in out["image"]} == turns
    with raises("not-square", "[4, 5]"):
        joint.random_quarter_turns()(KEY, {"image": jnp.zeros((1, 4, 5, 1))})


def test_tiles_are_cut_alike_from_picture_and_mask():
    out = joint.random_tile(8, 12)(KEY, SCENE)
    assert out["image"].shape == (4, 8, 12, 1)
    np.testing.assert_array_equal(out["segments"] > 0, out["image"][..., 0] > 0)
    whole = joint.random_tile(32, 32)(KEY, SCENE)
    np.testing.assert_array_equal(whole["image"], SCENE["image"])


def test_focused_tiles_lie_where_pixels_count_and_around_what_is_rare():
    segments = jnp.full((64, 24, 40), -1).at[:, 8:16, 10:30].set(0).at[:, 12, 26].set(2)
    many = {"image": jnp.arange(24 * 40).reshape(1, 24, 40, 1) + 0 * segments[..., None]}
    many["segments"] = segments
    for focus, low, high in ((0.0, 0.1, 0.7), (1.0, 1.0, 1.0)):
        out = jax.jit(joint.focused_tile(8, 8, focus))(KEY, many)
        assert out["image"].shape == (64, 8, 8, 1)
        assert (out["segments"] >= 0).any((1, 2)).all()
        assert low <= float((out["segments"] == 2).any((1, 2)).mean()) <= high
        corner = out["image"][:, 0, 0, 0]
        for row in range(3):
            top, left = divmod(int(corner[row]), 40)
            np.testing.assert_array_equal(
                out["segments"][row], segments[row, top : top + 8, left : left + 8]
            )
    with raises("tile-too-large", "32x8", "24x40"):
        joint.focused_tile(32, 8)(KEY, many)


def test_elastic_warps_picture_and_mask_alike_and_no_warp_is_nothing():
    same = joint.elastic(0.0)(KEY, SCENE)
    np.testing.assert_array_equal(same["image"], SCENE["image"])
    np.testing.assert_array_equal(same["segments"], SCENE["segments"])
    out = jax.jit(joint.elastic(3.0))(KEY, SCENE)
    agree = (out["image"][..., 0] > 100) == (out["segments"] > 0)
    assert agree.mean() > 0.98  # they part only within a pixel of an edge
    assert (out["segments"] != SCENE["segments"]).mean() > 0.01
    assert set(np.unique(out["segments"])) == {0, 1}


def test_elastic_mirrors_at_the_edges():
    flat = {"image": jnp.full((3, 16, 16, 1), 77, jnp.uint8)}
    np.testing.assert_array_equal(joint.elastic(20.0)(KEY, flat)["image"], flat["image"])


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_boxes_stay_on_what_they_box_under_scaling(seed):
    out = _scaled(jax.random.key(seed))
    for row in range(4):
        image, mask = np.asarray(out["image"][row]), np.asarray(out["segments"][row])
        if out["label"][row, 0] >= 0:
            where = _box_of(np.where(image > 100, image, 0))
            np.testing.assert_allclose(out["boxes"][row, 0], where, atol=1.01)
            assert ((image[..., 0] > 100) == (mask > 0)).mean() > 0.95
        else:
            assert out["boxes"][row, 0].tolist() == [0, 0, 0, 0]
        assert out["label"][row, 1] == -1


@jax.jit
def _scaled(key):
    return joint.random_scale(0.6, 1.6, stretch=0.2)(key, SCENE)


def test_scale_one_is_nothing():
    out = joint.random_scale(1.0, 1.0)(KEY, SCENE)
    for name in SCENE:
        np.testing.assert_allclose(out[name], SCENE[name], atol=1e-4)


def test_what_is_hardly_visible_is_dropped():
    batch = {"label": jnp.array([[0, 1, 2]])}
    boxes = jnp.array([[[-9.0, 0, 1, 10], [-1, 0, 9, 10], [20, 20, 30, 30]]])
    out = joint.crop_boxes(batch, boxes, 16, 16, visible=0.3)
    assert out["label"].tolist() == [[-1, 1, -1]]
    assert out["boxes"].tolist() == [[[0, 0, 0, 0], [0, 0, 9, 10], [0, 0, 0, 0]]]


@pytest.mark.parametrize(
    "transform",
    [
        joint.random_flips(0.5, 0.5),
        joint.elastic(2.0),
        joint.random_scale(),
        joint.random_tile(8, 8),
    ],
)
def test_an_example_does_not_depend_on_its_neighbours(transform):
    whole = transform(KEY, SCENE)
    part = transform(KEY, {name: value[:2] for name, value in SCENE.items()})
    for name in part:
        np.testing.assert_allclose(part[name], whole[name][:2], atol=1e-5)
