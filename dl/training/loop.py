"""The training loop: compiled steps between events, and nothing that changes a bit.

Every event (a log line, an evaluation, a checkpoint) falls on a step that the options fix, and running
metrics travel through dispatches and checkpoints, so however a run is cut up by dispatches, signals
and restarts, it computes and logs the same.
"""

import time
from typing import Any

from dl.core.experiment import Experiment
from dl.core.lanes import Traced
from dl.core.metrics import compute
from dl.core.state import TrainState
from dl.parallel.sharding import Layout
from dl.runs.folder import RunFolder
from dl.training import faults
from dl.training.checkpoints import Checkpoints, state_digest
from dl.training.compiled import Beginning, TrainProgram
from dl.training.console import Console, format_metrics
from dl.training.evaluation import Evaluation, local
from dl.training.postmortem import non_finite
from dl.training.prefetch import prefetch
from dl.training.selection import Selection
from dl.training.signals import Signals
from dl.training.stepping import StepRunner
from dl.training.trackers import Sink


class Cadence:
    """The steps at which something happens, for a run of ``steps``."""

    def __init__(self, steps: int, log_every: int, eval_every: int, save_every: int):
        self.steps = steps
        self.log_every, self.eval_every, self.save_every = log_every, eval_every, save_every

    def next(self, step: int) -> int:
        """The first event after ``step``."""
        every = (self.log_every, self.eval_every, self.save_every)
        return min(self.steps, *((step // n + 1) * n for n in every))

    def due(self, step: int, every: int) -> bool:
        return step % every == 0 or step == self.steps

    def only_log(self, step: int) -> bool:
        """Whether nothing at ``step`` needs the state itself, so that the device need not wait."""
        return not (self.due(step, self.eval_every) or self.due(step, self.save_every))


class Loop:
    """One run, from a state to the end: owns the events and what is pending, not the mathematics."""

    def __init__(
        self,
        experiment: Experiment,
        folder: RunFolder,
        checkpoints: Checkpoints,
        console: Console,
        cadence: Cadence,
        values: Traced,
        layout: Layout | None = None,
    ):
        self.experiment, self.folder, self.checkpoints = experiment, folder, checkpoints
        self.console, self.cadence, self.values, self.layout = console, cadence, values, layout
        self.sinks: list[Sink] = []
        self.selection = Selection(experiment.select)
        self.evaluation = Evaluation(experiment, values, layout=layout)
        self.compile_seconds = self.train_seconds = self.wait_seconds = 0.0
        self.trained = 0  # steps taken by this process
        self.elapsed_before = 0.0  # wall seconds of the processes this run was resumed from
        self.begun = time.perf_counter()
        self._pending: list[tuple[int, Any, float]] = []
        self._saved: int | None = None  # the newest checkpoint's step
        self._mark = self.begun  # when the present log window began, evaluations left out

    def elapsed(self) -> float:
        return round(self.elapsed_before + time.perf_counter() - self.begun, 3)

    # -- events ---------------------------------------------------------------------------------

    def record(self, event: str, step: int, metrics: dict[str, Any], **extra: Any) -> None:
        """One line of metrics.jsonl. What may differ between equal runs stands under 'time'."""
        write_event(self.folder, self.sinks, event, step, metrics, **extra)

    def flush(self) -> None:
        """Fetch and write the train metrics whose steps are done."""
        for step, totals, seconds in self._pending:
            metrics = {f"train/{k}": v for k, v in compute(totals).items()}
            rate = self.experiment.data.batch_size * self.cadence.log_every / max(seconds, 1e-9)
            clock = {"elapsed": self.elapsed(), "examples_per_second": round(rate, 1)}
            self.record("train", step, metrics, time=clock)
            self.console.update(step, f"{format_metrics(metrics)}  {rate:,.0f} ex/s")
        self._pending.clear()

    def log(self, step: int, totals: Any) -> None:
        """Close the log window at ``step``; its metrics are fetched while later steps run."""
        now = time.perf_counter()
        self._pending.append((step, totals, now - self._mark))
        self.train_seconds += now - self._mark
        self._mark = now

    def evaluate(self, step: int, state: TrainState) -> bool:
        """Evaluate the ``evals``; True where this is the best so far."""
        self.flush()
        self.console.update(step, doing="evaluating")
        kill = faults.next_kill("evaluate")
        between = (lambda: faults.reach("evaluate", step)) if kill is not None else None
        (metrics,) = self.evaluation(state, self.experiment.evals, between)
        before = self.selection
        self.selection = before.update(step, metrics)
        best = self.selection.step == step and before.step != step
        self.record("eval", step, metrics, time={"elapsed": self.elapsed()})
        draw_views(self.experiment, self.folder, step, state)
        self.console.say(f"step {step:>6}  {format_metrics(metrics)}{'  (best)' if best else ''}")
        self.console.update(step)
        return best

    def save(self, step: int, state: TrainState, totals: Any) -> None:
        if step == self._saved:  # a signal that came while it was being saved
            return
        self._saved = step
        self.flush()
        self.folder.sync()
        keep = set() if self.selection.step is None else {self.selection.step}
        tree = {"state": state, "totals": totals}
        leaves = self.checkpoints.save(step, tree, {"elapsed": self.elapsed()}, keep)
        write_digest(self, step, leaves)

    # -- the loop -------------------------------------------------------------------------------

    def run(self, begin: Beginning, totals: Any) -> tuple[TrainState, str]:
        """Train to the end; returns the last state and how it ended: 'done', 'early' (patience ran
        out) or the name of the signal that stopped it.

        ``totals`` are the running metrics of the log window that the state stands in.
        """
        experiment, cadence, step = self.experiment, self.cadence, begin.step
        self._saved = step or None
        if self.selection.exhausted(experiment.patience):  # killed after its end, while testing
            return begin.state(), "early"
        source = prefetch(experiment.data, step, self.layout)
        try:
            batches = source.at(step)[0]
            program = TrainProgram(
                experiment, begin.shapes, batches, self.values, layout=self.layout
            )
            made = time.perf_counter()
            state = begin.state()  # two programs compile side by side
            self.compile_seconds += time.perf_counter() - made + program.wait()
            self.console.start(step, cadence.steps)
            self._mark = time.perf_counter()
            with Signals() as signals:
                dispatcher = StepRunner(program, source, signals.asked, self._sent, self._settle)
                while step < cadence.steps:
                    target = cadence.next(step)
                    step, state, totals = dispatcher.to(step, target, state, totals)
                    self.trained = dispatcher.steps
                    event = step == target
                    if event and cadence.due(step, cadence.log_every):
                        self.log(step, totals)
                        totals = program.zeros()
                    if cadence.only_log(step) and signals.caught is None:
                        continue
                    dispatcher.drain(state)
                    aside = time.perf_counter()
                    best = early = False
                    if event and experiment.evals and cadence.due(step, cadence.eval_every):
                        best = self.evaluate(step, state)
                        early = self.selection.exhausted(experiment.patience)
                    due = event and cadence.due(step, cadence.save_every)
                    if due or best or early or signals.caught is not None:
                        self.save(step, state, totals)
                    self._mark += time.perf_counter() - aside
                    if early:
                        return state, "early"
                    if signals.caught is not None:
                        return state, signals.name
                return state, "done"
        finally:
            self.wait_seconds += source.waited
            self.console.stop()
            source.close()

    def _sent(self, step: int) -> None:
        self.flush()
        self.console.update(step)

    def _settle(self, finite, state: TrainState) -> None:
        if not finite:
            self.checkpoints.wait()
            raise non_finite(self.experiment, state, self.values, self.checkpoints.steps())


def write_event(
    folder: RunFolder,
    sinks: list[Sink],
    event: str,
    step: int,
    metrics: dict[str, Any],
    **extra: Any,
) -> None:
    folder.append(folder.metrics, {"event": event, "step": step, "metrics": metrics, **extra})
    scalars = {k: v for k, v in metrics.items() if isinstance(v, float | int)}
    for sink in sinks:
        sink.write(step, scalars)


def write_digest(loop: Any, step: int, leaves: dict[str, str]) -> None:
    """The state's digest as a line of metrics.jsonl, and its leaves' as one of digests.jsonl."""
    clock = {"elapsed": loop.elapsed()}
    loop.record("checkpoint", step, {}, digest=state_digest(leaves), time=clock)
    loop.folder.append(loop.folder.digests, {"step": step, "leaves": leaves})


def draw_views(experiment: Experiment, folder: RunFolder, step: int, state: TrainState) -> None:
    """The experiment's own pictures, into ``views/<name>-<step>``."""
    if experiment.views is None:
        return
    from dl.figures.curves import save_view

    variables = local(state.eval_variables)
    if not folder.writes:
        return
    place = folder.path / "views"
    place.mkdir(exist_ok=True)
    for name, view in experiment.views(variables).items():
        save_view(place / f"{name}-{step}", view)
