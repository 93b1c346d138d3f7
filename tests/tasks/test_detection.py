"""Detection: which place answers for what, losses under any cut, and scores by COCO's evaluation."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mistakes import raises

from dl.core.metrics import compute, merge
from dl.models.detector import FCOS, Places, grid
from dl.models.resnet import ResNetFeatures
from dl.scores.detection import average_precision
from dl.tasks.detection import assign, centerness, detection, detections

STRIDES = (8, 16, 32)
CENTRE = np.concatenate([grid(64 // s, 64 // s, s) for s in STRIDES])
STRIDE = np.concatenate([np.full((64 // s) ** 2, s, np.float32) for s in STRIDES])
KEY = jax.random.key(0)
BOXES = np.array([[[4, 4, 20, 20], [0, 0, 0, 0]], [[8, 8, 60, 60], [30, 2, 44, 16]]], np.float32)
LABEL = np.array([[1, -1], [0, 1]], np.int32)


def test_small_objects_go_to_fine_maps_and_large_to_coarse():
    for side, stride in ((12, 8), (50, 8), (90, 16), (200, 32)):
        box = np.array(
            [[128 - side / 2, 128 - side / 2, 128 + side / 2, 128 + side / 2]], np.float32
        )
        centre = np.concatenate([grid(256 // s, 256 // s, s) for s in STRIDES])
        steps = np.concatenate([np.full((256 // s) ** 2, s, np.float32) for s in STRIDES])
        label, target = assign(box, np.array([2]), centre, steps, STRIDES)
        held = np.asarray(label) == 2
        found, count = np.unique(steps[held], return_counts=True)
        assert found[count.argmax()] == stride  # an object between two maps is learned on both
        assert (np.abs(centre[held] - 128).max(1) < 1.5 * steps[held]).all()
        np.testing.assert_array_equal(
            np.asarray(target)[held], np.broadcast_to(box, (held.sum(), 4))
        )


def test_of_two_objects_the_smaller_is_taken_and_padding_never():
    boxes = np.array([[2, 2, 30, 30], [8, 8, 24, 24], [0, 0, 64, 64]], np.float32)
    label, _ = assign(boxes, np.array([0, 1, -1]), CENTRE, STRIDE, STRIDES)
    assert set(np.asarray(label).tolist()) == {-1, 1}


def test_centerness_is_1_in_the_middle_and_0_at_the_edge():
    boxes = jnp.tile(jnp.array([0.0, 0, 8, 4]), (3, 1))
    got = centerness(boxes, jnp.array([[4.0, 2], [8.0, 2], [2.0, 2]]))
    np.testing.assert_allclose(got, [1.0, 0.0, np.sqrt(2 / 6)], atol=1e-6)


def perfect(boxes, label):
    """What a detector that knows the truth would say."""
    found, target = jax.vmap(assign, (0, 0, None, None, None))(
        boxes, label, CENTRE, STRIDE, STRIDES
    )
    sure = jnp.where(found[..., None] == jnp.arange(2), 8.0, -8.0)
    central = jax.scipy.special.logit(jnp.clip(centerness(target, CENTRE), 0.01, 0.99))
    return Places(jnp.asarray(CENTRE), jnp.asarray(STRIDE), sure, target, central)


def test_a_detector_that_knows_the_truth_finds_each_object_once():
    found = detections(perfect(BOXES, LABEL), 64, 64, most=10, candidates=40, overlap=0.5)
    for row in range(2):
        sure = np.asarray(found.score[row]) > 0.5
        truth = [
            (*b, c) for b, c in zip(BOXES[row].tolist(), LABEL[row].tolist(), strict=True) if c >= 0
        ]
        said = zip(found.boxes[row][sure].tolist(), found.label[row][sure].tolist(), strict=True)
        assert sorted((*b, c) for b, c in said) == sorted(truth)
    scores = average_precision(jax.tree.map(np.asarray, tuple(found)), BOXES, LABEL, ("a", "b"))
    assert scores["map_50"] == pytest.approx(1.0)
    assert scores["map"] == pytest.approx(1.0)


MODEL = FCOS(2, ResNetFeatures((1, 1), width=2), (4, 8), width=8, depth=1)
TASK = detection(MODEL, MODEL.strides, most=5, candidates=20)
BATCH = {
    "image": np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3)).astype(np.uint8),
    "boxes": BOXES,
    "label": LABEL,
}


@pytest.fixture(scope="module")
def variables():
    return jax.jit(TASK.init)(KEY, BATCH)


def test_losses_do_not_depend_on_how_the_set_is_cut(variables):
    evaluate = jax.jit(TASK.evaluate)
    ones = {"mask": np.ones(2, np.float32)}
    whole = compute(evaluate(variables, BATCH | ones))
    parts = [
        evaluate(
            variables,
            {k: v[[row, 1 - row]] for k, v in BATCH.items()} | {"mask": np.array([1.0, 0.0])},
        )
        for row in range(2)
    ]
    assert compute(merge(*parts)) == pytest.approx(whole, rel=1e-4)
    assert whole["loss"] == pytest.approx(sum(v for k, v in whole.items() if k != "loss"), rel=1e-5)


def test_padding_may_hold_nan(variables):
    found = []
    for odd in (0.0, np.nan):
        boxes = BATCH["boxes"].copy()
        boxes[1] = odd
        mask = np.array([1.0, 0.0], np.float32)
        found.append(
            compute(jax.jit(TASK.evaluate)(variables, BATCH | {"boxes": boxes, "mask": mask}))
        )
    assert found[0] == found[1]


def test_predictions_are_padded_ordered_and_inside_the_picture(variables):
    found = jax.jit(TASK.predict)(variables, BATCH)
    assert found.boxes.shape == (2, 5, 4)
    assert (np.diff(found.score, axis=1) <= 0).all()
    assert ((found.boxes >= 0) & (found.boxes <= 64)).all()
    assert ((np.asarray(found.label) >= 0) == (np.asarray(found.score) > 0)).all()


def test_a_picture_without_objects_has_a_finite_loss(variables):
    batch = BATCH | {"label": np.full_like(LABEL, -1)}
    gradient = jax.jit(jax.grad(lambda p: TASK.loss({**variables, "params": p}, batch, KEY)[0]))
    grads = gradient(variables["params"])
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(grads))


def test_average_precision_by_hand():
    """Two of class 0: found at ranks 1 and 3 with a false alarm between: AP = (1 + 2/3) / 2, COCO's 101
    points make it .835; nothing of class 1 is true, so it does not count."""
    boxes = np.array([[[0, 0, 10, 10], [20, 20, 30, 30]]], np.float32)
    found = np.array([[[0, 0, 10, 10], [50, 50, 60, 60], [20, 20, 30, 31]]], np.float32)
    said = (found, np.array([[0.9, 0.8, 0.7]]), np.array([[0, 0, 0]]))
    scores = average_precision(said, boxes, np.array([[0, 0]]), ("cell", "none"))
    assert scores["ap_50_cell"] == pytest.approx((51 + 50 * 2 / 3) / 101, abs=1e-6)
    assert scores["map_50"] == scores["ap_50_cell"]
    assert np.isnan(scores["ap_50_none"])


def test_without_pycocotools_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pycocotools.coco", None)
    with raises("package-missing", "pycocotools", "pip install -e '.[detection]'"):
        average_precision((BOXES, LABEL, LABEL), BOXES, LABEL, ("a", "b"))
