"""Vectors by which people, or other classes never seen in training, are told apart."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from dl.core.column_checks import pixels, within
from dl.core.errors import bounded
from dl.core.metrics import hits, mean
from dl.core.task import Task
from dl.tasks.classification import unit_range
from dl.tasks.supervised import supervised


def with_margin(cosine: jax.Array, margin: float | jax.Array) -> jax.Array:
    """The cosine of an angle that is ``margin`` radians wider; where that would be more than half a turn, what
    goes on falling (Deng et al. 2019, "ArcFace")."""
    sine = jnp.sqrt(jnp.maximum(1.0 - jnp.square(cosine), 1e-12))
    wider = cosine * jnp.cos(margin) - sine * jnp.sin(margin)
    return jnp.where(cosine > -jnp.cos(margin), wider, cosine - margin * jnp.sin(margin))


def metric_learning(
    model: nn.Module,
    *,
    inputs: str = "image",
    prepare: Callable[[jax.Array], jax.Array] = unit_range,
    margin: float | jax.Array = 0.3,
    scale: float = 16.0,
    open_set: bool = False,
) -> Task:
    """Softmax over cosines, the true class's by an angle that is wider by a margin in training (Deng et al.
    2019, "ArcFace: Additive angular margin loss for deep face recognition").

    Args:
      model: gives :class:`dl.models.embedding.Embedded`.
      inputs: the batch's column to feed it; ``prepare`` turns it into the model's input.
      margin: radians; scale: what cosines are multiplied with before the softmax.
      open_set: evaluation is of classes that training does not have. The loss then says how far such a row is
        from being alike to all classes, the mean of ``-log p`` over them (Dhamija et al. 2018, "Reducing network
        agnostophobia"), and there is no accuracy.

    ``batch['label']`` int ``[batch]``. ``predict`` gives the vectors ``[batch, width]``. Metrics: ``loss`` in nats
    (without the margin in evaluation), ``accuracy``.
    """
    bounded("margin", margin, at_least=0, below=1.5)

    def score(outputs, batch, train):
        cosine, label, mask = outputs.cosine, batch["label"], batch.get("mask")
        if open_set and not train:
            return {"loss": mean(-jax.nn.log_softmax(scale * cosine).mean(-1), mask)}
        own = jax.nn.one_hot(label, cosine.shape[-1])
        logits = jnp.where(own > 0, with_margin(cosine, margin), cosine) if train else cosine
        losses = optax.softmax_cross_entropy(scale * logits, own)
        return {"loss": mean(losses, mask), "accuracy": mean(hits(cosine, label), mask)}

    def check(outputs, batch, columns):
        if not open_set:
            within("label", columns["label"], outputs.cosine.shape[-1])
        if prepare is unit_range:
            pixels(inputs, columns[inputs])

    return supervised(
        model,
        inputs,
        score,
        arguments=lambda x: (prepare(x),),
        finish=lambda outputs, x: outputs.vector,
        check=check,
    )
