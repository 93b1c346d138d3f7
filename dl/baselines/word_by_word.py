"""Translation word by word, and none at all: what a network that translates has to be compared with."""

import re

import numpy as np

from dl.data.splits import Splits, shuffled
from dl.scores.bleu import corpus_bleu

_LONGEST = 60  # words of a side that are counted
_PAIRS = 6_000_000  # pairs of words that are counted, at most, so that it takes seconds


def translation_baselines(splits: Splits) -> dict[str, dict[str, float]]:
    """BLEU of ``word by word``, by a :func:`dictionary` of the training part, and of ``copy``, the source itself.

    Args:
      splits: columns ``source`` and ``target`` of strings.
    """
    known = dictionary(splits.train["source"], splits.train["target"])
    found: dict[str, dict[str, float]] = {"word by word": {}, "copy": {}}
    for name, part in splits.parts.items():
        if name != "train":
            source, target = ([str(text) for text in part[side]] for side in ("source", "target"))
            said = [_said(known, text) for text in source]
            found["word by word"][f"{name}/bleu"] = corpus_bleu(said, target)
            found["copy"][f"{name}/bleu"] = corpus_bleu(source, target)
    return found


def dictionary(source: np.ndarray, target: np.ndarray, rounds: int = 5) -> dict[str, str]:
    """The likeliest word of the target for each of the source, by ``rounds`` of expectation maximisation of IBM's
    model 1 (Brown et al. 1993, "The mathematics of statistical machine translation").

    Args:
      source, target: ``[pairs]`` strings; where words would be paired too many times, some by seed.
    """
    numbers: tuple[dict[str, int], dict[str, int]] = ({"": 0}, {})  # "": what no word is behind
    columns: list[
        np.ndarray
    ] = []  # [word of the source, of the target, the latter's place in all] of each pair
    counted = total = 0
    for row in shuffled(len(source), 0).tolist():
        sides = (_words(str(source[row])), _words(str(target[row])))
        one, two = (
            np.array([known.setdefault(w, len(known)) for w in words[:_LONGEST]], np.int64)
            for known, words in zip(numbers, sides, strict=True)
        )
        word, place = (grid.ravel() for grid in np.meshgrid(np.append(one, 0), np.arange(len(two))))
        columns.append(np.stack([word, two[place], total + place]))
        total += len(two)
        counted += columns[-1].shape[1]
        if counted > _PAIRS:
            break
    one, two, place = np.concatenate(columns, 1)
    pairs, pair = np.unique(one * len(numbers[1]) + two, return_inverse=True)
    behind = pairs // len(numbers[1])
    chance = np.ones(len(pairs))
    for _ in range(rounds):
        share = chance[pair]
        share /= np.bincount(place, share, total)[place]
        count = np.bincount(pair, share, len(pairs))
        chance = count / np.bincount(behind, count)[behind]
    order = np.argsort(chance, kind="stable")  # the last one of each word stays
    names = tuple(list(known) for known in numbers)
    best = {int(behind[n]): int(pairs[n] % len(names[1])) for n in order.tolist()}
    return {names[0][word]: names[1][said] for word, said in best.items()}


def _said(known: dict[str, str], text: str) -> str:
    """``text`` word by word; one that is not known stays as it is."""
    words = " ".join(known.get(word, word) for word in _words(text))
    return re.sub(r" ([.,:;!?])", r"\1", words)


def _words(text: str) -> list[str]:
    return re.findall(r"\w+|[^\w\s]", text)
