"""What is learned: one frozen value of pure functions."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dl.core.errors import UserError
from dl.core.metrics import Metrics
from dl.core.random import purpose_key
from dl.former import found

__getattr__ = found(__name__)  # what was here in earlier releases

Variables = dict[str, Any]  # {'params': ..., 'batch_stats': ..., ...}: a Flax variable dict
Batch = dict[str, jax.Array]  # every leaf [batch, ...]; evaluation batches carry 'mask' [batch]


class Aux(NamedTuple):
    """What a loss returns beside its scalar.

    ``metrics`` must hold ``'loss'``, whose weight counts what the scalar averages over;
    ``updates`` are the new values of the non-parameter variable collections.
    """

    metrics: Metrics
    updates: Variables


class Members(NamedTuple):
    """The members of an ensemble.

    Attributes:
      task: what each of them learns; size: how many they are.
      one_by_one: they compute one after the other, instead of side by side.
    """

    task: "Task"
    size: int
    one_by_one: bool

    def map(self, function: Callable[..., Any], *trees: Any) -> Any:
        """``function(member, *slices)`` of every member's number and its slices of ``trees``, whose
        leaves are ``[members, ...]``; the results stacked likewise."""
        own = (jnp.arange(self.size), *trees)
        if self.one_by_one:
            return jax.lax.map(lambda own: function(*own), own)
        return jax.vmap(function)(*own)


@dataclasses.dataclass(frozen=True)
class Task:
    """A learning problem: every trainer, sweep, resume and mesh in the library needs only this.

    The loss and the evaluation follow from ``apply`` and ``score``. So whatever replaces a field
    (:func:`dataclasses.replace`) or transforms one changes both, and nothing is forgotten.

    Attributes:
      init: ``(key, batch) -> variables``.
      apply: ``(variables, batch, key) -> (outputs, updates)``. With a key it trains: dropout and noise are
        drawn from it, and ``updates`` are the new values of every collection besides the parameters.
        Where the key is None it evaluates, without randomness, and ``updates`` are ignored.
      score: ``(outputs, batch, train) -> metrics``, made by :func:`dl.core.metrics.mean`; the mean
        ``'loss'`` of them is descended.
      predict: ``(variables, columns) ->`` what a user wants, leaves ``[batch, ...]``; ``columns`` is a
        dict ``{name: [batch, ...]}``.
      columns: the names that ``predict`` reads. One that batches do not hold, such as a GAN's noise, is
        given by whoever predicts.
      check: ``(variables, batch, columns)``, raises UserError before training if the data holds values
        that the loss would misread in silence, as a compiled program does a label beyond the classes.
        ``variables`` and ``batch`` are shapes; ``columns`` are whole NumPy columns, of a set that streams
        those of its first batch.
      average: what the outputs of several models (leaves ``[models, ...]``) say together, and likewise
        their predictions: :func:`mean_of_values`, :func:`mean_of_probabilities`. None where they have no
        mean, as tokens, boxes and counts have none.
      given: collections of variables that the config gives and no step changes, such as a teacher's; a fork has
        those of its own values.
      origin: what was subtracted from the numbers that ``score`` is given as true and ``predict`` adds again, for
        reports.
      members: the members, where the task is an ensemble of them (:func:`ensemble`). They are what
        trains: change a task before it becomes an ensemble.
    """

    init: Callable[[jax.Array, Batch], Variables]
    apply: Callable[[Variables, Batch, jax.Array | None], tuple[Any, Variables]]
    score: Callable[[Any, Batch, bool], Metrics]
    predict: Callable[[Variables, Batch], Any]
    columns: tuple[str, ...] = ()
    check: Callable[[Variables, Batch, dict[str, Any]], None] | None = None
    average: Callable[[Any], Any] | None = None
    members: Members | None = None
    origin: Any = 0.0
    given: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.members is not None and self.score is not self.members.task.score:
            raise UserError(
                "ensemble-last",
                "the members of an ensemble would train by another score than the ensemble is evaluated by: "
                "replace the task's score first, and make it an ensemble last",
            )

    def loss(self, variables: Variables, batch: Batch, key: jax.Array) -> tuple[jax.Array, Aux]:
        """The scalar to descend, and the metrics and updates that come with it; of an ensemble the mean of
        what each member descends, of which each has its own gradient times ``1 / members``."""
        if self.members is not None:
            each = self.members

            def one(member: jax.Array, own: Variables) -> tuple[jax.Array, Aux]:
                return each.task.loss(own, batch, member_key(key, member))

            losses, aux = each.map(one, variables)
            return losses.mean(), Aux(together(aux.metrics), aux.updates)
        outputs, updates = self.apply(variables, batch, key)
        metrics = self.score(outputs, batch, True)
        total, weight = metrics["loss"]
        return total / jnp.maximum(weight, 1e-8), Aux(metrics, updates)

    def evaluate(self, variables: Variables, batch: Batch) -> Metrics:
        """The metrics of one batch, without randomness."""
        outputs, _ = self.apply(variables, batch, None)
        return self.score(outputs, batch, False)


def member_key(key: jax.Array, member: jax.Array | int) -> jax.Array:
    """The key of one member of an ensemble, from the ensemble's."""
    return purpose_key(key, "member", member)


def together(metrics: Metrics) -> Metrics:
    """Metrics of several models or sets, leaves ``[several, ...]``, as one."""
    return jax.tree.map(lambda x: x.sum(0), metrics)


def in_precision_of(variables: Variables, inputs: Any) -> Any:
    """``inputs`` with floating arrays in the dtype of the parameters, as a model should get them."""
    for leaf in jax.tree.leaves(variables["params"]):
        if jnp.issubdtype(leaf.dtype, jnp.floating):
            return _cast(inputs, leaf.dtype)
    return inputs


def _cast(tree: Any, dtype: Any) -> Any:
    return jax.tree.map(
        lambda x: x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x, tree
    )
