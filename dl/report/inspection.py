"""A trained run looked into: its layers, its memory, and what it mistakes for what."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dl.core.experiment import Batches, Experiment
from dl.core.lanes import first_batch
from dl.core.metrics import compute, merge
from dl.core.state import TrainState
from dl.core.task import Task, Variables
from dl.report.layers import Flow, Summary, flows, summary


class Inspection(NamedTuple):
    """What only a run's code can tell of it.

    Attributes:
      confusion: ``{set: [classes, classes]}`` counts, true classes in rows; empty where the task is no
        classification.
      classes: names of the classes; empty where the experiment gives none.
      memory: bytes by what holds them.
    """

    layers: Summary
    flows: dict[str, Flow]
    confusion: dict[str, np.ndarray]
    classes: tuple[str, ...]
    memory: dict[str, int]


def inspect(experiment: Experiment, state: TrainState) -> Inspection:
    """Look into a run: gradients and activations on the first training batch, predictions on the sets
    kept for testing (where there are none, on those for validation), by the selected ``state``."""
    task, batch = experiment.task, first_batch(experiment)
    sets = experiment.tests or experiment.evals
    tables = {name: confusion(task, state.eval_variables, sets[name]) for name in sets}
    rest = {name: value for name, value in state.variables.items() if name != "params"}
    memory = {
        "parameters": state.variables["params"],
        "optimiser state": state.opt_state,
        "averaged parameters": state.ema,
        "statistics": rest,
        "one training batch": batch,
    }
    return Inspection(
        layers=summary(task, batch),
        flows=flows(task, state.variables, batch, state.key),
        confusion={name: found for name, found in tables.items() if found is not None},
        classes=tuple(map(str, experiment.classes)),
        memory={name: size for name, tree in memory.items() if (size := tree_bytes(tree))},
    )


def confusion(task: Task, variables: Variables, batches: Batches) -> np.ndarray | None:
    """How often each true class (row) was taken for each (column), int ``[classes, classes]``.

    None where the task does not sort examples into classes by their highest score: where batches have
    no integer ``label [batch]`` in range, predictions are not ``[batch, classes]`` numbers, or the share
    of right ones is not the task's own ``accuracy``.
    """
    first = batches[0]
    label = first.get("label")
    if label is None or label.ndim != 1 or not _integer(label):
        return None
    if not task.columns or not first.keys() >= set(task.columns):
        return None
    scores: Any = jax.eval_shape(task.predict, variables, first)
    if not hasattr(scores, "ndim") or scores.ndim != 2 or scores.shape[1] < 2:
        return None
    predict, evaluate, classes = jax.jit(task.predict), jax.jit(task.evaluate), scores.shape[1]
    metrics: Any = None
    counts = np.zeros((classes, classes), np.int64)
    for index in range(len(batches)):  # type: ignore[arg-type]
        batch = batches[index]
        real = np.asarray(batch["mask"]) > 0
        said = np.asarray(predict(variables, batch))[real]
        truth = np.asarray(batch["label"])[real]
        if truth.size and (truth.min() < 0 or truth.max() >= classes or np.isnan(said).any()):
            return None
        np.add.at(counts, (truth, said.argmax(-1)), 1)
        found = evaluate(variables, batch)
        metrics = found if metrics is None else merge(metrics, found)
    right = np.trace(counts) / max(counts.sum(), 1)
    return counts if abs(compute(metrics).get("accuracy", np.nan) - right) < 1e-4 else None


def _integer(x: Any) -> bool:
    return bool(jnp.issubdtype(x.dtype, jnp.integer))


def tree_bytes(tree: Any) -> int:
    """Bytes of all arrays in a tree."""
    leaves = jax.tree.leaves(tree)
    return sum(int(np.prod(x.shape)) * x.dtype.itemsize for x in leaves if hasattr(x, "dtype"))
