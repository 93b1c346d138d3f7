"""The training loop: dispatches of compiled steps between events, and nothing that changes a bit.

Every event (a log line, an evaluation, a checkpoint) falls on a step that the options fix, and running
metrics travel through dispatches and checkpoints, so however a run is cut up by dispatches, signals
and restarts, it computes and logs the same.
"""

import signal
import threading
import time
from typing import Any

import jax

from dl.core.errors import NonFiniteError
from dl.core.experiment import Batches, Experiment
from dl.core.metrics import compute
from dl.core.random import purpose_key
from dl.core.state import TrainState, path_name
from dl.core.step import gradient
from dl.training import faults
from dl.training.checkpoints import Checkpoints, state_digest
from dl.training.console import Console, format_metrics
from dl.training.feed import feed
from dl.training.folder import RunFolder
from dl.training.programs import EvalProgram, TrainProgram
from dl.training.selection import Selection
from dl.training.sinks import Sink

DISPATCH_SECONDS = 0.3  # aimed at: short enough for a live bar and a quick Ctrl-C


class Signals:
    """Turns the first SIGINT or SIGTERM into a request to save and stop; the second one kills."""

    def __init__(self) -> None:
        self.caught: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Signals":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._catch)
        return self

    def _catch(self, number, frame) -> None:
        self.caught = number
        signal.signal(number, signal.SIG_DFL)

    def __exit__(self, *_) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


class Evaluation:
    """The evaluation of named sets, each by a program compiled once."""

    def __init__(self, experiment: Experiment):
        self.experiment = experiment
        self.seconds = 0.0  # spent compiling
        self._ready: dict[str, tuple[Any, Any]] = {}

    def __call__(self, state: TrainState, sets: dict[str, Batches], pause=None) -> dict[str, Any]:
        """Metrics of every set as ``{'validation/loss': ...}``; ``pause()`` is called now and then."""
        found: dict[str, Any] = {}
        for name, batches in sets.items():
            metrics: dict[str, Any] = dict(compute(self._totals(state, name, batches, pause)))
            if self.experiment.measure is not None:
                metrics |= self.experiment.measure(state.eval_variables, name)
            found |= {f"{name}/{key}": value for key, value in metrics.items()}
        return found

    def _totals(self, state, name, batches, pause):
        if name not in self._ready or hasattr(batches, "iterate"):
            source = feed(batches)
            program = self._ready[name][0] if name in self._ready else None
            if program is None:
                program = EvalProgram(self.experiment, state, source.at(0)[0])
                self.seconds += program.seconds
            self._ready[name] = program, source
        program, source = self._ready[name]
        totals, index, total = program.zeros(), 0, len(batches)  # type: ignore[arg-type]
        while index < total:
            window, available = source.at(index)
            count = min(total if pause is None else 1, available, total - index)
            totals = program(state, totals, window, index, count)
            index += count
            if pause is not None:
                pause()
        if hasattr(batches, "iterate"):
            source.close()
        return totals


class Loop:
    """One run, from a state to the end: owns the events and what is pending, not the mathematics."""

    def __init__(
        self,
        experiment: Experiment,
        folder: RunFolder,
        checkpoints: Checkpoints,
        console: Console,
        *,
        log_every: int,
        eval_every: int,
        save_every: int,
    ):
        self.experiment, self.folder, self.checkpoints = experiment, folder, checkpoints
        self.console = console
        self.sinks: list[Sink] = []
        self.log_every, self.eval_every, self.save_every = log_every, eval_every, save_every
        self.selection = Selection(experiment.select)
        self.evaluation = Evaluation(experiment)
        self.compile_seconds = self.train_seconds = self.wait_seconds = 0.0
        self.trained = 0  # steps taken by this process
        self.elapsed_before = 0.0  # wall seconds of the processes this run was resumed from
        self.begun = time.perf_counter()
        self._pending: list[tuple[int, Any, float]] = []
        self._logged = time.perf_counter()

    # -- events ---------------------------------------------------------------------------------

    def record(self, event: str, step: int, metrics: dict[str, Any], **extra: Any) -> None:
        """One line of metrics.jsonl. What may differ between equal runs stands under 'time'."""
        line = {"event": event, "step": step, "metrics": metrics, **extra}
        self.folder.append(self.folder.metrics, line)
        scalars = {k: v for k, v in metrics.items() if isinstance(v, float | int)}
        for sink in self.sinks:
            sink.write(step, scalars)

    def flush(self) -> None:
        """Fetch and write the train metrics whose steps are done."""
        for step, totals, seconds in self._pending:
            metrics = {f"train/{k}": v for k, v in compute(totals).items()}
            rate = self.experiment.data.batch_size * self.log_every / max(seconds, 1e-9)
            clock = {"elapsed": self.elapsed(), "examples_per_second": round(rate, 1)}
            self.record("train", step, metrics, time=clock)
            self.console.update(step, f"{format_metrics(metrics)}  {rate:,.0f} ex/s")
        self._pending.clear()

    def elapsed(self) -> float:
        return round(self.elapsed_before + time.perf_counter() - self.begun, 3)

    def evaluate(self, step: int, state: TrainState) -> bool:
        """Evaluate the ``evals``; True where this is the best so far."""
        self.flush()
        self.console.update(step, doing="evaluating")
        kill = faults.next_kill("evaluate")
        pause = (lambda: faults.reach("evaluate", step)) if kill is not None else None
        metrics = self.evaluation(state, self.experiment.evals, pause)
        before = self.selection
        self.selection = before.update(step, metrics)
        best = self.selection.step == step and before.step != step
        self.record("eval", step, metrics, time={"elapsed": self.elapsed()})
        self.draw(step, state)
        self.console.say(f"step {step:>6}  {format_metrics(metrics)}{'  (best)' if best else ''}")
        self.console.update(step)
        return best

    def draw(self, step: int, state: TrainState) -> None:
        """The experiment's own pictures, into ``views/<name>-<step>``."""
        if self.experiment.views is None:
            return
        from dl.report.plots import save_view

        folder = self.folder.path / "views"
        folder.mkdir(exist_ok=True)
        for name, view in self.experiment.views(state.eval_variables).items():
            save_view(folder / f"{name}-{step}", view)

    def save(self, step: int, state: TrainState, totals: Any) -> None:
        self.flush()
        self.folder.sync()
        keep = set() if self.selection.step is None else {self.selection.step}
        tree = {"state": state, "totals": totals}
        leaves = self.checkpoints.save(step, tree, {"elapsed": self.elapsed()}, keep)
        digest = state_digest(leaves)
        self.record("checkpoint", step, {}, digest=digest, time={"elapsed": self.elapsed()})
        self.folder.append(self.folder.digests, {"step": step, "leaves": leaves})

    # -- the loop -------------------------------------------------------------------------------

    def next_event(self, step: int) -> int:
        """The first step after ``step`` at which something happens."""
        every = (self.log_every, self.eval_every, self.save_every)
        return min(self.experiment.steps, *((step // n + 1) * n for n in every))

    def run(self, state: TrainState, totals: Any) -> tuple[TrainState, str]:
        """Train to the end; returns the last state and how it ended: 'done', 'early' (patience ran
        out) or the name of the signal that stopped it.

        ``totals`` are the running metrics of the log window that ``state`` stands in.
        """
        experiment = self.experiment
        step, saved = int(state.step), None
        source = feed(experiment.data, step)
        program = TrainProgram(experiment, state, source.at(step)[0])
        self.compile_seconds += program.seconds
        count, pace = 1, None
        running: tuple[Any, int, float] | None = None  # (finite, steps, begun) of the last dispatch
        self._logged = time.perf_counter()
        if self.selection.exhausted(experiment.patience):  # a finished run, killed while testing
            source.close()
            return state, "early"
        self.console.start(step, experiment.steps)
        try:
            with Signals() as signals:
                while step < experiment.steps:
                    target = self.next_event(step)
                    while step < target and signals.caught is None:
                        batches, available = source.at(step)
                        size = min(count, available, target - step, _until("step", step))
                        begun = time.perf_counter()
                        state, totals, finite = program(state, totals, batches, size)
                        step += size
                        self.trained += size
                        previous, running = running, (finite, size, begun)
                        if previous is not None:
                            self._settle(previous, state)
                            taken = time.perf_counter() - previous[2]
                            pace = taken / previous[1] if pace is None else pace
                            pace = min(pace, taken / previous[1]) if taken > 1e-4 else pace
                            count = max(1, min(int(DISPATCH_SECONDS / pace), 2**20))
                        self.flush()
                        self.console.update(step)
                        faults.reach("step", step)
                    if running is not None:
                        self._settle(running, state)
                        running = None
                    event = step == target
                    if event and (step % self.log_every == 0 or step == experiment.steps):
                        now = time.perf_counter()
                        self._pending.append((step, totals, now - self._logged))
                        self.train_seconds += now - self._logged
                        self._logged, totals = now, program.zeros()
                    best = False
                    aside = time.perf_counter()
                    if event and experiment.evals and self._due(step, self.eval_every):
                        best = self.evaluate(step, state)
                    caught = signals.caught
                    stop = self.selection.exhausted(experiment.patience)
                    due = event and self._due(step, self.save_every)
                    if (due or best or stop or caught) and saved != step:
                        self.save(step, state, totals)
                        saved = step
                    self._logged += time.perf_counter() - aside
                    if stop:
                        return state, "early"
                    if caught is not None:
                        return state, signal.Signals(caught).name
                return state, "done"
        finally:
            self.wait_seconds += source.waited
            self.console.stop()
            source.close()

    def _due(self, step: int, every: int) -> bool:
        return step % every == 0 or step == self.experiment.steps

    def _settle(self, dispatch: tuple[Any, int, float], state: TrainState) -> None:
        """Wait for a dispatch; raise where it met a loss that is not finite."""
        if not bool(dispatch[0]):
            raise non_finite(self.experiment, state, self.checkpoints)


def _until(phase: str, step: int) -> int:
    """Steps to a kill asked for, so that a dispatch ends there exactly."""
    at = faults.next_kill(phase)
    return 2**31 if at is None or at <= step else at - step


def non_finite(
    experiment: Experiment, state: TrainState, checkpoints: Checkpoints
) -> NonFiniteError:
    """The post-mortem of a step whose loss was not finite, redone from the state before it."""
    step = int(state.step)
    batch = experiment.data[step]
    key = purpose_key(state.key, "loss", state.step)
    grads, aux = jax.jit(gradient(experiment.task))(state.variables, batch, key)

    def bad(tree):
        leaves = jax.tree_util.tree_leaves_with_path(tree)
        return [
            path_name(path) for path, x in leaves if not jax.numpy.isfinite(x.astype(float)).all()
        ]

    loss = compute({"loss": aux.metrics["loss"]})["loss"]
    params, inputs = bad(state.variables["params"]), bad(_floats(batch))
    rows = [int(i) for i in experiment.data.indices(step)]
    where = (
        f"in the input column {inputs[0]!r}"
        if inputs
        else f"first in the parameter {params[0]!r}"
        if params
        else f"first in the gradient of {bad(grads)[0]!r}"
        if bad(grads)
        else "in the loss alone"
    )
    checkpoints.wait()
    steps = checkpoints.steps()
    last = (
        f"the last good checkpoint, step {max(steps)}, is intact" if steps else "no checkpoint yet"
    )
    return NonFiniteError(
        f"the loss became {loss} at step {step}, {where}; batch rows {rows[:8]}"
        f"{'...' if len(rows) > 8 else ''}; {last}. Look at those rows, lower the learning rate, or "
        "clip gradients"
    )


def _floats(batch):
    return {k: v for k, v in batch.items() if jax.numpy.issubdtype(v.dtype, jax.numpy.floating)}
