"""The compiled programs of a run or of a sweep's lanes, made ahead of time so that their cost is known."""

import functools
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Sharding, SingleDeviceSharding

from dl.core.experiment import Experiment
from dl.core.lanes import (
    AXIS,
    Mode,
    Traced,
    graft,
    initial,
    metrics_of,
    over_lanes,
    rebuild,
    shape_source,
    traceable_fields,
)
from dl.core.metrics import Metrics
from dl.core.state import TrainState
from dl.core.step import Progress, Step, guarded, logged, scan_steps
from dl.core.target import target, tracing_for
from dl.models.convolution import has_slow_convolution
from dl.parallel.devices import Machine
from dl.parallel.sharding import CutBatches, Layout, jit_lanes, lane_layout, one_lane, stack_lanes
from dl.training.compiling import compiling, program_digest
from dl.training.placing import step_on


class Beginning(NamedTuple):
    """The state that a process starts from, perhaps still in the making.

    Attributes:
      step: its step; shapes: the state, or only its shapes; state: waits for the state itself.
    """

    step: int
    shapes: TrainState
    state: Callable[[], TrainState]


class Compiled:
    """The programs of a run, or of a sweep's lanes, and the platform they are for: that which makes the
    state, a step's and a set's evaluation, all of the same traced values, in the same mode and layout.

    Attributes:
      experiment: what they compute.
      traced: the config's traced fields; of lanes arrays ``[lanes]``.
      mode: how lanes are computed; None for a run alone, whose trees have no axis of lanes.
      layout: where arrays lie on a mesh, or which devices the lanes are dealt to; None on one device.
      target: the platform that the programs are for, and the mesh that models hold their activations to.
      elsewhere: the machine that they are for, where it is not this one.
      compiler_options: XLA's for these programs, beside those of the whole process.
    """

    def __init__(
        self,
        experiment: Experiment,
        traced: Traced | Sequence[Traced] | None = None,
        mode: Mode | None = None,
        layout: Layout | None = None,
        metrics: Metrics | None = None,
        elsewhere: Machine | None = None,
    ):
        """``traced`` are the values of a run alone, or those of each lane; ``metrics`` the shapes of a training
        step's, where known (:func:`~dl.core.lanes.traceable_fields`); ``elsewhere``, all arguments are shapes."""
        self._metrics = metrics
        self.experiment, self.mode = experiment, mode
        self._each: list[Traced] = [traced or {}] if mode is None else list(traced)  # type: ignore
        if mode is None:
            self.traced, self.layout = self._each[0], layout
        else:  # weakly typed, as the numbers are
            self.traced = {
                name: jnp.stack([jnp.asarray(lane[name]) for lane in self._each])
                for name in self._each[0]
            }
            self.layout = lane_layout(len(self._each))
        # Micro-shards are computed where they lie, each on one device.
        held = self.mesh.mesh if self.mesh is not None and not self.mesh.shards else None
        self.elsewhere = elsewhere
        here = target()
        if elsewhere is not None:
            card = elsewhere.target
            here = here._replace(platform=card.platform, capability=card.capability)
        self.target, exact = here._replace(mesh=held), here.deterministic and here.platform == "gpu"
        self.compiler_options = {"xla_gpu_deterministic_ops": True} if exact else {}

    @classmethod
    def alone(
        cls,
        experiment: Experiment,
        layout: Layout | None = None,
        elsewhere: Machine | None = None,
    ) -> "Compiled":
        """Of a run alone, every field traced that may be: so it has the bits of a lane."""
        found = traceable_fields(experiment)
        return cls(experiment, found.values, None, layout, found.metrics, elsewhere)

    @classmethod
    def of_lanes(
        cls,
        experiment: Experiment,
        configs: Sequence[Any],
        fields: Sequence[str],
        mode: Mode,
        metrics: Metrics | None = None,
    ) -> "Compiled":
        """Of lanes whose configs differ from the experiment's in traced ``fields`` alone; without any there is
        one lane, which runs alone."""
        if not fields:
            return cls(experiment, metrics=metrics)
        own = [{name: getattr(config, name) for name in fields} for config in configs]
        return cls(experiment, own, mode, metrics=metrics)

    @property
    def lanes(self) -> int:
        """How many there are; a run alone is one."""
        return len(self._each)

    @property
    def mesh(self) -> Layout | None:
        """The layout where it is one of a run's mesh."""
        return self.layout if self.mode is None else None

    def lane(self, place: int) -> Experiment:
        """The experiment of one lane, its own values in its config."""
        return self.experiment if self.mode is None else rebuild(self.experiment, self._each[place])

    def pick(self, tree: Any, place: int) -> Any:
        """One lane of a stacked tree; the tree itself of a run alone."""
        return tree if self.mode is None else one_lane(tree, place, self.layout)

    def shapes(self) -> TrainState:
        """The state's shapes, each lying where it is to lie."""
        data = shape_source(self.experiment)
        with tracing_for(self.target):
            state = jax.eval_shape(
                lambda traced, data: initial(self.experiment, traced, data), self._each[0], data
            )
        if self.mode is not None:
            state = jax.eval_shape(lambda tree: jax.tree.map(self._repeated, tree), state)
        return self.lying(state, self.mesh.state(state) if self.mesh is not None else None)

    def lying(self, tree: Any, shardings: Any = None) -> Any:
        """Shapes of ``tree`` that lie as ``shardings`` say, which may be one for all; by default whole on the
        mesh's devices, or on one device elsewhere."""
        if shardings is None and self.mesh is not None:
            shardings = self.mesh.whole
        elif shardings is None and self.elsewhere is not None and self.elsewhere.devices:
            shardings = SingleDeviceSharding(self.elsewhere.devices[0])
        if not isinstance(shardings, Sharding | None):
            return jax.tree.map(_lying, tree, shardings)
        return jax.tree.map(lambda leaf: _lying(leaf, shardings), tree)

    def lower(self, traced: Any) -> Any:
        """A traced program, lowered for where it is to run."""
        if self.elsewhere is None:
            return traced.lower()
        return traced.lower(lowering_platforms=(self.elsewhere.lowered_for,))

    def beginning(self) -> Beginning:
        """The state before the first step (of every lane), from one program that begins to compile.

        On a mesh it is made where it is to lie: no device ever holds it whole.
        """
        data = shape_source(self.experiment)

        def make(traced: Traced, data: Any) -> TrainState:
            with tracing_for(self.target):
                return initial(self.experiment, traced, data)

        # Only shapes matter, so the compiler drops the gather and the data never moves.
        if self.mesh is not None:
            shardings = self.mesh.state(jax.eval_shape(make, self.traced, data))
            state = jax.jit(make, out_shardings=shardings)(self.traced, data)
            return Beginning(0, state, lambda: state)
        # Lanes begin one by one, by the program of a run alone: in a loop over lanes, XLA for CPU may cut a
        # random draw into other vectors, whose last bits differ.
        lowered = jax.jit(make).lower(self._each[0], data)
        # It runs once: on CPU, LLVM's first level gives the same bits after a third of the time.
        on_cpu = self.target.platform == "cpu"
        once = {"xla_backend_optimization_level": 1} if on_cpu else {}
        compiled = compiling(lowered, once | self.compiler_options)
        if self.mode is None:
            return Beginning(0, lowered.out_info, lambda: compiled()(self.traced, data))

        def lanes() -> TrainState:
            return stack_lanes([compiled()(lane, data) for lane in self._each], self.layout)

        shapes = jax.eval_shape(lambda tree: jax.tree.map(self._repeated, tree), lowered.out_info)
        return Beginning(0, shapes, lanes)

    def _repeated(self, leaf: Any) -> Any:
        return jnp.broadcast_to(leaf, (self.lanes, *leaf.shape))

    def empty_metrics(self) -> Metrics:
        """Training metrics of nothing (of every lane); shapes of them for a machine elsewhere."""
        self._metrics = self._metrics or metrics_of(self.experiment)
        front = () if self.mode is None else (self.lanes,)
        totals = jax.tree.map(lambda x: jnp.zeros((*front, *x.shape), x.dtype), self._metrics)
        if self.elsewhere is not None:
            return self.lying(totals)
        return totals if self.mesh is None else self.mesh.everywhere(totals)

    def traced_step(
        self, state: TrainState, totals: Metrics, batches: Any, log_every: int = 1
    ) -> tuple[Any, bool]:
        """The training program of these arguments or shapes, traced; and whether it is a loop over steps."""
        mesh, at_once = self.mesh, AXIS if self.mode == "vmap" else None
        told = logged(log_every, self.experiment.steps, at_once)

        def bound(traced: Traced, batches: Any) -> tuple[Step, Any]:
            lane = rebuild(self.experiment, traced)
            own = graft(lane.data, batches)
            return step_on(lane, mesh), own if mesh is None else CutBatches(own, mesh)

        def steps(
            state: TrainState, totals: Metrics, count: Any, traced: Traced, batches: Any
        ) -> Any:
            step, own = bound(traced, batches)
            return scan_steps(step, told)(state, totals, own, count)

        def one(
            state: TrainState, totals: Metrics, finite: Any, traced: Traced, batches: Any
        ) -> Any:
            step, own = bound(traced, batches)
            return guarded(step, told)(state, totals, finite, own)

        # The totals are a few scalars: not donating them lets one set of zeros serve every window.
        lies: Any = {"donate_argnums": 0}
        if mesh is not None:
            lies["out_shardings"] = (mesh.state(state), mesh.whole, mesh.whole)
        own = (state, totals)
        with tracing_for(self.target):
            traced = self.jit(steps, 4, 1, **lies).trace(*own, self.counts(1), self.traced, batches)
            if self.looped(traced):
                return traced, True
            return jax.jit(one, **lies).trace(*own, np.True_, self.traced, batches), False

    def counts(self, count: int, active: np.ndarray | None = None) -> Any:
        """What tells the loop how many steps to take: of lanes ``[lanes]``, 0 for those not ``active``."""
        if self.mode is None:
            return np.int32(count)
        return np.full(self.lanes, count, np.int32) * (True if active is None else active)

    def step(self, state: TrainState, batches: Any, log_every: int = 1) -> "StepProgram":
        """The training program for these arguments, of a run that logs so often; shapes will do for ``state``."""
        return StepProgram(self, state, batches, log_every)

    def jit(self, function: Callable[..., Any], own: int, shared: int, **options: Any) -> Any:
        """``function`` of a lane over all of them, jitted: its first ``own`` arguments have lanes, the last
        ``shared`` are everyone's."""
        many = over_lanes(function, self.mode, shared)
        if self.mode is None or self.layout is None:
            return jax.jit(many, **options)
        return jit_lanes(many, self.layout, own, shared, **options)

    def looped(self, traced: Any) -> bool:
        """Whether steps may be a compiled loop. XLA for CPU computes most convolutions some ten times slower
        inside one.

        The answer hangs on the program alone, never on a measurement, so that a run's bits cannot depend
        on how busy the machine was.
        """
        alone_on_cpu = self.mode is None and self.target.platform == "cpu"
        return not (alone_on_cpu and has_slow_convolution(traced.jaxpr.jaxpr))


def _lying(leaf: Any, sharding: Any) -> Any:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


class StepProgram:
    """``(state, totals, batches, count) -> (state, totals, finite)``, compiled for these arguments.

    It compiles in the background from when it is made; the first use waits. Of lanes, all four but the
    batches have a leading axis. ``count`` steps are one dispatch of a compiled loop, unless the program
    must not loop (:meth:`Compiled.looped`).
    """

    def __init__(self, compiled: Compiled, state: TrainState, batches: Any, log_every: int):
        begun = time.perf_counter()
        self.owner, self._empty = compiled, compiled.empty_metrics()
        self.traced, self.looped = compiled.traced_step(state, self._empty, batches, log_every)
        lowered = compiled.lower(self.traced)
        self.digest = program_digest(lowered.as_text())
        self._compiled = compiling(lowered, compiled.compiler_options)
        self._traced_in = time.perf_counter() - begun

    @functools.cached_property
    def compiled(self) -> Any:
        return self._compiled()

    def wait(self) -> float:
        """Until it is compiled; the seconds that tracing it and this wait took of the caller."""
        begun = time.perf_counter()
        _ = self.compiled
        return self._traced_in + time.perf_counter() - begun

    def zeros(self) -> Metrics:
        return self._empty

    def __call__(
        self,
        state: TrainState,
        totals: Metrics,
        batches: Any,
        count: int,
        active: np.ndarray | None = None,
    ) -> Progress:
        """``active`` ``[lanes]`` says which lanes move; the others stand still."""
        traced = self.owner.traced
        if self.looped:
            return self.compiled(state, totals, self.owner.counts(count, active), traced, batches)
        finite: Any = np.True_
        for _ in range(count):
            state, totals, finite = self.compiled(state, totals, finite, traced, batches)
        return state, totals, finite
