"""A classifier looked at row by row: its worst rows, its least certain, what its chances are worth, and on what of
a row they hang; and the rows at which what predicts numbers is farthest off, and what its error hangs on."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import log_softmax

from dl.core.experiment import Batches
from dl.core.metrics import compute, merge
from dl.core.task import Task, Variables
from dl.scores.tabular import reliability

GRID = 8  # parts of a picture's height and width that are hidden one by one
ROWS = 4096  # that columns are shuffled among
SHUFFLES = 3

Names = Mapping[str, Sequence[str]]  # see dl.core.experiment.Experiment.names


class Example(NamedTuple):
    """One row, and what was said of it.

    Attributes:
      row: its number in the set; truth, said: classes; chance: of the true class, ``sure``: of that said.
      columns: what the task reads of it.
      hangs: how much of the chance of what was said goes where a part is hidden: of a picture ``[8, 8]``, of a
        text ``[time]``; None of others.
    """

    row: int
    truth: int
    said: int
    chance: float
    sure: float
    columns: dict[str, np.ndarray]
    hangs: np.ndarray | None = None


class Judged(NamedTuple):
    """What a classifier says of a set.

    Attributes:
      counts: true classes in rows, predicted ones in columns, ``[classes, classes]``.
      bins: by a chance in tenths ``[10, 3]``: rows, the sum of their chances, how many came true. The chance is
        that of the class said; of two classes it is that of the second, as in the metric ``ece``
        (:func:`~dl.scores.tabular.binary_scores`).
      worst: rows whose true class had the smallest chance; unsure: those whose two likeliest are closest.
      importance: by name of a feature, how many nats a row the loss grows when it is shuffled among the rows
        (Breiman 2001), and how much that differs between shuffles.

    Where the task's metrics count each row by its column ``weight``, all but the two lists of rows do so too.
    """

    counts: np.ndarray
    bins: np.ndarray
    worst: list[Example]
    unsure: list[Example]
    importance: dict[str, tuple[float, float]]

    @property
    def calibration_error(self) -> float:
        """The expected calibration error by these bins (Naeini et al. 2015; of more classes Guo et al. 2017)."""
        rows = self.bins[:, 0].sum()
        return float(np.abs(self.bins[:, 1] - self.bins[:, 2]).sum() / (rows if rows > 0 else 1))

    def by_class(self) -> np.ndarray:
        """Rows, recall and precision of each class ``[classes, 3]``; NaN where there are none to count."""
        rows, said, right = self.counts.sum(1), self.counts.sum(0), np.diag(self.counts)
        with np.errstate(invalid="ignore"):
            return np.stack([rows, right / rows, right / said], -1)


def judge(
    task: Task, variables: Variables, batches: Batches, names: Names | None = None, shown: int = 6
) -> Judged | None:
    """Look at every row of a set.

    Args:
      names: of features, for their importance, and of tokens; see :class:`dl.core.experiment.Experiment`.
      shown: how many rows to keep of the worst, and of the least certain.

    Returns:
      None where the task does not sort rows into classes by their highest score: where batches have no
      integer ``label [batch]`` in range, predictions are not ``[batch, classes]`` numbers, or the share of right
      ones is not the task's own ``accuracy``.
    """
    first = batches[0]
    label = first.get("label")
    if label is None or label.ndim != 1 or not jnp.issubdtype(label.dtype, jnp.integer):
        return None
    if not task.columns or not first.keys() >= set(task.columns):
        return None
    scores: Any = jax.eval_shape(task.predict, variables, first)
    if not hasattr(scores, "ndim") or scores.ndim != 2 or scores.shape[1] < 2:
        return None
    predict, evaluate, classes = jax.jit(task.predict), jax.jit(task.evaluate), scores.shape[1]
    metrics: Any = None
    weighted = _weighted(evaluate(variables, first), first)
    counts = np.zeros((classes, classes))
    weights: list[np.ndarray] = []
    chance: list[np.ndarray] = []
    came: list[np.ndarray] = []
    worst: list[tuple[float, Example]] = []
    unsure: list[tuple[float, Example]] = []
    kept: list[dict[str, np.ndarray]] = []
    row = 0
    for index in range(len(batches)):  # type: ignore[arg-type]
        batch = batches[index]
        real = np.asarray(batch["mask"]) > 0
        said = np.asarray(predict(variables, batch), np.float64)[real]
        truth = np.asarray(batch["label"])[real]
        if truth.size and (truth.min() < 0 or truth.max() >= classes or np.isnan(said).any()):
            return None
        chances = np.exp(log_softmax(said, -1))
        best, sure = said.argmax(-1), chances.max(-1)
        each = np.asarray(batch["weight"], np.float64)[real] if weighted else np.ones(len(truth))
        np.add.at(counts, (truth, best), each)
        weights.append(each)
        chance.append(chances[:, 1] if classes == 2 else sure)
        came.append(truth == 1 if classes == 2 else best == truth)
        columns = {name: np.asarray(batch[name])[real] for name in task.columns}
        if names and row < ROWS:
            kept.append({**columns, "label": truth})
        own = chances[np.arange(len(truth)), truth]
        second = np.sort(chances, -1)[:, -2]
        for most, found in ((own, worst), (sure - second, unsure)):
            for one in np.argsort(most, kind="stable")[:shown]:
                example = {name: column[one] for name, column in columns.items()}
                told = int(truth[one]), int(best[one]), float(own[one]), float(sure[one])
                found.append((float(most[one]), Example(row + int(one), *told, example)))
            found.sort(key=lambda pair: (pair[0], pair[1].row))
            del found[shown:]
        row += len(truth)
        found_here = evaluate(variables, batch)
        metrics = found_here if metrics is None else merge(metrics, found_here)
    whole = counts.sum()
    right = np.trace(counts) / (whole if whole > 0 else 1)
    if not abs(compute(metrics).get("accuracy", np.nan) - right) < 1e-4:
        return None

    def looked(found: list[tuple[float, Example]]) -> list[Example]:
        return [_hanging(predict, variables, example, names or {}) for _, example in found]

    parts = (
        {name: np.concatenate([part[name] for part in kept])[:ROWS] for name in kept[0]}
        if kept
        else {}
    )

    def nats(said: np.ndarray, label: np.ndarray) -> np.ndarray:
        return -log_softmax(said, -1)[np.arange(len(label)), label]

    truth, stand = parts.pop("label", np.zeros(0)), np.concatenate(weights)
    shuffled = importance(
        predict,
        variables,
        parts,
        truth,
        names or {},
        nats,
        len(np.asarray(first["mask"])),
        stand[:ROWS],
    )
    mean, share, size = reliability(
        np.concatenate(chance), np.concatenate(came), weight=stand if weighted else None
    )
    bins = np.nan_to_num(np.stack([size, mean * size, share * size], -1))
    counts = counts if weighted else counts.astype(np.int64)
    return Judged(counts, bins, looked(worst), looked(unsure), shuffled)


def _weighted(metrics: Any, batch: Any) -> bool:
    """Whether the accuracy of a batch counts each row by its column ``weight``."""
    if "accuracy" not in metrics or getattr(batch.get("weight"), "shape", 0) != batch["mask"].shape:
        return False
    stand, mask = (np.asarray(batch[name], np.float64) for name in ("weight", "mask"))
    counted, whole = float(np.sum(metrics["accuracy"].weight)), float((stand * mask).sum())
    return abs(counted - whole) < abs(counted - float(mask.sum()))


class Far(NamedTuple):
    """One row, and the numbers predicted for it.

    Attributes:
      row: its number in the set; error: the mean of ``|said - truth|`` over what is known of ``truth``.
      columns: what the task reads of it; truth, said: numbers ``[...]`` as ``predict`` gives them, NaN for what is
        not known.
    """

    row: int
    error: float
    columns: dict[str, np.ndarray]
    truth: np.ndarray
    said: np.ndarray


class Off(NamedTuple):
    """How far the numbers predicted for a set are off.

    Attributes:
      rows: the rows at which they are farthest off.
      importance: by name of a feature, how much the mean absolute error grows when it is shuffled among the rows
        (Breiman 2001), and how much that differs between shuffles.
    """

    rows: list[Far]
    importance: dict[str, tuple[float, float]]


def farthest(
    task: Task, variables: Variables, batches: Batches, names: Names | None = None, shown: int = 6
) -> Off | None:
    """The rows of a set at which the numbers predicted are farthest from the true ones, and what these hang on.

    None where predictions are not numbers in the shape of just one column that the task does not read, or the
    mean of their absolute differences is not the task's own ``mae``.
    """
    first = batches[0]
    if not task.columns or not first.keys() >= set(task.columns):
        return None
    shape: Any = jax.eval_shape(task.predict, variables, first)
    if not hasattr(shape, "ndim") or not jnp.issubdtype(shape.dtype, jnp.floating):
        return None
    rest = {name: column for name, column in first.items() if name not in (*task.columns, "mask")}
    alike = [name for name, column in rest.items() if column.shape == shape.shape]
    if len(alike) != 1:
        return None
    predict, evaluate = jax.jit(task.predict), jax.jit(task.evaluate)
    found: list[Far] = []
    kept: list[dict[str, np.ndarray]] = []
    truths: list[np.ndarray] = []
    row, total, known, metrics = 0, 0.0, 0, None
    for index in range(len(batches)):  # type: ignore[arg-type]
        batch = batches[index]
        real = np.asarray(batch["mask"]) > 0
        said = np.asarray(predict(variables, batch), np.float64)[real]
        truth = np.asarray(batch[alike[0]], np.float64)[real] + task.origin
        read = {name: np.asarray(batch[name])[real] for name in task.columns}
        if names and row < ROWS:
            kept.append(read)
            truths.append(truth)
        apart = np.abs(said - truth).reshape(len(said), -1)
        there = ~np.isnan(apart)
        sums, counts = np.where(there, apart, 0).sum(1), there.sum(1)
        total, known = total + sums.sum(), known + int(counts.sum())
        error = _error(said, truth)
        for one in np.argsort(-error, kind="stable")[:shown]:
            columns = {name: column[one] for name, column in read.items()}
            found.append(Far(row + int(one), float(error[one]), columns, truth[one], said[one]))
        found = sorted(found, key=lambda far: (-far.error, far.row))[:shown]
        row += len(said)
        found_here = evaluate(variables, batch)
        metrics = found_here if metrics is None else merge(metrics, found_here)
    own = float(compute(metrics or {}).get("mae", np.nan))
    if not abs(own - total / max(known, 1)) <= 1e-3 * abs(own) + 1e-9:
        return None
    parts = {name: np.concatenate([part[name] for part in kept])[:ROWS] for name in read if kept}
    truth = np.concatenate(truths)[:ROWS] if truths else np.zeros(0)
    size = len(np.asarray(first["mask"]))
    return Off(found, importance(predict, variables, parts, truth, names or {}, _error, size))


def _error(said: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """The mean of ``|said - truth|`` over what is known of each row."""
    apart = np.abs(said - truth).reshape(len(said), -1)
    return np.nansum(apart, 1) / np.maximum((~np.isnan(apart)).sum(1), 1)


def importance(
    predict: Any,
    variables: Variables,
    columns: dict[str, np.ndarray],
    truth: np.ndarray,
    names: Names,
    losses: Callable[[np.ndarray, np.ndarray], np.ndarray],
    size: int,
    weights: np.ndarray | None = None,
) -> dict[str, tuple[float, float]]:
    """Of every feature that ``names`` names in a column ``[rows, features]`` of numbers: the mean growth of the
    mean of ``losses(said, truth) [rows]``, by the ``weights`` of the rows, over some shuffles, and its deviation.
    What has one name is shuffled together."""
    places: dict[str, list[tuple[str, int]]] = {}
    for column, own in names.items():
        values = columns.get(column)
        if values is not None and values.ndim == 2 and values.shape[1] == len(own):
            for place, name in enumerate(own):
                places.setdefault(name, []).append((column, place))
    if not places:
        return {}

    stand = np.ones(len(truth)) if weights is None else weights

    def loss(given: dict[str, np.ndarray]) -> float:
        total, rows = 0.0, len(truth)
        for start in range(0, rows, size):
            at = np.minimum(np.arange(start, start + size), rows - 1)  # of one shape, compiled once
            said = np.asarray(predict(variables, {n: v[at] for n, v in given.items()}), np.float64)
            real = min(size, rows - start)
            total += (losses(said[:real], truth[at][:real]) * stand[at][:real]).sum()
        return total / stand.sum()

    plain, draw, found = loss(columns), np.random.default_rng(0), {}
    for name, together in places.items():
        grown = []
        for _ in range(SHUFFLES):
            order, changed = draw.permutation(len(truth)), {n: v.copy() for n, v in columns.items()}
            for column, place in together:
                changed[column][:, place] = columns[column][order, place]
            grown.append(loss(changed) - plain)
        found[name] = (float(np.mean(grown)), float(np.std(grown)))
    return dict(sorted(found.items(), key=lambda pair: -pair[1][0]))


def _hanging(predict: Any, variables: Variables, example: Example, names: Names) -> Example:
    """The example, with what its answer hangs on: parts are hidden one after the other (Zeiler & Fergus 2014),
    those of a picture under their mean colour, tokens under the first of the vocabulary."""
    for name, column in example.columns.items():
        if column.ndim == 3 and column.shape[-1] in (1, 3, 4) and min(column.shape[:2]) >= GRID:
            rows, across = (np.arange(size) * GRID // size for size in column.shape[:2])
            parts = rows[:, None] * GRID + across
            mean = column.mean((0, 1)).astype(column.dtype)
            hidden = np.stack(
                [np.where((parts == p)[..., None], mean, column) for p in range(GRID**2)]
            )
            shape: tuple[int, ...] = (GRID, GRID)
        elif column.ndim == 1 and name in names and np.issubdtype(column.dtype, np.integer):
            hidden = np.where(np.eye(len(column), dtype=bool), 0, column).astype(column.dtype)
            shape = (len(column),)
        else:
            continue
        many = {n: np.repeat(v[None], len(hidden), 0) for n, v in example.columns.items()}
        said = np.asarray(predict(variables, {**many, name: hidden}), np.float64)
        left = np.exp(log_softmax(said, -1))[:, example.said]
        return example._replace(hangs=(example.sure - left).reshape(shape))
    return example
