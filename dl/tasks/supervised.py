"""What every task with one model and one loss has in common."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from dl.core.metrics import Metrics
from dl.core.random import purpose_key
from dl.core.task import Aux, Batch, Task, in_precision_of


def supervised(
    model: nn.Module,
    inputs: str | tuple[str, ...],
    score: Callable[[Any, Batch, bool], Metrics],
    *,
    arguments: Callable[[Any], tuple] = lambda x: (x,),
    finish: Callable[[Any, Any], Any] = lambda outputs, x: outputs,
    check: Callable[[Any, Batch, dict[str, np.ndarray]], None] | None = None,
) -> Task:
    """A task from a model and what its outputs are worth.

    Args:
      model: called as ``model.apply(variables, *arguments, train=...)``, with a ``dropout`` key when
        training; any collection besides the parameters may change then.
      inputs: the batch's column to feed it, or several: then ``x`` below, and what ``predict`` is
        given, is a dict of them by name.
      score: ``(outputs, batch, train) -> metrics``; the mean ``'loss'`` of them is descended.
      arguments: ``x ->`` the model's positional arguments.
      finish: ``(outputs, x) ->`` what ``predict`` returns.
      check: ``(outputs, row, columns)``: raises UserError where the data's values are none that ``score``
        can judge (see :class:`dl.core.task.Task`); the first two are shapes, of a batch of one row.
    """

    def select(batch):
        return batch[inputs] if isinstance(inputs, str) else {name: batch[name] for name in inputs}

    def apply(variables, x, **options):
        return model.apply(variables, *in_precision_of(variables, arguments(x)), **options)

    def init(key, batch):
        return dict(model.init(key, *arguments(select(batch)), train=False))

    def loss(variables, batch, key):
        rngs = {"dropout": purpose_key(key, "dropout")}
        mutable = [name for name in variables if name != "params"]
        outputs, updates = apply(variables, select(batch), train=True, rngs=rngs, mutable=mutable)
        metrics = score(outputs, batch, True)
        total, weight = metrics["loss"]
        return total / jnp.maximum(weight, 1e-8), Aux(metrics, dict(updates))

    def outputs_of(variables, x):
        return apply(variables, x, train=False)

    def evaluate(variables, batch):
        return score(outputs_of(variables, select(batch)), batch, False)

    def predict(variables, x):
        return finish(outputs_of(variables, x), x)

    def check_columns(variables, batch, columns):
        if check is not None:
            # One row of each set: alike whatever the batch sizes, and so traced once.
            row: Any = {
                k: jax.ShapeDtypeStruct((1, *v.shape[1:]), v.dtype) for k, v in batch.items()
            }
            check(jax.eval_shape(outputs_of, variables, select(row)), row, columns)

    return Task(
        init,
        loss,
        evaluate,
        predict,
        select,
        check_columns,
        outputs=lambda variables, batch: outputs_of(variables, select(batch)),
        score=lambda outputs, batch: score(outputs, batch, False),
    )


def squared(prediction: jax.Array, target: jax.Array) -> jax.Array:
    """Squared error, elementwise."""
    return jnp.square(prediction - target)


def absolute(prediction: jax.Array, target: jax.Array) -> jax.Array:
    """Absolute error, elementwise."""
    return jnp.abs(prediction - target)
