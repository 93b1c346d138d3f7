"""Start, continue and look at runs: ``train(experiment) -> Run``."""

import dataclasses
import functools
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

from dl import platform
from dl.core.errors import UserError
from dl.core.experiment import Experiment
from dl.core.lanes import first_batch, traceable_fields
from dl.core.state import TrainState
from dl.parallel import processes
from dl.parallel.mesh import mesh_name
from dl.parallel.sharding import Layout
from dl.report.layers import Summary, summary
from dl.report.page import plain_table
from dl.runs import lock
from dl.runs.folder import (
    RunFolder,
    furthest_unfinished,
    new_name,
    read_json,
    to_json,
    write_json,
)
from dl.runs.options import Options, chosen_options, describe
from dl.runs.records import numbers
from dl.runs.scripts import script_of
from dl.training.checkpoints import Checkpoints
from dl.training.checks import check, check_inputs, explained
from dl.training.compiled import (
    Beginning,
    beginning,
    empty_metrics,
    initial_state,
    layout_of,
)
from dl.training.console import Console, format_metrics
from dl.training.loop import Cadence, Loop
from dl.training.prefetch import check_divisible
from dl.training.selection import Selection
from dl.training.trackers import Sink, TensorBoard, WandB


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
        return numbers(self.result["metrics"])

    def history(self, event: str = "train") -> dict[str, np.ndarray]:
        """Logged scalars over the run: ``{'step': [n], 'train/loss': [n], ...}``."""
        lines = [r for r in self.folder.records() if r["event"] == event]
        names = lines[0]["metrics"] if lines else ()
        values = [numbers(r["metrics"]) for r in lines]
        columns = {name: np.array([v[name] for v in values]) for name in names}
        return {"step": np.array([r["step"] for r in lines]), **columns}

    def predict(self, inputs: Any) -> Any:
        """The task's prediction with the selected parameters.

        Args:
          inputs: a batch of what the task's ``predict`` takes: a column ``[batch, ...]`` as in the training
            data, or a dict of several.

        Raises:
          UserError: values that training would refuse too, such as pixels already scaled, or a missing
            batch axis.
        """
        task, variables = self.experiment.task, self.state.eval_variables
        try:
            inputs = np.asarray(inputs) if isinstance(inputs, list) else inputs
        except ValueError:
            raise UserError(
                "predict takes a batch, and the examples in this list differ in shape: bring them to one"
            ) from None
        check_inputs(task, variables, inputs, self._example)
        with explained("predicting", inputs if isinstance(inputs, dict) else {"inputs": inputs}):
            return self._predict(variables, inputs)

    @functools.cached_property
    def _example(self) -> dict[str, Any]:
        """One training batch, on the host."""
        return jax.tree.map(np.asarray, self.experiment.data[0])

    def plot(self):
        """Learning curves as a matplotlib figure, saved as ``curves.png``: a notebook shows it, and
        elsewhere the file's path is printed."""
        from dl.figures.curves import curves, shown

        return shown(curves([self.folder.path]), self.folder.path / "curves.png")

    def summary(self) -> Summary:
        """The layers with their output shapes, parameters and FLOPs, as a table when shown."""
        return summary(self.experiment.task, first_batch(self.experiment))

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
    chosen = chosen_options(options)
    chosen.find_packages()
    processes.join(chosen.coordinator, chosen.processes, chosen.process)
    check(experiment)
    path = Path(script) if script else script_of(experiment.config)
    if path is not None and not path.is_file():
        raise UserError(f"there is no script {path}: give the file that builds this experiment")
    stem = path.stem if path else "run"
    layout = layout_of(chosen.mesh, experiment, chosen.deterministic_topology)
    if layout is not None:
        check_divisible(experiment.data, layout)
    place, go_on = processes.on_first_process(lambda: _choose_folder(chosen, experiment, stem))
    folder = RunFolder(place, writes=processes.first())
    try:
        with folder.held():
            return _train(experiment, chosen, folder, path, go_on, layout)
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

        def fits(folder: RunFolder) -> bool:
            # Where no config tells of the experiment, it does itself.
            told = experiment.build is not None or "settings" not in read_json(folder.lock)
            return told or not lock.changes(folder, experiment, wanted).settings

        found = furthest_unfinished(options.runs, wanted, fits)
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


def _train(
    experiment: Experiment,
    options: Options,
    folder: RunFolder,
    script: Path | None,
    go_on: bool,
    layout: Layout | None,
) -> Run:
    console = Console(options.progress, processes.first())
    begun = time.perf_counter()
    if processes.on_first_process(
        lambda: _lock(folder, experiment, options, script, go_on, console, layout)
    ):
        return reopen(folder, experiment, console.warn, layout)
    values = traceable_fields(experiment)
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
            **processes.on_first_process(
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


def _lock(folder, experiment, options, script, go_on, console, layout) -> bool:
    """Write the lock of a new run, or compare a resumed one's with the experiment and the world as they are
    now; returns whether the run is at its end. Raises where it is another one."""
    if not go_on:
        lock.write(folder, experiment, script, layout)
        write_json(folder.config, describe(experiment, options))
        return False
    changes = lock.changes(folder, experiment, describe(experiment, options), script, layout)
    changes.refuse(folder, "resumed", "start anew under another --name")
    if folder.finished():
        metrics = format_metrics(numbers(read_json(folder.result)["metrics"]))
        console.say(f"{folder.path} is finished: {metrics}")
        return True
    if changes.others:
        told = "; ".join(changes.others[:3])
        console.warn(f"resumed under other conditions, so bits may differ: {told}")
    if changes.devices:
        told = "; ".join(c.removeprefix("devices.") for c in changes.devices[:3])
        console.warn(
            f"resumed on other devices ({told}): the data come in the same order, but sums may round "
            "differently"
        )
    return False


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
    if nothing := chosen.nothing():
        loop.console.warn(nothing)
    if chosen.step is not None and chosen.step != last:
        state = _restore_state(
            experiment, loop.checkpoints, state, chosen.step, loop.console.warn, loop.layout
        )
    at = int(state.step)
    metrics = dict(processes.on_first_process(lambda: _evaluation_at(folder, at)))
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
    processes.on_first_process(lambda: write_json(folder.result, result))
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


def reopen(
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
