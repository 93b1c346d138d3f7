"""What every task on token rows computes: cross-entropy, hits and weights."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from dl.core.metrics import Metrics, hits, mean
from dl.core.task import Batch
from dl.core.transforms import mean_of_probabilities
from dl.models.vocabulary import Unread, token_losses


def token_metrics(logits, targets, weight, smoothing: float | jax.Array = 0.0) -> Metrics:
    """``loss`` in nats a token and ``accuracy``, averaged by ``weight``.

    Args:
      logits: ``[..., vocabulary]``, or :class:`~dl.models.vocabulary.Unread`; targets: int ``[...]``;
        weight: ``[...]``.
      smoothing: share of the target spread evenly over the vocabulary (Szegedy et al. 2016).
    """
    if isinstance(logits, Unread):
        losses, right = token_losses(logits, targets, smoothing)
        return {"loss": mean(losses, weight), "accuracy": mean(right, weight)}
    rows = logits.astype(jnp.float32).reshape(-1, logits.shape[-1])
    targets, weight = targets.reshape(-1), weight.reshape(-1)
    top = jax.lax.stop_gradient(rows.max(axis=-1))
    total = jnp.log(jnp.sum(jnp.exp(rows - top[:, None]), axis=-1)) + top
    # By comparison, since the gradient of an index is a scatter.
    own = targets[:, None] == jnp.arange(rows.shape[-1])
    picked = jnp.where(own, rows, 0.0).sum(-1)
    losses = total - (1.0 - smoothing) * picked
    if isinstance(smoothing, jax.Array) or smoothing > 0:
        losses = losses - smoothing * rows.mean(axis=-1)
    return {"loss": mean(losses, weight), "accuracy": mean(hits(rows, targets), weight)}


def scorable(model: nn.Module) -> str:
    """The method of a language model that gives what :func:`token_metrics` scores."""
    return "scorable" if hasattr(model, "scorable") else "__call__"


def probabilities_averaged(several: Any) -> Any:
    """:func:`~dl.core.transforms.mean_of_probabilities` of what :func:`token_metrics` scores."""
    if isinstance(several, Unread):
        several = jax.vmap(Unread.logits)(several)
    return mean_of_probabilities(several)


def token_weight(batch: Batch, shape: tuple[int, ...]) -> jax.Array:
    """Weight of every target, ``[batch, time]``: ``batch['weight']`` times ``batch['mask']``, where given."""
    weight = jnp.ones(shape, jnp.float32)
    if "weight" in batch:
        weight = weight * batch["weight"]
    return weight * batch["mask"][:, None] if "mask" in batch else weight
