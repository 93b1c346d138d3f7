"""What an experiment will cost, read from its compiled program before a step is taken."""

import time
from typing import Any

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

from dl.core.experiment import Experiment
from dl.core.population import liftable
from dl.training.checks import check
from dl.training.feed import feed
from dl.training.programs import TrainProgram, initial_state


def tree_bytes(tree: Any) -> int:
    leaves = jax.tree.leaves(tree)
    return sum(int(np.prod(x.shape)) * x.dtype.itemsize for x in leaves if hasattr(x, "dtype"))


def step_cost(program: TrainProgram) -> dict[str, float]:
    """FLOPs and bytes of one step, and the temporary memory, as XLA's own analysis gives them."""
    cost = program.compiled.cost_analysis() or {}
    cost = cost[0] if isinstance(cost, list) else cost
    memory = program.compiled.memory_analysis()
    return {
        "flops": float(cost.get("flops", 0.0)),
        "temporary": float(getattr(memory, "temp_size_in_bytes", 0)),
        "arguments": float(getattr(memory, "argument_size_in_bytes", 0)),
    }


def plan_experiment(config: Any, experiment: Experiment, *, timing: bool = False) -> None:
    """Print parameters, memory and FLOPs; with ``timing``, also what the start of a run costs."""
    check(experiment)
    begun = time.perf_counter()
    values = liftable(experiment)
    state = initial_state(experiment, values)
    jax.block_until_ready(state.step)
    made = time.perf_counter()
    source = feed(experiment.data)
    batches, _ = source.at(0)
    program = TrainProgram(experiment, state, batches, values)
    compiled = time.perf_counter()
    cost = step_cost(program)
    params = state.variables["params"]
    count = sum(int(np.prod(x.shape)) for x in jax.tree.leaves(params))

    table = Table(
        "what", "amount", title=f"{experiment.steps:,} steps of {experiment.data.batch_size}"
    )
    table.add_row("training examples", f"{experiment.data.size:,}")
    table.add_row("parameters", f"{count:,}")
    table.add_row("memory of parameters", _bytes(tree_bytes(params)))
    table.add_row("memory of optimiser state", _bytes(tree_bytes(state.opt_state)))
    table.add_row("memory of averages and statistics", _bytes(
        tree_bytes(state.ema) + tree_bytes(state.variables) - tree_bytes(params)
    ))  # fmt: skip
    table.add_row("memory of activations and temporaries", _bytes(cost["temporary"]))
    table.add_row("memory of data on the device", _bytes(tree_bytes(batches)))
    table.add_row("FLOPs a step", f"{cost['flops']:.3g}")
    table.add_row("FLOPs of the run", f"{cost['flops'] * experiment.steps:.3g}")
    if timing:
        zeros = program.zeros()
        jax.block_until_ready(program(state, zeros, batches, 1))
        stepped = time.perf_counter()
        table.add_row("seconds to make the state", f"{made - begun:.2f}")
        table.add_row("seconds to compile the step", f"{compiled - made:.2f}")
        table.add_row("seconds of the first step", f"{stepped - compiled:.2f}")
    source.close()
    Console(highlight=False).print(table)


def _bytes(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.3g} {unit}"
        count /= 1000
    return ""
