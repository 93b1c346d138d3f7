"""Augmentations keep what they must, and treat each example by its own key."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mistakes import raises

from dl.core.metrics import mean
from dl.core.state import init_state
from dl.core.step import eval_step, train_step
from dl.core.task import Task
from dl.data.transforms import images as augment

KEY = jax.random.key(3)
IMAGES = np.random.default_rng(0).integers(0, 256, (6, 9, 7, 3)).astype(np.uint8)
BATCH = {"image": jnp.asarray(IMAGES), "label": jnp.arange(6) % 4}
TRANSFORMS = {
    "crop": augment.random_crop(2),
    "crop0": augment.random_crop(2, "constant"),
    "flip": augment.random_flip(),
    "cutout": augment.cutout(4),
    "jitter": augment.color_jitter(0.3, 0.3, 0.3),
    "view": augment.simclr_view(0.3, flip=True),
    "mixup": augment.mixup(0.8, 4),
    "cutmix": augment.cutmix(1.0, 4),
    "chance": augment.chance(augment.cutout(4), 0.5),
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_shapes_stay_and_the_key_decides(name):
    transform = jax.jit(TRANSFORMS[name])
    first, again, other = (transform(k, BATCH) for k in (KEY, KEY, jax.random.key(4)))
    assert first["image"].shape == IMAGES.shape
    assert first["image"].dtype == (jnp.float32 if name == "mixup" else jnp.uint8)
    np.testing.assert_array_equal(first["image"], again["image"])
    assert (first["image"] != other["image"]).any()
    assert set(first) == set(BATCH)


@pytest.mark.parametrize("name", ["crop", "crop0", "flip", "cutout", "jitter", "chance"])
def test_an_example_does_not_depend_on_its_neighbours(name):
    whole = TRANSFORMS[name](KEY, BATCH)["image"]
    changed = {**BATCH, "image": BATCH["image"].at[1:].set(0)}
    np.testing.assert_array_equal(TRANSFORMS[name](KEY, changed)["image"][0], whole[0])
    part = {name: value[:3] for name, value in BATCH.items()}
    np.testing.assert_array_equal(TRANSFORMS[name](KEY, part)["image"], whole[:3])


def test_examples_get_different_draws():
    same = {"image": jnp.broadcast_to(BATCH["image"][:1], (64, 9, 7, 3))}
    images = np.asarray(augment.random_crop(2)(KEY, same)["image"])
    assert len({image.tobytes() for image in images}) > 15  # of 25 shifts


def test_crops_are_shifts_of_the_padded_picture():
    for mode in ("reflect", "constant"):
        padded = np.pad(IMAGES, ((0, 0), (2, 2), (2, 2), (0, 0)), mode)
        out = np.asarray(augment.random_crop(2, mode)(KEY, BATCH)["image"])
        for image, result in zip(padded, out, strict=True):
            shifts = [image[y : y + 9, x : x + 7] for y in range(5) for x in range(5)]
            assert any((result == shift).all() for shift in shifts)


def test_every_shift_comes_about_equally_often():
    place = jnp.zeros((2000, 5, 5, 1)).at[:, 2, 2].set(1)
    out = augment.random_crop(1, "constant")(KEY, {"image": place})["image"]
    counts = np.asarray(out.sum(0))[1:4, 1:4, 0]
    assert counts.sum() == 2000
    assert ((counts - 2000 / 9) ** 2 / (2000 / 9)).sum() < 8 + 5 * 4


def test_a_crop_that_cannot_be_mirrored_is_refused():
    with raises("padding-too-large", "7 pixels", "pad by fewer"):
        augment.random_crop(7)(KEY, BATCH)


def test_a_resized_part_is_the_picture_between_two_of_its_lines():
    """On a ramp along each axis: a part of it is a ramp again, as much less steep as the part is smaller."""
    y, x = jnp.meshgrid(jnp.arange(20.0), jnp.arange(30.0), indexing="ij")
    ramps = jnp.tile(jnp.stack([y, x], -1), (64, 1, 1, 1))
    found = augment.random_resized_crop(0.25, 1.5)(KEY, {"image": ramps})["image"]
    inner = found[:, 5:15, 5:25]  # the outer half pixel repeats the edge
    tall, wide = np.diff(inner[..., 0], axis=1), np.diff(inner[..., 1], axis=2)
    for step in (tall, wide):
        np.testing.assert_allclose(step, step[:, :1, :1] + 0 * step, atol=1e-4)
    np.testing.assert_allclose(inner[..., 0], inner[:, :, :1, 0] + 0 * inner[..., 0], atol=1e-4)
    tall, wide = tall[:, 0, 0], wide[:, 0, 0]
    share, shape = tall * wide, wide / tall
    assert 0.99 * 0.25 / 1.5 < share.min() < 0.35  # one side may be cut to the picture's
    assert 0.85 < share.max() < 1.001
    assert 1 / 1.51 < shape.min() < 0.8
    assert 1.25 < shape.max() < 1.51
    whole = augment.random_resized_crop(1.0, 1.0)(KEY, BATCH)["image"]
    np.testing.assert_array_equal(whole, IMAGES)


def test_grey_is_the_luminance_in_every_channel():
    found = augment.random_grey(1.0)(KEY, BATCH)["image"]
    expected = np.round(IMAGES @ np.array([0.299, 0.587, 0.114]))
    assert found.dtype == jnp.uint8
    for channel in range(3):
        np.testing.assert_allclose(found[..., channel], expected, atol=1)


def test_flipping_twice_is_nothing_and_once_a_mirror():
    always = augment.random_flip(1.0)
    once = always(KEY, BATCH)
    np.testing.assert_array_equal(once["image"], IMAGES[:, :, ::-1])
    np.testing.assert_array_equal(always(KEY, once)["image"], IMAGES)
    np.testing.assert_array_equal(augment.random_flip(0.0)(KEY, BATCH)["image"], IMAGES)


def test_cutout_blanks_one_square_and_nothing_else():
    light = {"image": jnp.full((200, 12, 12, 1), 255, jnp.uint8)}
    holes = np.asarray(augment.cutout(4)(KEY, light)["image"] == 0)[..., 0]
    assert holes.sum((1, 2)).max() == 16
    assert holes.sum((1, 2)).min() >= 4  # a corner's square hangs half over both edges
    for hole in holes:
        rows, columns = np.flatnonzero(hole.any(1)), np.flatnonzero(hole.any(0))
        assert hole[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**31), alpha=st.floats(0.1, 4.0), cut=st.booleans())
def test_mixing_keeps_the_mass_of_labels_and_matches_the_pixels(seed, alpha, cut):
    # One pixel value a class, so that a picture's mean tells how much of each class it holds.
    label = jnp.array([0, 1, 2, 0])
    image = jnp.array([0.0, 100.0, 200.0, 0.0])[:, None, None, None] * jnp.ones((4, 8, 8, 1))
    make = augment.cutmix if cut else augment.mixup
    out = make(jnp.float32(alpha), 3)(jax.random.key(seed), {"image": image, "label": label})
    np.testing.assert_allclose(out["label"].sum(1), 1, atol=1e-5)
    assert (out["label"] >= -1e-6).all()
    np.testing.assert_allclose(
        out["image"].mean((1, 2, 3)), out["label"] @ jnp.array([0.0, 100.0, 200.0]), atol=1e-2
    )


def test_mixing_takes_probabilities_too():
    soft = {**BATCH, "label": jnp.full((6, 4), 0.25)}
    np.testing.assert_allclose(augment.mixup(1.0, 4)(KEY, soft)["label"], 0.25, atol=1e-6)


def test_no_jitter_is_nothing_and_a_little_stays_in_range():
    np.testing.assert_array_equal(augment.color_jitter()(KEY, BATCH)["image"], IMAGES)
    floats = {"image": BATCH["image"].astype(jnp.float32)}
    out = augment.color_jitter(0.9, 0.9, 0.9)(KEY, floats)["image"]
    assert out.min() >= 0
    assert out.max() <= 255


def test_normalize():
    out = augment.normalize((0.5,), (0.25,))(jnp.array([[[[0]], [[255]]]], jnp.uint8))
    np.testing.assert_allclose(out.ravel(), [-2, 2])


def test_chance_changes_its_share():
    light = {"image": jnp.full((400, 4, 4, 1), 255, jnp.uint8)}
    out = augment.chance(augment.cutout(8), 0.25)(KEY, light)["image"]
    assert 60 < int((out.min((1, 2, 3)) == 0).sum()) < 140


def test_strengths_may_be_traced():
    @jax.jit
    def run(p):
        batch = augment.random_flip(p)(KEY, BATCH)
        return augment.color_jitter(brightness=p)(KEY, batch)["image"]

    np.testing.assert_array_equal(run(jnp.float32(0.0)), IMAGES)


def test_an_augmented_step_trains_on_changed_and_evaluates_plain_pictures():
    task = Task(
        init=lambda key, batch: {"params": {"w": jnp.ones(())}},
        apply=lambda variables, batch, key: (batch["image"].astype(jnp.float32), {}),
        score=lambda outputs, batch, train: {"loss": mean(outputs)},
        predict=lambda variables, image: image,
    )
    transforms = augment.cutout(4), augment.random_flip()
    optimizer = optax.sgd(0.1)
    state = init_state(task, optimizer, BATCH)
    _, metrics = jax.jit(train_step(task, optimizer, augment=transforms))(state, BATCH)
    plain = float(IMAGES.astype(np.float32).sum())
    assert float(metrics["loss"].total) < plain
    assert float(eval_step(task)(state, BATCH)["loss"].total) == pytest.approx(plain)


def test_window_jitter_has_its_size_and_one_offset_a_variable():
    windows = {"window": jnp.zeros((400, 5, 3))}
    np.testing.assert_array_equal(augment.jitter(0.0, 0.0)(KEY, windows)["window"], 0)
    noisy = augment.jitter(0.5, 0.0)(KEY, windows)["window"]
    assert float(noisy.std()) == pytest.approx(0.5, rel=0.05)
    moved = augment.jitter(0.0, 2.0)(KEY, windows)["window"]
    np.testing.assert_array_equal(moved, jnp.broadcast_to(moved[:, :1], moved.shape))
    assert float(moved[:, 0].std()) == pytest.approx(2.0, rel=0.1)
    again = augment.jitter(0.5, 2.0)(KEY, {"window": windows["window"][:7]})["window"]
    np.testing.assert_array_equal(again, augment.jitter(0.5, 2.0)(KEY, windows)["window"][:7])
