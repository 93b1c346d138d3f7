"""Guess hidden tokens (Devlin et al. 2019, "BERT")."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from dl.core.errors import bounded
from dl.core.random import content_keys, example_keys, purpose_key
from dl.core.task import Aux, Task
from dl.tasks.tokens import token_metrics
from dl.tasks.values import within


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

    def score(logits, tokens, chosen, batch):
        weight = chosen.astype(jnp.float32)
        if "mask" in batch:
            weight = weight * batch["mask"][:, None]
        return token_metrics(logits, tokens, weight)

    def init(key, batch):
        return dict(model.init(key, batch["tokens"]))

    def loss(variables, batch, key):
        tokens = batch["tokens"]
        hidden, chosen = corrupt(example_keys(purpose_key(key, "hide"), len(tokens)), tokens)
        (logits, _), updates = model.apply(
            variables,
            hidden,
            mask=tokens != pad,
            train=True,
            rngs={"dropout": purpose_key(key, "dropout")},
            mutable=[name for name in variables if name != "params"],
        )
        metrics = score(logits, tokens, chosen, batch)
        total, weight = metrics["loss"]
        return total / jnp.maximum(weight, 1e-8), Aux(metrics, dict(updates))

    def evaluate(variables, batch):
        tokens = batch["tokens"]
        keys = content_keys(purpose_key(jax.random.key(0), "hide"), tokens)
        hidden, chosen = corrupt(keys, tokens)
        logits, _ = model.apply(variables, hidden, mask=tokens != pad)
        return score(logits, tokens, chosen, batch)

    def predict(variables, tokens):
        """Logits ``[batch, time, vocabulary]`` of ``tokens [batch, time]`` with [MASK]s in them."""
        return model.apply(variables, tokens, mask=tokens != pad)[0]

    def check(variables, batch, columns):
        within("tokens", columns["tokens"], vocabulary)

    return Task(init, loss, evaluate, predict, lambda batch: batch["tokens"], check)
