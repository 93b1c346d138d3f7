"""The compiled programs of a run or of a sweep's lanes, made ahead of time so that their cost is known."""

import functools
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dl import platform
from dl.core.experiment import Experiment
from dl.core.lanes import (
    Mode,
    Traced,
    empty_totals,
    evaluation_of,
    graft,
    initial,
    over_lanes,
    rebuild,
    shape_source,
    step_of,
)
from dl.core.metrics import Metrics, merge
from dl.core.state import TrainState
from dl.core.step import Step, guarded, scan_evaluation, scan_steps, zero_metrics
from dl.parallel.deterministic import (
    SHARDS,
    check_topology,
    deterministic,
    deterministic_evaluation,
)
from dl.parallel.mesh import make_mesh
from dl.parallel.sharding import TRANSFORMER, CutBatches, Layout, jit_lanes, lane_layout, sharded


def has_slow_convolution(jaxpr) -> bool:
    """Whether a program holds, at any depth, a convolution that XLA for CPU is slow at in a loop.

    Fast there are those that are not grouped and have their axes in order: batch or, in the kernel,
    window first, features last. Those of `dl.models.convolution` are, in every derivative.
    """
    for equation in jaxpr.eqns:
        if equation.primitive.name == "conv_general_dilated":
            axes = equation.params["dimension_numbers"]
            last = len(axes.lhs_spec) - 1
            ends = (0, last, *range(1, last))
            ordered = axes.lhs_spec == ends and axes.out_spec == ends
            ordered = ordered and axes.rhs_spec == (last, last - 1, *range(last - 1))
            groups = equation.params["feature_group_count"] * equation.params["batch_group_count"]
            if not ordered or groups > 1:
                return True
        for value in jax.tree.leaves(equation.params, is_leaf=_is_jaxpr):
            if _is_jaxpr(value) and has_slow_convolution(getattr(value, "jaxpr", value)):
                return True
    return False


def _is_jaxpr(value) -> bool:
    return hasattr(value, "eqns") or hasattr(getattr(value, "jaxpr", None), "eqns")


def _must_not_loop(traced, mode: Mode | None) -> bool:
    """XLA for CPU computes most convolutions some ten times slower inside a compiled loop.

    The answer hangs on the program alone, never on a measurement, so that a run's bits cannot depend
    on how busy the machine was.
    """
    if mode is not None or jax.default_backend() != "cpu":
        return False
    return has_slow_convolution(traced.jaxpr.jaxpr)


def lane_values(values: list[Traced]) -> Traced:
    """The values of several lanes as arrays ``[lanes]``, weakly typed like the numbers they are."""
    return {n: jnp.stack([jnp.asarray(lane[n]) for lane in values]) for n in values[0]}


def layout_of(mesh: str | None, experiment: Experiment, same_bits: bool = False) -> Layout | None:
    """Where a run's arrays lie: on one device (None), or on the mesh asked for; on all devices by
    ``data`` where several processes run without one.

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
    layout = Layout(make_mesh(mesh or "data=-1"), rules, SHARDS if same_bits else None)
    if same_bits:
        check_topology(layout)
    return layout


def _placed(experiment: Experiment, layout: Layout) -> Step:
    if layout.shards:  # of each member of an ensemble by itself, whose losses may weigh differently
        return step_of(experiment, lambda step: deterministic(step, layout))
    return sharded(step_of(experiment), layout)


def _compiling(lowered: Any, options: dict[str, Any] | None = None) -> Callable[[], Any]:
    """Compile on a thread of its own, as XLA needs no Python for it; the result waits for the program."""
    future: Future = Future()

    def compile_it() -> None:
        try:
            future.set_result(lowered.compile(compiler_options=options))
        except BaseException as error:
            future.set_exception(error)

    # Not a daemon: XLA aborts the process where Python ends under it.
    threading.Thread(target=compile_it).start()
    return future.result


def _jit(function, mode: Mode | None, values: Traced, own: int, shared: int, **options: Any):
    """`over_lanes` of ``function``, jitted; lanes are dealt to the devices there are."""
    lanes = len(next(iter(values.values()))) if mode is not None else 1
    layout = lane_layout(lanes)
    many = over_lanes(function, mode, shared)
    if layout is None:
        return jax.jit(many, **options)
    return jit_lanes(many, layout, own, shared, **options)


class Beginning(NamedTuple):
    """The state that a process starts from, perhaps still in the making.

    Attributes:
      step: its step; shapes: the state, or only its shapes; state: waits for the state itself.
    """

    step: int
    shapes: TrainState
    state: Callable[[], TrainState]


def beginning(
    experiment: Experiment,
    values: Traced | None = None,
    mode: Mode | None = None,
    layout: Layout | None = None,
) -> Beginning:
    """The state before the first step (of every lane), from one program that begins to compile.

    With a ``layout`` it is made where it is to lie: no device ever holds it whole.
    """
    values = values or {}
    data = shape_source(experiment)

    def make(values, data):
        return initial(experiment, values, data)

    # Only shapes matter, so the compiler drops the gather and the data never moves.
    if layout is not None:
        shardings = layout.state(jax.eval_shape(make, values, data))
        state = jax.jit(make, out_shardings=shardings)(values, data)
        return Beginning(0, state, lambda: state)
    lowered = _jit(make, mode, values, 1, 1).lower(values, data)
    # It runs once: on CPU, LLVM's first level gives the same bits after a third of the time.
    on_cpu = jax.default_backend() == "cpu"
    compiled = _compiling(lowered, {"xla_backend_optimization_level": 1} if on_cpu else None)
    return Beginning(0, lowered.out_info, lambda: compiled()(values, data))


def initial_state(
    experiment: Experiment,
    values: Traced | None = None,
    mode: Mode | None = None,
    layout: Layout | None = None,
) -> TrainState:
    """The state before the first step (of every lane)."""
    return beginning(experiment, values, mode, layout).state()


def empty_metrics(
    experiment: Experiment,
    values: Traced | None = None,
    mode: Mode | None = None,
    layout: Layout | None = None,
) -> Metrics:
    """Empty training metrics (of every lane)."""
    data = shape_source(experiment)
    values = values or {}
    one = jax.tree.map(lambda v: v[0], values) if mode else values
    totals = empty_totals(experiment, one, data)
    if mode is None:
        return totals if layout is None else layout.everywhere(totals)
    lanes = len(next(iter(values.values())))
    return jax.tree.map(lambda x: jnp.zeros((lanes, *x.shape), x.dtype), totals)


class TrainProgram:
    """``(state, totals, batches, count) -> (state, totals, finite)``, compiled for these arguments.

    It compiles in the background from when it is made; the first use waits. Shapes will do for ``state``.
    With a ``mode``, all four but the batches have a leading axis of lanes. ``count`` steps are one
    dispatch of a compiled loop, unless `_must_not_loop`.
    """

    def __init__(
        self,
        experiment: Experiment,
        state: TrainState,
        batches: Any,
        values: Traced | None = None,
        mode: Mode | None = None,
        layout: Layout | None = None,
    ):
        begun = time.perf_counter()
        self.values, self.mode = values or {}, mode
        self._empty = empty_metrics(experiment, values, mode, layout)

        def bound(values, batches):
            lane = rebuild(experiment, values)
            own = graft(lane.data, batches)
            if layout is None:
                return step_of(lane), own
            return _placed(lane, layout), CutBatches(own, layout)

        def steps(state, totals, count, values, batches):
            step, own = bound(values, batches)
            return scan_steps(step)(state, totals, own, count)

        def one(state, totals, finite, values, batches):
            step, own = bound(values, batches)
            return guarded(step)(state, totals, finite, own)

        count = self._counts(1)
        # The totals are a few scalars: not donating them lets one set of zeros serve every window.
        lies: Any = {"donate_argnums": 0}
        if layout is not None:
            lies["out_shardings"] = (layout.state(state), layout.whole, layout.whole)
        loop = _jit(steps, mode, self.values, 4, 1, **lies)
        traced = loop.trace(state, self._empty, count, self.values, batches)
        self.looped = not _must_not_loop(traced, mode)
        if not self.looped:
            single = jax.jit(one, **lies)
            traced = single.trace(state, self._empty, np.True_, self.values, batches)
        self._compiled = _compiling(traced.lower())
        self._traced_in = time.perf_counter() - begun

    @functools.cached_property
    def compiled(self) -> Any:
        return self._compiled()

    def wait(self) -> float:
        """Until it is compiled; the seconds that tracing it and this wait took of the caller."""
        begun = time.perf_counter()
        _ = self.compiled
        return self._traced_in + time.perf_counter() - begun

    def _counts(self, count: int, active: np.ndarray | None = None) -> Any:
        if self.mode is None:
            return np.int32(count)
        lanes = len(next(iter(self.values.values())))
        active = np.ones(lanes, bool) if active is None else active
        return np.where(active, count, 0).astype(np.int32)

    def zeros(self) -> Metrics:
        return self._empty

    def __call__(self, state, totals, batches, count: int, active: np.ndarray | None = None):
        """``active`` ``[lanes]`` says which lanes move; the others stand still."""
        if self.looped:
            counts = self._counts(count, active)
            return self.compiled(state, totals, counts, self.values, batches)
        finite = np.True_
        for _ in range(count):
            state, totals, finite = self.compiled(state, totals, finite, self.values, batches)
        return state, totals, finite


class EvalProgram:
    """``(state, totals, batches, start, count) -> totals`` over evaluation batches (of every lane)."""

    def __init__(
        self,
        experiment: Experiment,
        state: TrainState,
        batches: Any,
        values: Traced | None = None,
        mode: Mode | None = None,
        layout: Layout | None = None,
    ):
        begun = time.perf_counter()
        self.values = values or {}
        zero = np.int32(0)

        def bound(values, batches):
            evaluate = evaluation_of(experiment, values)
            if layout is None:
                return evaluate, batches
            if layout.shards:
                evaluate = deterministic_evaluation(evaluate, layout)
            return evaluate, CutBatches(batches, layout, pad=True)

        def batch_metrics(state, values, batches):
            return evaluation_of(experiment, values)(state, batches[zero])

        def steps(state, totals, values, batches, start, count):
            evaluate, own = bound(values, batches)
            return scan_evaluation(evaluate)(state, totals, own, start, count)

        def one(state, totals, values, batches, index):
            evaluate, own = bound(values, batches)
            return merge(totals, evaluate(state, own[index]))

        lanes = over_lanes(batch_metrics, mode, shared=1)
        self._empty = zero_metrics(lanes, state, self.values, batches)
        lies: Any = {"donate_argnums": 1}
        if layout is not None:
            self._empty = layout.everywhere(self._empty)
            lies["out_shardings"] = layout.whole
        loop = _jit(steps, mode, self.values, 3, 3, **lies)
        traced = loop.trace(state, self._empty, self.values, batches, zero, zero)
        self.looped = not _must_not_loop(traced, mode)
        if not self.looped:
            single = jax.jit(one, **lies)
            traced = single.trace(state, self._empty, self.values, batches, zero)
        self.compiled = traced.lower().compile()
        self.seconds = time.perf_counter() - begun

    def zeros(self) -> Metrics:
        return jax.tree.map(jnp.zeros_like, self._empty)

    def __call__(self, state, totals, batches, start: int, count: int):
        if self.looped:
            first, number = np.int32(start), np.int32(count)
            return self.compiled(state, totals, self.values, batches, first, number)
        for index in range(start, start + count):
            totals = self.compiled(state, totals, self.values, batches, np.int32(index))
        return totals
