"""N-grams are a distribution, and the one that the papers give."""

import numpy as np
import pytest
from mistakes import raises

from dl.baselines.ngrams import NGrams, ngram_scores, unigram_scores
from dl.data.splits import Info, Splits


def text(size, seed=0, vocabulary=6):
    """Tokens that hang on the two before them."""
    draw = np.random.default_rng(seed)
    tokens = [0, 1]
    for _ in range(size - 2):
        sure = (2 * tokens[-1] + tokens[-2]) % vocabulary
        tokens.append(sure if draw.random() < 0.8 else int(draw.integers(vocabulary)))
    return np.array(tokens, np.int32)


@pytest.mark.parametrize("order", [1, 2, 4])
def test_the_chances_of_all_tokens_sum_to_one(order):
    model = NGrams(text(300), 7, order)  # token 6 is never seen
    for context in ([], [3], [6, 0], [1, 2, 3], text(300)[-5:].tolist()):
        nats = [model.nats(np.array([*context, token]))[-1] for token in range(7)]
        assert np.exp(-np.array(nats)).sum() == pytest.approx(1)
        assert np.isfinite(nats).all()


def test_kneser_ney_by_hand():
    """Two tokens of context, by the definition (Chen & Goodman 1999), with dictionaries."""
    tokens, held, v, n = text(500).tolist(), text(60, 1), 6, 3

    def grams(length):
        return [tuple(tokens[i : i + length]) for i in range(len(tokens) - length + 1)]

    def counts(length):
        if length == n:
            return {g: grams(length).count(g) for g in set(grams(length))}
        longer = set(grams(length + 1))
        found = {g: sum(g == other[1:] for other in longer) for g in set(grams(length))}
        return {g: c for g, c in found.items() if c}

    def discounts(table):
        n1, n2, n3, n4 = (sum(c == k for c in table.values()) for k in (1, 2, 3, 4))
        if not (n1 and n2):
            return [0, 0.5, 0.5, 0.5]
        y = n1 / (n1 + 2 * n2)
        some = (1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3 if n3 else 0.5)
        return [0, *(float(np.clip(d, 0.1, k)) for k, d in enumerate(some, 1))]

    tables = {length: counts(length) for length in (1, 2, 3)}

    def chance(context, token):
        length = len(context) + 1
        lower = chance(context[1:], token) if context else 1 / v
        table, d = tables[length], discounts(tables[length])
        same = {g: c for g, c in table.items() if g[:-1] == tuple(context)}
        if not same:
            return lower
        c = same.get((*context, token), 0)
        free = sum(d[min(k, 3)] for k in same.values())
        return (max(c - d[min(c, 3)], 0) + free * lower) / sum(same.values())

    wanted = [-np.log(chance(held[max(0, i - 2) : i].tolist(), int(held[i]))) for i in range(60)]
    np.testing.assert_allclose(NGrams(np.array(tokens), v, n).nats(held), wanted, rtol=1e-9)


def test_scores_are_of_the_parts_and_their_bytes():
    part = {"tokens": text(200, 2), "bytes": np.full(200, 2), "spelled": np.zeros(200, int)}
    part["spelled"][5] = 2
    info = Info("", "", "", "", "", "")
    splits = Splits({"tokens": text(2000)}, part, {"tokens": text(50, 3)}, info)
    scores = ngram_scores(splits, 6, 3)
    assert set(scores) == {"validation/loss", "validation/bits_per_byte", "test/loss"}
    assert scores["validation/loss"] < 0.9 * np.log(6)
    bits = scores["validation/loss"] * 199 / np.log(2) + 16
    assert scores["validation/bits_per_byte"] == pytest.approx(bits / 398)
    with raises("range", "order"):
        NGrams(text(9), 6, 0)


def test_unigrams_leave_special_tokens_and_padding_out():
    train = {"tokens": np.array([[1, 5, 5, 6, 0], [1, 5, 7, 0, 0]])}
    held = {"tokens": np.array([[1, 5, 6, 0, 0]])}
    scores = unigram_scores(Splits(train, held, {}, Info("", "", "", "", "", "")), 8, first=5)
    assert scores["validation/accuracy"] == 0.5
    expected = NGrams(np.array([5, 5, 6, 5, 7]), 8, 1).nats(np.array([5, 6])).mean()
    assert scores == {"validation/loss": pytest.approx(expected), "validation/accuracy": 0.5}
