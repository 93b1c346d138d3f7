"""What class maps are worth as a judgement of whole parts: good or not, and what is wrong with them."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from scipy.special import softmax

from dl.core.column_checks import same_shape
from dl.core.errors import UserError, bounded
from dl.scores.tabular import binary_scores
from dl.scores.two_classes import at_threshold, chosen_threshold

Columns = Mapping[str, np.ndarray]


def worst_places(logits: np.ndarray, segments: np.ndarray, pixels: int = 20) -> np.ndarray:
    """The mean of each picture's ``pixels`` highest chances of every class: float64 ``[n, classes]``.

    Args:
      logits: ``[n, height, width, classes]``, whose softmax is the chance.
      segments: ``[n, height, width]``, -1 where a pixel counts for nothing. Of a picture with fewer pixels all
        count; of one without any it is 0.
    """
    bounded("pixels", pixels, at_least=1, whole=True)
    logits, segments = np.asarray(logits), np.asarray(segments)
    same_shape("the pixels of logits", logits[..., 0], "segments", segments)
    found = np.zeros((len(logits), logits.shape[-1]))
    for row, (one, classes) in enumerate(zip(logits, segments, strict=True)):
        chance = np.ascontiguousarray(softmax(one[classes >= 0], -1).T)
        if chance.size:
            few = min(pixels, chance.shape[1])
            found[row] = np.partition(chance, -few)[:, -few:].mean(1)
    return found


def judged(found: np.ndarray, threshold: float) -> np.ndarray:
    """The class of each picture by :func:`worst_places` ``[n, classes]`` of the classes that are defects, in their
    order: 0, good, where none reaches the threshold, else the highest's, from 1 on: int64 ``[n]``."""
    return np.where(found.max(1) >= threshold, found.argmax(1) + 1, 0)


def balanced_accuracy(label: np.ndarray, said: np.ndarray) -> float:
    """The mean over the classes that are there of the share of their rows that are said to be so."""
    return float(np.mean([(said[label == one] == one).mean() for one in np.unique(label)]))


def inspection_measure(
    defects: Callable[[Any, Columns], np.ndarray], held: Columns
) -> Callable[[Any, Columns, str], dict[str, float]]:
    """``Experiment(measure=...)`` of parts that are good (label 0) or have a defect.

    Args:
      defects: ``(predictor, columns)`` to the chance of each defect ``[n, defects]``.
      held: validation rows, which choose the threshold.

    Raises:
      UserError: they are all good, or none is.

    The measure gives ``auc``, ``average_precision`` and ``ece`` of the highest chance as that of any defect; at
    the threshold that ``held`` chooses ``accuracy_at_threshold``, ``sensitivity`` and ``specificity``
    (:mod:`dl.scores.two_classes`); and, of several defects, ``balanced_accuracy`` over all classes.
    """
    bad = np.asarray(held.get("label", ())) > 0
    if not bad.any() or bad.all():
        said = f"{len(bad):,} validation rows, all good or none, choose no threshold: hold out rows of both"
        raise UserError("target-one-class", said)

    def measure(predictor: Any, columns: Columns, name: str) -> dict[str, float]:
        found, label = defects(predictor, columns), np.asarray(columns["label"])
        own = found if name == "validation" else defects(predictor, held)
        threshold = chosen_threshold(bad, own.max(1))
        scores = binary_scores((label > 0).astype(int), found.max(1))
        scores |= at_threshold(label > 0, found.max(1), threshold)
        if found.shape[1] > 1:
            scores["balanced_accuracy"] = balanced_accuracy(label, judged(found, threshold))
        return scores

    return measure
