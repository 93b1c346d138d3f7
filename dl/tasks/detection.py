"""Boxes around objects, and their classes."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

from dl.core.column_checks import pixels, within
from dl.core.errors import UserError, bounded
from dl.core.metrics import Mean, mean
from dl.core.task import Task
from dl.models.detector import Places
from dl.scores.boxes import area, focal_loss, giou, suppress_by_class
from dl.tasks.classification import unit_range
from dl.tasks.supervised import supervised


class Detections(NamedTuple):
    """Found objects, the surest first: boxes ``[batch, n, 4]`` (left, top, right, bottom in pixels),
    score ``[batch, n]`` in 0..1, label ``[batch, n]``, -1 (and score 0) where there is no more."""

    boxes: jax.Array
    score: jax.Array
    label: jax.Array


def detection(
    model: nn.Module,
    strides: Sequence[int],
    *,
    inputs: str = "image",
    prepare: Callable[[jax.Array], jax.Array] = unit_range,
    box_weight: ArrayLike = 1.0,
    most: int = 100,
    candidates: int = 300,
    overlap: float = 0.5,
) -> Task:
    """Learn ``batch['boxes'] [batch, objects, 4]`` (left, top, right, bottom in pixels) and
    ``batch['label'] [batch, objects]``, -1 where there is no object, as FCOS does (Tian et al. 2019).

    Args:
      model: pictures to :class:`dl.models.detector.Places`; ``strides``: of its maps, ascending.
      box_weight: of the boxes' GIoU loss beside the classes' focal loss.
      most: detections a picture that ``predict`` gives, out of ``candidates`` that suppression sees;
        overlap: the IoU beyond which the less sure of two of one class goes.

    ``predict`` gives :class:`Detections`. Metrics: ``loss``, and its parts ``class_loss``, ``box_loss`` and
    ``centerness_loss``: all sums over places, divided by pictures plus places that hold an object, so
    that they add up exactly however the set is cut. What counts in the end is mean average precision,
    :func:`dl.scores.detection.average_precision` of all predictions together.
    """
    bounded("box_weight", box_weight, at_least=0)
    bounded("most", most, at_least=1, whole=True)
    bounded("candidates", candidates, at_least=1, whole=True)
    bounded("overlap", overlap, at_least=0, at_most=1)

    def score(places: Places, batch, train):
        places = Places(*(x.astype(jnp.float32) for x in places))
        rows = batch.get("mask")
        rows = jnp.ones(len(batch["label"])) if rows is None else rows
        label, target = jax.vmap(assign, (0, 0, None, None, None))(
            batch["boxes"].astype(jnp.float32),
            batch["label"],
            places.centre,
            places.stride,
            strides,
        )
        held = (label >= 0) * rows[:, None]
        hot = jax.nn.one_hot(label, places.logits.shape[-1])
        central = centerness(target, places.centre)
        losses = {
            "class_loss": (focal_loss(places.logits, hot).sum(-1), rows),
            "box_loss": ((1.0 - giou(places.boxes, target)) * box_weight, held),
            "centerness_loss": (
                optax.sigmoid_binary_cross_entropy(places.centerness, central),
                held,
            ),
        }
        weight = held.sum() + rows.sum()
        parts = {name: Mean(mean(*given).total, weight) for name, given in losses.items()}
        total = jnp.stack([part.total for part in parts.values()]).sum()
        return {"loss": Mean(total, weight), **parts}

    def finish(places: Places, images):
        height, width = images.shape[1:3]
        return detections(places, height, width, most=most, candidates=candidates, overlap=overlap)

    def check(places: Places, batch, columns):
        within("label", columns["label"], places.logits.shape[-1], lowest=-1)
        boxes = columns["boxes"][columns["label"] >= 0]
        odd = ~np.isfinite(boxes).all(-1) | (boxes[:, 2:] <= boxes[:, :2]).any(-1)
        if odd.any():
            raise UserError(
                "box-corners",
                f"{odd.sum()} boxes hold no pixel, the first is {boxes[odd][0].tolist()}: give left, top, "
                "right and bottom in pixels, left < right and top < bottom",
            )
        if boxes.size and boxes.max() <= 1:
            raise UserError(
                "boxes-not-pixels",
                "the boxes lie in 0..1: give them in pixels, left and right times the pictures' width, "
                "top and bottom times their height",
            )
        if prepare is unit_range:
            pixels(inputs, columns[inputs])

    return supervised(
        model, inputs, score, arguments=lambda x: (prepare(x),), finish=finish, check=check
    )


def assign(boxes, label, centre, stride, strides: Sequence[int], radius: float = 1.5):
    """Which object each place of one picture answers for.

    A place takes an object whose box it is in, near the middle (``radius`` strides), and whose farthest
    edge suits its map: up to 4 strides on the finest, then up to 4 of the next, and any on the coarsest.
    Of several it takes the smallest.

    Args:
      boxes: ``[objects, 4]``; label: ``[objects]``; centre ``[places, 2]`` and stride ``[places]`` as in
        :class:`dl.models.detector.Places`; strides: ascending.

    Returns:
      label ``[places]``, -1 for none, and box ``[places, 4]``.
    """
    x, y = centre[:, None, 0], centre[:, None, 1]
    edges = jnp.stack([x - boxes[:, 0], y - boxes[:, 1], boxes[:, 2] - x, boxes[:, 3] - y], -1)
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    near = jnp.abs(centre[:, None] - middle).max(-1) < radius * stride[:, None]
    inside, far = edges.min(-1) > 0, edges.max(-1)
    step = stride[:, None]
    low = jnp.where(step == strides[0], 0.0, 2.0 * step)  # maps double their strides
    high = jnp.where(step == strides[-1], jnp.inf, 4.0 * step)
    takes = near & inside & (far > low) & (far <= high) & (label >= 0)
    size = jnp.where(takes, area(boxes), jnp.inf)
    best = jnp.argmin(size, axis=1)
    found = jnp.take_along_axis(takes, best[:, None], 1)[:, 0]
    return jnp.where(found, label[best], -1), boxes[best]


def centerness(boxes: jax.Array, centre: jax.Array) -> jax.Array:
    """How near ``centre [places, 2]`` is to the middle of ``boxes [..., places, 4]``: 1 in the middle, 0
    at the edge (Tian et al. 2019, eq. 3)."""
    before, after = centre - boxes[..., :2], boxes[..., 2:] - centre
    low, high = jnp.minimum(before, after), jnp.maximum(before, after)
    return jnp.sqrt(jnp.prod(jnp.maximum(low, 0.0) / jnp.maximum(high, 1e-6), -1))


def detections(
    places: Places, height: int, width: int, *, most: int, candidates: int, overlap: float
) -> Detections:
    """The surest ``most`` objects of each picture after suppression, class by class."""

    def one(logits, boxes, centre_logit):
        sure = jax.nn.sigmoid(logits) * jax.nn.sigmoid(centre_logit)[:, None]
        score, place = jax.lax.top_k(jnp.sqrt(sure).reshape(-1), min(candidates, sure.size))
        label, box = place % logits.shape[-1], boxes[place // logits.shape[-1]]
        box = jnp.clip(box, 0.0, jnp.array([width, height, width, height], jnp.float32))
        score = jnp.where(suppress_by_class(box, score, label, overlap), score, 0.0)
        score, place = jax.lax.top_k(score, min(most, len(score)))
        real = score > 0
        return Detections(
            jnp.where(real[:, None], box[place], 0.0), score, jnp.where(real, label[place], -1)
        )

    logits, boxes, centre_logit = (
        x.astype(jnp.float32) for x in (places.logits, places.boxes, places.centerness)
    )
    return jax.vmap(one)(logits, boxes, centre_logit)
