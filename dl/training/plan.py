"""What an experiment will cost, read from its compiled program before a step is taken."""

import time
from typing import Any

import jax
import numpy as np
from rich.table import Table

from dl.core.experiment import Experiment
from dl.parallel.mesh import mesh_name
from dl.platform import screen
from dl.runs.options import Options
from dl.training.checks import check
from dl.training.compiled import Compiled, StepProgram
from dl.training.placing import layout_of
from dl.training.prefetch import check_divisible, prefetch


def tree_bytes(tree: Any) -> int:
    leaves = jax.tree.leaves(tree)
    return sum(int(np.prod(x.shape)) * x.dtype.itemsize for x in leaves if hasattr(x, "dtype"))


def device_bytes(tree: Any) -> int:
    """Bytes of a tree's arrays, or shapes that lie somewhere, on the first of the devices they lie on."""

    def share(x: Any) -> Any:
        lies = getattr(x, "sharding", None)
        return x.shape if lies is None else lies.shard_shape(x.shape)

    leaves = (x for x in jax.tree.leaves(tree) if hasattr(x, "dtype"))
    shapes = ((share(x), x.dtype) for x in leaves)
    return sum(int(np.prod(shape)) * dtype.itemsize for shape, dtype in shapes)


def bytes_in_words(count: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.3g} {unit}"
        count /= 1024
    return f"{count:.4g} GiB"


def step_cost(program: StepProgram) -> dict[str, float]:
    """FLOPs and bytes of one step, and the temporary memory, as XLA's own analysis gives them."""
    cost = program.compiled.cost_analysis() or {}
    cost = cost[0] if isinstance(cost, list) else cost
    memory = program.compiled.memory_analysis()
    return {
        "flops": float(cost.get("flops", 0.0)),
        "temporary": float(getattr(memory, "temp_size_in_bytes", 0)),
        "arguments": float(getattr(memory, "argument_size_in_bytes", 0)),
    }


def plan_experiment(
    experiment: Experiment,
    spent: dict[str, float] | None = None,
    options: Options | None = None,
    lanes: int | None = None,
    told: str = "",
) -> None:
    """Print parameters, memory and FLOPs; with the seconds ``spent`` so far, by what on, also what else
    the start of a run costs.

    Args:
      options: of the run; of them its mesh decides the plan.
      lanes: of a sweep that share the program; ``told``: what sets the program apart from the sweep's others.
    """
    options = options or Options()
    log_every = options.cadence(experiment.steps)["log_every"]  # raises where there is none
    times, mark = dict(spent or {}), time.perf_counter()

    def took(what: str) -> None:
        nonlocal mark
        times[what], mark = time.perf_counter() - mark, time.perf_counter()

    check(experiment)
    took("check the experiment")
    layout = layout_of(options.mesh, experiment, options.deterministic_topology)
    if layout is not None:
        check_divisible(experiment, layout)
    compiled = Compiled.alone(experiment, layout)
    took("find what can be traced")
    begin = compiled.beginning()
    source = prefetch(experiment.data, 0, layout)
    batches, _ = source.at(0)
    program = compiled.step(begin.shapes, batches, log_every)
    took("trace the programs of state and step")
    state = jax.block_until_ready(begin.state())
    took("make the state, while both compile")
    program.wait()
    took("compile the rest of the step")
    cost = step_cost(program)
    params = state.variables["params"]
    count = sum(int(np.prod(x.shape)) for x in jax.tree.leaves(params))

    title = f"{experiment.steps:,} steps of {experiment.data.batch_size}"
    if layout is not None:
        title += f" on {mesh_name(layout.mesh)}, the share of one device"
    if lanes is not None:
        title = f"{lanes} lane{'s' if lanes > 1 else ''}{told}, each {title}"
    table = Table("what", "amount", title=title)
    table.add_row("training examples", f"{experiment.data.size:,}")
    table.add_row("parameters", f"{count:,}")
    table.add_row("memory of parameters", bytes_in_words(device_bytes(params)))
    table.add_row("memory of optimiser state", bytes_in_words(device_bytes(state.opt_state)))
    table.add_row("memory of averages and statistics", bytes_in_words(
        device_bytes(state.ema) + device_bytes(state.variables) - device_bytes(params)
    ))  # fmt: skip
    table.add_row("memory of activations and temporaries", bytes_in_words(cost["temporary"]))
    table.add_row("memory of data on the device", bytes_in_words(device_bytes(batches)))
    table.add_row("FLOPs a step", f"{cost['flops']:.3g}")
    table.add_row("FLOPs of the run", f"{cost['flops'] * experiment.steps:.3g}")
    if lanes is not None:
        whole = cost["flops"] * experiment.steps * lanes
        table.add_row("FLOPs of all these lanes", f"{whole:.3g}")
    if spent is not None:
        mark = time.perf_counter()
        jax.block_until_ready(program(state, program.zeros(), batches, 1))
        took("take the first step")
        for what, seconds in times.items():
            table.add_row(f"seconds to {what}", f"{seconds:.2f}")
        table.add_row("seconds from start to first step", f"{sum(times.values()):.2f}")
    source.close()
    screen().print(table)
