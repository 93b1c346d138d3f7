"""BLEU: perfect, empty and partial translations."""

import math

import pytest

from dl.scores.bleu import corpus_bleu

pytest.importorskip("sacrebleu")


def test_a_perfect_translation_has_100_and_a_wrong_one_0():
    truth = ["Ein Hund läuft über die Wiese .", "Zwei Männer sitzen auf einer Bank ."]
    assert corpus_bleu(truth, truth) == pytest.approx(100.0)
    assert corpus_bleu(["nichts", "davon"], truth) < 1e-3


@pytest.mark.parametrize("references", [[], ["", " "]])
def test_of_no_word_there_is_no_score(references):
    assert math.isnan(corpus_bleu(["a b"] * len(references), references))


def test_counts_by_hand():
    # Of 6 words 5 fit; pairs 4 of 5, triples 3 of 4, fours 2 of 3; equal lengths.
    expected = 100 * math.exp(sum(math.log(p) for p in (5 / 6, 4 / 5, 3 / 4, 2 / 3)) / 4)
    assert corpus_bleu(["a b c d e x"], ["a b c d e f"]) == pytest.approx(expected)
