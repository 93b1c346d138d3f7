"""One label per example."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from dl.core.metrics import mean
from dl.core.random import purpose_key
from dl.core.task import Aux, Task


def unit_range(image: jax.Array) -> jax.Array:
    """Pixels 0..255 of any dtype to float32 in [-1, 1]."""
    return image.astype(jnp.float32) / 127.5 - 1.0


def classification(
    model: nn.Module,
    *,
    inputs: str = "image",
    prepare: Callable[[jax.Array], jax.Array] = unit_range,
    label_smoothing: float | jax.Array = 0.0,
) -> Task:
    """Softmax cross-entropy on ``batch['label']``: int ``[batch]``, or probabilities ``[batch, classes]``.

    Args:
      model: ``model.apply(variables, x, train=...)`` gives logits ``[batch, classes]``.
      inputs: the batch's column to feed it; ``prepare`` turns that column (and what ``predict``
        is given) into the model's input.
      label_smoothing: share of the target spread evenly over all classes (Szegedy et al. 2016).

    Metrics: ``loss`` in nats (smoothed when training, plain when evaluating) and ``accuracy``.
    """

    def apply(variables, x, **kwargs):
        return model.apply(variables, prepare(x), **kwargs)

    def score(logits, labels, mask, smoothing):
        logits = logits.astype(jnp.float32)
        classes = logits.shape[-1]
        targets = jax.nn.one_hot(labels, classes) if labels.ndim == 1 else labels
        hits = jnp.argmax(logits, -1) == jnp.argmax(targets, -1)
        targets = targets * (1.0 - smoothing) + smoothing / classes
        losses = optax.softmax_cross_entropy(logits, targets)
        return {"loss": mean(losses, mask), "accuracy": mean(hits, mask)}

    def init(key, batch):
        return dict(model.init(key, prepare(batch[inputs]), train=False))

    def loss(variables, batch, key):
        rngs = {"dropout": purpose_key(key, "dropout")}
        # Every collection but the parameters may change in training; batch norm's statistics do.
        mutable = [name for name in variables if name != "params"]
        logits, updates = apply(variables, batch[inputs], train=True, rngs=rngs, mutable=mutable)
        metrics = score(logits, batch["label"], batch.get("mask"), label_smoothing)
        total, weight = metrics["loss"]
        return total / jnp.maximum(weight, 1e-8), Aux(metrics, dict(updates))

    def evaluate(variables, batch):
        logits = apply(variables, batch[inputs], train=False)
        return score(logits, batch["label"], batch.get("mask"), 0.0)

    def predict(variables, images):
        """Logits ``[batch, classes]``."""
        return apply(variables, images, train=False)

    return Task(init, loss, evaluate, predict)
