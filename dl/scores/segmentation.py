"""What segments are worth: boundaries and overlap."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from dl.core.column_checks import same_shape
from dl.core.metrics import Mean, mean


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


def binary_iou(guess: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Intersection over union of class 0 and of class 1, of two boolean arrays of one shape; NaN for a
    class that is in neither."""
    guess, truth = np.asarray(guess, bool), np.asarray(truth, bool)
    same_shape("guess", guess, "truth", truth)

    def ratio(a, b):
        either = (a | b).sum()
        return float((a & b).sum() / either) if either else float("nan")

    return ratio(~guess, ~truth), ratio(guess, truth)
