"""Guess hidden tokens (Devlin et al. 2019, "BERT")."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from dl.core.column_checks import within
from dl.core.errors import bounded
from dl.core.random import content_keys, example_keys, purpose_key
from dl.core.task import Task
from dl.tasks.supervised import training
from dl.tasks.tokens import scorable, token_metrics


def masked_language_modeling(
    model: nn.Module,
    vocabulary: int,
    *,
    rate: float | jax.Array = 0.15,
    mask_token: int = 6,
    first: int = 7,
    pad: int = 0,
) -> Task:
    """Cross-entropy of the tokens chosen to be hidden, in ``batch['tokens']`` int ``[batch, time]``.

    Of the chosen, 80 % become the mask token, 10 % a random one and 10 % stay (section 3.1). The choice
    is made anew at every step, on the device (Liu et al. 2019, RoBERTa); in evaluation it depends on the
    row alone.

    Args:
      model: ``model.apply(variables, tokens, mask=..., train=...)`` gives ``[batch, time, vocabulary]``
        logits first, such as a bidirectional :class:`dl.models.language.LanguageModel`.
      rate: share of tokens chosen.
      mask_token: number of [MASK]; first: the lowest token that is not special (those before are
        neither chosen nor drawn).

    Metrics: ``loss`` in nats a chosen token, ``accuracy``.
    """
    bounded("rate", rate, above=0, at_most=1)
    bounded("vocabulary", vocabulary, at_least=first + 1, whole=True)

    def corrupt(keys, tokens):
        def one(key, row):
            choice, fate, other = jax.random.split(key, 3)
            chosen = (jax.random.uniform(choice, row.shape) < rate) & (row >= first)
            kind = jax.random.uniform(fate, row.shape)
            drawn = jax.random.randint(other, row.shape, first, vocabulary)
            new = jnp.where(kind < 0.8, mask_token, jnp.where(kind < 0.9, drawn, row))
            return jnp.where(chosen, new, row), chosen

        return jax.vmap(one)(keys, tokens)

    def init(key, batch):
        return dict(model.init(key, batch["tokens"]))

    def apply(variables, batch, key):
        """Logits, and which tokens were chosen, 1.0 or 0.0."""
        tokens = batch["tokens"]
        if key is None:
            keys = content_keys(purpose_key(jax.random.key(0), "hide"), tokens)
        else:
            keys = example_keys(purpose_key(key, "hide"), len(tokens))
        hidden, chosen = corrupt(keys, tokens)
        chosen = chosen.astype(jnp.float32)
        if key is None:
            given: Any = {"method": scorable(model)}
            return (model.apply(variables, hidden, mask=tokens != pad, **given)[0], chosen), {}
        given = {**training(variables, key), "method": scorable(model)}
        (logits, _), updates = model.apply(
            variables, hidden, mask=tokens != pad, train=True, **given
        )
        return (logits, chosen), dict(updates)

    def score(outputs, batch, train):
        logits, weight = outputs
        if "mask" in batch:
            weight = weight * batch["mask"][:, None]
        return token_metrics(logits, batch["tokens"], weight)

    def predict(variables, columns):
        """Logits ``[batch, time, vocabulary]`` of ``tokens [batch, time]`` with [MASK]s in them."""
        tokens = columns["tokens"]
        return model.apply(variables, tokens, mask=tokens != pad)[0]

    def check(variables, batch, columns):
        within("tokens", columns["tokens"], vocabulary)

    return Task(init, apply, score, predict, ("tokens",), check)
