"""Evaluation of whole sets, by programs compiled once."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from dl.core.experiment import Batches, Experiment
from dl.core.lanes import Mode, Traced
from dl.core.metrics import Metrics, compute
from dl.core.state import TrainState
from dl.parallel import processes
from dl.parallel.sharding import Layout, on_host
from dl.training.compiled import EvalProgram
from dl.training.prefetch import prefetch

SUMMED = 64  # batches whose sums stay in float32: over thousands the rounding would show


class Evaluation:
    """Metrics of named sets, for one run or for every lane of a sweep.

    Attributes:
      seconds: spent compiling so far.
    """

    def __init__(
        self,
        experiment: Experiment,
        values: Traced | None = None,
        mode: Mode | None = None,
        layout: Layout | None = None,
    ):
        self.experiment, self.values, self.mode, self.layout = experiment, values, mode, layout
        self.seconds = 0.0
        self._programs: dict[str, EvalProgram] = {}
        self._resident: dict[str, Any] = {}

    def __call__(
        self,
        state: TrainState,
        sets: Mapping[str, Batches],
        between: Callable[[], None] | None = None,
    ) -> list[dict[str, Any]]:
        """``{'validation/loss': ...}`` for each lane (one for a run without lanes).

        ``between`` is called after every batch where it is given.
        """
        found: list[dict[str, Any]] | None = None
        for name, batches in sets.items():
            lanes = self._lanes(self._totals(state, name, batches, between))
            found = found if found is not None else [{} for _ in lanes]
            for place, lane in enumerate(lanes):
                metrics: dict[str, Any] = dict(compute(lane))
                if self.experiment.measure is not None:
                    variables = local(pick(state, place, self.mode).eval_variables)
                    measure = functools.partial(self.experiment.measure, variables, name)
                    metrics |= processes.on_first_process(measure)
                found[place] |= {f"{name}/{key}": value for key, value in metrics.items()}
        return found or [{}]

    def _lanes(self, totals: Metrics) -> list[Metrics]:
        if self.mode is None:
            return [totals]
        count = len(next(iter(totals.values())).weight)
        return [jax.tree.map(lambda x, i=place: np.asarray(x)[i], totals) for place in range(count)]

    def _totals(self, state, name, batches, between) -> Metrics:
        streamed = hasattr(batches, "iterate")
        source = self._resident.get(name) or prefetch(batches, layout=self.layout)
        if not streamed:
            self._resident[name] = source
        if name not in self._programs:
            layout = self.layout if self.mode is None else None  # lanes lie where they always do
            program = EvalProgram(
                self.experiment, state, source.at(0)[0], self.values, self.mode, layout
            )
            self.seconds += program.seconds
            self._programs[name] = program
        program, index, sums = self._programs[name], 0, None
        total = len(source.source if streamed else batches)  # type: ignore[arg-type,union-attr]
        totals = program.zeros()
        while index < total:
            window, available = source.at(index)
            left = min(total - index, SUMMED - index % SUMMED)
            count = min(available, left, total if between is None else 1)
            totals = program(state, totals, window, index, count)
            index += count
            if index % SUMMED == 0 and index < total:
                sums, totals = _added(sums, totals), program.zeros()
            if between is not None:
                between()
        source.close()
        return _added(sums, totals)


def _added(sums: Metrics | None, totals: Metrics) -> Metrics:
    """``sums`` and ``totals`` together, in float64 on the host."""
    found = jax.tree.map(lambda x: np.asarray(x, np.float64), jax.device_get(totals))
    return found if sums is None else jax.tree.map(np.add, sums, found)


def local(variables: Any) -> Any:
    """``variables`` for host code that one process runs alone: where they lie, or, with several
    processes, fetched from them all."""
    return variables if jax.process_count() == 1 else jax.tree.map(on_host, variables)


def pick(tree: Any, lane: int, mode: Mode | None) -> Any:
    """One lane of a stacked tree; the tree itself where there are no lanes."""
    return tree if mode is None else jax.tree.map(lambda x: x[lane], tree)
