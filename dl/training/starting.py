"""Runs that begin with what another has learned, or with a folder of weights: ``Experiment(start=...)``."""

import contextlib
import contextvars
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import unflatten_dict

from dl.core.adapters import merge
from dl.core.digests import KINDS, SHA
from dl.core.errors import UserError
from dl.core.experiment import Experiment
from dl.core.lanes import Traced, rebuild, shape_source
from dl.core.state import TrainState, begun_with, by_path, combine, path_name
from dl.core.target import tracing_for
from dl.parallel import processes
from dl.runs import lock, store
from dl.runs.folder import RunFolder, read_json
from dl.runs.readers import origin, read_result
from dl.training.checkpoints import Checkpoints
from dl.training.compiled import Beginning, Compiled
from dl.training.leaves import digests

Flat = dict[str, Any]  # variables by their paths, such as "params/head/kernel"


class Start(NamedTuple):
    """Variables to begin with: where they are from, their digest, and of a run the step."""

    source: dict[str, Any]
    variables: Flat


def read_start(start: str | Path, step: int | None = None) -> Start:
    """The selected variables of a run, averaged where it averages; or those of a folder of weights.

    Args:
      step: of a run: another checkpoint than the selected one.

    Raises:
      UserError: ``start`` is neither, or the run has no checkpoint.
    """
    folder = RunFolder(store.opened(start), writes=False)
    if folder.lock.exists():
        checkpoints = Checkpoints(folder.checkpoints, False, base=base_of(folder))
        try:
            if step is None:
                step = read_result(folder.path).get("selected", {}).get("step")
            found = checkpoints.restore(None, step, lambda _: None)
        finally:
            checkpoints.close()
        if found is None:
            raise UserError("checkpoint-missing", f"{start} holds no checkpoint: train it first")
        leaves, meta = found
        kind = (
            "state/ema/" if any(n.startswith("state/ema/") for n in leaves) else "state/variables/"
        )
        variables = {n.removeprefix(kind): x for n, x in leaves.items() if n.startswith(kind)}
        named: dict[str, Any] = {"run": store.url(folder.path) or str(folder.path.absolute())}
        named["step"] = meta["step"]
    elif folder.config.exists():
        import dl

        variables, named = (
            by_path(dl.interop.load(folder.path)[1]),
            {"weights": str(folder.path.absolute())},
        )
    else:
        raise UserError(
            "start-missing",
            f"{start} is neither a run's folder nor one of weights (config.json, model.safetensors): name one",
        )
    variables = {name: np.asarray(x) for name, x in variables.items()}
    return Start({**named, "digest": combine(digests(variables, SHA))}, variables)


_followed: contextvars.ContextVar[tuple[Path, ...]] = contextvars.ContextVar("followed", default=())


@contextlib.contextmanager
def following(folder: RunFolder) -> Iterator[None]:
    """Within, another run is read that the lock of this one names; raises UserError where it leads back here."""
    own, before = folder.path.resolve(), _followed.get()
    if own in before:
        raise UserError("record-damaged", f"{folder.lock} names a run that comes of this one")
    token = _followed.set((*before, own))
    try:
        yield
    finally:
        _followed.reset(token)


def base_of(folder: RunFolder) -> Callable[[], Flat]:
    """Reads what a run began with, as its lock names it: ``{digest: array}``; empty where it began with nothing.

    Its checkpoints leave out of it what its adapters leave as it is.
    """

    def read() -> Flat:
        locked = read_json(folder.lock) if folder.lock.exists() else {}
        named = origin(folder.lock, locked, "start")
        if named is None:
            return {}
        where, remedy = named.get("run") or named["weights"], "bring it back to go on"
        kept = f"{folder.path} keeps adapters alone; their base"
        try:
            with following(folder):
                start = read_start(where, named.get("step"))
        except UserError as error:
            raise UserError(
                "base-missing", f"{kept}, {where}, cannot be read: {remedy} ({error})"
            ) from None
        if start.source["digest"] != named["digest"]:
            raise UserError("base-missing", f"{kept}, {where}, holds other variables now: {remedy}")
        by_kind = (digests(start.variables, kind) for kind in KINDS)
        return {own[name]: x for own in by_kind for name, x in start.variables.items()}

    return read


def fitted(
    fresh: Flat, start: Start, several: bool = False, given: Sequence[str] = ()
) -> tuple[Flat, str]:
    """Those variables of a start that a model takes, by the model's paths; and what is said of it.

    Taken is every variable whose path and shape agree; where more agree so, paths within one module of the
    model, as a pre-trained body lies under ``encoder``, or of the start.

    Args:
      fresh: the model's variables, or their shapes.
      several: they are stacked ones of an ensemble, whose members all begin so.
      given: collections that the model's config gives (:class:`~dl.core.task.Task`).

    Raises:
      UserError: no variable agrees.
    """

    variables = start.variables
    if any(n.startswith("base/") for n in variables) and not any(
        n.startswith("base/") for n in fresh
    ):
        variables = by_path(
            merge(unflatten_dict(variables, sep="/"))
        )  # adapters, for a model that has none
    # A teacher is the config's own; the scale of adapters belongs to what they have learned.
    own = {name for name in given if name != "lora"}
    if not any(n.startswith("teacher/") for n in fresh):
        own.add("teacher")  # which a model without one has no use for
    fresh, variables = (
        {n: x for n, x in tree.items() if n.partition("/")[0] not in own}
        for tree in (fresh, variables)
    )

    def modules(tree: Flat) -> list[str]:
        return list(dict.fromkeys(n.split("/")[1] for n in tree if n.count("/") > 1))

    def fits(place: str, x: Any) -> bool:
        shape = fresh[place].shape if place in fresh else None
        return x.shape == shape or (several and shape is not None and x.shape == shape[1:])

    def placed(into: str, out_of: str) -> dict[str, tuple[str, Any]]:
        found: dict[str, tuple[str, Any]] = {}
        for name, x in variables.items():
            kind, _, path = name.partition("/")
            if path.startswith(out_of):
                path = into + path.removeprefix(out_of)
                # The base of adapters (dl.lora) lies in a collection of its own.
                places = [f"{kind}/{path}", *([f"base/{path}"] if kind == "params" else [])]
                found |= {place: (name, x) for place in places if fits(place, x)}
        return found

    ways = [("", ""), *((f"{m}/", "") for m in modules(fresh))]
    ways += [("", f"{m}/") for m in modules(variables)]
    tried = [placed(*way) for way in ways]
    best = max(tried, key=lambda found: sum(x.size for _, x in found.values()))
    where = start.source.get("run") or start.source["weights"]
    if not best:
        raise UserError(
            "weights-of-another-model",
            f"nothing that {where} holds has a path and a shape of this model: there are "
            f"{_few(variables)}, here {_few(fresh)}",
        )
    if not any(f"base/{n[7:-2]}" in fresh for n in best if n.endswith("/a")):
        best.pop("lora/scale", None)  # no adapters that it belongs to are taken
    used = {name for name, _ in best.values()}
    count = [sum(int(np.prod(fresh[n].shape)) for n in names) for names in (best, fresh)]
    said = f"begins with {where}: took {len(best)} of {len(fresh)} arrays, {count[0]:,} of {count[1]:,} numbers"
    if left := [name for name in fresh if name not in best]:
        there = {n: f"{n} ({list(variables[n].shape)} there)" for n in variables}
        said += f"; fresh: {_few([there.get(n, n) for n in left])}"
    if unused := [name for name in variables if name not in used]:
        said += f"; not taken: {_few(unused)}"
    return {place: x for place, (_, x) in best.items()}, said


def check_start(experiment: Experiment) -> None:
    """Raise UserError where the experiment cannot begin as it is to."""
    if experiment.start is not None:
        data = shape_source(experiment)
        batch = data if isinstance(data, dict) else jax.eval_shape(lambda data: data[0], data)
        fresh = jax.eval_shape(experiment.task.init, jax.random.key(0), batch)
        task = experiment.task
        fitted(by_path(fresh), read_start(experiment.start), task.members is not None, task.given)


def started(
    compiled: Compiled, folders: Sequence[RunFolder], begin: Beginning, say: Callable[[str], Any]
) -> Beginning:
    """The state before the first step of runs that begin anew, with their start's variables where there is one.
    Locks name it by its digest; what was taken, and what the experiment notes of its parameters, is said.

    Raises:
      UserError: the start is another than the lock says.
    """
    experiment = compiled.experiment
    one = jax.eval_shape(lambda tree: compiled.pick(tree, 0), begin.shapes).variables
    for note in experiment.notes(one) if experiment.notes else ():
        say(note)
    if experiment.start is None:
        return begin
    start = read_start(experiment.start)
    for folder in folders:
        locked = processes.on_first_process(lambda: read_json(folder.lock))  # noqa: B023
        named = origin(folder.lock, locked, "start")
        if named is not None and named["digest"] != start.source["digest"]:
            raise UserError(
                "start-changed",
                f"{experiment.start}, which {folder.path} began with, holds other variables now: bring them back, "
                "or start anew under another --name",
            )
        lock.add(folder, start=start.source)
    task = experiment.task
    given, said = fitted(by_path(one), start, task.members is not None, task.given)
    say(said)

    def over(state: TrainState, traced: Traced, given: Flat) -> TrainState:
        with tracing_for(compiled.target):
            lane = rebuild(experiment, traced)

            def take(path: Any, x: jax.Array) -> jax.Array:
                name = path_name(path)
                own = given.get(name)
                return x if own is None else jnp.broadcast_to(own, x.shape).astype(x.dtype)

            variables = jax.tree_util.tree_map_with_path(take, state.variables)
            return begun_with(lane.task, lane.optimizer, variables, state.key, lane.ema is not None)

    lies: Any = {}
    if compiled.mesh is not None:
        lies["out_shardings"] = compiled.mesh.state(begin.shapes)
    program = compiled.jit(over, 2, 1, **lies)
    return begin._replace(state=lambda: program(begin.state(), compiled.traced, given))


def _few(names: Any) -> str:
    names = list(names)
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
