"""One number per example."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from dl.core.errors import UserError
from dl.core.metrics import mean
from dl.core.task import Task
from dl.core.transforms import mean_of_values
from dl.tasks.supervised import absolute, squared, supervised

Error = Callable[[jax.Array, jax.Array], jax.Array]


def regression(
    model: nn.Module,
    *,
    inputs: str | tuple[str, ...],
    target: str = "label",
    arguments: Callable[[Any], tuple] = lambda x: (x,),
    error: Error = squared,
    centre: ArrayLike = 0.0,
    spread: ArrayLike = 1.0,
    origin: ArrayLike = 0.0,
    scores: Mapping[str, Error] | None = None,
) -> Task:
    """Predict ``batch[target] [batch]``.

    Args:
      model: ``*arguments(x)`` to ``[batch]``; ``inputs`` and ``arguments`` as in
        :func:`dl.tasks.supervised.supervised`.
      error: elementwise ``(prediction, target)`` to descend, of values less ``centre`` over ``spread``
        (the training targets' mean and standard deviation, say), so that the model's are near 1.
      origin: what was subtracted from the targets in float64 before they became float32 (times, say,
        whose differences float32 would lose); ``predict`` adds it again, no score needs it.
      scores: more metrics by name, each elementwise ``(prediction, target)`` in the target's unit.

    Metrics: ``loss`` in scaled units; ``mse`` and ``mae`` in the target's (root of ``mse`` is RMSE).
    """
    named = {"mse": squared, "mae": absolute, **(scores or {})}

    def value(outputs):
        return outputs.astype(jnp.float32) * spread + centre

    def score(outputs, batch, train):
        truth, mask = batch[target].astype(jnp.float32), batch.get("mask")
        loss = error(outputs.astype(jnp.float32), (truth - centre) / spread)
        prediction = value(outputs)
        metrics = {name: mean(each(prediction, truth), mask) for name, each in named.items()}
        return {"loss": mean(loss, mask), **metrics}

    def check(outputs, batch, columns):
        if (
            outputs.shape != batch[target].shape
        ):  # NumPy would pair every prediction with every target
            raise UserError(
                "output-shape",
                f"a row's output has shape {outputs.shape[1:]}, its {target!r} {batch[target].shape[1:]}: "
                "make the two shapes equal (a last axis of 1 goes away by [..., 0])",
            )

    def finish(outputs, x):
        return value(outputs) + origin

    task = supervised(
        model,
        inputs,
        score,
        arguments=arguments,
        finish=finish,
        check=check,
        average=mean_of_values,
    )
    return dataclasses.replace(task, origin=origin)


def nasa_score(prediction: jax.Array, truth: jax.Array) -> jax.Array:
    """The prognostics score of each engine, in which a late warning costs more than an early one:
    ``exp(-d / 13) - 1`` for ``d = prediction - truth < 0``, else ``exp(d / 10) - 1`` (Saxena & Goebel
    2008, cycles). The published figure is the sum over the test engines."""
    late = prediction - truth
    return jnp.expm1(jnp.where(late < 0, -late / 13.0, late / 10.0))
