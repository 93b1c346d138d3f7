"""Token strings from recordings, without alignments (Graves et al. 2006, "Connectionist temporal
classification"). Token i of a label is class i + 1 of the model; class 0 is the blank."""

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from dl.core.column_checks import within
from dl.core.errors import bounded
from dl.core.metrics import Mean, best_class, mean
from dl.core.task import Task
from dl.models.spectrograms import frame_mask
from dl.tasks.supervised import supervised


def ctc(
    model: nn.Module,
    arguments: Callable[[Any], tuple],
    *,
    inputs: str | tuple[str, ...] = ("waveform", "length"),
    target: str = "label",
) -> Task:
    """Learn ``batch[target] [batch, tokens]`` int, padded with -1, from recordings.

    Args:
      model: ``*arguments(x)`` to ``([batch, time, 1 + tokens] logits, [batch] frames)``, such as
        :class:`dl.models.speech.SpeechRecognizer` and :func:`dl.models.spectrograms.speech_features`.

    ``predict`` gives the model's ``(logits, frames)``; :func:`greedy_decode` and
    :func:`prefix_beam_decode` read them.

    Metrics: ``loss`` in nats a string; ``token_error``, the edit distance of greedy decoding over the
    number of true tokens (the word error rate where tokens are words); ``string_error``, the share of
    strings not wholly right.
    """

    def score(outputs, batch, train):
        logits, frames = outputs[0].astype(jnp.float32), outputs[1]
        label, mask = batch[target], batch.get("mask")
        real = label >= 0
        losses = optax.ctc_loss(
            logits, 1.0 - frame_mask(frames, logits.shape[1]), label + 1, 1.0 - real, blank_id=0
        )
        if train:  # decoding costs time and says nothing that evaluation will not
            return {"loss": mean(losses, mask)}
        said = greedy_decode(logits, frames)
        count, wrong = real.sum(1), edit_distance(said, label)
        rows = jnp.ones(len(label)) if mask is None else mask
        return {
            "loss": mean(losses, mask),
            "token_error": Mean((rows * wrong).sum(), (rows * count).sum()),
            "string_error": mean(wrong > 0, mask),
        }

    def check(outputs, batch, columns):
        within(target, columns[target], outputs[0].shape[-1] - 1, lowest=-1)

    return supervised(model, inputs, score, arguments=arguments, check=check)


def greedy_decode(logits: jax.Array, frames: jax.Array) -> jax.Array:
    """The tokens of the likeliest class of every frame, repeats and blanks taken out. A frame with a NaN
    among its logits says nothing, as a blank.

    Logits ``[batch, time, 1 + tokens]`` and frames ``[batch]`` to int32 ``[batch, time]``, tokens
    first, then -1.
    """
    said = best_class(logits) % logits.shape[-1]
    best = jnp.where(frame_mask(frames, logits.shape[1]) > 0, said, 0)
    before = jnp.pad(best, ((0, 0), (1, 0)))[:, :-1]
    kept = (best != 0) & (best != before)
    # Each kept token goes to its rank among the kept; the others to a place cut off again.
    place = jnp.where(kept, jnp.cumsum(kept, 1) - 1, best.shape[1])
    empty = jnp.full((best.shape[0], best.shape[1] + 1), -1, jnp.int32)
    rows = jnp.arange(best.shape[0])[:, None]
    return empty.at[rows, place].set(jnp.where(kept, best - 1, -1).astype(jnp.int32))[:, :-1]


def edit_distance(said: jax.Array, truth: jax.Array) -> jax.Array:
    """Insertions, deletions and substitutions from one token string to the other (Levenshtein 1966):
    ``[batch, n]`` and ``[batch, m]``, both padded with -1 at the end, to float32 ``[batch]``."""
    count = (truth >= 0).sum(1)

    def row(
        costs, token
    ):  # costs[j]: distance of the tokens said so far from the first j true ones
        token = token[:, None]
        replaced = costs[:, :-1] + (token != truth)
        best = jnp.minimum(replaced, costs[:, 1:] + 1)
        first = costs[:, :1] + 1
        # Deletions run along the row: the least of best[i] + (j - i), as a running minimum.
        steps = jnp.arange(truth.shape[1] + 1)
        best = jnp.concatenate([first, best], 1) - steps
        best = jax.lax.associative_scan(jnp.minimum, best, axis=1) + steps
        return jnp.where(token >= 0, best, costs), None

    start = jnp.broadcast_to(jnp.arange(truth.shape[1] + 1), (len(truth), truth.shape[1] + 1))
    costs, _ = jax.lax.scan(row, start, said.T)
    return jnp.take_along_axis(costs, count[:, None], 1)[:, 0].astype(jnp.float32)


def prefix_beam_decode(
    log_probability: np.ndarray, beam: int = 16
) -> list[tuple[list[int], float]]:
    """The likeliest token strings of one recording, all their alignments summed (Hannun et al. 2014).

    Args:
      log_probability: ``[time, 1 + tokens]`` of real frames, as from ``jax.nn.log_softmax``; a frame with
        a NaN says nothing, and is left out.
      beam: strings kept after each frame.

    Returns:
      ``(tokens, log probability)``, the likeliest first.
    """
    bounded("beam", beam, at_least=1, whole=True)
    add = np.logaddexp
    lowest = -math.inf
    # Of each string: the probability of its alignments that end in a blank, and of those that do not.
    beams: dict[tuple[int, ...], tuple[float, float]] = {(): (0.0, lowest)}
    every = np.asarray(log_probability, np.float64)
    for frame in every[~np.isnan(every).any(-1)]:
        grown: dict[tuple[int, ...], tuple[float, float]] = defaultdict(lambda: (lowest, lowest))
        for string, (blank, token) in beams.items():
            either = add(blank, token)
            b, t = grown[string]
            t = add(t, token + frame[string[-1] + 1]) if string else t
            grown[string] = (add(b, either + frame[0]), t)
            for next_token, score in enumerate(frame[1:]):
                # A repeated token is a new one only after a blank.
                source = blank if string and string[-1] == next_token else either
                longer = (*string, next_token)
                b, t = grown[longer]
                grown[longer] = (b, add(t, source + score))
        possible = [item for item in grown.items() if max(item[1]) > lowest]
        beams = dict(sorted(possible, key=lambda item: -add(*item[1]))[:beam])
    return [(list(string), float(add(*scores))) for string, scores in beams.items()]


def decode(logits: np.ndarray, frames: np.ndarray, beam: int = 1) -> list[list[int]]:
    """The tokens of each recording: by :func:`greedy_decode` for a ``beam`` of 1, else by
    :func:`prefix_beam_decode`.

    Logits ``[batch, time, 1 + tokens]`` of which the first ``frames [batch]`` are real.
    """
    bounded("beam", beam, at_least=1, whole=True)
    if beam == 1:
        said = np.asarray(greedy_decode(jnp.asarray(logits), jnp.asarray(frames)))
        return [row[row >= 0].tolist() for row in said]
    sure = [np.asarray(jax.nn.log_softmax(row[:n])) for row, n in zip(logits, frames, strict=True)]
    return [prefix_beam_decode(row, beam)[0][0] for row in sure]


def spell(tokens: Sequence[int], names: Sequence[str], between: str = " ") -> str:
    """Tokens (-1 is padding) as words with spaces between them; characters need nothing ``between``."""
    return between.join(names[token] for token in tokens if token >= 0)
