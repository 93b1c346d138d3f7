"""What the predictions of all rows of a table are worth together."""

import numpy as np
from jax.typing import ArrayLike

from dl.core.column_checks import same_shape, within
from dl.core.errors import UserError


def fit_temperature(logits: ArrayLike, label: np.ndarray) -> float:
    """The ``t`` for which ``softmax(logits / t)`` has the least cross-entropy on validation rows:
    logits ``[rows, classes]``, label ``[rows]`` (Guo et al. 2017, "On calibration of modern neural
    networks"). NaN where there is no row, or a logit is not finite."""
    from scipy.optimize import minimize_scalar
    from scipy.special import log_softmax

    logits, rows = np.asarray(logits, np.float64), np.arange(len(label))
    same_shape("the rows of logits", logits[:, 0], "label", label)
    within("label", np.asarray(label), logits.shape[1])
    if not rows.size or not np.isfinite(logits).all():
        return float("nan")

    def loss(log_t):
        return -log_softmax(logits / np.exp(log_t), axis=1)[rows, label].mean()

    return float(np.exp(minimize_scalar(loss, bounds=(-4.0, 4.0), method="bounded").x))


def tempered_ece(
    logits: ArrayLike, label: np.ndarray, held: ArrayLike, held_label: np.ndarray
) -> float:
    """``ece`` of :func:`binary_scores` once the logits ``[rows, 2]`` are calibrated by one number, fitted to those
    of validation rows."""
    from scipy.special import softmax

    heat = fit_temperature(held, held_label)
    return scores(label, softmax(np.asarray(logits) / heat, -1))["ece"]


def reliability(
    probability: np.ndarray, outcome: np.ndarray, bins: int = 10
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For a reliability diagram: mean probability, share that came true and number of rows of each of
    ``bins`` equal intervals of [0, 1], all ``[bins]``; the first two NaN where no row falls. A
    probability between two intervals is in the lower one (Guo et al. 2017, and scikit-learn).

    Args:
      probability: ``[rows]`` that the outcome is 1; outcome: ``[rows]`` 0 or 1.

    Raises:
      UserError: not as many outcomes as probabilities, or a probability that is NaN or outside [0, 1].
    """
    probability, outcome = np.asarray(probability, np.float64), np.asarray(outcome)
    same_shape("probability", probability, "outcome", outcome)
    # float32's softmax may come to 1 and a rounding error.
    if not ((probability > -1e-6) & (probability < 1.0 + 1e-6)).all():
        raise UserError(
            "not-probabilities",
            "a probability is NaN or outside 0 to 1: give softmax's output, not logits",
        )
    place = np.searchsorted(np.linspace(0.0, 1.0, bins + 1)[1:-1], probability)
    count = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore"):
        said = np.bincount(place, probability, bins) / count
        came = np.bincount(place, outcome, bins) / count
    return said, came, count


def binary_scores(label: np.ndarray, probability: np.ndarray, bins: int = 10) -> dict[str, float]:
    """What no mean over batches gives: ``auc`` (area under ROC), ``average_precision``, and ``ece``, the
    expected calibration error: mean distance of said and true shares over :func:`reliability` bins.

    ``auc`` is NaN where one of the two labels is in no row, ``average_precision`` where label 1 is, and all
    are without rows or where a probability is NaN.

    Args:
      label: ``[rows]`` 0 or 1; probability: ``[rows]`` of label 1, of all rows together.

    Raises:
      UserError: not as many labels as probabilities, another label, or a probability outside [0, 1].
    """
    from sklearn.metrics import average_precision_score, roc_auc_score

    label, probability = np.asarray(label), np.asarray(probability)
    same_shape("label", label, "probability", probability)
    within("label", label, 2)
    found = dict.fromkeys(("auc", "average_precision", "ece"), float("nan"))
    if not label.size or np.isnan(probability).any():
        return found
    said, came, count = reliability(probability, label, bins)
    used = count > 0
    found["ece"] = float((np.abs(said - came)[used] * count[used]).sum() / count.sum())
    if label.any():
        found["average_precision"] = float(average_precision_score(label, probability))
        if not label.all():
            found["auc"] = float(roc_auc_score(label, probability))
    return found


def scores(label: np.ndarray, said: np.ndarray) -> dict[str, float]:
    """What predictions of all rows together are worth.

    ``said``: probabilities ``[rows, classes]`` give ``accuracy`` and, of two classes,
    :func:`binary_scores`; numbers ``[rows]`` give ``mse``. NaN without rows; a row of NaN is never right.

    Raises:
      UserError: not as many labels as predictions, or a label beyond the classes.
    """
    label, said = np.asarray(label), np.asarray(said, np.float64)
    same_shape("label", label, "the rows of predictions", said if said.ndim == 1 else said[:, 0])
    if said.ndim == 1:
        return {"mse": float(np.mean((said - label) ** 2)) if label.size else float("nan")}
    within("label", label, said.shape[1])
    binary = binary_scores(label, said[:, 1]) if said.shape[1] == 2 else {}
    right = (said.argmax(1) == label) & ~np.isnan(said).any(1)
    return {"accuracy": float(right.mean()) if label.size else float("nan"), **binary}
