"""Segmentation: losses, scores under any cut of the set, and tiles that agree with the whole."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dl.baselines.threshold import best_threshold
from dl.core.metrics import compute, merge
from dl.scores.segmentation import binary_iou, boundary, boundary_matches, f_score
from dl.tasks import segmentation as s

RNG = np.random.default_rng(0)
KEY = jax.random.key(0)


class Pointwise(nn.Module):
    outputs: int = 2

    @nn.compact
    def __call__(self, x, *, train: bool = False):
        return nn.Dense(self.outputs)(x)


BATCH = {
    "image": RNG.integers(0, 256, (3, 8, 8, 1)).astype(np.uint8),
    "segments": RNG.integers(-1, 2, (3, 8, 8)).astype(np.int32),
}
TASK = s.segmentation(Pointwise(), 2)
VARIABLES = TASK.init(KEY, BATCH)
EVALUATE = jax.jit(TASK.evaluate)


def test_a_void_region_has_no_boundary():
    label = jnp.array([[[0, 0, -1, -1, 1], [0, 1, -1, -1, 1]]])
    right_and_down = [[False, True, False, False, False], [True, False, False, False, False]]
    np.testing.assert_array_equal(boundary(label)[0], right_and_down)


def test_iou_is_that_of_all_pixels_together():
    guess = np.asarray(TASK.predict(VARIABLES, BATCH).argmax(-1))
    truth = BATCH["segments"]
    scores = compute(EVALUATE(VARIABLES, BATCH))
    real = truth >= 0
    expected = binary_iou(guess[real] == 1, truth[real] == 1)
    assert (scores["iou_0"], scores["iou_1"]) == pytest.approx(expected)
    assert scores["accuracy"] == pytest.approx((guess == truth)[real].mean())
    per_picture = [
        np.mean(binary_iou(g[r] == 1, t[r] == 1))
        for g, t, r in zip(guess, truth, real, strict=True)
    ]
    assert scores["mean_iou"] == pytest.approx(np.mean(per_picture), rel=1e-5)


def test_scores_do_not_depend_on_padding():
    whole = compute(EVALUATE(VARIABLES, BATCH))
    first = {k: v[:2] for k, v in BATCH.items()} | {"mask": np.ones(2)}
    last = {k: v[[2, 0]] for k, v in BATCH.items()} | {"mask": np.array([1.0, 0.0])}
    cut = merge(EVALUATE(VARIABLES, first), EVALUATE(VARIABLES, last))
    assert compute(cut) == pytest.approx(whole, rel=1e-5)


def test_a_perfect_guess_has_no_dice_loss_and_full_boundaries():
    truth = jnp.asarray(BATCH["segments"])
    hot = jax.nn.one_hot(truth, 2)
    np.testing.assert_allclose(s.dice_loss(hot, hot), 0.0, atol=1e-6)
    scores = compute(dict(zip("pr", boundary_matches(truth, truth, 0), strict=True)))
    assert scores == {"p": 1.0, "r": 1.0}


def test_boundary_within_and_beyond_the_tolerance():
    truth = jnp.zeros((1, 12, 12), int).at[:, :, 6:].set(1)
    guess = jnp.zeros((1, 12, 12), int).at[:, :, 8:].set(1)
    for tolerance, expected in ((1, 0.0), (2, 1.0)):
        precision, recall = boundary_matches(guess, truth, tolerance)
        assert compute({"p": precision, "r": recall}) == {"p": expected, "r": expected}
    assert f_score(0.5, 1.0) == pytest.approx(2 / 3)


def test_rarity_weights_even_out_what_classes_count():
    label = np.repeat([0, 1, -1], [900, 100, 50])
    weight = s.rarity_weights(label, 3, 1.0)
    assert 900 * weight[0] == pytest.approx(100 * weight[1])
    assert weight[2] == weight[1]  # which is nowhere
    assert (900 * weight[0] + 100 * weight[1]) / 1000 == pytest.approx(1)
    np.testing.assert_allclose(s.rarity_weights(label, 2, 0.0), 1)
    root = s.rarity_weights(label, 2, 0.5)
    assert root[1] / root[0] == pytest.approx(3)


def test_class_weights_and_dice_may_be_traced():
    def loss(dice, weights):
        task = s.segmentation(Pointwise(), 2, dice=dice, class_weights=weights)
        return task.loss(VARIABLES, BATCH, KEY)[0]

    values = jax.jit(jax.vmap(loss))(jnp.array([0.0, 1.0]), jnp.array([[1.0, 1.0], [1.0, 5.0]]))
    assert values[0] != values[1]


@settings(max_examples=6, deadline=None)
@given(st.integers(3, 40), st.integers(3, 40), st.sampled_from([0.0, 0.3, 0.75]))
def test_tiles_of_a_pointwise_network_are_the_whole_picture(height, width, overlap):
    image = RNG.normal(size=(height, width, 2)).astype(np.float32)
    predict = lambda x: jnp.concatenate([jnp.sin(x), x**2], -1)  # noqa: E731
    tiled = s.sliding_window(predict, image, 16, overlap=overlap)
    np.testing.assert_allclose(tiled, predict(image[None])[0], atol=1e-5)


def test_threshold_baseline_finds_a_bright_class():
    label = RNG.random((2, 40, 40)) > 0.5
    image = np.where(label, 180, 90) + RNG.integers(-20, 20, label.shape)
    threshold, iou = best_threshold(image, label)
    assert 108 <= threshold <= 162
    assert iou > 0.99
