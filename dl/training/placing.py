"""Where a run's arrays lie, and the step that is taken there."""

from typing import Any

import jax
import jax.numpy as jnp

from dl import platform
from dl.core.experiment import Experiment
from dl.core.lanes import step_of
from dl.core.step import Step
from dl.parallel.deterministic import SHARDS, check_topology, deterministic
from dl.parallel.devices import Machine
from dl.parallel.mesh import make_mesh
from dl.parallel.sharding import TRANSFORMER, Layout, sharded


@jax.jit
def copied(tree: Any) -> Any:
    """Copies of a tree's arrays, each where its own lies, by one program for all of their shapes."""
    return jax.tree.map(jnp.copy, tree)


def layout_of(
    mesh: str | None,
    experiment: Experiment,
    same_bits: bool = False,
    elsewhere: Machine | None = None,
) -> Layout | None:
    """Where a run's arrays lie: on one device (None), or on the mesh asked for; on all devices by
    ``data`` where several processes run without one. A mesh ``elsewhere`` is of that machine's devices.

    Raises:
      UserError: there is no such mesh here, or it allows no deterministic topology.
    """
    if mesh is None and jax.process_count() == 1:
        if not same_bits:
            return None
        mesh = "data=1"
    if jax.default_backend() == "cpu":
        platform.stop_caching_programs()
    rules = (*experiment.sharding, *TRANSFORMER)
    devices = None if elsewhere is None else elsewhere.devices
    layout = Layout(make_mesh(mesh or "data=-1", devices), rules, SHARDS if same_bits else None)
    if same_bits:
        check_topology(layout)
    return layout


def step_on(experiment: Experiment, layout: Layout | None) -> Step:
    """The train step of an experiment as it is taken on a mesh."""
    if layout is None:
        return step_of(experiment)
    if layout.shards:  # of each member of an ensemble by itself, whose losses may weigh differently
        return step_of(experiment, lambda step: deterministic(step, layout))
    return sharded(step_of(experiment), layout)
