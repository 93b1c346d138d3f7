"""What a user thinks of items: a rating, a place among all items, or the item that comes next."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from dl.core.column_checks import within
from dl.core.errors import UserError, bounded
from dl.core.metrics import Mean, mean
from dl.core.random import content_keys, example_keys, purpose_key
from dl.core.task import Task
from dl.tasks.language_modeling import language_modeling
from dl.tasks.regression import regression
from dl.tasks.supervised import training


def rating_prediction(model: nn.Module, *, penalty: ArrayLike = 0.0, **options: Any) -> Task:
    """:func:`dl.tasks.regression.regression` of ``batch['value'] [batch]`` that ``batch['user']`` gave
    ``batch['item']``, by a :class:`dl.models.recommender.MatrixFactorization`.

    Args:
      penalty: times the ``size`` of the user's and the item's vectors, is added to the training loss for each
        rating (Koren et al. 2009, eq. 5), so that those of few ratings stay small.
      **options: of regression, such as ``centre``.
    """
    bounded("penalty", penalty, at_least=0)

    def arguments(x):
        return x["user"], x["item"]

    task = regression(
        model, inputs=("user", "item"), target="value", arguments=arguments, **options
    )

    def apply(variables, batch, key):
        """Scores, and the vectors' sizes, both ``[batch]``."""
        scores, updates = task.apply(variables, batch, key)
        return (scores, model.apply(variables, *arguments(batch), method="size")), updates

    def score(outputs, batch, train):
        scores, size = outputs
        metrics = task.score(scores, batch, train)
        if train:
            loss, whole = metrics["loss"], mean(size, batch.get("mask")).total
            metrics |= {"loss": Mean(loss.total + penalty * whole, loss.weight)}
        return metrics

    return dataclasses.replace(task, apply=apply, score=score, check=_check(model))


def item_ranking(model: nn.Module, *, negatives: int = 4) -> Task:
    """Whether ``batch['user']`` took ``batch['item']``, both int ``[batch]``, rather than items drawn at random.

    Cross-entropy of yes for the item and no for ``negatives`` others, drawn from all items alike, by the row
    alone in evaluation (He et al. 2017; there those that the user took are left out).
    ``predict(variables, {'user': ...})`` gives the scores of all items ``[batch, items]``.

    Args:
      model: of :mod:`dl.models.recommender`.

    Metrics: ``loss`` in nats an item, ``accuracy``: how often it scores above all drawn.
    """
    bounded("negatives", negatives, at_least=1, whole=True)

    def init(key, batch):
        return dict(model.init(key, batch["user"], batch["item"]))

    def apply(variables, batch, key):
        """Scores ``[batch, 1 + negatives]``, the item's own first."""
        user, item = batch["user"], batch["item"]
        if key is None:
            rows = jnp.stack([user, item], -1)
            keys = content_keys(purpose_key(jax.random.key(0), "negatives"), rows)
        else:
            keys = example_keys(purpose_key(key, "negatives"), len(item))
        draw = jax.vmap(lambda key: jax.random.randint(key, (negatives,), 0, model.items))
        item = jnp.concatenate([item[:, None], draw(keys).astype(item.dtype)], -1)
        if key is None:
            return model.apply(variables, user, item), {}
        scores, updates = model.apply(variables, user, item, train=True, **training(variables, key))
        return scores, dict(updates)

    def score(scores, batch, train):
        scores, mask = scores.astype(jnp.float32), batch.get("mask")
        other = jnp.where(jnp.arange(scores.shape[1]) == 0, -1.0, 1.0)
        losses = jax.nn.softplus(other * scores).mean(-1)
        first = (scores[:, :1] > scores[:, 1:]).all(-1)
        return {"loss": mean(losses, mask), "accuracy": mean(first, mask)}

    def predict(variables, columns):
        user = columns["user"]
        every = jnp.arange(model.items, dtype=user.dtype)[None]
        return model.apply(variables, user, jnp.repeat(every, user.shape[0], 0))

    return Task(init, apply, score, predict, ("user",), _check(model))


def next_item(model: nn.Module) -> Task:
    """:func:`dl.tasks.language_modeling.language_modeling` of the items that users took one after the other, as
    :func:`dl.data.histories.histories` numbers them (Kang & McAuley 2018, with all items in the loss).

    ``predict(variables, {'inputs': ...})`` gives the scores of all items ``[batch, items]`` to come after the last
    of each row.

    Args:
      model: a causal :class:`dl.models.language.LanguageModel` of ``items + 1`` tokens.
    """

    def predict(variables, columns):
        inputs = columns["inputs"]
        last = jnp.max(jnp.arange(inputs.shape[1]) * (inputs > 0), -1)
        scores = jnp.asarray(model.apply(variables, inputs, last, method="after"))
        return scores[:, 1:]

    return dataclasses.replace(language_modeling(model), predict=predict)


def _check(model: Any) -> Any:
    """Users and items are those that the model knows."""

    def check(variables, batch, columns):
        user = np.unique(columns["user"])
        if new := int((user >= model.users).sum()):
            raise UserError(
                "user-unseen",
                f"of {len(user)} users {new} were not there in training, and this model tells users by their "
                "number: train one that goes by what they took (--model transformer)",
            )
        within("item", columns["item"], model.items)

    return check
