"""Start, continue and look at runs: ``train(experiment) -> Run`` and ``open_run(folder)``."""

import dataclasses
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

from dl.core.errors import UserError, unknown
from dl.core.experiment import Experiment, built
from dl.core.population import liftable
from dl.core.state import TrainState
from dl.report.layers import Summary, summary
from dl.report.page import plain_table
from dl.training import lock
from dl.training.checkpoints import Checkpoints
from dl.training.checks import check
from dl.training.console import Console, format_metrics
from dl.training.folder import (
    RunFolder,
    latest_unfinished,
    new_name,
    read_json,
    to_json,
    write_json,
)
from dl.training.loop import Cadence, Loop
from dl.training.programs import empty_metrics, initial_state
from dl.training.scripts import from_json, load_script, script_of
from dl.training.selection import Selection
from dl.training.sinks import Sink, TensorBoard, WandB


@dataclasses.dataclass(frozen=True)
class Options:
    """How a run is carried out and shown; nothing here changes what it computes."""

    name: str | None = None
    """name of the run, and of its folder; by default the script's name with the date and time"""
    runs: Path = Path("runs")
    """folder that holds the runs"""
    resume: bool = False
    """go on with the run --name, or with the latest unfinished one of this configuration"""
    log_every: int | None = None
    """steps between logged training metrics; by default a hundredth of the run, at most 50"""
    eval_every: int | None = None
    """steps between evaluations; by default a tenth of the run"""
    save_every: int | None = None
    """steps between checkpoints; by default as often as evaluations"""
    progress: bool = True
    """show a progress bar and a line for each evaluation"""
    tensorboard: bool = False
    """also write TensorBoard event files"""
    wandb: str | None = None
    """also log to this Weights & Biases project"""

    def __post_init__(self):
        object.__setattr__(self, "runs", Path(self.runs))  # a string will do, in a notebook

    def cadence(self, steps: int) -> dict[str, int]:
        """The steps between events, defaults filled in for a run of ``steps``."""
        default = {
            "log_every": max(1, min(50, steps // 100)),
            "eval_every": max(1, -(-steps // 10)),
        }
        default["save_every"] = (
            default["eval_every"] if self.eval_every is None else self.eval_every
        )
        given = {n: d if getattr(self, n) is None else getattr(self, n) for n, d in default.items()}
        for name, value in given.items():
            if value < 1:
                raise UserError(f"{name} must be 1 or more, not {value}")
        return given


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
        """Learning curves as a matplotlib figure, also saved as ``curves.png``."""
        from dl.report.plots import curves

        figure = curves([self.folder.path])
        figure.savefig(self.folder.path / "curves.png", dpi=120)
        return figure

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
    check(experiment)
    path = Path(script) if script else script_of(experiment.config)
    stem = path.stem if path else "run"
    folder, go_on = _choose_folder(chosen, experiment, stem)
    with folder.held():
        return _train(experiment, chosen, folder, path, go_on)


def describe(experiment: Experiment, options: Options) -> dict[str, Any]:
    """What ``config.json`` holds, and what must be equal for a run to be resumed."""
    config = experiment.config
    values: Any = dataclasses.asdict(config) if _is_value(config) else config
    return {"config": values, "steps": experiment.steps, **options.cadence(experiment.steps)}


def _is_value(config: Any) -> bool:
    return dataclasses.is_dataclass(config) and not isinstance(config, type)


def _choose_folder(options: Options, experiment: Experiment, stem: str) -> tuple[RunFolder, bool]:
    """The run's folder, and whether it is there to be continued."""
    wanted = describe(experiment, options)
    if options.name is None:
        if not options.resume:
            return RunFolder(options.runs / new_name(options.runs, stem)), False
        found = latest_unfinished(options.runs, wanted)
        if found is None:
            raise UserError(
                f"no unfinished run of this configuration lies in {options.runs}/: leave --resume "
                "out to start one, or name one with --name"
            )
        return found, True
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
    return folder, folder.exists()


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
    console = Console(options.progress)
    begun = time.perf_counter()
    if go_on:
        _check_same(folder, experiment, options)
        if folder.finished():
            console.say(
                f"{folder.path} is finished: {format_metrics(read_json(folder.result)['metrics'])}"
            )
            return _reopen(folder, experiment, console.warn)
    _lock(folder, experiment, options, script, go_on, console)
    values = liftable(experiment)
    state, totals = initial_state(experiment, values), empty_metrics(experiment, values)
    checkpoints = Checkpoints(folder.checkpoints)
    cadence = Cadence(experiment.steps, **options.cadence(experiment.steps))
    loop = Loop(experiment, folder, checkpoints, console, cadence, values)
    loop.begun, loop.compile_seconds = begun, time.perf_counter() - begun
    if go_on:
        template = {"state": state, "totals": totals}
        restored = checkpoints.restore(template, say=console.warn)
        step = 0
        if restored is not None:
            tree, meta = restored
            state, totals, step = tree["state"], tree["totals"], int(meta["step"])
            loop.elapsed_before = meta["elapsed"]
        folder.truncate(step)
        loop.selection = _selection(folder, experiment)
        console.say(f"resuming {folder.path} at step {step} of {experiment.steps}")
    else:
        console.say(f"run {folder.path}: {experiment.steps} steps of {experiment.data.batch_size}")
    loop.sinks = _sinks(options, folder, experiment)
    try:
        state, ended = loop.run(state, totals)
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


def _lock(folder, experiment, options, script, go_on, console) -> None:
    """Write the lock of a new run, or compare a resumed one's with the world as it is now."""
    now = lock.environment(experiment, script)
    if not go_on:
        write_json(folder.lock, {"script": script and script.absolute(), "environment": now})
        write_json(folder.config, describe(experiment, options))
        return
    changed = lock.differences(read_json(folder.lock)["environment"], now)
    data = [c for c in changed if c.startswith("data.")]
    if data:
        raise UserError(f"the data of {folder.path} changed since it was started ({data[0]})")
    if changed:
        console.warn(
            f"resumed under other conditions, so bits may differ: {'; '.join(changed[:3])}"
        )


def _selection(folder: RunFolder, experiment: Experiment) -> Selection:
    """What the evaluations logged so far select."""
    selection = Selection(experiment.select)
    for record in folder.records():
        if record["event"] == "eval":
            selection = selection.update(record["step"], record["metrics"])
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
        state = _restore_state(experiment, loop.checkpoints, state, chosen.step)
    metrics = dict(_evaluation_at(folder, int(state.step)))
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
    }
    write_json(folder.result, result)
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
    experiment: Experiment, checkpoints: Checkpoints, like: TrainState, step: int | None, say=print
) -> TrainState:
    template = {"state": like, "totals": empty_metrics(experiment)}
    restored = checkpoints.restore(template, step, say)
    if restored is None:
        raise UserError(f"{checkpoints.folder} holds no checkpoint: train first")
    return restored[0]["state"]


def _reopen(folder: RunFolder, experiment: Experiment, say=print) -> Run:
    """The run in ``folder`` with its selected state, or its last one where it is unfinished."""
    checkpoints = Checkpoints(folder.checkpoints)
    step, ended = None, "unfinished"
    if folder.finished():
        result = read_json(folder.result)
        step, ended = result["selected"]["step"], result["ended"]
    state = _restore_state(experiment, checkpoints, initial_state(experiment), step, say)
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
