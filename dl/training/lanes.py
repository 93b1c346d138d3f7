"""Several runs as lanes of one compiled program: the loop of `dl.training.loop`, for many at once.

Between two events all lanes are one stacked state on the device. A lane that ends early (patience,
halving, a loss that is not finite) stands still from then on; the others do not notice.
"""

import dataclasses
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dl.core.experiment import Experiment
from dl.core.lanes import Mode, rebuild
from dl.core.metrics import compute
from dl.core.state import TrainState, plain
from dl.parallel.sharding import lane_layout
from dl.runs.folder import RunFolder, write_json
from dl.training import faults
from dl.training.checkpoints import Checkpoints, digests, flatten, state_digest
from dl.training.compiled import TrainProgram, empty_metrics, initial_state, lane_values
from dl.training.console import Console
from dl.training.evaluation import Evaluation, pick
from dl.training.halving import rungs
from dl.training.loop import Cadence, draw_views, write_event
from dl.training.postmortem import non_finite
from dl.training.prefetch import prefetch
from dl.training.selection import Selection
from dl.training.signals import Signals
from dl.training.stepping import StepRunner

AT_ONCE = 16  # lanes whose checkpoints are written together


@dataclasses.dataclass
class Lane:
    """One run of a sweep.

    Attributes:
      ended: how it ended: 'done', 'early', 'halved', 'non-finite'; None while it runs.
      note: what more there is to say of its end.
    """

    folder: RunFolder
    config: Any
    selection: Selection
    ended: str | None = None
    note: str = ""


class Lanes:
    """Lanes that share one program, from their first step to their results."""

    def __init__(
        self,
        experiment: Experiment,
        lanes: list[Lane],
        fields: list[str],
        mode: Mode,
        place: Path,
        cadence: Cadence,
        console: Console,
        halve: int | None = None,
    ):
        self.experiment, self.lanes, self.mode = experiment, lanes, mode
        self.cadence, self.console, self.halve = cadence, console, halve
        own = [{name: getattr(lane.config, name) for name in fields} for lane in lanes]
        self.own_values, self.values = own, lane_values(own)
        self.layout = lane_layout(len(lanes))
        self.evaluation = Evaluation(experiment, self.values, mode, self.layout)
        self.checkpoints = Checkpoints(place)
        self.begun = time.perf_counter()
        self.elapsed_before = 0.0
        self.compile_seconds = self.train_seconds = 0.0
        self.trained = 0
        self._pending: list[tuple[int, Any, float]] = []
        self._mark = self.begun
        self._better = jax.jit(
            lambda mask, new, old: jax.tree.map(
                lambda n, o: jnp.where(mask.reshape(-1, *[1] * (n.ndim - 1)), n, o), new, old
            )
        )

    @property
    def active(self) -> np.ndarray:
        return np.array([lane.ended is None for lane in self.lanes])

    def elapsed(self) -> float:
        return round(self.elapsed_before + time.perf_counter() - self.begun, 3)

    # -- events ---------------------------------------------------------------------------------

    def flush(self) -> None:
        for step, totals, seconds in self._pending:
            host = jax.device_get(totals)
            rate = self.experiment.data.batch_size * self.cadence.log_every / max(seconds, 1e-9)
            clock = {"elapsed": self.elapsed(), "examples_per_second": round(rate, 1)}
            for place in self._running():
                one = pick(host, place, self.mode)
                metrics = {f"train/{k}": v for k, v in compute(one).items()}
                folder = self.lanes[place].folder
                write_event(folder, [], "train", step, metrics, time=clock)
            total = rate * self.active.sum()
            self.console.update(step, f"{self.active.sum()} lanes  {total:,.0f} ex/s in all")
        self._pending.clear()

    def _running(self) -> list[int]:
        return [place for place, lane in enumerate(self.lanes) if lane.ended is None]

    def evaluate(self, step: int, state: TrainState, best: TrainState) -> TrainState:
        """Evaluate every running lane; returns the best state of each so far."""
        self.flush()
        self.console.update(step, doing="evaluating")
        kill = faults.next_kill("evaluate")
        between = (lambda: faults.reach("evaluate", step)) if kill is not None else None
        found = self.evaluation(state, self.experiment.evals, between)
        improved = np.zeros(len(self.lanes), bool)
        for place in self._running():
            lane, metrics = self.lanes[place], found[place]
            before, lane.selection = lane.selection, lane.selection.update(step, metrics)
            improved[place] = lane.selection.step == step and before.step != step
            clock = {"elapsed": self.elapsed()}
            write_event(lane.folder, [], "eval", step, metrics, time=clock)
            if self.experiment.views is not None:
                draw_views(self.experiment, lane.folder, step, pick(state, place, self.mode))
            if lane.selection.exhausted(self.experiment.patience):
                lane.ended = "early"
        self._drop(step)
        values = [x.selection.best for x in self.lanes if x.selection.best is not None]
        if values:
            low, middle, high = np.min(values), np.median(values), np.max(values)
            rule = self.experiment.select
            self.console.say(
                f"step {step:>6}  {rule}, best so far: {low:.4g} {middle:.4g} {high:.4g} "
                "(lowest, median and highest lane)"
            )
        self.console.update(step)
        return self._replaced(improved, state, best)

    def _replaced(self, mask: np.ndarray, new: TrainState, old: TrainState) -> TrainState:
        """``old`` with the lanes of ``mask`` from ``new``, lying where ``old`` did."""
        if not mask.any():
            return old
        found = self._better(mask, new, old)
        if not self.layout:
            return found
        return jax.device_put(found, jax.tree.map(lambda x: x.sharding, old))

    def _drop(self, step: int) -> None:
        """Successive halving: at 1/h of the run, 1/h² ..., keep the best 1/h of the running lanes."""
        running = self._running()
        if not self.halve or len(running) < 2 or self.experiment.select is None:
            return
        if step not in rungs(self.cadence.steps, self.cadence.eval_every, self.halve):
            return
        sign = -1.0 if self.experiment.select.startswith("-") else 1.0

        def rank(place):  # a lane that could not be scored yet goes before any that could
            best = self.lanes[place].selection.best
            return (False, 0.0) if best is None else (True, sign * best)

        order = sorted(running, key=rank, reverse=True)
        for place in order[-(-len(running) // self.halve) :]:
            self.lanes[place].ended = "halved"
        self.console.say(f"step {step:>6}  kept the best {len(self._running())} of {len(running)}")

    def digest(self, step: int, state: TrainState) -> None:
        """Every running lane's state digests, as a solo run writes them at a checkpoint."""
        host = jax.device_get(plain(state))
        for place in self._running():
            one = flatten({"state": jax.tree.map(lambda x, i=place: np.asarray(x)[i], host)})
            leaves, folder = digests(one), self.lanes[place].folder
            digest, clock = state_digest(leaves), {"elapsed": self.elapsed()}
            write_event(folder, [], "checkpoint", step, {}, digest=digest, time=clock)
            folder.append(folder.digests, {"step": step, "leaves": leaves})

    def save(self, step: int, tree: dict[str, Any]) -> None:
        self.flush()
        self.digest(step, tree["state"])
        for lane in self.lanes:
            lane.folder.sync()
        ended = {lane.folder.name: [lane.ended, lane.note] for lane in self.lanes}
        self.checkpoints.save(step, tree, {"elapsed": self.elapsed(), "ended": ended}, set())

    # -- the loop -------------------------------------------------------------------------------

    def run(self) -> str:
        """Train, or go on training, every lane; 'done' or the name of the signal that stopped them."""
        state = initial_state(self.experiment, self.values, self.mode)
        totals = empty_metrics(self.experiment, self.values, self.mode)
        tree = {"state": state, "totals": totals, "best": jax.tree.map(jnp.copy, state)}
        step, tree = self._restore(tree)
        source = prefetch(self.experiment.data, step, self.layout)
        try:
            batches = source.at(step)[0]
            program = TrainProgram(self.experiment, tree["state"], batches, self.values, self.mode)
            program.wait()
            self.compile_seconds = time.perf_counter() - self.begun
            self.console.start(step, self.cadence.steps)
            with Signals() as signals:
                tree = self._train(step, tree, program, source, signals)
            if signals.caught is not None:
                return signals.name
            self._finish(tree)
            return "done"
        finally:
            self.console.stop()
            source.close()
            self.checkpoints.close()

    def _train(self, step, tree, program, source, signals) -> dict[str, Any]:
        cadence = self.cadence

        def sent(at: int) -> None:
            self.flush()
            self.console.update(at)

        dispatcher = StepRunner(program, source, signals.asked, sent, self._settle)
        self._mark = time.perf_counter()
        while step < cadence.steps and self.active.any():
            target, active = cadence.next(step), self.active
            step, tree["state"], tree["totals"] = dispatcher.to(
                step, target, tree["state"], tree["totals"], active
            )
            self.trained = dispatcher.steps
            event = step == target
            if event and cadence.due(step, cadence.log_every):
                now = time.perf_counter()
                self._pending.append((step, tree["totals"], now - self._mark))
                self.train_seconds += now - self._mark
                self._mark, tree["totals"] = now, program.zeros()
            if cadence.only_log(step) and signals.caught is None and self.active.any():
                continue
            dispatcher.drain(tree["state"])
            aside = time.perf_counter()
            if event and self.experiment.evals and cadence.due(step, cadence.eval_every):
                tree["best"] = self.evaluate(step, tree["state"], tree["best"])
            due = event and cadence.due(step, cadence.save_every)
            if due or signals.caught is not None or not self.active.any():
                self.save(step, tree)
            self._mark += time.perf_counter() - aside
            if signals.caught is not None:
                break
        return tree

    def _settle(self, finite: np.ndarray, state: TrainState) -> None:
        for place in self._running():
            if not finite[place]:
                lane, one = self.lanes[place], pick(state, place, self.mode)
                error = non_finite(self.experiment, one, self.own_values[place], [])
                lane.ended, lane.note = "non-finite", str(error)
                self.console.warn(f"{lane.folder.name} stops: {error}")

    def _restore(self, tree: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """The last checkpoint of all lanes, their logs cut back to it; the start where there is none."""
        restored = self.checkpoints.restore(tree, say=self.console.warn)
        step, ended = 0, {}
        if restored is not None:
            tree, meta = restored
            step, ended = int(meta["step"]), meta["ended"]
            self.elapsed_before = meta["elapsed"]
        for lane in self.lanes:
            lane.folder.truncate(step)
            lane.ended, lane.note = ended.get(lane.folder.name, (None, ""))
            for record in lane.folder.records():
                if record["event"] == "eval":
                    lane.selection = lane.selection.update(record["step"], record["metrics"])
        return step, tree

    # -- the end --------------------------------------------------------------------------------

    def _finish(self, tree: dict[str, Any]) -> None:
        """Test every lane's selected state; leave each a checkpoint and a result like any run's."""
        self.console.say("testing the selected state of every lane")
        state, best = tree["state"], tree["best"]
        # A lane in which nothing could be selected keeps its last state, as a run of its own does.
        nothing = np.array([lane.selection.best is None for lane in self.lanes])
        chosen = self._replaced(nothing, state, best) if self.experiment.select else state
        for lane in self.lanes:
            if said := lane.selection.nothing():
                self.console.warn(f"{lane.folder.name}: {said}")
        tested: list[dict[str, Any]] = [{}] * len(self.lanes)
        if self.experiment.tests:
            tested = self.evaluation(chosen, self.experiment.tests)
        host = [jax.device_get(plain(x)) for x in (state, chosen)]
        ends = [[pick(x, place, self.mode) for x in host] for place in range(len(self.lanes))]
        for start in range(0, len(self.lanes), AT_ONCE):
            self._keep(self.lanes[start : start + AT_ONCE], ends[start : start + AT_ONCE])
        for place, lane in enumerate(self.lanes):
            lane.ended = lane.ended or "done"
            one, top = ends[place]
            metrics = self._evaluated(lane.folder, int(top.step))
            if self.experiment.tests and lane.ended in ("done", "early"):
                clock = {"elapsed": self.elapsed()}
                write_event(lane.folder, [], "test", int(one.step), tested[place], time=clock)
                metrics |= tested[place]
            write_json(lane.folder.result, self._result(lane, place, one, top, metrics))

    def _keep(self, lanes: list[Lane], ends: list[list[TrainState]]) -> None:
        """Give each lane its last and its selected state as checkpoints, all being written at once."""
        totals = jax.device_get(empty_metrics(self.experiment))
        places = [Checkpoints(lane.folder.checkpoints) for lane in lanes]
        for which in (1, 0):  # every lane's selected state, then its last
            for checkpoints, end in zip(places, ends, strict=True):
                step = int(end[which].step)
                if step not in checkpoints.steps():
                    tree, best = {"state": end[which], "totals": totals}, int(end[1].step)
                    checkpoints.save(step, tree, {"elapsed": self.elapsed()}, {best})
        for checkpoints in places:
            checkpoints.close()

    def _evaluated(self, folder: RunFolder, step: int) -> dict[str, Any]:
        lines = [r for r in folder.records() if r["event"] == "eval" and r["step"] == step]
        return dict(lines[-1]["metrics"]) if lines else {}

    def _result(self, lane, place, last, best, metrics) -> dict[str, Any]:
        rate = self.trained * self.experiment.data.batch_size / max(self.train_seconds, 1e-9)
        digest = [r["digest"] for r in lane.folder.records() if r["event"] == "checkpoint"]
        return {
            "metrics": metrics,
            "selected": {
                "rule": lane.selection.rule,
                "step": int(best.step),
                "value": lane.selection.best,
            },
            "ended": lane.ended,
            "note": lane.note,
            "steps": int(last.step),
            "seed": rebuild(self.experiment, self.own_values[place]).seed,
            "digest": digest[-1] if digest else None,
            "wall_seconds": self.elapsed(),
            "compile_seconds": round(self.compile_seconds + self.evaluation.seconds, 3),
            "examples_per_second": round(rate, 1),
            "lanes": len(self.lanes),
        }
