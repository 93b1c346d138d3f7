"""How well vectors tell whether two of them are of the same person, or of the same of any classes."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from dl.core.column_checks import same_shape
from dl.core.errors import UserError

Columns = Mapping[str, np.ndarray]
Vectors = Callable[[Columns], np.ndarray]  # of columns of rows, ``[rows, width]``


class Pairs(NamedTuple):
    """All pairs of some rows: ``score [pairs]``, the higher the more alike, and whether each is the ``same``."""

    score: np.ndarray
    same: np.ndarray


def all_pairs(vectors: np.ndarray, label: np.ndarray) -> Pairs:
    """Cosines of all pairs of ``vectors [rows, width]`` whose labels are ``[rows]``.

    Raises:
      UserError: not as many labels as vectors; or no pair is of one label, or none of two.
    """
    vectors, label = np.asarray(vectors, np.float64), np.asarray(label)
    same_shape("the rows of vectors", vectors[:, 0], "label", label)
    one, other = np.triu_indices(len(label), 1)
    same = label[one] == label[other]
    if not same.any() or same.all():
        raise UserError(
            "target-one-class",
            f"{len(label):,} rows of {len(np.unique(label)):,} classes: pairs need two classes, one of them twice",
        )
    unit = _unit(vectors)
    return Pairs((unit @ unit.T)[one, other], same)


def error_rates(pairs: Pairs) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """``(threshold, false accepts, false rejects)`` at every threshold that tells pairs apart, the highest first:
    the share of pairs of two that score at least so high, and of pairs of one that score less."""
    order = np.argsort(-pairs.score, kind="stable")
    score, same = pairs.score[order], pairs.same[order]
    last = np.append(score[1:] != score[:-1], True)  # of those that score alike
    accepted = np.cumsum(~same)[last] / (~same).sum()
    rejected = 1 - np.cumsum(same)[last] / same.sum()
    threshold = np.append(np.inf, score[last])
    return threshold, np.append(0.0, accepted), np.append(1.0, rejected)


def equal_error(pairs: Pairs) -> tuple[float, float]:
    """The error rate at which false accepts and false rejects are equally frequent, between two thresholds by a
    straight line; and the threshold nearest to it."""
    threshold, accepted, rejected = error_rates(pairs)
    after = int(np.argmax(accepted >= rejected))
    gap = rejected - accepted  # falls from 1
    share = gap[after - 1] / (gap[after - 1] - gap[after])
    rate = accepted[after - 1] + share * (accepted[after] - accepted[after - 1])
    return float(rate), float(threshold[after if share > 0.5 or after == 1 else after - 1])


def error_at(pairs: Pairs, threshold: float) -> tuple[float, float]:
    """Shares of false accepts and of false rejects where pairs that score ``threshold`` or more count as one."""
    taken = pairs.score >= threshold
    return float(taken[~pairs.same].mean()), float((~taken[pairs.same]).mean())


def identified(
    known: np.ndarray, known_label: np.ndarray, vectors: np.ndarray, label: np.ndarray
) -> float:
    """Share of ``vectors [rows, width]`` whose nearest of the ``known [n, width]``, by cosine, has their label."""
    nearest = (_unit(vectors) @ _unit(known).T).argmax(1)
    return float((known_label[nearest] == label).mean())


def _unit(x: np.ndarray) -> np.ndarray:
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)


def strangers_scores(vectors: Vectors, columns: Columns, held: Columns) -> dict[str, float]:
    """What vectors are worth on people who are not in training: ``equal_error`` of all pairs, and the shares of
    ``false_accepts`` and ``false_rejects`` at the threshold that the pairs of ``held`` rows choose."""
    pairs = all_pairs(vectors(columns), columns["label"])
    threshold = equal_error(all_pairs(vectors(held), held["label"]))[1]
    accepts, rejects = error_at(pairs, threshold)
    rate = equal_error(pairs)[0]
    return {"equal_error": rate, "false_accepts": accepts, "false_rejects": rejects}


def known_scores(vectors: Vectors, columns: Columns, known: Columns) -> dict[str, float]:
    """Share of rows ``identified`` by the nearest of the ``known`` ones."""
    near = vectors(known), known["label"]
    return {"identified": identified(*near, vectors(columns), columns["label"])}
