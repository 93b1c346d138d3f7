"""What to say of a loss that was not finite."""

from typing import Any

import jax
import jax.numpy as jnp

from dl.core.errors import NonFiniteError
from dl.core.experiment import Experiment
from dl.core.lanes import step_of
from dl.core.metrics import compute
from dl.core.state import TrainState, path_name
from dl.core.task import Batch


def non_finite(lane: Experiment, state: TrainState, saved: list[int]) -> NonFiniteError:
    """The post-mortem of a step whose loss was not finite, redone from the state before it.

    ``lane`` is the experiment with its own values; ``saved`` are the steps of the checkpoints there are.
    """
    step = int(state.step)
    batch = lane.data[step]
    grads, aux = jax.jit(step_of(lane).gradients)(state, batch)  # augmented as the step's own

    def bad(tree: Any) -> list[str]:
        leaves = jax.tree_util.tree_leaves_with_path(tree)
        return [path_name(path) for path, x in leaves if not jnp.isfinite(x.astype(float)).all()]

    loss = compute({"loss": aux.metrics["loss"]})["loss"]
    params, inputs = bad(state.variables["params"]), bad(_floats(batch))
    rows = [int(i) for i in lane.data.indices(step)]
    where = (
        f"in the input column {inputs[0]!r} of {_rows_of(batch[inputs[0]], rows)}"
        if inputs
        else f"first in the parameter {params[0]!r}"
        if params
        else f"first in the gradient of {bad(grads)[0]!r}"
        if bad(grads)
        else "in the loss alone"
    )
    last = f"the last good checkpoint, step {max(saved)}, is intact" if saved else "none was saved"
    return NonFiniteError(
        "loss-not-finite",
        f"the loss became {loss} at step {step}, {where}; batch rows {rows[:8]}"
        f"{'...' if len(rows) > 8 else ''}; {last}. Look at those rows, lower the learning rate, or "
        "clip gradients",
    )


def _rows_of(column: jax.Array, rows: list[int]) -> str:
    """Which of a batch's ``rows`` of the data set are not finite in ``column``."""
    odd = [row for row, x in zip(rows, column, strict=True) if not jnp.isfinite(x).all()]
    return f"row{'s' if len(odd) > 1 else ''} {', '.join(map(str, odd[:8]))}"


def _floats(batch: Batch) -> Batch:
    return {k: v for k, v in batch.items() if jnp.issubdtype(v.dtype, jnp.floating)}
