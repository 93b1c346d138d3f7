"""What is learned, as four pure functions."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dl.core.metrics import Metrics
from dl.core.random import purpose_key

Variables = dict[str, Any]  # {'params': ..., 'batch_stats': ..., ...}: a Flax variable dict
Batch = dict[str, jax.Array]  # every leaf [batch, ...]; evaluation batches carry 'mask' [batch]


class Aux(NamedTuple):
    """What a loss returns beside its scalar.

    ``metrics`` must hold ``'loss'``, whose weight counts what the scalar averages over;
    ``updates`` are the new values of the non-parameter variable collections.
    """

    metrics: Metrics
    updates: Variables


class Task(NamedTuple):
    """A learning problem: every trainer, sweep, resume and mesh in the library needs only this.

    ``inputs(batch)`` is what ``predict`` takes of a batch, for whoever has only a task and its data (a
    report, an export); None where predictions are made of something else, as a GAN's of noise.

    ``check(variables, batch, columns)``, where there is one, raises UserError before training if the data
    holds values that the loss would misread in silence, as a compiled program does a label beyond the
    classes. ``variables`` and ``batch`` are shapes; ``columns`` are whole NumPy columns, of a set that
    streams those of its first batch.

    ``outputs(variables, batch)`` and ``score(outputs, batch)``, where there are both, are the two halves of
    ``evaluate``, so that the averaged outputs of several models can be scored.
    """

    init: Callable[[jax.Array, Batch], Variables]
    loss: Callable[[Variables, Batch, jax.Array], tuple[jax.Array, Aux]]
    evaluate: Callable[[Variables, Batch], Metrics]
    predict: Callable[[Variables, Any], Any]
    inputs: Callable[[Batch], Any] | None = None
    check: Callable[[Variables, Batch, dict[str, Any]], None] | None = None
    outputs: Callable[[Variables, Batch], Any] | None = None
    score: Callable[[Any, Batch], Metrics] | None = None


def augmented(task: Task, *transforms: Callable[[jax.Array, Batch], Batch]) -> Task:
    """``task`` trained on batches passed through ``transforms``, on the device, in order.

    Each transform is a pure ``(key, batch) -> batch``; evaluation and prediction see plain data.
    """

    def loss(variables, batch, key):
        for place, transform in enumerate(transforms):
            batch = transform(purpose_key(key, "augment", place), batch)
        return task.loss(variables, batch, key)

    return task._replace(loss=loss)


def mixed_precision(task: Task, compute: jnp.dtype = jnp.bfloat16) -> Task:
    """``task`` with parameters kept in float32 and cast to ``compute`` for every use.

    Flax layers follow the dtype of their parameters and inputs, so no model changes; tasks hand their
    model its inputs by :func:`in_precision_of`, and leave targets (boxes, times, prices) alone.
    Gradients come back through the cast in float32; statistics, losses, metrics and predictions are float32
    (Micikevicius et al. 2018, "Mixed precision training"; bfloat16 needs no loss scaling).
    """

    outputs: Any = task.outputs

    def lowered(variables):
        return {**variables, "params": _cast(variables["params"], compute)}

    return task._replace(
        loss=lambda variables, batch, key: task.loss(lowered(variables), batch, key),
        evaluate=lambda variables, batch: task.evaluate(lowered(variables), batch),
        predict=lambda variables, inputs: _cast(
            task.predict(lowered(variables), inputs), jnp.float32
        ),
        outputs=outputs and (lambda variables, batch: outputs(lowered(variables), batch)),
    )


def ensemble(task: Task, members: int, *, one_by_one: bool = False) -> Task:
    """``members`` of ``task`` that differ by their random starts, trained side by side on the same batches;
    ``predict`` gives the mean of their predictions (Lakshminarayanan et al. 2017, "Simple and scalable
    predictive uncertainty estimation using deep ensembles").

    Variables are the members' stacked, ``[members, ...]``. No member sees another in training, whose loss
    and metrics are the mean of their own. Evaluation scores the mean of their outputs where the task has
    the two halves for it (``outputs`` and ``score``), and is the mean of their own metrics otherwise.

    All members compute at once; ``one_by_one`` has them take turns, which on CPU suits convolutions.
    """
    raw: Any = task.outputs
    score: Any = task.score

    def each(f: Callable, *shared):
        """``f`` of every member's number, and of its variables where given."""
        own = (jnp.arange(members), *shared)
        return jax.lax.map(lambda own: f(*own), own) if one_by_one else jax.vmap(f)(*own)

    def together(metrics: Metrics) -> Metrics:
        return jax.tree.map(lambda x: x.sum(0), metrics)

    def init(key, batch):
        return each(lambda member: task.init(purpose_key(key, "member", member), batch))

    def loss(variables, batch, key):
        def one(member, own):
            return task.loss(own, batch, purpose_key(key, "member", member))

        losses, aux = each(one, variables)
        return losses.mean(), Aux(together(aux.metrics), aux.updates)

    def check(variables, batch, columns):
        assert task.check is not None
        first = jax.eval_shape(lambda tree: jax.tree.map(lambda x: x[0], tree), variables)
        task.check(first, batch, columns)

    def mean_of(f, variables, x):
        found = each(lambda _, own: f(own, x), variables)
        return jax.tree.map(lambda leaf: leaf.mean(0), found)

    def evaluate(variables, batch):
        if score is None:
            return together(each(lambda _, own: task.evaluate(own, batch), variables))
        return score(mean_of(raw, variables, batch), batch)

    return task._replace(
        init=init,
        loss=loss,
        evaluate=evaluate,
        predict=lambda variables, inputs: mean_of(task.predict, variables, inputs),
        check=task.check and check,
        outputs=raw and (lambda variables, batch: mean_of(raw, variables, batch)),
    )


def in_precision_of(variables: Variables, inputs: Any) -> Any:
    """``inputs`` with floating arrays in the dtype of the parameters, as a model should get them."""
    for leaf in jax.tree.leaves(variables["params"]):
        if jnp.issubdtype(leaf.dtype, jnp.floating):
            return _cast(inputs, leaf.dtype)
    return inputs


def _cast(tree, dtype):
    return jax.tree.map(
        lambda x: x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x, tree
    )
