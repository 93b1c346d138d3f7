"""A trained run judged by other data: every metric of its task, and how far chance could move it."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from dl.core.errors import UserError
from dl.core.experiment import Batches
from dl.core.metrics import Metrics
from dl.core.task import Batch, Variables
from dl.data.own.slices import columns_named, slices_of
from dl.data.own.tested import tested_on
from dl.training.compiled import Compiled
from dl.training.evaluation import Evaluation
from dl.training.run import Run

DRAWS = 1000  # resamples of the rows
Slices = dict[
    str, dict[str, Any]
]  # by a column's value: how many rows, and scores by the metric's name


class Score(NamedTuple):
    """A metric's value over all rows, and the interval that 95 % of resamples of the rows fall in; NaN where a
    metric is not a mean over rows."""

    value: float
    low: float
    high: float


def evaluate(run: Run, data: Any = None, **fields: Any) -> dict[str, Score]:
    """Every metric that the run's test set has, of other data in its place.

    The data are read as the run's own were, by the names of their columns and classes, and prepared by the run's
    own ``build``. Nothing of the run is changed.

    >>> evaluate(dl.open_run("runs/first"), "new_pets")["accuracy"].value  # doctest: +SKIP

    Args:
      data: a file, a folder or a frame, of the kind that the run was trained on; None for its own test rows.
      **fields: of the kind, where these data are written otherwise, such as ``label="animal"``.

    Returns:
      Scores by the metric's name, and ``rows``, how many there were.

    Raises:
      UserError: the run's script does not open its data by ``dl.data.open``, or these are not alike.
    """
    return judged(run, data, (), **fields)[0]


def judged(
    run: Run, data: Any, columns: str | Sequence[str], /, **fields: Any
) -> tuple[dict[str, Score], dict[str, Slices]]:
    """What :func:`evaluate` gives, and the same of the rows that share a value of a column.

    Args:
      columns: headings of the data's table, whether the model reads them or not
        (:func:`dl.data.own.slices.columns_named`).

    Returns:
      The scores; and by column and value how many ``rows`` there are, and every metric that is a mean over rows.

    Raises:
      UserError: as :func:`evaluate`; there is no such column; or rows of the table are not rows of the test set.
    """
    columns = columns_named(columns)
    with tested_on(data, alike=True, ordered=bool(columns), fields=fields) as wanted:
        experiment = run.rebuilt()
        test = experiment.tests.get("test")
        if test is None and data is None:
            raise UserError(
                "test-missing",
                f"{run.folder.path} has no test rows of its own: give others to judge it by (--data)",
            )
        if (wanted.rows is None and (columns or data is not None)) or test is None:
            raise UserError(
                "script-without-data",
                f"{run.folder.path}: its script opens no data of yours by dl.data.open, so no others can take the "
                "place of its test rows",
            )
        chosen = slices_of(wanted, columns) if columns else {}
        compiled = Compiled.alone(experiment)
        (found,) = Evaluation(compiled)(run.state, {"test": test})
    rows = row_metrics(experiment.task, run.state.eval_variables, test)
    intervals = {name: bootstrap(*totals) for name, totals in rows.items()}
    unknown = (float("nan"), float("nan"))
    scores = {}
    for name, value in found.items():
        metric = name.removeprefix("test/")
        if np.ndim(value) == 0:
            scores[metric] = Score(float(value), *intervals.get(metric, unknown))
    size = 0 if wanted.place is None else len(wanted.place)
    if columns and any(len(weights) != size for _, weights in rows.values()):
        raise UserError(
            "slice-other-rows",
            f"the table has {size:,} rows, and the script makes another number of test rows of them: they cannot "
            "be told apart by its columns",
        )
    return scores, {
        column: {value: _slice(rows, which) for value, which in values.items() if len(which)}
        for column, values in chosen.items()
    }


def _slice(rows: Mapping[str, Any], which: np.ndarray) -> dict[str, Any]:
    scores: dict[str, Any] = {"rows": len(which)}
    for name, (totals, weights) in rows.items():
        some = totals[which], weights[which]
        whole = float(some[1].sum())
        value = float(some[0].sum()) / whole if whole > 0 else float("nan")
        scores[name] = Score(value, *bootstrap(*some))
    return scores


def row_metrics(task: Any, variables: Variables, batches: Batches) -> dict[str, Any]:
    """``{metric: (totals [rows], weights [rows])}`` of every row of evaluation batches that is no padding, for
    single numbers."""

    @jax.jit
    def each(variables: Variables, batch: Batch) -> Metrics:
        def one(row: Batch) -> Metrics:
            return task.evaluate(variables, jax.tree.map(lambda x: x[None], row))

        return jax.lax.map(one, batch, batch_size=64)

    every: Any = batches
    given = (
        every.iterate(0) if hasattr(every, "iterate") else map(every.__getitem__, range(len(every)))
    )
    found: dict[str, list[Any]] = {}
    for batch in given:
        for name, mean in jax.device_get(each(variables, batch)).items():
            if np.ndim(mean.total) == 1:
                real = np.asarray(batch["mask"]) > 0
                found.setdefault(name, []).append((mean.total[real], mean.weight[real]))
    return {
        n: tuple(np.concatenate(part) for part in zip(*parts, strict=True))
        for n, parts in found.items()
    }


def bootstrap(totals: np.ndarray, weights: np.ndarray, draws: int = DRAWS) -> tuple[float, float]:
    """The middle 95 % of a mean over resamples of its rows (Efron 1979): ``totals [rows]`` and ``weights [rows]``,
    whose quotient of sums the mean is. NaN without rows."""
    real = weights > 0
    totals, weights = np.asarray(totals, np.float64)[real], np.asarray(weights, np.float64)[real]
    if not totals.size:
        return float("nan"), float("nan")
    draw = np.random.default_rng(0)
    means = []
    for _ in range(draws):
        rows = draw.integers(0, totals.size, totals.size)
        means.append(totals[rows].sum() / weights[rows].sum())
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)
