"""A class for every pixel."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

from dl.core.errors import UserError, bounded
from dl.core.metrics import Mean, best_class, hits, mean
from dl.core.task import Task, mean_of_probabilities
from dl.tasks.classification import unit_range
from dl.tasks.supervised import supervised
from dl.tasks.values import pixels, same_shape, within


def segmentation(
    model: nn.Module,
    classes: int,
    *,
    inputs: str = "image",
    target: str = "segments",
    prepare: Callable[[jax.Array], jax.Array] = unit_range,
    dice: ArrayLike = 1.0,
    class_weights: ArrayLike | None = None,
    tolerance: int = 2,
) -> Task:
    """Cross-entropy plus ``dice`` times the soft Dice loss (Milletari et al. 2016, "V-Net").

    Args:
      model: pictures to logits ``[batch, height, width, classes]``, such as :class:`dl.models.unet.UNet`.
      target: column of class numbers ``[batch, height, width]``; a pixel of -1 counts for nothing.
      class_weights: ``[classes]``, how much a pixel of each class counts in the cross-entropy.
      tolerance: pixels by which a boundary may be off.

    Metrics: ``loss``; and when evaluating ``accuracy`` of pixels; ``iou_0``, ``iou_1``, ...,
    intersection over union of each class over all pixels of all pictures, NaN where a class is neither
    there nor predicted; ``mean_iou``, the mean over pictures of the mean over the classes that are there
    or predicted; ``boundary_precision`` and ``boundary_recall`` (:func:`boundary_matches`). A picture
    that is -1 everywhere counts in none of them, nor in the loss.
    """
    bounded("classes", classes, at_least=2, whole=True)
    bounded("dice", dice, at_least=0)
    bounded("tolerance", tolerance, at_least=0, whole=True)

    def score(logits, batch, train):
        logits, rows = logits.astype(jnp.float32), batch.get("mask")
        label = batch[target].astype(jnp.int32)
        rows = jnp.ones(len(label)) if rows is None else rows
        real = (label >= 0).astype(jnp.float32)
        truth = jax.nn.one_hot(label, classes)  # all 0 where the label is -1
        weights = real if class_weights is None else real * jnp.asarray(class_weights)[label]
        losses = optax.softmax_cross_entropy(logits, truth) * weights
        losses = losses.sum((1, 2)) / jnp.maximum(weights.sum((1, 2)), 1e-8)
        losses += dice * dice_loss(jax.nn.softmax(logits) * real[..., None], truth)
        loss = mean(losses, rows * real.any((1, 2)))
        if train:
            return {"loss": loss}
        guess = best_class(logits)
        said = jax.nn.one_hot(jnp.where(label >= 0, guess, -1), classes)
        both = (said * truth).sum((1, 2)) * rows[:, None]
        either = jnp.maximum(said, truth).sum((1, 2)) * rows[:, None]
        present = (either > 0).sum(-1)
        ratios = (both / jnp.maximum(either, 1.0)).sum(-1) / jnp.maximum(present, 1)
        # Padding of the last batch is blanked before its boundaries are sought.
        matches = boundary_matches(
            jnp.where(label >= 0, guess, -1), label, tolerance, rows[:, None, None] > 0
        )
        return {
            "loss": loss,
            "accuracy": mean(hits(logits, label), rows[:, None, None] * real),
            **{f"iou_{c}": Mean(both[:, c].sum(), either[:, c].sum()) for c in range(classes)},
            "mean_iou": mean(ratios, rows * (present > 0)),
            "boundary_precision": matches[0],
            "boundary_recall": matches[1],
        }

    def check(logits, batch, columns):
        within(target, columns[target], classes, lowest=-1)
        if prepare is unit_range:
            pixels(inputs, columns[inputs])

    return supervised(
        model,
        inputs,
        score,
        arguments=lambda x: (prepare(x),),
        check=check,
        average=mean_of_probabilities,
    )


def dice_loss(probability: jax.Array, truth: jax.Array) -> jax.Array:
    """1 - the Dice overlap, averaged over classes: ``[batch, height, width, classes]`` to ``[batch]``."""
    both = (probability * truth).sum((1, 2))
    sizes = probability.sum((1, 2)) + truth.sum((1, 2))
    return 1.0 - ((2.0 * both + 1.0) / (sizes + 1.0)).mean(-1)


def boundary(label: jax.Array) -> jax.Array:
    """Pixels of ``label [batch, height, width]`` whose right or lower neighbour differs: bool.

    What lies next to a pixel of -1 is not known to differ, so a void region has no boundary.
    """

    def differ(a, b):
        return (a != b) & (a >= 0) & (b >= 0)

    right = differ(label[:, :, 1:], label[:, :, :-1])
    down = differ(label[:, 1:], label[:, :-1])
    return jnp.pad(right, ((0, 0), (0, 0), (0, 1))) | jnp.pad(down, ((0, 0), (0, 1), (0, 0)))


def boundary_matches(
    guess: jax.Array, truth: jax.Array, tolerance: int, mask: ArrayLike = True
) -> tuple[Mean, Mean]:
    """Boundary precision and recall (Csurka et al. 2013, "What is a good evaluation measure for semantic
    segmentation?"): the share of boundary pixels of ``guess`` that lie within ``tolerance`` pixels
    (in a square) of one of ``truth``, and the other way round. Class maps ``[batch, height, width]``, -1
    where void (in both). Means of nothing where ``guess``, or ``truth``, has no boundary.
    """

    def near(edges):
        side = 2 * tolerance + 1
        grown = nn.max_pool(edges.astype(jnp.float32)[..., None], (side, side), padding="SAME")
        return grown[..., 0] > 0

    said, true = boundary(guess) & mask, boundary(truth) & mask
    return mean(near(true), said), mean(near(said), true)


def f_score(precision: float, recall: float) -> float:
    """Harmonic mean of the two; NaN where both are.

    Where one alone is NaN (nothing was predicted, or nothing is true) the other is 0, and so is this.
    """
    if np.isnan(precision) and np.isnan(recall):
        return float("nan")
    precision, recall = np.nan_to_num([precision, recall])
    return float(2.0 * precision * recall / max(precision + recall, 1e-12))


def sliding_window(
    predict: Callable[[jax.Array], jax.Array],
    image: jax.Array,
    window: int,
    *,
    overlap: float = 0.5,
) -> jax.Array:
    """Predictions for a picture of any size from overlapping tiles, each weighed by its distance from
    its own border, where a network sees least.

    Args:
      predict: ``[1, window, window, channels]`` to ``[1, window, window, outputs]``.
      image: ``[height, width, channels]``; a side shorter than ``window`` is mirrored out to it.
      overlap: share of a tile that its neighbour covers too, at least.

    Returns:
      ``[height, width, outputs]`` float32.
    """
    bounded("window", window, at_least=1, whole=True)
    bounded("overlap", overlap, at_least=0, below=1)
    height, width = image.shape[:2]
    lacking = [max(window - side, 0) for side in (height, width)]
    # Mirrored as often as it takes: a picture may be much smaller than the window.
    padded = jnp.pad(image, ((0, lacking[0]), (0, lacking[1]), (0, 0)), mode="symmetric")

    def starts(side):
        count = max(1, -(-(side - window) // max(1, int(window * (1 - overlap)))) + 1)
        return np.linspace(0, side - window, count).round().astype(np.int32)

    tall, wide = padded.shape[:2]
    places = np.stack(np.meshgrid(starts(tall), starts(wide), indexing="ij"), -1).reshape(-1, 2)
    ramp = np.minimum(np.arange(window) + 1, window - np.arange(window)) / window
    weight = jnp.asarray(np.outer(ramp, ramp)[..., None], jnp.float32)

    def tile(carry, place):
        total, weights = carry
        start = (place[0], place[1], 0)
        part = jax.lax.dynamic_slice(padded, start, (window, window, image.shape[2]))
        out = predict(part[None])[0].astype(jnp.float32) * weight

        def add(x, y):
            old = jax.lax.dynamic_slice(x, start, y.shape)
            return jax.lax.dynamic_update_slice(x, old + y, start)

        return (add(total, out), add(weights, weight)), None

    part = jax.ShapeDtypeStruct((1, window, window, image.shape[2]), image.dtype)
    outputs = jax.eval_shape(predict, part).shape[-1]
    zeros = jnp.zeros((tall, wide, outputs)), jnp.zeros((tall, wide, 1))
    (total, weights), _ = jax.lax.scan(tile, zeros, jnp.asarray(places))
    return (total / weights)[:height, :width]


def best_threshold(image: np.ndarray, label: np.ndarray) -> tuple[float, float]:
    """The baseline any network must beat: class 1 where a pixel is brighter than one threshold.

    Returns the threshold with the highest mean IoU of the two classes on training pictures ``image``
    and ``label`` (alike in shape, -1 where a pixel counts for nothing), and that IoU.

    Raises:
      UserError: the two differ in shape, or no pixel counts.
    """
    image, label = np.asarray(image), np.asarray(label)
    same_shape("image", image, "label", label)
    if label.dtype != bool:  # of bool nothing can be void
        image, label = image[label >= 0], label[label >= 0] > 0
    if not label.size:
        raise UserError(
            "no pixel has a label of 0 or more: there is nothing to choose a threshold by"
        )
    levels = np.quantile(image, np.linspace(0.01, 0.99, 99))
    scores = [np.nanmean(binary_iou(image > level, label)) for level in levels]
    best = int(np.argmax(scores))
    return float(levels[best]), float(scores[best])


def binary_iou(guess: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Intersection over union of class 0 and of class 1, of two boolean arrays of one shape; NaN for a
    class that is in neither."""
    guess, truth = np.asarray(guess, bool), np.asarray(truth, bool)
    same_shape("guess", guess, "truth", truth)

    def ratio(a, b):
        either = (a | b).sum()
        return float((a & b).sum() / either) if either else float("nan")

    return ratio(~guess, ~truth), ratio(guess, truth)
