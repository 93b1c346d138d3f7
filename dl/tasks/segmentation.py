"""A class for every pixel."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

from dl.core.column_checks import pixels, within
from dl.core.errors import bounded
from dl.core.metrics import Mean, MeanOfMeans, best_class, hits, mean
from dl.core.task import Task
from dl.core.transforms import mean_of_probabilities
from dl.former import found
from dl.scores.segmentation import boundary_matches
from dl.tasks.classification import unit_range
from dl.tasks.supervised import supervised

__getattr__ = found(__name__)  # what was here in earlier releases


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
    there nor predicted; ``class_iou``, the mean of these, the usual figure of scenes with many classes;
    ``mean_iou``, the mean over pictures of the mean over the classes that are there or predicted;
    ``boundary_precision`` and ``boundary_recall`` (:func:`boundary_matches`). A picture
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
            "class_iou": MeanOfMeans(both.sum(0), either.sum(0)),
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


def rarity_weights(label: np.ndarray, classes: int, power: float = 0.5) -> np.ndarray:
    """How much a pixel of each class is to count, float32 ``[classes]``: the class's share in ``label``, whose -1
    are left out, to the power of minus ``power``; 1 in the mean over pixels. One that is nowhere is as the rarest.
    """
    bounded("power", power, at_least=0)
    count = np.bincount(label[label >= 0].ravel(), minlength=classes).astype(np.float64)
    if not count.any():
        return np.ones(classes, np.float32)
    weight = np.where(count > 0, count, count[count > 0].min()) ** -power
    return (weight * count.sum() / (weight * count).sum()).astype(np.float32)


def dice_loss(probability: jax.Array, truth: jax.Array) -> jax.Array:
    """1 - the Dice overlap, averaged over classes: ``[batch, height, width, classes]`` to ``[batch]``."""
    both = (probability * truth).sum((1, 2))
    sizes = probability.sum((1, 2)) + truth.sum((1, 2))
    return 1.0 - ((2.0 * both + 1.0) / (sizes + 1.0)).mean(-1)


def sliding_window(
    predict: Callable[[np.ndarray], np.ndarray],
    image: np.ndarray,
    window: int,
    *,
    overlap: float = 0.5,
) -> np.ndarray:
    """Predictions for a picture of any size from overlapping tiles, each weighed by its distance from
    its own border, where a network sees least.

    Args:
      predict: ``[tiles, window, window, channels]`` to ``[tiles, window, window, outputs]``, such as a
        :class:`dl.Predictor`.
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
    padded = np.pad(image, ((0, lacking[0]), (0, lacking[1]), (0, 0)), mode="symmetric")

    def starts(side):
        count = max(1, -(-(side - window) // max(1, int(window * (1 - overlap)))) + 1)
        return np.linspace(0, side - window, count).round().astype(np.int32)

    tall, wide = padded.shape[:2]
    places = [
        (slice(y, y + window), slice(x, x + window)) for y in starts(tall) for x in starts(wide)
    ]
    tiles = np.asarray(predict(np.stack([padded[place] for place in places])), np.float32)
    ramp = np.minimum(np.arange(window) + 1, window - np.arange(window)) / window
    weight = np.outer(ramp, ramp)[..., None].astype(np.float32)
    total = np.zeros((tall, wide, tiles.shape[-1]), np.float32)
    weights = np.zeros((tall, wide, 1), np.float32)
    for place, tile in zip(places, tiles, strict=True):
        total[place] += tile * weight
        weights[place] += weight
    return (total / weights)[:height, :width]
