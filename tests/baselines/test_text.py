"""Words tell what a text is of, and a baseline that reads them says how well."""

import numpy as np

from dl.baselines.text import tfidf
from dl.data.splits import Info, Splits


def part(size, seed):
    draw = np.random.default_rng(seed)
    label = draw.integers(0, 3, size).astype(np.int32)
    words = np.array(["good", "bad", "fair"])
    said = np.where(draw.random(size) < 0.9, words[label], words[draw.integers(0, 3, size)])
    text = [
        f"the film {n} was {word}" for n, word in zip(draw.integers(0, 50, size), said, strict=True)
    ]
    return {"text": np.array(text, object), "label": label}


def test_accuracy_of_every_part_that_is_held_out():
    info = Info("", "", "", "", "", "")
    scores = tfidf(Splits(part(300, 0), part(100, 1), {}, info))
    assert set(scores) == {"validation/accuracy"}
    assert 0.8 < scores["validation/accuracy"] <= 1
    scores = tfidf(Splits(part(300, 0), part(100, 1), part(100, 2), info))
    assert scores["test/accuracy"] > 0.8
