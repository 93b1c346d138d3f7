"""What the predictions of all rows of a table are worth together."""

from collections.abc import Mapping

import numpy as np
from jax.typing import ArrayLike

from dl.core.column_checks import same_shape, within
from dl.core.errors import UserError, bounded


def fit_temperature(
    logits: ArrayLike, label: np.ndarray, weight: np.ndarray | None = None
) -> float:
    """The ``t`` for which ``softmax(logits / t)`` has the least cross-entropy on validation rows:
    logits ``[rows, classes]``, label ``[rows]`` (Guo et al. 2017, "On calibration of modern neural
    networks"). NaN where there is no row, or a logit is not finite. ``weight [rows]``: how many rows each stands
    for."""
    from scipy.optimize import minimize_scalar
    from scipy.special import log_softmax

    logits, rows = np.asarray(logits, np.float64), np.arange(len(label))
    same_shape("the rows of logits", logits[:, 0], "label", label)
    within("label", np.asarray(label), logits.shape[1])
    if not rows.size or not np.isfinite(logits).all():
        return float("nan")

    def loss(log_t):
        own = -log_softmax(logits / np.exp(log_t), axis=1)[rows, label]
        return own.mean() if weight is None else np.average(own, weights=weight)

    return float(np.exp(minimize_scalar(loss, bounds=(-4.0, 4.0), method="bounded").x))


def tempered_ece(
    logits: ArrayLike,
    label: np.ndarray,
    held: ArrayLike,
    held_label: np.ndarray,
    weight: np.ndarray | None = None,
    held_weight: np.ndarray | None = None,
) -> float:
    """``ece`` of :func:`binary_scores` once the logits ``[rows, 2]`` are calibrated by one number, fitted to those
    of validation rows, each counted by its weight."""
    from scipy.special import softmax

    heat = fit_temperature(held, held_label, held_weight)
    return scores(label, softmax(np.asarray(logits) / heat, -1), weight)["ece"]


def reliability(
    probability: np.ndarray, outcome: np.ndarray, bins: int = 10, weight: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For a reliability diagram: mean probability, share that came true and number of rows of each of
    ``bins`` equal intervals of [0, 1], all ``[bins]``; the first two NaN where no row falls. A
    probability between two intervals is in the lower one (Guo et al. 2017, and scikit-learn).

    Args:
      probability: ``[rows]`` that the outcome is 1; outcome: ``[rows]`` 0 or 1.
      weight: ``[rows]``, how many rows each stands for; the third result counts these.

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
    each = 1 if weight is None else np.asarray(weight, np.float64)
    count = np.bincount(place, weight, minlength=bins)
    with np.errstate(invalid="ignore"):
        said = np.bincount(place, probability * each, bins) / count
        came = np.bincount(place, outcome * each, bins) / count
    return said, came, count


def binary_scores(
    label: np.ndarray, probability: np.ndarray, bins: int = 10, weight: np.ndarray | None = None
) -> dict[str, float]:
    """What no mean over batches gives: ``auc`` (area under ROC), ``average_precision``, and ``ece``, the
    expected calibration error: mean distance of said and true shares over :func:`reliability` bins.

    ``auc`` is NaN where one of the two labels is in no row, ``average_precision`` where label 1 is, and all
    are without rows or where a probability is NaN.

    Args:
      label: ``[rows]`` 0 or 1; probability: ``[rows]`` of label 1, of all rows together.
      weight: ``[rows]``, how many rows each stands for.

    Raises:
      UserError: not as many labels as probabilities, another label, or a probability outside [0, 1].
    """
    from sklearn.metrics import average_precision_score

    label, probability = np.asarray(label), np.asarray(probability)
    same_shape("label", label, "probability", probability)
    within("label", label, 2)
    found = dict.fromkeys(("auc", "average_precision", "ece"), float("nan"))
    if not label.size or np.isnan(probability).any():
        return found
    said, came, count = reliability(probability, label, bins, weight)
    used = count > 0
    found["ece"] = float((np.abs(said - came)[used] * count[used]).sum() / count.sum())
    if label.any():
        found["average_precision"] = float(
            average_precision_score(label, probability, sample_weight=weight)
        )
    found["auc"] = auc(label, probability, weight)
    return found


def auc(label: np.ndarray, score: np.ndarray, weight: np.ndarray | None = None) -> float:
    """The area under the ROC curve of any ``score [rows]``, the higher the likelier ``label [rows]`` is 1 or True;
    NaN where one of the two labels is in no row. ``weight [rows]``: how many rows each stands for."""
    from sklearn.metrics import roc_auc_score

    if not label.any() or label.all():
        return float("nan")
    return float(roc_auc_score(label, score, sample_weight=weight))


def intervals(label: np.ndarray, logits: np.ndarray, draws: int = 500) -> dict[str, float]:
    """The middle 95 % of ``auc`` and ``average_precision`` over resamples of the rows (Efron 1979), as
    ``auc_low``, ``auc_high``, ...; nothing of more than two classes."""
    if logits.shape[-1] != 2:
        return {}
    draw, odds = np.random.default_rng(0), np.asarray(logits[:, 1] - logits[:, 0], np.float64)
    said = 1 / (1 + np.exp(-odds))
    some = (draw.integers(0, len(label), len(label)) for _ in range(draws))
    found = [binary_scores(label[rows], said[rows]) for rows in some]
    ends: dict[str, float] = {}
    for name in ("auc", "average_precision"):
        low, high = np.nanquantile([one[name] for one in found], (0.025, 0.975))
        ends |= {f"{name}_low": float(low), f"{name}_high": float(high)}
    return ends


def at_budget(
    label: np.ndarray, probability: np.ndarray, share: float, weight: np.ndarray | None = None
) -> dict[str, float]:
    """``precision@SHARE`` and ``recall@SHARE``: of the rows with the highest probability, as many as that share of
    all is, how many have label 1, and how many of these they are. Of the row that the budget ends in only a part
    counts; equal probabilities are in the order of the rows."""
    bounded("the budget", share, above=0, at_most=1)
    weight = np.ones(len(label)) if weight is None else np.asarray(weight, np.float64)
    order = np.argsort(-np.asarray(probability), kind="stable")
    budget, own = share * weight.sum(), weight[order]
    looked = np.clip(budget - (np.cumsum(own) - own), 0, own)
    found = float((looked * label[order]).sum())
    there = max(float((weight * label).sum()), 1e-12)
    return {f"precision@{share:g}": found / budget, f"recall@{share:g}": found / there}


def cost(
    label: np.ndarray,
    probability: np.ndarray,
    threshold: float,
    costs: tuple[float, float],
    weight: np.ndarray | None = None,
) -> float:
    """The mean cost of a row where those of a probability above ``threshold`` are taken for 1: ``costs`` are those
    of a false alarm and of a miss."""
    alarm = np.asarray(probability) > threshold
    each = np.where(alarm, costs[0] * (label == 0), costs[1] * (label == 1))
    return float(np.average(each, weights=weight))


def cheapest(
    label: np.ndarray,
    probability: np.ndarray,
    costs: tuple[float, float],
    weight: np.ndarray | None = None,
) -> float:
    """The threshold of the least :func:`cost`, among the probabilities and alarms for all."""
    bounded("the cost of a false alarm", costs[0], at_least=0)
    bounded("the cost of a miss", costs[1], at_least=0)
    weight = np.ones(len(label)) if weight is None else np.asarray(weight, np.float64)
    order = np.argsort(probability, kind="stable")
    missed = costs[1] * np.cumsum((weight * (label == 1))[order])
    spared = costs[0] * np.cumsum((weight * (label == 0))[order])
    total, levels = np.append(0, missed - spared), np.append(-1.0, np.asarray(probability)[order])
    last = np.append(levels[1:] != levels[:-1], True)  # equal ones fall on one side
    return float(levels[last][total[last].argmin()])


def judged(
    part: Mapping[str, np.ndarray],
    said: np.ndarray,
    held: Mapping[str, np.ndarray],
    held_said: np.ndarray,
    *,
    budget: float | None = None,
    costs: tuple[float, float] | None = None,
) -> dict[str, float]:
    """:func:`scores` of a part of a table, and what else its user asks of two classes.

    Args:
      part: with ``label`` and perhaps ``weight``.
      held: the validation part, by which ``ece_tempered`` is calibrated and the threshold of ``cost`` is chosen.
      said, held_said: log-odds ``[rows, classes]``, or numbers ``[rows]``.
      budget: share of the rows that can be looked at (:func:`at_budget`).
      costs: of a false alarm and of a miss (:func:`cheapest`).
    """
    from scipy.special import softmax

    label, weight = part["label"], part.get("weight")
    if said.ndim == 1:
        return scores(label, said)
    chances = softmax(said, -1)
    found = scores(label, chances, weight)
    if said.shape[1] != 2:
        return found
    stand = weight, held.get("weight")
    found["ece_tempered"] = tempered_ece(said, label, held_said, held["label"], *stand)
    if budget is not None:
        found |= at_budget(label, chances[:, 1], budget, weight)
    if costs is not None:
        known = softmax(held_said, -1)[:, 1]
        threshold = cheapest(held["label"], known, costs, held.get("weight"))
        found["cost"] = cost(label, chances[:, 1], threshold, costs, weight)
    return found


def class_scores(label: np.ndarray, logits: np.ndarray) -> dict[str, float]:
    """:func:`scores` of logits ``[rows, classes]``, and ``mcc``: Matthews' correlation of the classes said with
    those that are, which is 0 for a guess however uneven they are."""
    from scipy.special import softmax
    from sklearn.metrics import matthews_corrcoef

    found = scores(label, softmax(logits, -1))
    return {**found, "mcc": float(matthews_corrcoef(label, logits.argmax(-1)))}


def scores(
    label: np.ndarray, said: np.ndarray, weight: np.ndarray | None = None
) -> dict[str, float]:
    """What predictions of all rows together are worth.

    ``said``: probabilities ``[rows, classes]`` give ``accuracy`` and, of two classes,
    :func:`binary_scores`; numbers ``[rows]`` give ``mse``. NaN without rows; a row of NaN is never right.
    ``weight``: ``[rows]``, how many rows each stands for.

    Raises:
      UserError: not as many labels as predictions, or a label beyond the classes.
    """
    label, said = np.asarray(label), np.asarray(said, np.float64)
    same_shape("label", label, "the rows of predictions", said if said.ndim == 1 else said[:, 0])
    if said.ndim == 1:
        return {"mse": float(np.mean((said - label) ** 2)) if label.size else float("nan")}
    within("label", label, said.shape[1])
    binary = binary_scores(label, said[:, 1], weight=weight) if said.shape[1] == 2 else {}
    right = (said.argmax(1) == label) & ~np.isnan(said).any(1)
    right = float(np.average(right, weights=weight)) if label.size else float("nan")
    return {"accuracy": right, **binary}
