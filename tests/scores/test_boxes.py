"""Box operations: invariants, and agreement with plain loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dl.scores import boxes as b

SEEDS = st.integers(0, 10_000)
SUPPRESS = jax.jit(b.suppress)


def some(seed, count=12):
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 20, (count, 2))
    return np.concatenate([corner, corner + rng.uniform(1, 15, (count, 2))], 1).astype(np.float32)


@settings(max_examples=25, deadline=None)
@given(SEEDS)
def test_iou_is_symmetric_within_0_and_1_and_1_with_itself(seed):
    x, y = some(seed), some(seed + 1)
    overlap = np.asarray(b.pairwise_iou(x, y))
    np.testing.assert_allclose(overlap, np.asarray(b.pairwise_iou(y, x)).T, rtol=1e-6)
    assert ((overlap >= 0) & (overlap <= 1)).all()
    np.testing.assert_allclose(b.iou(x, x), 1.0, rtol=1e-5)


@settings(max_examples=25, deadline=None)
@given(SEEDS)
def test_iou_follows_neither_shift_nor_scale(seed):
    x, y = some(seed), some(seed + 1)
    np.testing.assert_allclose(b.iou(3 * x + 7, 3 * y + 7), b.iou(x, y), atol=1e-5)


def test_iou_on_a_grid_of_pixels():
    x, y = np.array([2.0, 3, 8, 9]), np.array([5.0, 1, 12, 6])
    grid = np.zeros((2, 20, 20), bool)
    for mask, box in zip(grid, (x, y), strict=True):
        left, top, right, bottom = box.astype(int)
        mask[top:bottom, left:right] = True
    assert float(b.iou(x, y)) == pytest.approx(
        (grid[0] & grid[1]).sum() / (grid[0] | grid[1]).sum()
    )


def test_giou_is_iou_less_the_empty_share_of_the_hull():
    x, y = jnp.array([0.0, 0, 2, 2]), jnp.array([4.0, 0, 6, 2])
    assert float(b.giou(x, y)) == pytest.approx(0 - 4 / 12)
    assert float(b.giou(x, x)) == pytest.approx(1.0)
    slope = jax.grad(lambda box: b.giou(box, y))(x)
    assert float(slope[2]) > 0  # growing towards the other box is rewarded


def test_focal_loss_by_its_formula_and_finite_when_sure():
    logits, target = np.array([-3.0, 0.5, 2.0, -1.0]), np.array([0.0, 1, 1, 0])
    p = 1 / (1 + np.exp(-logits))
    true, weight = np.where(target > 0, p, 1 - p), np.where(target > 0, 0.25, 0.75)
    expected = -weight * (1 - true) ** 2 * np.log(true)
    np.testing.assert_allclose(b.focal_loss(logits, target), expected, rtol=1e-5)
    slope = jax.grad(lambda x: b.focal_loss(x, jnp.array([1.0, 0.0])).sum())(
        jnp.array([-200.0, 200.0])
    )
    assert np.isfinite(slope).all()
    assert np.abs(slope).min() > 0


def by_loops(boxes, scores, threshold):
    kept = []
    for i in sorted(range(len(scores)), key=lambda i: (-scores[i], i)):
        if scores[i] > 0 and all(float(b.iou(boxes[i], boxes[j])) <= threshold for j in kept):
            kept.append(i)
    return sorted(kept)


@settings(max_examples=10, deadline=None)
@given(SEEDS, st.sampled_from([0.1, 0.4, 0.8]))
def test_suppression_is_that_of_plain_loops_and_idempotent(seed, threshold):
    boxes = some(seed, 10)
    scores = np.round(np.random.default_rng(seed).uniform(-0.2, 1, 10), 1).astype(np.float32)
    stays = np.asarray(SUPPRESS(boxes, scores, threshold))
    assert np.flatnonzero(stays).tolist() == by_loops(boxes, scores, threshold)
    again = SUPPRESS(boxes, np.where(stays, scores, 0), threshold)
    np.testing.assert_array_equal(again, stays)


def test_classes_do_not_suppress_each_other():
    boxes = jnp.tile(jnp.array([[0.0, 0, 10, 10]]), (4, 1))
    stays = b.suppress_by_class(
        boxes, jnp.array([0.9, 0.8, 0.7, 0.6]), jnp.array([0, 0, 1, 1]), 0.5
    )
    assert stays.tolist() == [True, False, True, False]


def test_suppression_works_on_a_batch():
    boxes = jnp.stack([some(0), some(1)])
    scores = jax.random.uniform(jax.random.key(0), (2, 12))
    together = jax.vmap(lambda x, s: b.suppress(x, s, 0.3))(boxes, scores)
    apart = [SUPPRESS(x, s, 0.3) for x, s in zip(boxes, scores, strict=True)]
    np.testing.assert_array_equal(together, apart)


@pytest.mark.parametrize("odd", [np.nan, np.inf])
def test_what_is_not_finite_never_stays_and_beats_nothing(odd):
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 10], [1, 0, 11, 10], [40, 40, 50, 50]], np.float32)
    scores = np.array([0.9, 0.8, 0.7, 0.6], np.float32)
    boxes[0, 2], label = odd, jnp.zeros(4, int)
    assert SUPPRESS(boxes, scores, 0.5).tolist() == [False, True, False, True]
    assert b.suppress_by_class(jnp.asarray(boxes), jnp.asarray(scores), label, 0.5).tolist() == [
        False,
        True,
        False,
        True,
    ]
    scores[1] = odd
    assert SUPPRESS(boxes, scores, 0.5).tolist() == [False, False, True, True]
