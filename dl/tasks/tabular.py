"""Labels for the rows of a table, rare ones included, and what the probabilities are worth."""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

from dl.core.column_checks import within
from dl.core.errors import bounded
from dl.core.metrics import hits, mean
from dl.core.task import Batch, Task, Variables
from dl.core.transforms import ensemble, mean_of_probabilities
from dl.former import found
from dl.tasks.regression import regression
from dl.tasks.supervised import supervised

__getattr__ = found(__name__)  # what was here in earlier releases

COLUMNS = ("numerical", "missing", "categorical")


def _arguments(rows):
    return tuple(rows[name] for name in COLUMNS)


def tabular_classification(
    model: nn.Module,
    *,
    class_weights: ArrayLike | None = None,
    label_smoothing: ArrayLike = 0.0,
    columns: tuple[str, ...] = COLUMNS,
) -> Task:
    """Softmax cross-entropy on ``batch['label']`` int ``[batch]`` from the columns of :mod:`dl.models.tabular`.

    ``predict(variables, {'numerical': ..., 'missing': ..., 'categorical': ...})`` gives logits
    ``[batch, classes]``.

    Args:
      class_weights: ``[classes]``, how much an example of each class counts in training, such as
        :func:`dl.data.tables.class_weights`. Probabilities are shifted by them: mend with
        :func:`unweighted`.
      label_smoothing: share of the target spread evenly over all classes.
      columns: what the model is called with, in order.

    A column ``weight`` ``[batch]`` says how many rows each stands for, in training and in every metric.

    Metrics: ``loss`` in nats (weighted and smoothed in training alone), ``accuracy`` and ``brier``, the
    squared error of the probabilities summed over classes.
    """
    bounded("label_smoothing", label_smoothing, at_least=0, below=1)

    def score(logits, batch, train):
        logits = logits.astype(jnp.float32)
        truth = jax.nn.one_hot(batch["label"], logits.shape[-1])
        rows = batch.get("mask", jnp.ones(len(logits)))
        rows = rows * batch["weight"] if "weight" in batch else rows
        target, weights = truth, rows
        if train:
            target = truth * (1.0 - label_smoothing) + label_smoothing / logits.shape[-1]
            if class_weights is not None:
                weights = rows * jnp.asarray(class_weights)[batch["label"]]
        losses = optax.softmax_cross_entropy(logits, target)
        wrong = jnp.square(jax.nn.softmax(logits) - truth).sum(-1)
        return {
            "loss": mean(losses, weights),
            "accuracy": mean(hits(logits, batch["label"]), rows),
            "brier": mean(wrong, rows),
        }

    def check(logits, batch, given):
        within("label", given["label"], logits.shape[-1])

    def arguments(rows):
        return tuple(rows[name] for name in columns)

    average = mean_of_probabilities
    return supervised(model, columns, score, arguments=arguments, check=check, average=average)


class _OneColumn(nn.Module):
    """A one-output network's ``[batch, 1]`` as ``[batch]``."""

    network: nn.Module

    def __call__(self, *columns, train: bool = False):
        return self.network(*columns, train=train)[..., 0]


def tabular_regression(model: nn.Module, **options) -> Task:
    """:func:`dl.tasks.regression.regression` of ``batch['label'] [batch]`` by a one-output model of
    :mod:`dl.models.tabular`."""

    return regression(_OneColumn(model), inputs=COLUMNS, arguments=_arguments, **options)


def unweighted(logits: jax.Array, class_weights: ArrayLike | None) -> jax.Array:
    """Logits ``[..., classes]`` of a model trained with ``class_weights``, as without them.

    Weights multiply the odds that a fitted model gives, so dividing by them mends the probabilities.
    """
    return logits if class_weights is None else logits - jnp.log(jnp.asarray(class_weights))


def _mended(task: Task, class_weights: ArrayLike | None) -> Task:
    """``task`` with the weights that it was trained with taken out of all that it predicts and is judged by."""
    if class_weights is None:
        return task

    def apply(variables: Variables, batch: Batch, key: jax.Array | None) -> tuple[Any, Variables]:
        logits, updates = task.apply(variables, batch, key)
        return (unweighted(logits, class_weights) if key is None else logits), updates

    def predict(variables: Variables, columns: Batch) -> jax.Array:
        return unweighted(task.predict(variables, columns), class_weights)

    return dataclasses.replace(task, apply=apply, predict=predict)


def of_table(
    model: nn.Module, classes: int, fit: Any, members: int = 1
) -> tuple[Task, Callable[[Any, Any], np.ndarray]]:
    """The task of a table and ``say(predictor, columns)``, what it says of rows: log-odds ``[rows, classes]``,
    or numbers ``[rows]`` in float64. Weights of the classes are in training alone: what the task predicts, and is
    judged by, is without them.

    Args:
      classes: how many; 0 for numbers.
      fit: what :func:`dl.data.tables.fitted` gives beside the splits.
      members: networks that answer together (:func:`dl.ensemble`).
    """
    if classes:
        task = ensemble(tabular_classification(model, class_weights=fit), members)
        return _mended(task, fit), lambda predictor, columns: predictor(columns)
    mean, spread = fit
    centred = ensemble(
        tabular_regression(model, spread=spread), members
    )  # less the mean, to be added in float64

    def say(predictor: Any, columns: Any) -> np.ndarray:
        # In batches of Predictor's own size, so that a row has the same bits whatever set it is in.
        size = type(predictor).batch_size
        own = dataclasses.replace(predictor, task=centred, program=None, batch_size=size)
        return own(columns).astype(np.float64) + mean

    return ensemble(tabular_regression(model, spread=spread, origin=mean), members), say
