"""Predict the next token."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from dl.core.column_checks import within
from dl.core.errors import UserError
from dl.core.metrics import Mean, Metrics
from dl.core.task import Batch, Task
from dl.tasks.supervised import training
from dl.tasks.tokens import probabilities_averaged, scorable, token_metrics, token_weight


def language_modeling(model: nn.Module, *, carried: bool = False) -> Task:
    """Cross-entropy of ``batch['targets']`` given ``batch['inputs']``, both int ``[batch, time]``.

    Args:
      model: ``model.apply(variables, tokens, carry=..., train=...)`` gives ``[batch, time, vocabulary]``
        logits and a carry, such as :class:`dl.models.language.LanguageModel` and
        :class:`dl.models.rnn.RecurrentLanguageModel`.
      carried: train by truncated back-propagation through time: each row goes on from the recurrent
        state its forerunner ended in. The state is the variable collection ``'carry'``, so a
        checkpoint holds it; it starts anew where ``batch['reset'] [batch]`` is 1 (see
        :func:`dl.data.batches.tokens.tracks`). Micro-batches are not possible then.

    Optional columns: ``weight [batch, time]`` of each target; ``bytes [batch, time]``, those of UTF-8 that a
    target stands for, and ``spelled [batch, time]``, those of them that an unknown token hides; ``document
    [batch, time]``, numbers of packed documents, which then do not attend to each other; ``mask [batch]``.

    Evaluation starts every row from an empty text, so it depends on no batching; give context by
    windows that overlap (:func:`dl.data.batches.tokens.strided`).

    Metrics: ``loss`` in nats a token, ``accuracy``; with ``bytes`` also ``bits_per_byte``, by which models with
    different tokens compare: all nats in bits, and 8 more for each byte that is ``spelled``, over all bytes.
    """

    def options(batch: Batch) -> dict[str, Any]:
        if "document" not in batch:
            return {}
        document = batch["document"]
        return {"mask": (document[:, :, None] == document[:, None, :])[:, None]}

    def score(logits, batch: Batch, train) -> Metrics:
        weight = token_weight(batch, batch["targets"].shape)
        metrics = token_metrics(logits, batch["targets"], weight)
        if "bytes" in batch:
            spelled = 8.0 * jnp.sum(weight * batch["spelled"]) if "spelled" in batch else 0.0
            bits = metrics["loss"].total / jnp.log(2.0) + spelled
            metrics["bits_per_byte"] = Mean(bits, jnp.sum(weight * batch["bytes"]))
        return metrics

    def init(key, batch):
        variables = dict(model.init(key, batch["inputs"]))
        if carried:
            variables["carry"] = model.initial_carry(len(batch["inputs"]))
        return variables

    def without_carry(variables):
        return {name: value for name, value in variables.items() if name != "carry"}

    def apply(variables, batch, key):
        inputs, network = batch["inputs"], without_carry(variables)
        if key is None:
            return model.apply(network, inputs, **options(batch), method=scorable(model))[0], {}
        carry = variables.get("carry")
        if carried:
            if {leaf.shape[1] for leaf in jax.tree.leaves(carry)} != {len(inputs)}:
                raise UserError(
                    "carry-of-another-batch",
                    "a carried state belongs to the rows of the batch it was made for: train with "
                    "one batch size and without micro-batches",
                )
            if "reset" in batch:
                carry = jax.tree.map(lambda c: jnp.where(_rows(batch["reset"], c), 0, c), carry)
        given = training(network, key) | options(batch) | {"method": scorable(model)}
        (logits, carry), updates = model.apply(network, inputs, carry=carry, train=True, **given)
        return logits, dict(updates) | ({"carry": carry} if carried else {})

    def predict(variables, columns):
        """Logits ``[batch, time, vocabulary]`` of the token after each of ``inputs [batch, time]``."""
        return model.apply(without_carry(variables), columns["inputs"])[0]

    def check(variables, batch, columns):
        vocabulary = jax.eval_shape(predict, variables, batch).shape[-1]
        for name in ("inputs", "targets"):
            within(name, columns[name], vocabulary)

    return Task(init, apply, score, predict, ("inputs",), check, average=probabilities_averaged)


def _rows(flags, leaf):
    """``flags [batch]`` against a carry's leaf ``[layers, batch, ...]``."""
    return flags.reshape(1, -1, *(1,) * (leaf.ndim - 2)) > 0
