"""Evaluation of whole sets, by programs compiled once."""

import functools
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dl.core.errors import UserError
from dl.core.experiment import Batches, Experiment
from dl.core.lanes import Traced, evaluation_of, of_fold, over_lanes, rebuild
from dl.core.metrics import Metrics, compute, merge
from dl.core.state import TrainState
from dl.core.step import scan_evaluation, zero_metrics
from dl.core.target import tracing_for
from dl.core.task import Batch, Variables
from dl.parallel import processes
from dl.parallel.deterministic import deterministic_evaluation
from dl.parallel.sharding import CutBatches, on_host
from dl.training.compiled import Compiled
from dl.training.prediction import Predictor, columns_of, predictor_of
from dl.training.prefetch import prefetch

Judge = Callable[[Traced, TrainState, Batch], Metrics]
SUMMED = 64  # batches whose sums stay in float32: over thousands the rounding would show


class Evaluation:
    """Metrics of named sets, for one run or for every lane of a sweep.

    Attributes:
      seconds: spent compiling so far.
      say: takes a sentence where ``measure`` gives a metric that the task has already, and another value of it.
    """

    def __init__(self, compiled: Compiled, say: Callable[[str], Any] = lambda _: None):
        self.compiled, self.seconds, self.say = compiled, 0.0, say
        self._told: set[str] = set()
        self._programs: dict[str, EvalProgram] = {}
        self._resident: dict[str, Any] = {}
        self._of_fold: dict[int, Experiment] = {}

    def __call__(
        self,
        state: TrainState,
        sets: Mapping[str, Batches],
    ) -> list[dict[str, Any]]:
        """``{'validation/loss': ...}`` for each lane (one for a run alone)."""
        found: list[dict[str, Any]] = [{} for _ in range(self.compiled.lanes)]
        for name, batches in sets.items():
            totals = self._totals(state, name, batches)
            known: dict[int, Any] = {}  # the columns, once for lanes of one experiment
            for place, lane in enumerate(found):
                metrics: dict[str, Any] = dict(compute(self.compiled.pick(totals, place)))
                own = self.own(place)
                measure = own.measure
                if own is not self.compiled.experiment:
                    batches = {**own.evals, **own.tests}[name]
                if measure is not None:
                    predictor = self.predictor(state, place)
                    if id(own) not in known:
                        known[id(own)] = functools.cache(functools.partial(columns_of, batches))
                    columns = known[id(own)]
                    found_here = processes.on_first_process(
                        lambda: measured(measure(predictor, columns(), name))  # noqa: B023
                    )
                    self._compare(name, metrics, found_here)
                    metrics |= found_here
                lane |= {f"{name}/{key}": value for key, value in metrics.items()}
        return found

    def _compare(self, name: str, of_task: Metrics, given: Mapping[str, Any]) -> None:
        """Say once of each metric that the task and ``measure`` have both, and unlike each other, whose counts."""
        for metric in sorted(given.keys() & of_task.keys() - self._told):
            mine, theirs = np.asarray(given[metric], float), np.asarray(of_task[metric], float)
            if not (mine.shape == theirs.shape and np.allclose(mine, theirs, 1e-3, 1e-6, True)):
                self._told.add(metric)
                self.say(
                    f"{name}/{metric} is {mine:.5g} by the experiment's measure, which counts, and "
                    f"{np.round(theirs, 5)} by the task: give measure's another name to have both"
                )

    def own(self, lane: int = 0) -> Experiment:
        """The experiment as the host needs it of a lane: of its own fold, where the lanes have several."""
        if "fold" not in self.compiled.traced or self.compiled.mode is None:
            return self.compiled.experiment
        fold = int(self.compiled.traced["fold"][lane])
        if fold not in self._of_fold:
            self._of_fold[fold] = self.compiled.lane(lane)
        return self._of_fold[fold]

    def predictor(self, state: TrainState, lane: int = 0) -> Predictor:
        """The predictor of the evaluated variables; all states and lanes of a run share its program."""
        own = (self.compiled.traced, state.eval_variables)
        traced, variables = self.compiled.pick(own, lane)
        program = functools.partial(self._predict, traced)
        return predictor_of(self.compiled.experiment, local(variables), program=program)

    @functools.cached_property
    def _judge(self) -> Judge:
        """The evaluation of one batch, built and traced once for all sets whose batches are alike."""

        def judge(traced: Traced, state: TrainState, batch: Batch) -> Metrics:
            return evaluation_of(self.compiled.experiment, traced)(state, batch)

        return jax.jit(judge, inline=True)

    @functools.cached_property
    def _predict(self) -> Callable[..., Any]:
        def predict(traced: Traced, variables: Variables, columns: Batch) -> Any:
            return rebuild(self.compiled.experiment, traced).task.predict(variables, columns)

        return jax.jit(predict)

    def _totals(self, state: TrainState, name: str, batches: Batches) -> Metrics:
        streamed = hasattr(batches, "iterate")
        source = self._resident.get(name) or prefetch(batches, layout=self.compiled.layout)
        if not streamed:
            self._resident[name] = source
        if name not in self._programs:
            with tracing_for(self.compiled.target):
                program = EvalProgram(self.compiled, self._judge, state, source.at(0)[0])
            self.seconds += program.seconds
            self._programs[name] = program
        program, index, sums = self._programs[name], 0, None
        total = len(source.source if streamed else batches)  # type: ignore[arg-type,union-attr]
        totals = program.zeros()
        while index < total:
            window, available = source.at(index)
            left = min(total - index, SUMMED - index % SUMMED)
            count = min(available, left)
            totals = program(state, totals, window, index, count)
            index += count
            if index % SUMMED == 0 and index < total:
                sums, totals = _added(sums, totals), program.zeros()
        source.close()
        return _added(sums, totals)


def measured(found: Any) -> dict[str, Any]:
    """What an experiment's ``measure`` returned; raises UserError where it is no dict of numbers."""
    numbers = isinstance(found, Mapping) and all(
        np.ndim(value) == 0 and not isinstance(value, str | bytes | None)
        for value in found.values()
    )
    if not numbers:
        raise UserError(
            "measure-return", f"measure must return a dict of single numbers, not {found!r:.60}"
        )
    return dict(found)


def _added(sums: Metrics | None, totals: Metrics) -> Metrics:
    """``sums`` and ``totals`` together, in float64 on the host."""
    found = jax.tree.map(lambda x: np.asarray(x, np.float64), jax.device_get(totals))
    return found if sums is None else jax.tree.map(np.add, sums, found)


def local(variables: Any) -> Any:
    """``variables`` for host code that one process runs alone: where they lie, or, with several
    processes, fetched from them all."""
    return variables if jax.process_count() == 1 else jax.tree.map(on_host, variables)


class EvalProgram:
    """``(state, totals, batches, start, count) -> totals`` over evaluation batches (of every lane)."""

    def __init__(self, compiled: Compiled, judge: Judge, state: TrainState, batches: Any):
        begun = time.perf_counter()
        self.owner, zero, mesh = compiled, np.int32(0), compiled.mesh

        def bound(
            traced: Traced, batches: Any
        ) -> tuple[Callable[[TrainState, Batch], Metrics], Any]:
            evaluate: Callable[[TrainState, Batch], Metrics] = functools.partial(judge, traced)
            if mesh is None:
                return evaluate, of_fold(batches, traced)
            if mesh.shards:
                evaluate = deterministic_evaluation(evaluate, mesh)
            return evaluate, CutBatches(batches, mesh, pad=True)

        def batch_metrics(state: TrainState, traced: Traced, batches: Any) -> Metrics:
            return judge(traced, state, of_fold(batches, traced)[zero])

        def steps(
            state: TrainState, totals: Metrics, traced: Traced, batches: Any, start: Any, count: Any
        ) -> Metrics:
            evaluate, own = bound(traced, batches)
            return scan_evaluation(evaluate)(state, totals, own, start, count)

        def one(
            state: TrainState, totals: Metrics, traced: Traced, batches: Any, index: Any
        ) -> Any:
            evaluate, own = bound(traced, batches)
            return merge(totals, evaluate(state, own[index]))

        many = over_lanes(batch_metrics, compiled.mode, shared=1)
        self._empty = zero_metrics(many, state, compiled.traced, batches)
        lies: Any = {"donate_argnums": 1}
        if mesh is not None:
            self._empty = mesh.everywhere(self._empty)
            lies["out_shardings"] = mesh.whole
        own = (state, self._empty, compiled.traced, batches)
        traced = compiled.jit(steps, 3, 3, **lies).trace(*own, zero, zero)
        self.looped = compiled.looped(traced)
        if not self.looped:
            traced = jax.jit(one, **lies).trace(*own, zero)
        self.compiled = traced.lower().compile(compiler_options=compiled.compiler_options or None)
        self.seconds = time.perf_counter() - begun

    def zeros(self) -> Metrics:
        return jax.tree.map(jnp.zeros_like, self._empty)

    def __call__(
        self, state: TrainState, totals: Metrics, batches: Any, start: int, count: int
    ) -> Metrics:
        traced = self.owner.traced
        if self.looped:
            return self.compiled(state, totals, traced, batches, np.int32(start), np.int32(count))
        for index in range(start, start + count):
            totals = self.compiled(state, totals, traced, batches, np.int32(index))
        return totals
