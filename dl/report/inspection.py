"""A trained run looked into: its layers, its memory, and what it mistakes for what."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import numpy as np

from dl.core.experiment import Experiment
from dl.core.lanes import first_batch
from dl.core.state import TrainState
from dl.report.judged import Judged, Off, farthest, judge
from dl.report.layers import Flow, Summary, flows, summary


class Inspection(NamedTuple):
    """What only a run's code can tell of it.

    Attributes:
      judged: what the task says of each set's rows; empty where it is no classification.
      classes: names of the classes; empty where the experiment gives none; names: of features and tokens.
      memory: bytes by what holds them.
      far: of each set of a task that predicts numbers, where it is farthest off, and what its error hangs on.
      cells: by set and number of a row that is shown, its table's cells by heading.
      slices: by column and value the number of ``rows`` and each metric's value, and the interval that it lies in.
    """

    layers: Summary
    flows: dict[str, Flow]
    judged: dict[str, Judged]
    classes: tuple[str, ...]
    names: Mapping[str, Sequence[str]]
    memory: dict[str, int]
    slices: Mapping[str, Mapping[str, Mapping[str, Any]]] = MappingProxyType({})
    far: Mapping[str, Off] = MappingProxyType({})
    cells: Mapping[str, Mapping[int, Mapping[str, str]]] = MappingProxyType({})


def inspect(experiment: Experiment, state: TrainState) -> Inspection:
    """Look into a run: gradients and activations on the first training batch, predictions on the sets
    kept for testing (where there are none, on those for validation), by the selected ``state``."""
    task, batch = experiment.task, first_batch(experiment)
    sets = experiment.tests or experiment.evals
    found = {n: judge(task, state.eval_variables, sets[n], experiment.names) for n in sets}
    others = [n for n, one in found.items() if one is None]
    far = {n: farthest(task, state.eval_variables, sets[n], experiment.names) for n in others}
    shown = {n: {one.row for one in off.rows} for n, off in far.items() if off}
    shown |= {n: {one.row for one in (*j.worst, *j.unsure)} for n, j in found.items() if j}
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
        judged={name: one for name, one in found.items() if one is not None},
        classes=tuple(map(str, experiment.classes)),
        names=experiment.names,
        far={name: off for name, off in far.items() if off},
        cells={
            name: {row: experiment.cells(name, row) for row in sorted(rows)}
            for name, rows in shown.items()
            if experiment.cells
        },
        memory={name: size for name, tree in memory.items() if (size := tree_bytes(tree))},
    )


def tree_bytes(tree: Any) -> int:
    """Bytes of all arrays in a tree."""
    leaves = jax.tree.leaves(tree)
    return sum(int(np.prod(x.shape)) * x.dtype.itemsize for x in leaves if hasattr(x, "dtype"))
