"""One token row to another: translation and its kin (Sutskever et al. 2014; Vaswani et al. 2017)."""

import jax
import jax.numpy as jnp

from dl.core.column_checks import within
from dl.core.errors import bounded
from dl.core.task import Task
from dl.models.attention_rnn import AttentionRNN
from dl.models.generation import beam_search
from dl.models.language import EncoderDecoder
from dl.tasks.supervised import training
from dl.tasks.tokens import token_metrics, token_weight


def sequence_to_sequence(
    model: EncoderDecoder | AttentionRNN,
    length: int,
    *,
    label_smoothing: float | jax.Array = 0.0,
    beams: int = 1,
    length_penalty: float | jax.Array = 0.6,
    no_repeat: int = 0,
    start: int = 2,
    stop: int = 3,
    pad: int = 0,
) -> Task:
    """Cross-entropy of each target token given the source and the target's true beginning.

    A batch holds ``source`` and ``target``, int ``[batch, time]`` each, filled up with ``pad``; a target
    is ``start``, its tokens, ``stop``.

    Args:
      length: most tokens that ``predict`` writes, ``stop`` included.
      label_smoothing: in training alone (Szegedy et al. 2016; 0.1 in Vaswani et al. 2017).
      beams: of ``predict``; 1 is greedy. length_penalty, no_repeat: see :func:`dl.models.generation.beam_search`.

    Metrics: ``loss`` in nats a token (smoothed when training), ``accuracy``.
    """
    bounded("label_smoothing", label_smoothing, at_least=0, below=1)
    bounded("length", length, at_least=1, whole=True)
    bounded("beams", beams, at_least=1, whole=True)
    bounded("length_penalty", length_penalty, at_least=0)

    def init(key, batch):
        return dict(model.init(key, batch["source"], batch["target"][:, :-1]))

    def apply(variables, batch, key):
        given = batch["source"], batch["target"][:, :-1]
        if key is None:
            return model.apply(variables, *given), {}
        logits, updates = model.apply(variables, *given, train=True, **training(variables, key))
        return logits, dict(updates)

    def score(logits, batch, train):
        targets = batch["target"][:, 1:]
        weight = token_weight(batch, targets.shape) * (targets != pad)
        return token_metrics(logits, targets, weight, label_smoothing if train else 0.0)

    def predict(variables, columns):
        """Targets of ``source [batch, time]`` without ``start``: int32 ``[batch, length]``."""
        source = columns["source"]
        first = jnp.full((source.shape[0], 1), start, jnp.int32)
        logits, carry = model.apply(variables, source, first, 1 + length, method="begin")

        def step(tokens, carry):
            return model.apply(variables, tokens, carry, method="decode")

        tokens, _ = beam_search(
            step,
            logits[:, -1],
            carry,
            length,
            beams=beams,
            stop=stop,
            length_penalty=length_penalty,
            no_repeat=no_repeat,
            pad=pad,
        )
        return tokens

    def check(variables, batch, columns):
        for name in ("source", "target"):
            within(name, columns[name], model.vocabulary)

    # No average: the tokens that members write have no mean.
    return Task(init, apply, score, predict, ("source",), check)
