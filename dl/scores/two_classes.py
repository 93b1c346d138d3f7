"""Two classes of which one is looked for, such as a disease: what probabilities are worth, where to cut them."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from dl.core.column_checks import same_shape
from dl.core.errors import UserError
from dl.scores.tabular import binary_scores

Columns = Mapping[str, np.ndarray]


def chosen_threshold(label: np.ndarray, probability: np.ndarray) -> float:
    """The threshold, between two probabilities, at which sensitivity and specificity together are highest (Youden
    1950), whatever the shares of the two classes are. Of several as good, the one amid them.

    Args:
      label: ``[rows]`` 0 or 1; probability: ``[rows]`` of label 1.

    Raises:
      UserError: rows are of one class alone.
    """
    label, probability = np.asarray(label), np.asarray(probability, np.float64)
    same_shape("label", label, "probability", probability)
    if not label.any() or label.all():
        raise UserError(
            "target-one-class", f"{len(label):,} rows of one class say no threshold: bring both"
        )
    values = np.unique(probability)
    cuts = np.concatenate([values[:1] - 1e-9, (values[1:] + values[:-1]) / 2, values[-1:] + 1e-9])
    # Rows of each class below every cut.
    sick, well = (np.sort(probability[label == kind]) for kind in (1, 0))
    missed = np.searchsorted(sick, cuts) / len(sick)
    spared = np.searchsorted(well, cuts) / len(well)
    gain = spared - missed
    best = np.flatnonzero(gain >= gain.max() - 1e-12)
    return float(cuts[best[len(best) // 2]])


def at_threshold(label: np.ndarray, probability: np.ndarray, threshold: float) -> dict[str, float]:
    """``accuracy_at_threshold``, ``sensitivity`` (of label 1, those found) and ``specificity`` (of label 0, those
    spared) where a probability of at least ``threshold`` is taken for label 1; NaN of a class without rows."""
    label, found = np.asarray(label) == 1, np.asarray(probability) >= threshold
    nothing = float("nan")
    return {
        "accuracy_at_threshold": float((found == label).mean()) if label.size else nothing,
        "sensitivity": float(found[label].mean()) if label.any() else nothing,
        "specificity": float((~found[~label]).mean()) if not label.all() else nothing,
    }


def two_class_measure(held: Any, known: Columns) -> Callable[[Any, Columns, str], dict[str, float]]:
    """``Experiment(measure=...)`` of two classes by their logits: :func:`~dl.scores.tabular.binary_scores`, and
    :func:`at_threshold` at the threshold that validation rows choose, where they are of both classes.

    Args:
      held: those rows, in memory or streamed; known: their columns that need no reading, ``label`` among them.
    """
    chosen_by = np.asarray(known.get("label", ()))

    def chance(predictor: Any, columns: Any) -> np.ndarray:
        logits = np.asarray(predictor(columns), np.float64)
        return 1 / (1 + np.exp(logits[:, 0] - logits[:, 1]))

    def measure(predictor: Any, columns: Columns, name: str) -> dict[str, float]:
        said, label = chance(predictor, columns), np.asarray(columns["label"])
        found = binary_scores(label, said)
        if len(np.unique(chosen_by)) < 2:
            return found
        own = said if name == "validation" else chance(predictor, held)
        return found | at_threshold(label, said, chosen_threshold(chosen_by, own))

    return measure
