"""Start a run, or go on with it: ``train(build, config) -> Run``."""

import dataclasses
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from dl.core.errors import UserError
from dl.core.experiment import Experiment, built
from dl.core.state import shapes
from dl.parallel import processes
from dl.parallel.mesh import mesh_name
from dl.parallel.sharding import Layout
from dl.runs import lock, store
from dl.runs.folder import (
    RunFolder,
    called_after,
    check_name,
    furthest_unfinished,
    name_taken,
    new_name,
    read_json,
    to_json,
    write_json,
)
from dl.runs.options import Options, chosen_options, recorded
from dl.runs.readers import numbers, read_result
from dl.runs.removing import unless_begun
from dl.runs.scripts import chosen_script, from_json, leave_if_loading
from dl.runs.seal import check_seal
from dl.training.checks import check
from dl.training.compiled import Compiled
from dl.training.console import Console, format_metrics
from dl.training.hooks import cadence_of
from dl.training.keeping import OwnCheckpoints
from dl.training.lane import Lane
from dl.training.loop import Loop
from dl.training.placing import layout_of
from dl.training.prefetch import check_divisible
from dl.training.run import Run, newest_whole, reopen
from dl.training.selection import Selection
from dl.training.signals import Signals
from dl.training.starting import check_start
from dl.training.trackers import trackers


def train(
    build: Callable[[Any], Experiment],
    config: Any = None,
    *,
    script: str | Path | None = None,
    **options: Any,
) -> Run:
    """Carry ``build(config)`` out, or go on with it, in its own folder under ``runs/``.

    >>> run = dl.train(build, Config(learning_rate=1e-2), name="first")  # doctest: +SKIP

    Args:
      build: a pure function of the config that returns the experiment.
      config: a frozen dataclass; the run's folder keeps it.
      script: the experiment's script, for the lock and for replay; found by itself if left out.
      **options: fields of :class:`~dl.runs.options.Options`, such as ``name='first'`` or ``resume=True``.

    Returns:
      The run with the selected state. A run stopped by Ctrl-C comes back too, saved and unfinished
      (``run.ended == 'SIGINT'``).

    Raises:
      UserError: a mistake in the options, data or folder. NonFiniteError: the loss was not finite.
    """
    return start(build, config, chosen_options(options), script)


@store.naming()
def start(
    build: Callable[[Any], Experiment],
    config: Any,
    options: Options,
    script: str | Path | None = None,
) -> Run:
    """:func:`train`, its options in one."""
    leave_if_loading()
    begun = time.perf_counter()
    with options.computing():
        options.prepare()
        with Signals().while_together() as signals:
            return _start(build, config, script, options, begun, signals)


def _start(
    build: Callable[[Any], Experiment],
    config: Any,
    given: str | Path | None,
    chosen: Options,
    begun: float,
    signals: Signals | None,
) -> Run:
    seen = store.seen(chosen.runs, chosen.name, chosen.resume)
    if chosen.name is not None:
        check_name(seen, chosen.name, "run", chosen.resume)
    with _of_that_name(seen, chosen, config):
        experiment = built(build, config)
        check(experiment)
    cadence_of(experiment, chosen)  # a mistake in it is told before there is a folder
    path = chosen_script(given, config, build)
    layout = layout_of(chosen.mesh, experiment, chosen.deterministic_topology)
    if layout is not None:
        check_divisible(experiment, layout)
    lock.check_alike(experiment, chosen, path, layout)
    found = dataclasses.replace(chosen, runs=seen)
    name, go_on = processes.on_first_process(lambda: _choose_folder(found, experiment, path))
    if not go_on:
        check_start(experiment)
    folder = RunFolder(store.working(chosen.runs) / name, writes=processes.first())
    try:
        with folder.held():
            return _train(experiment, chosen, folder, path, go_on, layout, begun, signals)
    except Exception as error:
        if not processes.lost(error):
            raise
        raise _left_alone(folder) from error


def _left_alone(folder: RunFolder) -> UserError:
    """What to say where another process of the run is gone."""
    kept = "holds all up to its last checkpoint"
    if (
        store.url(folder.path) is None and folder.saved() < 0
    ):  # in a store the first alone sees them
        kept = "has no checkpoint yet"
    told = "another process of this run is gone, so this one stops too"
    again = "start all processes again with --resume"
    return UserError("process-gone", f"{told}; {folder.path} {kept}: {again}")


def _of_that_name(runs: Path, options: Options, config: Any) -> AbstractContextManager[None]:
    """Within, a mistake in the experiment is told after another config than that of the run to be resumed."""
    if not options.resume or options.name is None:
        return nullcontext()
    return lock.other_values_first(RunFolder(runs / options.name), config)


def _choose_folder(
    options: Options, experiment: Experiment, script: Path | None
) -> tuple[str, bool]:
    """The name of the run's folder, and whether it is there to be continued."""
    if options.name is None:
        if not options.resume:
            stem = called_after(script, experiment.config)
            return new_name(options.runs, stem), False
        found = furthest_unfinished(options.runs, recorded(experiment, options))
        if found is None:
            raise UserError(
                "nothing-to-resume",
                f"no unfinished run of this configuration lies in {options.runs}/: leave --resume "
                "out to start one, or name one with --name",
            )
        return found.name, True
    return options.name, RunFolder(options.runs / options.name).exists()


def _train(
    experiment: Experiment,
    options: Options,
    folder: RunFolder,
    script: Path | None,
    go_on: bool,
    layout: Layout | None,
    begun: float,
    signals: Signals | None,
) -> Run:
    console = Console(options.progress, processes.first())

    def settled_here() -> dict[str, Any]:
        return _lock_or_compare(folder, experiment, options, script, go_on, console, layout)

    settled = processes.on_first_process(settled_here)
    if settled["finished"]:
        try:
            return reopen(folder, experiment, console.warn, layout)
        except UserError as error:
            if error.code != "checkpoints-damaged":
                raise
            older = newest_whole(folder, experiment, layout)
            if older is None or older >= _selected(folder):
                raise
            console.warn(f"{folder.path} is trained again from step {older:,}")
            processes.on_first_process(folder.reopen)
    if not go_on:
        over = "" if layout is None else f" on {mesh_name(layout.mesh)}"
        data, steps = experiment.data, experiment.steps
        epochs = f"{steps * data.batch_size / data.size:.3g} epochs of {data.size:,}"
        console.say(f"run {folder.path}: {steps:,} steps of {data.batch_size}{over}, {epochs}")
    with unless_begun(folder, new=not go_on):
        compiled = Compiled.alone(experiment, layout)
        lane = Lane(
            folder,
            Selection(experiment.select),
            trackers(options, folder, experiment, say=console.warn),
        )
        cadence = cadence_of(experiment, options)
        keeping = OwnCheckpoints(compiled, lane)
        loop = Loop(
            compiled,
            [lane],
            keeping,
            cadence,
            console,
            program=settled["program"],
            begun=begun,
            signals=signals,
        )
        with folder.failing():
            state = loop.run()
    if loop.stopped:
        console.say(
            f"stopped by {loop.stopped} at step {int(state.step)}; all is saved in {folder.path}"
        )
    ended = loop.stopped or lane.ended or "done"
    return Run(folder, options.carried_by(experiment), state, ended)


def _selected(folder: RunFolder) -> int:
    """The step whose state a finished run gives."""
    result = read_result(folder.path)
    return int(result["selected"].get("step") or result["steps"])


def _lock_or_compare(
    folder: RunFolder,
    experiment: Experiment,
    options: Options,
    script: Path | None,
    go_on: bool,
    console: Console,
    layout: Layout | None,
) -> dict[str, Any]:
    """Write the lock of a new run, or compare a resumed one's with the experiment and the world as they are
    now. Raises where it is another one.

    Returns:
      Whether the run is ``finished``; and the digest of its ``program``, where nothing can have changed it.
    """
    described = recorded(experiment, options)
    if not go_on:
        if folder.exists():  # another process began it since this one looked
            raise name_taken(folder.path)
        lock.write(folder, experiment, script, layout)
        write_json(folder.config, described)
        return {"finished": False, "program": None}
    changes = lock.changes(folder, experiment, described, script, layout)
    if changes.settings or changes.data:
        remedy = "start anew under another --name" + _branch(folder, experiment, described)
        changes.refuse(folder, "resumed", remedy)
    told = "; ".join(changes.others[:3])
    if folder.finished():
        check_seal(folder)
        metrics = format_metrics(numbers(read_json(folder.result)["metrics"]))
        console.say(f"{folder.path} is finished: {metrics}")
        if told:
            console.warn(
                f"it is not trained again, though it was made under other conditions: {told}"
            )
        return {"finished": True, "program": None}
    if told:
        console.warn(f"resumed under other conditions, so bits may differ: {told}")
    if changes.devices:
        told = "; ".join(c.removeprefix("devices.") for c in changes.devices[:3])
        console.warn(
            f"resumed on other devices ({told}): the data come in the same order, but sums may round "
            "differently"
        )
    lock.note_resumed(folder, changes.conditions, folder.saved())
    program = None if changes.conditions else read_json(folder.lock).get("program")
    return {"finished": False, "program": program}


def _branch(folder: RunFolder, experiment: Experiment, described: dict[str, Any]) -> str:
    """Words that offer the fork of a run that has the config's new values; none where there can be no such
    fork."""
    stored, config = read_json(folder.config), experiment.config
    changed = lock.changed_fields(stored, to_json(described))
    alone = lock.read(folder).get("script") is None  # of a notebook, which no command builds again
    if not changed or alone or any(callable(getattr(config, name)) for name in changed):
        return ""
    last = read_result(folder.path)["steps"] if folder.finished() else folder.saved()
    # From its last state where steps are left to take, else from one half way.
    at = None if last < experiment.steps else min(last, experiment.steps) // 2
    command = lock.fork_command(folder.path, changed, at)
    if last < 1 or at == 0 or command is None or not _goes_on_from(stored, experiment):
        return ""
    where = "its last state" if at is None else f"an earlier step, such as {at},"
    return f", or branch off {where} by `{command}`"


def _goes_on_from(stored: Mapping[str, Any], experiment: Experiment) -> bool:
    """Whether the experiment's states are like those of a run with such a ``config.json``."""
    try:
        config = from_json(type(experiment.config), stored["config"])
        assert experiment.build is not None
        then, now = (
            shapes(Compiled(e).shapes()) for e in (built(experiment.build, config), experiment)
        )
    except Exception:  # what it was cannot be built any more
        return False
    return then == now
