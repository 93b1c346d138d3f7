"""Branches of a run: new runs that begin in a state that it had, with other values of its config."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np

from dl.core.digests import kind_of
from dl.core.errors import UserError, unknown
from dl.core.experiment import Experiment, built
from dl.core.state import TrainState, shapes, with_given
from dl.runs import lock, store
from dl.runs.folder import RunFolder, check_name, read_json, write_json
from dl.runs.options import Options, chosen_options, kept_options, recorded, trained_by
from dl.runs.readers import entry, origin, read_result
from dl.runs.scripts import from_json
from dl.runs.toml import typed
from dl.training.checkpoints import Checkpoints
from dl.training.checks import check
from dl.training.compiled import Compiled
from dl.training.keeping import restored
from dl.training.lane import branched_at
from dl.training.leaves import digests, flatten, state_digest
from dl.training.placing import layout_of
from dl.training.prefetch import prefetch
from dl.training.run import Run, reopen
from dl.training.starting import base_of, following, started
from dl.training.stepping import StepRunner
from dl.training.train import train

CADENCE = ("log_every", "eval_every", "save_every")


def fork(
    run: Run,
    at: int | None = None,
    name: str | None = None,
    values: Mapping[str, Any] | None = None,
    *,
    script: Path | None = None,
    say: Callable[[str], Any] = print,
    **options: Any,
) -> Run:
    """Train a new run from a state of ``run``, with other values of its config, and return it.

    Every step from there on is the one that a run of those values takes in that state; what they say of steps
    before has no effect. The new run's lock names the one that it comes from, its step and its state's digest.

    >>> longer = fork(dl.open_run("runs/first"), values={"epochs": 20})  # doctest: +SKIP

    Args:
      at: the step to begin at; by default the last one saved. One that is not kept is computed again from the
        nearest before it.
      name: of the new run; by default that of the old one, with the step.
      values: fields of the config, in place of those that ``run`` has.
      script: the experiment's, where the lock names none.
      **options: of :class:`~dl.runs.options.Options`; ``runs`` is by default the folder that ``run`` is in.

    Raises:
      UserError: there is no such field or step, nothing is left to train, or the values make another state.
    """
    own, folder = run.experiment, run.folder
    if own.build is None:
        raise UserError(
            "build-not-known", "this run was not made by build(config): fork needs both"
        )
    fields = {field.name for field in dataclasses.fields(own.config)}
    for field in values or {}:
        if field not in fields:
            raise unknown(f"field of {type(own.config).__name__}", field, fields)
    hints = get_type_hints(type(own.config)) if values else {}
    chosen_values = {
        name: typed(name, hints[name], value) if isinstance(value, str) else value
        for name, value in (values or {}).items()
    }
    experiment = built(own.build, dataclasses.replace(own.config, **chosen_values))
    begin = check(experiment)
    stored = read_json(folder.config)
    kept = kept_options(stored)
    place = Path(options.pop("runs", None) or _beside(folder.path))
    if store.url(place) is not None:
        raise UserError(
            "option-misplaced",
            f"a fork begins on this machine: give a folder here as runs, not {place}",
        )
    own_options = {n: stored[n] for n in CADENCE} | kept
    given = own_options | {n: value for n, value in options.items() if value is not None}
    chosen = chosen_options(given)
    chosen.cadence(experiment.steps)
    if name is not None:
        check_name(place, name, "run", False)
    _check_alike(run.state, begin, folder.path)  # before steps are computed again
    if apart := lock.machine_apart(folder):  # which opening a run does not tell of
        told = "was computed on another machine, so bits may differ"
        say(f"{folder.path} {told}: {'; '.join(apart)}")
    with trained_by(stored).computing():
        step, state = state_at(run, at, say)
        if step >= experiment.steps:
            raise UserError(
                "fork-at-end",
                f"{folder.path} is at step {step:,} of {experiment.steps:,}: give a value that makes it longer, "
                "or an earlier step by --at",
            )
        if name is None:
            name = _free(place, f"{folder.name}-from-{step}")
            check_name(place, name, "run", False)
        script = script or (lambda named: named and Path(named))(read_json(folder.lock)["script"])
        plant(place / name, experiment, (folder.path, step, state), chosen, script)
    del state
    return train(
        own.build,
        experiment.config,
        script=script,
        runs=place,
        name=name,
        resume=True,
        **given,
    )


def plant(
    place: Path,
    experiment: Experiment,
    ancestor: tuple[Path, int, TrainState],
    options: Options,
    script: Path | None,
) -> None:
    """Make the folder of a run that is to go on from a state of another: its lock, its first checkpoint, and last
    its config, by which it is one."""
    path, step, state = ancestor
    folder = RunFolder(place)
    compiled = Compiled.alone(experiment)
    begin = compiled.beginning()
    if "lora" in experiment.task.given:  # adapters that a start gives bring their scale
        begin = started(compiled, (), begin, lambda _: None)
    new = begin.state()
    _check_alike(state, new, path)
    state = dataclasses.replace(with_given(state, new, experiment.task.given), key=new.key)
    there = script if script is not None and script.is_file() else None
    layout = layout_of(options.mesh, experiment, options.deterministic_topology)
    with folder.held():
        lock.write(folder, experiment, there, layout)
        checkpoints = Checkpoints(folder.checkpoints)
        try:
            tree = {"state": state, "totals": compiled.empty_metrics()}
            leaves = checkpoints.save(step, tree, {"elapsed": 0.0}, set())
            checkpoints.wait()
        finally:
            checkpoints.close()
        named = store.url(path) or str(path.absolute())
        from_there = {"run": named, "step": step, "digest": state_digest(leaves)}
        lock.add(folder, ancestor=from_there)
        write_json(folder.config, recorded(experiment, options))


def state_at(run: Run, at: int | None, say: Callable[[str], Any]) -> tuple[int, TrainState]:
    """A step of a run and its state there: kept, or computed again from the nearest that is."""
    folder, experiment = run.folder, run.experiment
    checkpoints = Checkpoints(folder.checkpoints, False, base=base_of(folder))
    compiled = Compiled.alone(experiment)
    new = compiled.beginning()
    begin = new.state()
    try:
        steps = checkpoints.steps()
        last = (
            int(read_result(folder.path)["steps"]) if folder.finished() else max(steps, default=0)
        )
        at = last if at is None else at
        first = branched_at(folder)
        whole = isinstance(at, int | np.integer) and not isinstance(at, bool)
        if not whole or not 0 <= at <= experiment.steps or at < first:
            raise UserError(
                "range", f"--at {at}: {folder.path} has steps {first:,} to {experiment.steps:,}"
            )
        nearest = max((step for step in steps if step <= at), default=first)
        if nearest in steps:
            state = restored(checkpoints, compiled, begin, nearest, say)
        elif first:
            state = dataclasses.replace(ancestor_of(run, say)[2], key=begin.key)
        else:
            state = started(compiled, [folder], new._replace(state=lambda: begin), say).state()
    finally:
        checkpoints.close()
    if nearest == at:
        return at, state
    say(f"step {at} was not kept: computed again from {nearest}")
    source = prefetch(experiment.data, nearest)
    try:
        log_every = read_json(folder.config)["log_every"]
        program = compiled.step(state, source.at(nearest)[0], log_every)
        runner = StepRunner(program, source, lambda steps: steps, lambda _: None, _settled)
        _, state, _ = runner.to(nearest, at, state, program.zeros())
        runner.drain(state)
    finally:
        source.close()
    known = {line["step"]: line["leaves"] for line in folder.records(folder.digests)}
    if at in known:
        wanted = {n: x for n, x in known[at].items() if n.startswith("state/")}
        found = digests(flatten({"state": state}), kind_of(next(iter(wanted.values()))))
        if found != wanted:
            apart = lock.world_apart(folder, experiment)
            say(
                f"the state of step {at}, computed again, is another than {folder.path} had: "
                f"{'; '.join(apart[:3]) or 'nothing differs that its lock tells'}"
            )
    return at, state


def ancestor_of(run: Run, say: Callable[[str], Any]) -> tuple[Path, int, TrainState]:
    """The run that this one was branched off, the step and the state there.

    Raises:
      UserError: it is gone, or its state cannot be computed again.
    """
    source = origin(run.folder.lock, read_json(run.folder.lock), "ancestor")
    if source is None or "run" not in source or "step" not in source:
        raise UserError(
            "record-damaged", f"{run.folder.lock} names no run that it was branched off"
        )
    folder = RunFolder(store.opened(source["run"]), writes=False)
    if not folder.exists():
        raise UserError(
            "ancestor-gone",
            f"{run.folder.path} was branched off {folder.path}, which is gone: bring it back, since its steps "
            "come before",
        )
    build, kind = run.experiment.build, type(run.experiment.config)
    assert build is not None
    stored = read_json(folder.config)
    config = from_json(kind, entry(folder.config, stored, "config", dict, None))
    with following(run.folder):
        parent = reopen(folder, built(build, config), say)
        return (folder.path, *state_at(parent, source["step"], say))


def _settled(finite: np.ndarray, state: Any) -> None:
    if not finite.all():
        raise UserError(
            "loss-not-finite", "the loss became NaN or infinite before the step to branch off at"
        )


def _check_alike(state: TrainState, begin: TrainState, path: Path) -> None:
    """Raise UserError where the values make another state than the one to go on from."""
    then, now = shapes(state), shapes(begin)
    for name in dict.fromkeys([*then, *now]):
        if then.get(name) != now.get(name):
            a, b = (x.get(name, "not there") for x in (then, now))
            raise UserError(
                "fork-of-another-model",
                f"these values make another model or optimiser than {path} has: {name} is {a} there and {b} here, "
                "so its state cannot be gone on from; --start begins a new run with its variables, as far as they "
                "agree",
            )


def _beside(path: Path) -> Path:
    """The folder of runs that a run, or a sweep's lane, is in; of one in a store that of this machine."""
    if store.url(path) is not None:
        return Path("runs")
    return path.parents[2] if path.parent.name == "lanes" else path.parent


def _free(place: Path, stem: str) -> str:
    name, number = stem, 2
    while (place / name).exists():
        name, number = f"{stem}-{number}", number + 1
    return name
