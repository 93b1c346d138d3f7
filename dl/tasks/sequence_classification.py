"""One label per token row."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp

from dl.core.column_checks import within
from dl.core.errors import bounded
from dl.core.random import example_keys
from dl.core.task import Task
from dl.tasks.classification import classification


def sequence_classification(
    model: nn.Module,
    *,
    label_smoothing: float | jax.Array = 0.0,
    word_dropout: float | jax.Array = 0.0,
    unknown: int = 1,
    first: int = 7,
) -> Task:
    """:func:`~dl.tasks.classification.classification` of ``batch['tokens']`` int ``[batch, time]``.

    Args:
      word_dropout: in training, share of tokens replaced by ``unknown``, so that the model learns to
        do without any one word (Iyyer et al. 2015, "Deep unordered composition"), and what an unknown
        word means. Tokens below ``first`` are special and stay.
    """
    bounded("word_dropout", word_dropout, at_least=0, below=1)

    def drop_words(key, batch):
        tokens = batch["tokens"]
        draw = jax.vmap(lambda k, row: jax.random.uniform(k, row.shape))
        dropped = draw(example_keys(key, len(tokens)), tokens) < word_dropout
        return {**batch, "tokens": jnp.where(dropped & (tokens >= first), unknown, tokens)}

    drops = isinstance(word_dropout, jax.Array) or word_dropout > 0
    task = classification(
        model,
        inputs="tokens",
        prepare=lambda tokens: tokens,
        label_smoothing=label_smoothing,
        corrupt=drop_words if drops else None,
    )
    size = getattr(getattr(model, "encoder", model), "vocabulary", None)

    def check(variables, batch, columns):
        if size is not None and "tokens" in columns:
            within("tokens", columns["tokens"], size)
        if task.check is not None:
            task.check(variables, batch, columns)

    return dataclasses.replace(task, check=check)
