"""The training loop: compiled steps between events, and nothing that changes a bit.

Every event (a log line, an evaluation, a checkpoint) falls on a step that the options fix, and running
metrics travel through dispatches and checkpoints, so however a run is cut up by dispatches, signals
and restarts, it computes and logs the same.
"""

import functools
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

from dl import platform
from dl.core.errors import UserError
from dl.core.metrics import Metrics, compute
from dl.core.state import TrainState
from dl.parallel import processes
from dl.runs import lock
from dl.runs.seal import write_result
from dl.training.compiled import Beginning, Compiled
from dl.training.compiling import idle_flags
from dl.training.console import Console, format_metrics
from dl.training.evaluation import Evaluation
from dl.training.halving import kept_at
from dl.training.hooks import Hooks
from dl.training.keeping import Digests, Keeping, OwnCheckpoints, SharedCheckpoints
from dl.training.lane import Cadence, Lane
from dl.training.out_of_fold import keep_predictions
from dl.training.postmortem import non_finite
from dl.training.prefetch import prefetch
from dl.training.profiling import Profile
from dl.training.rivals import fit_baselines
from dl.training.signals import Signals
from dl.training.starting import started
from dl.training.stepping import StepRunner
from dl.training.views import draw_views
from dl.training.watching import Watch


class Loop:
    """Drives lanes from where they stand to their results; a run alone is one lane, unstacked.

    A lane that ends early (patience, halving, a loss that is not finite) stands still from then on, and the
    others do not notice.
    """

    def __init__(
        self,
        compiled: Compiled,
        lanes: list[Lane],
        keeping: Keeping,
        cadence: Cadence,
        console: Console,
        *,
        halve: int | None = None,
        tolerant: bool = False,
        program: str | None = None,
        begun: float | None = None,
        signals: Signals | None = None,
    ):
        """
        Args:
          halve: keep the best 1/halve of the lanes at 1/halve, 1/halve², ... of the run.
          tolerant: a lane whose loss is not finite ends, and nothing is raised.
          program: the digest that the step's program must have, where nothing can have changed it.
          begun: when the run did, by ``time.perf_counter()``; by default now.
          signals: which may have heard one already.
        """
        self.compiled, self.experiment, self.lanes = compiled, compiled.experiment, lanes
        self.keeping, self.cadence, self.console = keeping, cadence, console
        self.halve, self.tolerant, self.program = halve, tolerant, program
        self.evaluation, self.signals = Evaluation(compiled, console.warn), signals or Signals()
        self.begun = time.perf_counter() if begun is None else begun
        self.stopped: str | None = None  # the name of the signal that did
        self._compile_seconds = self._train_seconds = self._wait_seconds = 0.0
        self._trained = 0  # steps taken by this process
        self._before = 0.0  # seconds of the processes that this run was resumed from
        self.watch = Watch(compiled)
        self.hooks = Hooks(self.evaluation, lanes, console.warn)
        self.profile = Profile(cadence.profile, lanes[0].folder.path, console.say)
        # Log windows not yet fetched: step, what is on the device, seconds, those that data were waited for.
        self._pending: list[tuple[int, Any, float, float]] = []
        self._waited = 0.0
        self._saved: int | None = None  # the newest checkpoint's step
        self._mark = self.begun  # when the present log window began, evaluations left out

    def run(self) -> TrainState:
        """Train, or go on training, to the end and leave every lane its result.

        Returns:
          The selected state (of every lane); the last one where a signal :attr:`stopped` the loop.

        Raises:
          NonFiniteError: a loss was not finite, and the loop is not ``tolerant``.
        """
        lost = False
        try:
            begin, totals = self._resume()
            self._compile_seconds += time.perf_counter() - self.begun
            if begin.step == self.cadence.steps or not self._active.any():  # killed after its end
                return self._finish(begin.state())
            state = self._train(begin, totals)
            return state if self.stopped else self._finish(state)
        except Exception as error:
            lost = processes.lost(error)
            raise
        finally:
            self.console.stop()
            if not lost:  # what all processes save together is never whole once one is gone
                self.keeping.close()
            for lane in self.lanes:
                lane.close()

    # -- where it stands --------------------------------------------------------------------------

    @property
    def _active(self) -> np.ndarray:
        return np.array([lane.ended is None for lane in self.lanes])

    def _running(self) -> list[tuple[int, Lane]]:
        return [(place, lane) for place, lane in enumerate(self.lanes) if lane.ended is None]

    def _clock(self, **more: float) -> dict[str, float]:
        return {"elapsed": self._elapsed(), **more}

    def _elapsed(self) -> float:
        return round(self._before + time.perf_counter() - self.begun, 3)

    def _resume(self) -> tuple[Beginning, Metrics]:
        """The last checkpoint, every lane's lines cut back to it; the start where there is none."""
        begin, totals, meta, leaves = self.keeping.restore(
            self.compiled.beginning(), self.compiled.empty_metrics(), self.console.warn
        )
        if not meta:  # nothing was kept: they begin anew
            folders = [lane.folder for lane in self.lanes]
            begin = started(self.compiled, folders, begin, self.console.say)
        self._before, self._saved = meta.get("elapsed", 0.0), begin.step or None
        for place, lane in enumerate(self.lanes):
            lane.ended, lane.note = meta.get("ended", {}).get(lane.folder.name, (None, ""))
            digest = meta.get("seen", {}).get(lane.folder.name)
            own = leaves.get(place)
            lane.go_on(begin.step, self.cadence, bool(self.experiment.evals), digest, own)
            if lane.ended is None and lane.selection.exhausted(self.experiment.patience):
                lane.ended = "early"
        self._record_states(leaves)  # a kill may have come between a checkpoint and its lines
        if begin.step:
            which = f"{len(self.lanes)} lanes" if len(self.lanes) > 1 else self.lanes[0].folder.path
            self.console.say(f"resuming {which} at step {begin.step} of {self.cadence.steps}")
        return begin, totals

    # -- the loop ---------------------------------------------------------------------------------

    def _train(self, begin: Beginning, totals: Metrics) -> TrainState:
        step, cadence = begin.step, self.cadence
        source = prefetch(self.experiment.data, step, self.compiled.layout)
        try:
            program = self.compiled.step(begin.shapes, source.at(step)[0], cadence.log_every)
            self._check_program(program.digest)
            for said in idle_flags(self.compiled.target, program.traced.jaxpr.jaxpr):
                self.console.warn(f"without effect: {said}")
            # While two programs compile side by side.
            fit_baselines(self.evaluation.own, self.lanes, self.console)
            made = time.perf_counter()
            state = begin.state()
            self._compile_seconds += time.perf_counter() - made + program.wait()
            self.console.start(step, cadence.steps)
            self._mark = time.perf_counter()
            with self.signals as signals:
                runner = StepRunner(program, source, signals.agreed, self._sent, self._settle)
                self.profile.at(step)
                while step < cadence.steps and self._active.any():
                    active = self._active
                    target, before = self.watch.ahead(cadence, step, state)
                    step, state, totals = runner.to(step, target, state, totals, active)
                    self._trained = runner.steps
                    event = step == target
                    if event and cadence.due(step, cadence.log_every):
                        self._log(step, totals, state, before, source.waited)
                        totals = program.zeros()
                    asked = signals.caught is not None
                    if cadence.only_log(step) and not asked and self._active.any():
                        continue
                    runner.drain(state)
                    self.profile.at(step)
                    aside = time.perf_counter()
                    evaluate = event and cadence.due(step, cadence.eval_every)
                    best = evaluate and bool(self.experiment.evals) and self._evaluate(step, state)
                    if event and self.hooks.hooks:
                        self._flush()
                        for place, lane in self._running():
                            found = lane.evaluated if evaluate else None
                            self.hooks.at(place, step, state, found)
                    due = event and cadence.due(step, cadence.save_every)
                    if due or best or asked or not self._active.any():
                        self._save(step, state, totals)
                    self._mark += time.perf_counter() - aside
                    if asked and self._active.any():
                        self.stopped = signals.name
                        break
            return state
        finally:
            self.profile.close()
            self._wait_seconds += source.waited
            source.close()

    def _check_program(self, digest: str | None) -> None:
        """Raise UserError where the config makes another program than the run was started with."""
        if self.program is not None and digest is not None and digest != self.program:
            raise UserError(
                "program-changed",
                f"{self.lanes[0].folder.path} was started with another program for the same config: build "
                "reads something else that has changed since. Make it a field of the config, or start "
                "anew under another --name",
            )
        for lane in self.lanes:
            lock.add(lane.folder, program=digest)

    def _sent(self, step: int) -> None:
        self._flush()
        self.console.update(step)

    def _settle(self, finite: np.ndarray, state: TrainState) -> None:
        for place, lane in self._running():
            if not np.atleast_1d(finite)[place]:
                saved = [] if self.tolerant else self.keeping.steps()
                error = non_finite(
                    self.compiled.lane(place), self.compiled.pick(state, place), saved
                )
                if not self.tolerant:
                    raise error
                lane.ended, lane.note = "non-finite", str(error)
                self.console.warn(f"{lane.folder.name} stops: {error}")

    # -- events -----------------------------------------------------------------------------------

    def _log(
        self, step: int, totals: Metrics, state: TrainState, before: Any = None, waited: float = 0.0
    ) -> None:
        """Close the log window at ``step``; what is logged is fetched while later steps run."""
        moved = {} if before is None else self.watch.moved(before, state)
        now = time.perf_counter()
        logged = totals, self.watch.scalars(state), moved
        self._pending.append((step, logged, now - self._mark, waited - self._waited))
        self._train_seconds += now - self._mark
        self._mark, self._waited = now, waited

    def _flush(self) -> None:
        """Fetch and write the train metrics whose steps are done."""
        for step, logged, seconds, waited in self._pending:
            host, metrics = jax.device_get(logged), {}
            each = seconds / self.cadence.log_every
            rate = self.experiment.data.batch_size / max(each, 1e-12)
            clock = self._clock(
                examples_per_second=round(rate, 1),
                step_seconds=float(f"{each:.4g}"),
                input_wait_seconds=round(waited, 6),
                peak_memory_bytes=platform.peak_memory() or 0,
            )
            for place, lane in self._running():
                totals, scalars, moved = self.compiled.pick(host, place)
                found = compute(totals) | {name: float(x) for name, x in scalars.items()}
                names = sorted(found, key=lambda name: name.startswith("_"))  # the task's own first
                metrics = {f"train/{name.removeprefix('_')}": found[name] for name in names}
                lane.record("train", step, metrics, time=clock)
                if moved:
                    norms = {f"train/{name}": float(x) for name, x in moved.items()}
                    lane.record("update", step, norms, time=self._clock())
            count = self._active.sum()
            told = format_metrics(metrics) if len(self.lanes) == 1 else f"{count} lanes"
            self.console.update(step, f"{told}  {rate * count:,.0f} ex/s")
        self._pending.clear()

    def _evaluate(self, step: int, state: TrainState) -> bool:
        """Evaluate every running lane; whether its state must be saved at once."""
        self._flush()
        self.console.update(step, doing="evaluating")
        found = self.evaluation(state, self.experiment.evals)
        improved = np.zeros(len(self.lanes), bool)
        for place, lane in self._running():
            before, lane.selection = lane.selection, lane.selection.update(step, found[place])
            improved[place] = lane.selection.step == step and before.step != step
            lane.record("eval", step, found[place], time=self._clock())
            lane.evaluated = found[place]
            draw_views(self.evaluation, lane, step, state, place)
            if lane.selection.exhausted(self.experiment.patience):
                lane.ended = "early"
        if len(self.lanes) == 1:
            best = "  (best, tied)" if self.lanes[0].selection.waited else "  (best)"
            told = f"{format_metrics(found[0])}{best if improved[0] else ''}"
        else:
            self._halve(step)
            told = self._range()
        self.console.say(f"step {step:>6}  {told}")
        self.console.update(step)
        return self.keeping.improved(improved, state)

    def _range(self) -> str:
        best = [x.selection.best for x in self.lanes if x.selection.best is not None]
        if not best:
            return f"{self._active.sum()} lanes"
        low, middle, high = np.min(best), np.median(best), np.max(best)
        return (
            f"{self.experiment.select}, best so far: {low:.4g} {middle:.4g} {high:.4g} "
            "(lowest, median and highest lane)"
        )

    def _halve(self, step: int) -> None:
        running = self._running()
        kept = kept_at(step, self.cadence, self.halve, [lane.selection for _, lane in running])
        for (_, lane), stays in zip(running, kept, strict=True):
            lane.ended = None if stays else "halved"
        if not all(kept):
            self.console.say(f"step {step:>6}  kept the best {sum(kept)} of {len(running)}")

    def _save(self, step: int, state: TrainState, totals: Metrics) -> None:
        if step == self._saved:  # a signal that came while it was being saved
            return
        self._saved = step
        self._flush()
        for lane in self.lanes:
            lane.sync()
        ended = {x.folder.name: [x.ended, x.note] for x in self.lanes if x.ended}
        seen = {lane.folder.name: lane.seen.hexdigest() for lane in self.lanes}
        meta = {"elapsed": self._elapsed(), "ended": ended, "seen": seen}
        self._record_states(self.keeping.save(step, state, totals, meta))

    def _record_states(self, digests: Digests) -> None:
        for place, (step, leaves) in digests.items():
            self.lanes[place].record_state(step, leaves, self._clock())

    # -- the end ----------------------------------------------------------------------------------

    def _finish(self, state: TrainState) -> TrainState:
        """Test every lane's selected state, and write its ``result.json``; returns the selected state."""
        if len(self.lanes) > 1:
            self.console.say("testing the selected state of every lane")
        for lane in self.lanes:
            if said := lane.selection.nothing():
                self.console.warn(said if len(self.lanes) == 1 else f"{lane.folder.name}: {said}")
        chosen = self.keeping.selected(state, self.console.warn)
        tested: list[dict[str, Any]] = [{}] * len(self.lanes)
        if self.experiment.tests:
            tested = self.evaluation(chosen, self.experiment.tests)
        self.keeping.finish(state, chosen, self._elapsed())
        for place, lane in enumerate(self.lanes):
            lane.ended = lane.ended or "done"
            last, best = (int(np.atleast_1d(x.step)[place]) for x in (state, chosen))
            metrics = dict(lane.last("eval", best).get("metrics", {}))
            if self.experiment.tests and lane.ended in ("done", "early"):
                lane.record("test", last, tested[place], time=self._clock())
                metrics |= tested[place]
                if "fold" in self.compiled.traced:
                    keep_predictions(self.evaluation, chosen, place, lane.folder.path)
            lane.folder.sync()  # a run that has its result is not looked at again
            result = self._result(lane, last, best, metrics)
            processes.on_first_process(functools.partial(write_result, lane.folder, result))
        return chosen

    def _result(self, lane: Lane, last: int, best: int, metrics: dict[str, Any]) -> dict[str, Any]:
        trained = self._trained * self.experiment.data.batch_size
        chosen = lane.selection
        return {
            "metrics": metrics,
            "selected": {"rule": chosen.rule, "step": best, "value": chosen.best},
            "ended": lane.ended,
            "note": lane.note,
            "steps": last,
            "digest": lane.last("checkpoint").get("digest"),
            "wall_seconds": self._elapsed(),
            "compile_seconds": round(self._compile_seconds + self.evaluation.seconds, 3),
            "examples_per_second": round(trained / max(self._train_seconds, 1e-9), 1),
            "input_wait_seconds": round(self._wait_seconds, 3),
            "peak_memory_bytes": platform.peak_memory(),
            "lanes": len(self.lanes),
        }


def run_lanes(
    compiled: Compiled,
    lanes: list[Lane],
    place: Path,
    cadence: Cadence,
    console: Console,
    halve: int | None,
    program: str | None = None,
) -> str | None:
    """Drive a sweep's lanes to their results, their shared checkpoints in ``place``; the name of the signal
    that stopped them, if one did. ``program`` as of :class:`Loop`."""
    keeping: Keeping = (
        OwnCheckpoints(compiled, lanes[0])
        if compiled.mode is None
        else SharedCheckpoints(compiled, lanes, place)
    )
    how: dict[str, Any] = {"halve": halve, "tolerant": True, "program": program}
    loop = Loop(compiled, lanes, keeping, cadence, console, **how)
    loop.run()
    return loop.stopped
