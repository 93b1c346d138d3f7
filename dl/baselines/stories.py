"""What a reader of stories has to be compared with: the question alone, and words that come close together."""

import re
from collections import Counter

import numpy as np

from dl.baselines.majority import majority, on_held
from dl.data.splits import Columns, Splits

_WORD = re.compile(r"\w+(?:['’]\w+)*")


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def question_alone(splits: Splits) -> dict[str, float]:
    """How often the most frequent answer of the training rows to the very same question is right, of an unknown
    question the most frequent of all."""
    label = splits.train["label"]
    counts: dict[str, Counter[int]] = {}
    for question, answer in zip(splits.train["question"], label.tolist(), strict=True):
        counts.setdefault(question, Counter())[answer] += 1
    usual = int(np.bincount(label).argmax())
    best = {question: found.most_common(1)[0][0] for question, found in counts.items()}

    def score(part: Columns, name: str) -> dict[str, float]:
        said = np.array([best.get(question, usual) for question in part["question"]])
        return {"accuracy": float(np.mean(said == part["label"]))}

    return on_held(splits, score)


def sliding_window(story: str, question: str, choices: list[str]) -> np.ndarray:
    """``[choices]``: of the words of the question and a choice, the inverse counts of those that a window of the
    story of as many words holds, where they are most (Richardson et al. 2013, algorithm 1); 0 of a story without
    words."""
    told, asked = _words(story), set(_words(question))
    weight = {word: np.log1p(1 / count) for word, count in Counter(told).items()}
    scores = []
    for choice in choices:
        wanted = asked | set(_words(choice))
        gain = np.array([weight[word] if word in wanted else 0.0 for word in told])
        windows = (gain[n : n + len(wanted)].sum() for n in range(len(told)))
        scores.append(max(windows, default=0.0))
    return np.array(scores)


def story_baselines(splits: Splits) -> dict[str, dict[str, float]]:
    """The ``sliding window`` where there are choices, else the ``question alone``; and the ``majority``."""

    def window(part: Columns, name: str) -> dict[str, float]:
        rows = zip(part["story"], part["question"], part["choices"].tolist(), strict=True)
        said = np.array([sliding_window(*row).argmax() for row in rows])
        return {"accuracy": float(np.mean(said == part["label"]))}

    if "choices" in splits.train:
        return {"sliding window": on_held(splits, window), "majority": majority(splits)}
    return {"question alone": question_alone(splits), "majority": majority(splits)}
