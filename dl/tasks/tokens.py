"""What every task on token rows computes: cross-entropy, hits and weights."""

import jax
import jax.numpy as jnp

from dl.core.metrics import Metrics, hits, mean
from dl.core.task import Batch


def token_metrics(logits, targets, weight, smoothing: float | jax.Array = 0.0) -> Metrics:
    """``loss`` in nats a token and ``accuracy``, averaged by ``weight``.

    Args:
      logits: ``[..., vocabulary]``; targets: int ``[...]``; weight: ``[...]``.
      smoothing: share of the target spread evenly over the vocabulary (Szegedy et al. 2016).
    """
    rows = logits.astype(jnp.float32).reshape(-1, logits.shape[-1])
    targets, weight = targets.reshape(-1), weight.reshape(-1)
    top = jax.lax.stop_gradient(rows.max(axis=-1))
    total = jnp.log(jnp.sum(jnp.exp(rows - top[:, None]), axis=-1)) + top
    picked = jnp.take_along_axis(rows, targets[:, None], axis=-1)[:, 0]
    losses = total - (1.0 - smoothing) * picked
    if isinstance(smoothing, jax.Array) or smoothing > 0:
        losses = losses - smoothing * rows.mean(axis=-1)
    return {"loss": mean(losses, weight), "accuracy": mean(hits(rows, targets), weight)}


def token_weight(batch: Batch, shape: tuple[int, ...]) -> jax.Array:
    """Weight of every target, ``[batch, time]``: ``batch['weight']`` times ``batch['mask']``, where given."""
    weight = jnp.ones(shape, jnp.float32)
    if "weight" in batch:
        weight = weight * batch["weight"]
    return weight * batch["mask"][:, None] if "mask" in batch else weight
