"""What every task with one model and one loss has in common."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from dl.core.metrics import Metrics
from dl.core.random import purpose_key
from dl.core.task import Batch, Task, Variables, in_precision_of


def supervised(
    model: nn.Module,
    inputs: str | tuple[str, ...],
    score: Callable[[Any, Batch, bool], Metrics],
    *,
    arguments: Callable[[Any], tuple] = lambda x: (x,),
    finish: Callable[[Any, Any], Any] = lambda outputs, x: outputs,
    check: Callable[[Any, Batch, dict[str, np.ndarray]], None] | None = None,
    average: Callable[[Any], Any] | None = None,
    corrupt: Callable[[jax.Array, Batch], Batch] | None = None,
) -> Task:
    """A task from a model and what its outputs are worth.

    Args:
      model: called as ``model.apply(variables, *arguments, train=...)``, with a ``dropout`` key when
        training; any collection besides the parameters may change then.
      inputs: the batch's column to feed it, or several: then ``x`` below is a dict of them by name.
      score: ``(outputs, batch, train) -> metrics``; the mean ``'loss'`` of them is descended.
      arguments: ``x ->`` the model's positional arguments.
      finish: ``(outputs, x) ->`` what ``predict`` returns.
      check: ``(outputs, row, columns)``: raises UserError where the data's values are none that ``score``
        can judge (see :class:`dl.core.task.Task`); the first two are shapes, of a batch of one row.
      average: what the outputs of an ensemble's members say together (see :class:`dl.core.task.Task`).
      corrupt: ``(key, batch) -> batch`` that the model sees in training; ``score`` sees the true one.
    """

    columns = (inputs,) if isinstance(inputs, str) else tuple(inputs)

    def select(batch):
        return batch[inputs] if isinstance(inputs, str) else {name: batch[name] for name in columns}

    def run(variables, x, **options):
        return model.apply(variables, *in_precision_of(variables, arguments(x)), **options)

    def init(key, batch):
        return dict(model.init(key, *arguments(select(batch)), train=False))

    def apply(variables, batch, key):
        if key is None:
            return run(variables, select(batch), train=False), {}
        if corrupt is not None:
            batch = corrupt(purpose_key(key, "corrupt"), batch)
        outputs, updates = run(variables, select(batch), train=True, **training(variables, key))
        return outputs, dict(updates)

    def predict(variables, columns):
        x = select(columns)
        return finish(run(variables, x, train=False), x)

    def evaluated(variables, row):
        return apply(variables, row, None)[0]

    def check_columns(variables, batch, columns):
        if check is not None:
            # One row of each set: alike whatever the batch sizes, and so traced once.
            row: Any = {
                k: jax.ShapeDtypeStruct((1, *v.shape[1:]), v.dtype) for k, v in batch.items()
            }
            check(jax.eval_shape(evaluated, variables, row), row, columns)

    return Task(init, apply, score, predict, columns, check_columns, average)


def training(variables: Variables, key: jax.Array) -> dict[str, Any]:
    """What ``model.apply`` is given in training: a key for dropout, and leave to change every collection
    besides the parameters."""
    return {
        "rngs": {"dropout": purpose_key(key, "dropout")},
        "mutable": [name for name in variables if name != "params"],
    }


def squared(prediction: jax.Array, target: jax.Array) -> jax.Array:
    """Squared error, elementwise."""
    return jnp.square(prediction - target)


def absolute(prediction: jax.Array, target: jax.Array) -> jax.Array:
    """Absolute error, elementwise."""
    return jnp.abs(prediction - target)
