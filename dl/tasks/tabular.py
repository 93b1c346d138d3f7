"""Labels for the rows of a table, rare ones included, and what the probabilities are worth."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

from dl.core.errors import UserError, bounded
from dl.core.metrics import hits, mean
from dl.core.task import Task, mean_of_probabilities
from dl.tasks.regression import regression
from dl.tasks.supervised import supervised
from dl.tasks.values import same_shape, within

COLUMNS = ("numerical", "missing", "categorical")


def _arguments(rows):
    return tuple(rows[name] for name in COLUMNS)


def tabular_classification(
    model: nn.Module,
    *,
    class_weights: ArrayLike | None = None,
    label_smoothing: ArrayLike = 0.0,
) -> Task:
    """Softmax cross-entropy on ``batch['label']`` int ``[batch]`` from the columns of :mod:`dl.models.tabular`.

    ``predict(variables, {'numerical': ..., 'missing': ..., 'categorical': ...})`` gives logits
    ``[batch, classes]``.

    Args:
      class_weights: ``[classes]``, how much an example of each class counts in training, such as
        :func:`dl.data.tables.class_weights`. Probabilities are shifted by them: mend with
        :func:`unweighted`.
      label_smoothing: share of the target spread evenly over all classes.

    Metrics: ``loss`` in nats (weighted and smoothed in training alone), ``accuracy`` and ``brier``, the
    squared error of the probabilities summed over classes.
    """
    bounded("label_smoothing", label_smoothing, at_least=0, below=1)

    def score(logits, batch, train):
        logits = logits.astype(jnp.float32)
        truth = jax.nn.one_hot(batch["label"], logits.shape[-1])
        rows = jnp.ones(len(logits)) if "mask" not in batch else batch["mask"]
        target, weights = truth, rows
        if train:
            target = truth * (1.0 - label_smoothing) + label_smoothing / logits.shape[-1]
            if class_weights is not None:
                weights = rows * jnp.asarray(class_weights)[batch["label"]]
        losses = optax.softmax_cross_entropy(logits, target)
        wrong = jnp.square(jax.nn.softmax(logits) - truth).sum(-1)
        return {
            "loss": mean(losses, weights),
            "accuracy": mean(hits(logits, batch["label"]), rows),
            "brier": mean(wrong, rows),
        }

    def check(logits, batch, columns):
        within("label", columns["label"], logits.shape[-1])

    return supervised(
        model, COLUMNS, score, arguments=_arguments, check=check, average=mean_of_probabilities
    )


class _OneColumn(nn.Module):
    """A one-output network's ``[batch, 1]`` as ``[batch]``."""

    network: nn.Module

    def __call__(self, *columns, train: bool = False):
        return self.network(*columns, train=train)[..., 0]


def tabular_regression(model: nn.Module, **options) -> Task:
    """:func:`dl.tasks.regression.regression` of ``batch['label'] [batch]`` by a one-output model of
    :mod:`dl.models.tabular`."""

    return regression(_OneColumn(model), inputs=COLUMNS, arguments=_arguments, **options)


def unweighted(logits: jax.Array, class_weights: ArrayLike | None) -> jax.Array:
    """Logits ``[..., classes]`` of a model trained with ``class_weights``, as without them.

    Weights multiply the odds that a fitted model gives, so dividing by them mends the probabilities.
    """
    return logits if class_weights is None else logits - jnp.log(jnp.asarray(class_weights))


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
        raise UserError("a probability is NaN or outside 0 to 1: give softmax's output, not logits")
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
