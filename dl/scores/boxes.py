"""Boxes (left, top, right, bottom) in pixels: overlap, losses, and suppression inside the compiled step."""

import jax
import jax.numpy as jnp


def area(boxes: jax.Array) -> jax.Array:
    """``[..., 4]`` to ``[...]``; 0 where a box is turned inside out."""
    sides = jnp.maximum(boxes[..., 2:] - boxes[..., :2], 0.0)
    return sides[..., 0] * sides[..., 1]


def intersection(a: jax.Array, b: jax.Array) -> jax.Array:
    """Area that ``a [..., 4]`` and ``b [..., 4]`` share, elementwise and broadcast."""
    corners = jnp.maximum(a[..., :2], b[..., :2]), jnp.minimum(a[..., 2:], b[..., 2:])
    return area(jnp.concatenate(corners, -1))


def iou(a: jax.Array, b: jax.Array) -> jax.Array:
    """Intersection over union of ``a [..., 4]`` and ``b [..., 4]``, elementwise and broadcast; 0 where
    both are empty."""
    both = intersection(a, b)
    return both / jnp.maximum(area(a) + area(b) - both, 1e-7)


def pairwise_iou(a: jax.Array, b: jax.Array) -> jax.Array:
    """``[..., n, 4]`` and ``[..., m, 4]`` to ``[..., n, m]``."""
    return iou(a[..., :, None, :], b[..., None, :, :])


def giou(a: jax.Array, b: jax.Array) -> jax.Array:
    """Generalised IoU (Rezatofighi et al. 2019), elementwise: IoU less the share of the smallest box
    around both that neither covers. In (-1, 1]; has a slope where the boxes are apart, too."""
    both = intersection(a, b)
    union = area(a) + area(b) - both
    hull = area(
        jnp.concatenate(
            [jnp.minimum(a[..., :2], b[..., :2]), jnp.maximum(a[..., 2:], b[..., 2:])], -1
        )
    )
    return both / jnp.maximum(union, 1e-7) - (hull - union) / jnp.maximum(hull, 1e-7)


def focal_loss(
    logits: jax.Array,
    target: jax.Array,
    alpha: float | jax.Array = 0.25,
    gamma: float | jax.Array = 2.0,
) -> jax.Array:
    """Sigmoid focal loss, elementwise (Lin et al. 2017, "Focal loss for dense object detection"):
    cross-entropy times ``(1 - p_true) ** gamma``, positives weighed ``alpha``, negatives ``1 - alpha``."""
    # log(p_true) through softplus, so that confident logits neither overflow nor lose their slope.
    log_true = -jax.nn.softplus(jnp.where(target > 0, -logits, logits))
    weight = jnp.where(target > 0, alpha, 1.0 - alpha)
    return (
        -weight
        * jnp.exp(gamma * -jax.nn.softplus(jnp.where(target > 0, logits, -logits)))
        * log_true
    )


def suppress(boxes: jax.Array, scores: jax.Array, threshold: float | jax.Array) -> jax.Array:
    """Greedy non-maximum suppression: which boxes stay, bool ``[n]``.

    In order of falling score, a box stays unless it overlaps one that stays by more than ``threshold``
    IoU. Of equal scores the first in the array goes first. A score of 0 or less never stays, nor does a
    score or a box that is NaN or infinite.

    Args:
      boxes: ``[n, 4]``; scores: ``[n]``. Under ``jax.vmap``, a batch of either.
    """
    scores = jnp.where(jnp.isfinite(scores) & jnp.isfinite(boxes).all(-1), scores, 0.0)
    order = jnp.argsort(-scores, stable=True)
    overlap = pairwise_iou(boxes[order], boxes[order]) > threshold
    place = jnp.arange(len(scores))

    def visit(i, stays):
        beaten = (overlap[i] & stays & (place < i)).any()
        return stays.at[i].set(stays[i] & ~beaten)

    stays = jax.lax.fori_loop(0, len(scores), visit, scores[order] > 0)
    return jnp.zeros_like(stays).at[order].set(stays)


def suppress_by_class(
    boxes: jax.Array, scores: jax.Array, label: jax.Array, threshold: float | jax.Array
) -> jax.Array:
    """:func:`suppress` among boxes of equal ``label [n]`` alone."""
    # Each class is moved to a place of its own, where it meets no other.
    finite = jnp.where(jnp.isfinite(boxes), boxes, 0.0)
    low, high = finite.min(), finite.max()
    offset = label.astype(boxes.dtype) * (high - low + 1.0)
    return suppress(boxes + offset[:, None], scores, threshold)
