"""Counts of n-grams: what any language model has to be compared with."""

from typing import NamedTuple

import numpy as np

from dl.core.errors import bounded
from dl.data.splits import Columns, Splits

_MOST = 10_000_000  # tokens of a part
_ROWS = 50_000  # of a part that streams


class _Order(NamedTuple):
    """What is counted of one length of context; ids are places in the sorted ``keys``."""

    context_keys: np.ndarray
    gram_keys: np.ndarray
    counts: np.ndarray  # of each gram
    totals: np.ndarray  # counts of all grams of each context
    kinds: (
        np.ndarray
    )  # of each context: grams seen once, twice, and three times or more, [contexts, 3]
    discounts: np.ndarray  # of a count of 0, 1, 2, and 3 or more


class NGrams:
    """Interpolated, modified Kneser-Ney smoothing of tokens (Chen & Goodman 1999), by sorting.

    A gram's count gives up a discount to the next shorter context's distribution, in which a token counts by
    how many different tokens it was seen after. The shortest has a share for every token of the vocabulary.
    """

    def __init__(self, tokens: np.ndarray, vocabulary: int, order: int):
        """Count the grams of up to ``order`` tokens in ``tokens [n]``."""
        bounded("order", order, at_least=1, whole=True)
        tokens = np.asarray(tokens, np.int64)
        self.vocabulary, self.orders = vocabulary, []
        context = np.zeros(len(tokens), np.int64)
        below: np.ndarray | None = None  # the gram of the next shorter length at each place
        raw: list[list[np.ndarray]] = []
        for length in range(order):
            if length:
                context_keys, context = _numbered(self._longer(context, tokens))
            else:
                context_keys = np.zeros(1, np.int64)
            keys = np.where(context >= 0, context * vocabulary + tokens, -1)
            gram_keys, gram = _numbered(keys)
            counts = np.bincount(gram[gram >= 0], minlength=len(gram_keys))
            if below is not None:  # a shorter gram counts once for each different token before it
                place = np.zeros(len(gram_keys), np.int64)
                place[gram[gram >= 0]] = np.flatnonzero(gram >= 0)
                raw[-1][2] = np.bincount(below[place], minlength=len(raw[-1][1]))
            raw.append([context_keys, gram_keys, counts])
            below = gram
        for context_keys, gram_keys, counts in raw:
            owner = gram_keys // vocabulary
            size = len(context_keys)
            kinds = [np.bincount(owner, counts == n, size) for n in (1, 2)]
            kinds.append(np.bincount(owner, counts > 2, size))
            totals = np.bincount(owner, counts, size)
            self.orders.append(
                _Order(
                    context_keys, gram_keys, counts, totals, np.stack(kinds, 1), _discounts(counts)
                )
            )

    def _longer(self, context: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        """Keys of the contexts one token longer than ``context`` of each place, -1 where nothing is before it.

        A context is its last token and the context, one shorter, of the place before.
        """
        keys = np.full(len(tokens), -1, np.int64)
        known = context[:-1] >= 0
        keys[1:] = np.where(known, context[:-1] * self.vocabulary + tokens[:-1], -1)
        return keys

    def nats(self, tokens: np.ndarray) -> np.ndarray:
        """Minus the log probability of each of ``tokens [n]`` given those before it: float64 ``[n]``."""
        tokens = np.asarray(tokens, np.int64)
        chance = np.full(len(tokens), 1.0 / self.vocabulary)
        context = np.zeros(len(tokens), np.int64)
        for length, order in enumerate(self.orders):
            if length:
                context = _places(order.context_keys, self._longer(context, tokens))
            # The last context of the training text may be followed by nothing.
            seen = np.flatnonzero((context >= 0) & (order.totals[context] > 0))
            here = context[seen]
            gram = _places(order.gram_keys, here * self.vocabulary + tokens[seen])
            count = np.where(gram >= 0, order.counts[gram], 0)
            kept = np.maximum(count - order.discounts[np.minimum(count, 3)], 0)
            free = order.kinds[here] @ order.discounts[1:]
            chance[seen] = (kept + free * chance[seen]) / order.totals[here]
        return -np.log(chance)


def _numbered(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``(sorted different keys, place of each in them)``; -1 stays -1."""
    different, place = np.unique(keys, return_inverse=True)
    if len(different) and different[0] < 0:
        return different[1:], place - 1
    return different, place


def _places(known: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Where each of ``keys`` stands in the sorted ``known``, -1 where it does not."""
    place = np.minimum(np.searchsorted(known, keys), max(0, len(known) - 1))
    return np.where(known[place] == keys, place, -1) if len(known) else np.full(len(keys), -1)


def _discounts(counts: np.ndarray) -> np.ndarray:
    """What counts of 0, 1, 2 and more give up."""
    n = np.bincount(np.minimum(counts, 5), minlength=5)[1:5].astype(float)
    if not n[:2].all():
        return np.array([0.0, 0.5, 0.5, 0.5])
    y = n[0] / (n[0] + 2 * n[1])
    some = [k - (k + 1) * y * n[k] / n[k - 1] if n[k - 1] else 0.5 for k in (1, 2, 3)]
    return np.array([0.0, *np.clip(some, 0.1, (1, 2, 3))])


def ngram_scores(splits: Splits, vocabulary: int, order: int | None = None) -> dict[str, float]:
    """The loss of :class:`NGrams` in nats a token and, where ``bytes`` are known, bits a byte.

    Args:
      splits: columns ``tokens``, and perhaps ``bytes`` and ``spelled``, as :func:`dl.data.own.units.encode`
        gives them. Like a network's, the first token of a part counts for nothing.
      order: the longest gram; None takes 7, which serves characters, words and subwords, and 5 for texts of so
        many tokens that sorting would take minutes. Of longer parts the first ten million tokens are counted.

    Returns:
      ``{"validation/loss": ..., "validation/bits_per_byte": ...}``, and of test the same.
    """
    train = splits.train["tokens"][:_MOST]
    model = NGrams(train, vocabulary, order or (7 if len(train) < 3_000_000 else 5))
    found: dict[str, float] = {}
    for name, part in splits.parts.items():
        if name != "train":
            found |= {f"{name}/{score}": value for score, value in _scores(model, part).items()}
    return found


def _scores(model: NGrams, part: Columns) -> dict[str, float]:
    part = {name: values[:_MOST] for name, values in part.items()}
    nats = model.nats(part["tokens"])[1:]
    scores = {"loss": float(nats.mean())}
    if "bytes" in part:
        bits = nats.sum() / np.log(2) + 8 * part["spelled"][1:].sum()
        scores["bits_per_byte"] = float(bits / part["bytes"][1:].sum())
    return scores


def unigram_scores(splits: Splits, vocabulary: int, first: int = 0) -> dict[str, float]:
    """The loss in nats a token of how frequent each is in training, and the accuracy of always saying the most
    frequent one, by set: what guesses hidden tokens without their neighbours.

    Args:
      splits: a column ``tokens`` of any shape, of rows that stream the first ones; those below ``first`` count for
        nothing.
    """
    some = {
        n: p if isinstance(p, dict) else p.take(np.arange(min(len(p), _ROWS)))
        for n, p in splits.parts.items()
    }
    real = {name: part["tokens"][part["tokens"] >= first] for name, part in some.items()}
    train = real.pop("train")
    model, most = NGrams(train, vocabulary, 1), np.bincount(train).argmax()
    return {
        f"{name}/{metric}": float(values.mean())
        for name, tokens in real.items()
        for metric, values in (("loss", model.nats(tokens)), ("accuracy", tokens == most))
    }
