"""Start, continue and look at runs: ``train(experiment) -> Run`` and ``open_run(folder)``."""

import dataclasses
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

from dl import platform
from dl.core.errors import UserError, unknown
from dl.core.experiment import Experiment, built
from dl.core.population import liftable
from dl.core.state import TrainState
from dl.parallel.mesh import mesh_name
from dl.parallel.sharding import Layout
from dl.report.layers import Summary, summary
from dl.report.page import plain_table
from dl.training import lock, processes
from dl.training.checkpoints import Checkpoints
from dl.training.checks import check
from dl.training.console import Console, format_metrics
from dl.training.feed import check_divisible
from dl.training.folder import (
    RunFolder,
    furthest_unfinished,
    new_name,
    read_json,
    to_json,
    write_json,
)
from dl.training.loop import Cadence, Loop
from dl.training.options import Options, describe
from dl.training.programs import (
    Beginning,
    beginning,
    empty_metrics,
    initial_state,
    layout_of,
)
from dl.training.scripts import from_json, load_script, script_of
from dl.training.selection import Selection
from dl.training.sinks import Sink, TensorBoard, WandB


class Run:
    """A run and its folder.

    Attributes:
      folder: where it lies; experiment: what was run; state: the selected state, for use;
      ended: 'done', 'early' (patience ran out) or the name of the signal that stopped it.
    """

    def __init__(self, folder: RunFolder, experiment: Experiment, state: TrainState, ended: str):
        self.folder, self.experiment, self.state, self.ended = folder, experiment, state, ended
        self._predict = jax.jit(experiment.task.predict)

    @property
    def result(self) -> dict[str, Any]:
        """``result.json``: final metrics, how the state was selected, times."""
        return read_json(self.folder.result)

    @property
    def metrics(self) -> dict[str, float]:
        """The final metrics."""
        return self.result["metrics"]

    def history(self, event: str = "train") -> dict[str, np.ndarray]:
        """Logged scalars over the run: ``{'step': [n], 'train/loss': [n], ...}``."""
        lines = [r for r in self.folder.records() if r["event"] == event]
        names = lines[0]["metrics"] if lines else ()
        columns = {name: np.array([r["metrics"][name] for r in lines]) for name in names}
        return {"step": np.array([r["step"] for r in lines]), **columns}

    def predict(self, inputs: Any) -> Any:
        """The task's prediction with the selected parameters."""
        return self._predict(self.state.eval_variables, inputs)

    def plot(self):
        """Learning curves as a matplotlib figure, saved as ``curves.png``: a notebook shows it, and
        elsewhere the file's path is printed."""
        from dl.report.plots import curves, shown

        return shown(curves([self.folder.path]), self.folder.path / "curves.png")

    def summary(self) -> Summary:
        """The layers with their output shapes, parameters and FLOPs, as a table when shown."""
        return summary(self.experiment.task, self.experiment.data[0])

    def _repr_html_(self) -> str:
        ended = self.ended if self.folder.finished() else f"stopped at step {int(self.state.step)}"
        rows = [("folder", self.folder.path), ("ended", ended)]
        if self.folder.finished():
            chosen = self.result["selected"]
            rows.append(
                ("selected", f"step {chosen['step']} by {chosen['rule'] or 'being the last'}")
            )
            rows += [(k, f"{v:.4g}") for k, v in self.metrics.items() if isinstance(v, float | int)]
        return plain_table((), rows)

    def __repr__(self) -> str:
        if self.folder.finished():
            return f"Run({str(self.folder.path)!r}: {format_metrics(self.metrics)})"
        return f"Run({str(self.folder.path)!r}: stopped at step {int(self.state.step)})"


def train(experiment: Experiment, script: str | Path | None = None, **options: Any) -> Run:
    """Carry ``experiment`` out, or go on with it, in its own folder under ``runs/``.

    Args:
      experiment: what ``build(config)`` returned.
      script: the experiment's script, for the lock and for replay; found by itself if left out.
      **options: fields of :class:`Options`, such as ``name='first'`` or ``resume=True``.

    Returns:
      The run with the selected state. A run stopped by Ctrl-C comes back too, saved and unfinished
      (``run.ended == 'SIGINT'``).

    Raises:
      UserError: a mistake in the options, data or folder. NonFiniteError: the loss was not finite.
    """
    fields = {f.name for f in dataclasses.fields(Options)}
    for name in options:
        if name not in fields:
            raise unknown("option", name, fields)
    chosen = Options(**options)
    processes.join(chosen.coordinator, chosen.processes, chosen.process)
    check(experiment)
    path = Path(script) if script else script_of(experiment.config)
    stem = path.stem if path else "run"
    place, go_on = processes.decided(lambda: _choose_folder(chosen, experiment, stem))
    folder = RunFolder(place, writes=processes.first())
    try:
        with folder.held():
            return _train(experiment, chosen, folder, path, go_on)
    except Exception as error:
        if not processes.lost(error):
            raise
        raise UserError(
            f"another process of this run is gone, so this one stops too; {folder.path} holds all up to "
            "its last checkpoint: start all processes again with --resume"
        ) from error


def _choose_folder(options: Options, experiment: Experiment, stem: str) -> tuple[str, bool]:
    """The run's folder, and whether it is there to be continued."""
    wanted = describe(experiment, options)
    if options.name is None:
        if not options.resume:
            return str(options.runs / new_name(options.runs, stem)), False
        found = furthest_unfinished(options.runs, wanted)
        if found is None:
            raise UserError(
                f"no unfinished run of this configuration lies in {options.runs}/: leave --resume "
                "out to start one, or name one with --name"
            )
        return str(found.path), True
    if Path(options.name).name != options.name:
        raise UserError(
            f"a run's name is that of a folder in {options.runs}/, not {options.name!r}"
        )
    folder = RunFolder(options.runs / options.name)
    if folder.exists() and not options.resume:
        raise UserError(
            f"{folder.path} is there already: go on with it by --resume, or choose another --name"
        )
    if folder.path.is_dir() and not folder.exists() and any(folder.path.iterdir()):
        raise UserError(f"{folder.path} is not the folder of a run: choose another --name")
    return str(folder.path), folder.exists()


def _check_same(folder: RunFolder, experiment: Experiment, options: Options) -> None:
    stored, wanted = read_json(folder.config), to_json(describe(experiment, options))
    changed = lock.differences(stored, wanted)
    if changed:
        raise UserError(
            f"{folder.path} was started with another configuration ({'; '.join(changed[:3])}): a "
            "resumed run keeps its own. Give the same values, or start anew under another --name"
        )


def _train(
    experiment: Experiment, options: Options, folder: RunFolder, script: Path | None, go_on: bool
) -> Run:
    console = Console(options.progress, processes.first())
    begun = time.perf_counter()
    layout = layout_of(options.mesh, experiment, options.deterministic_topology)
    if layout is not None:
        check_divisible(experiment.data, layout)
    if processes.decided(lambda: _finished(folder, experiment, options, go_on, console)):
        return _reopen(folder, experiment, console.warn, layout)
    processes.decided(lambda: _lock(folder, experiment, options, script, go_on, console, layout))
    values = liftable(experiment)
    begin = beginning(experiment, values, layout=layout)
    totals = empty_metrics(experiment, values, layout=layout)
    checkpoints = Checkpoints(folder.checkpoints)
    cadence = Cadence(experiment.steps, **options.cadence(experiment.steps))
    loop = Loop(experiment, folder, checkpoints, console, cadence, values, layout)
    loop.begun, loop.compile_seconds = begun, time.perf_counter() - begun
    if go_on:
        template = {"state": begin.state(), "totals": totals}
        restored = checkpoints.restore(template, say=console.warn)
        if restored is not None:
            tree, meta = restored
            state, totals = tree["state"], tree["totals"]
            begin = Beginning(int(meta["step"]), state, lambda: state)
            loop.elapsed_before = meta["elapsed"]
        loop.selection = Selection(
            **processes.decided(
                lambda: dataclasses.asdict(_selection(folder, experiment, cadence, begin.step))
            )
        )
        folder.truncate(begin.step)
        console.say(f"resuming {folder.path} at step {begin.step} of {experiment.steps}")
    else:
        over = "" if layout is None else f" on {mesh_name(layout.mesh)}"
        console.say(
            f"run {folder.path}: {experiment.steps} steps of {experiment.data.batch_size}{over}"
        )
    loop.sinks = _sinks(options, folder, experiment) if folder.writes else []
    try:
        state, ended = loop.run(begin, totals)
        checkpoints.wait()
        if ended in ("done", "early"):
            state = _finish(loop, state, ended)
        else:
            console.say(
                f"stopped by {ended} at step {int(state.step)}; all is saved in {folder.path}"
            )
        return Run(folder, experiment, state, ended)
    finally:
        checkpoints.close()
        for sink in loop.sinks:
            sink.close()


def _finished(folder, experiment, options, go_on, console) -> bool:
    """Whether the run to be continued is at its end; raises where it is another one."""
    if not go_on:
        return False
    _check_same(folder, experiment, options)
    if folder.finished():
        metrics = format_metrics(read_json(folder.result)["metrics"])
        console.say(f"{folder.path} is finished: {metrics}")
    return folder.finished()


def _lock(folder, experiment, options, script, go_on, console, layout) -> None:
    """Write the lock of a new run, or compare a resumed one's with the world as it is now."""
    now = lock.environment(experiment, script, layout)
    if not go_on:
        write_json(folder.lock, {"script": script and script.absolute(), "environment": now})
        write_json(folder.config, describe(experiment, options))
        return
    changed = lock.differences(read_json(folder.lock)["environment"], now)
    data = [c for c in changed if c.startswith("data.")]
    if data:
        raise UserError(f"the data of {folder.path} changed since it was started ({data[0]})")
    devices = [c.removeprefix("devices.") for c in changed if c.startswith("devices.")]
    others = [c for c in changed if not c.startswith("devices.")]
    if others:
        console.warn(f"resumed under other conditions, so bits may differ: {'; '.join(others[:3])}")
    if devices:
        console.warn(
            f"resumed on other devices ({'; '.join(devices[:3])}): the data come in the same order, but "
            "sums may round differently"
        )


def _selection(folder: RunFolder, experiment: Experiment, cadence: Cadence, step: int) -> Selection:
    """What the evaluations logged up to ``step`` select; raises where some of them are gone, for the run
    would then select another state than it would have."""
    selection, seen = Selection(experiment.select), set()
    for record in folder.records():
        if record["step"] > step:  # will be logged again
            continue
        seen.add((record["event"], record["step"]))
        if record["event"] == "eval":
            selection = selection.update(record["step"], record["metrics"])
    every = {"train": cadence.log_every} | (
        {"eval": cadence.eval_every} if experiment.evals else {}
    )
    for event, often in every.items():
        for due in (*range(often, step + 1, often), *([step] if step == cadence.steps else [])):
            if (event, due) not in seen:
                raise UserError(
                    f"{folder.metrics} has lost what was logged at step {due} ({event}): restore it from "
                    "a copy, or start anew under another --name"
                )
    return selection


def _sinks(options: Options, folder: RunFolder, experiment: Experiment) -> list[Sink]:
    sinks: list[Sink] = [TensorBoard(folder.path)] if options.tensorboard else []
    if options.wandb is not None:
        sinks.append(WandB(folder.path, options.wandb, to_json(describe(experiment, options))))
    return sinks


def _finish(loop: Loop, state: TrainState, ended: str) -> TrainState:
    """Evaluate the selected state on the test sets and write ``result.json``; returns that state."""
    experiment, folder, chosen = loop.experiment, loop.folder, loop.selection
    last = int(state.step)
    if chosen.step is not None and chosen.step != last:
        state = _restore_state(
            experiment, loop.checkpoints, state, chosen.step, loop.console.warn, loop.layout
        )
    at = int(state.step)
    metrics = dict(processes.decided(lambda: _evaluation_at(folder, at)))
    if experiment.tests:
        (tested,) = loop.evaluation(state, experiment.tests)
        loop.record("test", last, tested, time={"elapsed": loop.elapsed()})
        metrics |= tested
    trained = max(loop.train_seconds, 1e-9)
    result = {
        "metrics": metrics,
        "selected": {"rule": chosen.rule, "step": int(state.step), "value": chosen.best},
        "ended": ended,
        "steps": last,
        "seed": experiment.seed,
        "digest": _digest_at(folder, last),
        "wall_seconds": loop.elapsed(),
        "compile_seconds": round(loop.compile_seconds + loop.evaluation.seconds, 3),
        "examples_per_second": round(loop.trained * experiment.data.batch_size / trained, 1),
        "input_wait_seconds": round(loop.wait_seconds, 3),
        "peak_memory_bytes": platform.peak_memory(),
    }
    processes.decided(lambda: write_json(folder.result, result))
    return state


def _evaluation_at(folder: RunFolder, step: int) -> dict[str, Any]:
    for record in folder.records():
        if record["event"] == "eval" and record["step"] == step:
            return record["metrics"]
    return {}


def _digest_at(folder: RunFolder, step: int) -> str | None:
    digests = [
        r["digest"] for r in folder.records() if r["event"] == "checkpoint" and r["step"] == step
    ]
    return digests[-1] if digests else None


def _restore_state(
    experiment: Experiment,
    checkpoints: Checkpoints,
    like: TrainState,
    step: int | None,
    say=print,
    layout: Layout | None = None,
) -> TrainState:
    template = {"state": like, "totals": empty_metrics(experiment, layout=layout)}
    restored = checkpoints.restore(template, step, say)
    if restored is None:
        raise UserError(f"{checkpoints.folder} holds no checkpoint: train first")
    return restored[0]["state"]


def _reopen(
    folder: RunFolder, experiment: Experiment, say=print, layout: Layout | None = None
) -> Run:
    """The run in ``folder`` with its selected state, or its last one where it is unfinished."""
    checkpoints = Checkpoints(folder.checkpoints)
    step, ended = None, "unfinished"
    if folder.finished():
        result = read_json(folder.result)
        step, ended = result["selected"]["step"], result["ended"]
    template = initial_state(experiment, layout=layout)
    state = _restore_state(experiment, checkpoints, template, step, say, layout)
    checkpoints.close()
    return Run(folder, experiment, state, ended)


def open_run(folder: str | Path, build: Any = None, config: Any = None) -> Run:
    """A run from disk, ready to predict, rebuilt by its own script (or by ``build(config)``).

    Raises:
      UserError: no run there, or its script is gone.
    """
    found = RunFolder(folder)
    stored = read_json(found.config)
    if build is None:
        script = read_json(found.lock)["script"]
        if script is None:
            raise UserError(f"{folder} was not started by a script: pass build= and config=")
        kind, build = load_script(Path(script))
        config = from_json(kind, stored["config"])
    return _reopen(found, built(build, config))
