"""A dictionary learned from pairs of sentences alone."""

import numpy as np
import pytest

from dl.baselines.word_by_word import dictionary, translation_baselines
from dl.data.splits import Info, Splits

WORDS = {"a": "ein", "dog": "hund", "man": "mann", "hat": "hut", "sees": "sieht", "calls": "ruft"}


def pairs(size, seed):
    draw = np.random.default_rng(seed)
    source = [" ".join(draw.choice([*WORDS], 4, replace=False)) + "." for _ in range(size)]
    target = [" ".join(WORDS[word] for word in text[:-1].split()) + "." for text in source]
    return {"source": np.array(source, object), "target": np.array(target, object)}


def test_words_are_told_apart_by_the_sentences_they_stand_in():
    train = pairs(200, 0)
    known = dictionary(train["source"], train["target"])
    assert known | WORDS | {".": "."} == known


def test_scores_of_the_parts_that_there_are():
    info = Info("", "", "", "", "", "")
    found = translation_baselines(Splits(pairs(200, 0), pairs(20, 1), {}, info))
    assert found["word by word"] == {"validation/bleu": pytest.approx(100)}
    assert found["copy"]["validation/bleu"] < 20
    said = {"source": "a dog sees Zanzibar", "target": "ein hund sieht Zanzibar"}
    strange = {side: np.array([text], object) for side, text in said.items()}
    found = translation_baselines(Splits(pairs(200, 0), strange, strange, info))
    assert set(found["copy"]) == {"validation/bleu", "test/bleu"}
    assert found["word by word"]["test/bleu"] == pytest.approx(100)  # a word never seen stays
