"""One label per recording, whatever its length."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from dl.core.column_checks import within
from dl.core.errors import bounded
from dl.core.metrics import hits, mean
from dl.core.task import Task
from dl.core.transforms import mean_of_probabilities
from dl.tasks.supervised import supervised


def speech_classification(
    model: nn.Module,
    arguments: Callable[[Any], tuple],
    *,
    inputs: str | tuple[str, ...] = ("waveform", "length"),
    label_smoothing: ArrayLike = 0.0,
) -> Task:
    """Softmax cross-entropy on ``batch['label']`` int ``[batch]``.

    Args:
      model: ``*arguments(x)`` to logits ``[batch, classes]``, such as
        :class:`dl.models.speech.SpeechClassifier` and :func:`dl.models.spectrograms.speech_features`; ``x`` is
        ``{'waveform': [batch, samples], 'length': [batch]}``.
      label_smoothing: share of the target spread evenly over all classes, in training.

    Metrics: ``loss`` in nats and ``accuracy``.
    """
    bounded("label_smoothing", label_smoothing, at_least=0, below=1)

    def score(logits, batch, train):
        logits, mask = logits.astype(jnp.float32), batch.get("mask")
        target = jax.nn.one_hot(batch["label"], logits.shape[-1])
        if train:
            target = target * (1.0 - label_smoothing) + label_smoothing / logits.shape[-1]
        return {
            "loss": mean(optax.softmax_cross_entropy(logits, target), mask),
            "accuracy": mean(hits(logits, batch["label"]), mask),
        }

    def check(logits, batch, columns):
        within("label", columns["label"], logits.shape[-1])

    return supervised(
        model, inputs, score, arguments=arguments, check=check, average=mean_of_probabilities
    )
