"""What is logged of a run beside the metrics of its task, by programs of their own that only read the state."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from dl.core.lanes import Traced, rebuild
from dl.core.state import TrainState
from dl.core.step import tree_norm
from dl.training.compiled import Compiled
from dl.training.lane import Cadence
from dl.training.placing import copied


class Watch:
    """The scalars of a state, and how far one step moves the parameters; of lanes one for each."""

    def __init__(self, compiled: Compiled):
        self.compiled = compiled

    def scalars(self, state: TrainState) -> dict[str, Any]:
        """The experiment's ``scalars``, on the device."""
        if self.compiled.experiment.scalars is None:
            return {}
        return self._scalars(state, self.compiled.traced)

    def ahead(self, cadence: Cadence, step: int, state: TrainState) -> tuple[int, Any]:
        """The step to go on to from ``step``, and the parameters before it where how far it moves them is logged:
        such a step is taken by itself."""
        target = cadence.next(step)
        if not cadence.watched(target):
            return target, None
        if step < target - 1:
            return target - 1, None
        return target, self.copied(state)

    def copied(self, state: TrainState) -> Any:
        """The parameters, for the step that is about to overwrite them; None where the device may not have room
        for them twice."""
        params = state.variables["params"]
        stats = jax.local_devices()[0].memory_stats() or {}
        if "bytes_limit" in stats:
            size = sum(x.addressable_shards[0].data.nbytes for x in jax.tree.leaves(params))
            if stats.get("peak_bytes_in_use", 0) + size > stats["bytes_limit"]:
                return None
        return copied(params)

    def moved(self, before: Any, state: TrainState) -> dict[str, Any]:
        """The norm of what the last step added to the parameters, and its ratio to theirs, on the device."""
        return self._moved(before, state.variables["params"])

    @functools.cached_property
    def _moved(self) -> Callable[..., Any]:
        def moved(before: Any, after: Any) -> dict[str, jax.Array]:
            norm = tree_norm(jax.tree.map(jnp.subtract, after, before))
            size = tree_norm(before)
            return {"update_norm": norm, "update_ratio": norm / jnp.maximum(size, 1e-12)}

        return self._program(moved, 2)

    @functools.cached_property
    def _scalars(self) -> Callable[..., Any]:
        def scalars(state: TrainState, traced: Traced) -> dict[str, jax.Array]:
            own = rebuild(self.compiled.experiment, traced).scalars
            assert own is not None
            return {name: jnp.asarray(value) for name, value in own(state).items()}

        return self._program(scalars, 2)

    def _program(self, function: Callable[..., Any], own: int) -> Callable[..., Any]:
        mesh = self.compiled.mesh
        lies = {} if mesh is None else {"out_shardings": mesh.whole}
        return self.compiled.jit(function, own, 0, **lies)
