"""What a user thinks of items: a rating, a place among all items, or the item that comes next."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from dl.core.column_checks import within
from dl.core.errors import UserError, bounded
from dl.core.metrics import mean
from dl.core.random import content_keys, example_keys, purpose_key
from dl.core.task import Task
from dl.tasks.language_modeling import language_modeling
from dl.tasks.regression import regression
from dl.tasks.supervised import training


def rating_prediction(model: nn.Module, **options: Any) -> Task:
    """:func:`dl.tasks.regression.regression` of ``batch['value'] [batch]`` that ``batch['user']`` gave
    ``batch['item']``, by a model of :mod:`dl.models.recommender`; ``options`` as there."""

    def arguments(x):
        return x["user"], x["item"]

    task = regression(
        model, inputs=("user", "item"), target="value", arguments=arguments, **options
    )
    return dataclasses.replace(task, check=_check(model, task.check))


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
        scores, updates = model.apply(
            variables, user, item, train=True, **training(variables, key)
        )
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
        return model.apply(variables, user, jnp.repeat(every, len(user), 0))

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
        return model.apply(variables, inputs, last, method="after")[:, 1:]

    return dataclasses.replace(language_modeling(model), predict=predict)


def _check(model: Any, more: Any = None) -> Any:
    """Users and items are those that the model knows."""

    def check(variables, batch, columns):
        if more is not None:
            more(variables, batch, columns)
        user = np.asarray(columns["user"])
        if user.size and user.max() >= model.users:
            raise UserError(
                "user-unseen",
                f"of {len(np.unique(user))} users {(np.unique(user) >= model.users).sum()} were not there in "
                "training, and this model tells users by their number: train one that goes by what they took "
                "(--model transformer)",
            )
        within("item", columns["item"], model.items)

    return check
