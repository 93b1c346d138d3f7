"""One label per example."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from dl.core.column_checks import pixels, within
from dl.core.errors import UserError, bounded
from dl.core.metrics import hits, mean
from dl.core.task import Batch, Task
from dl.core.transforms import mean_of_probabilities
from dl.tasks.supervised import supervised


def unit_range(image: jax.Array) -> jax.Array:
    """Pixels 0..255 of any dtype to float32 in [-1, 1]."""
    return image.astype(jnp.float32) / 127.5 - 1.0


def classification(
    model: nn.Module,
    *,
    inputs: str | tuple[str, ...] = "image",
    prepare: Callable[[Any], Any] = unit_range,
    label_smoothing: float | jax.Array = 0.0,
    corrupt: Callable[[jax.Array, Batch], Batch] | None = None,
) -> Task:
    """Softmax cross-entropy on ``batch['label']``: int ``[batch]``, or probabilities ``[batch, classes]``.

    Args:
      model: ``model.apply(variables, x, train=...)`` gives logits ``[batch, classes]``.
      inputs: the batch's column to feed it, or several, as a dict; ``prepare`` turns it into the model's input.
      label_smoothing: share of the target spread evenly over all classes (Szegedy et al. 2016).
      corrupt: ``(key, batch) -> batch`` that the model sees in training.

    Metrics: ``loss`` in nats (smoothed when training, plain when evaluating) and ``accuracy``.
    """
    bounded("label_smoothing", label_smoothing, at_least=0, below=1)

    def score(logits, batch, train):
        labels, mask = batch["label"], batch.get("mask")
        logits = logits.astype(jnp.float32)
        classes = logits.shape[-1]
        targets = jax.nn.one_hot(labels, classes) if labels.ndim == 1 else labels
        right = hits(logits, labels if labels.ndim == 1 else jnp.argmax(labels, -1))
        smoothing = label_smoothing if train else 0.0
        targets = targets * (1.0 - smoothing) + smoothing / classes
        losses = optax.softmax_cross_entropy(logits, targets)
        return {"loss": mean(losses, mask), "accuracy": mean(right, mask)}

    def check(logits, batch, columns):
        classes, label = logits.shape[-1], batch["label"]
        if label.ndim == 1:
            within("label", columns["label"], classes)
        elif label.shape[1:] != (classes,):
            raise UserError(
                "label-shape",
                f"column 'label' has {list(label.shape[1:])} a row: give class numbers [batch], or "
                f"probabilities [batch, {classes}]",
            )
        if prepare is unit_range and isinstance(inputs, str):
            pixels(inputs, columns[inputs])

    return supervised(
        model,
        inputs,
        score,
        arguments=lambda x: (prepare(x),),
        check=check,
        average=mean_of_probabilities,
        corrupt=corrupt,
    )
