"""Many runs in one program: hyper-parameters as traced values, and lanes over any function of them.

An experiment is built by a pure ``build(config)``, so it can be built again *inside* a trace with some
fields of the config traced. Fields for which that works (learning rates, decays, rates, seeds) become
lanes of one compiled program; the others (widths, batch sizes, anything Python branches on) are
structural and need a program each. A solo run passes the same fields as run-time values too: then it
and a lane are the same program, and have the same bits.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax

from dl.core.experiment import Batches, Experiment, built
from dl.core.metrics import Metrics
from dl.core.random import purpose_key
from dl.core.state import TrainState, init_state
from dl.core.step import Step, augment_batch, eval_step, logged, train_step
from dl.core.task import Batch

Traced = dict[str, Any]  # config fields that are traced, by name
Mode = Literal["map", "vmap"]


class Traceable(NamedTuple):
    """What of an experiment may be traced.

    Attributes:
      values: config fields with their values; metrics: the shapes of a training step's, where it was traced
        to find out.
    """

    values: Traced
    metrics: Metrics | None


AXIS = "lane"  # of lanes computed at once


def over_lanes(
    function: Callable[..., Any], mode: Mode | None, shared: int = 0
) -> Callable[..., Any]:
    """``function`` over lanes: every argument but the last ``shared`` has a leading axis ``[lanes]``.

    ``map`` computes lane after lane with the very program of one (equal bits); ``vmap`` all at once
    (fastest on wide machines; sums may round differently); None is the function itself.
    """
    if mode is None:
        return function

    def lanes(*args: Any) -> Any:
        own, rest = args[: len(args) - shared], args[len(args) - shared :]

        def lane(own: tuple[Any, ...]) -> Any:
            return function(*own, *rest)

        return jax.lax.map(lane, own) if mode == "map" else jax.vmap(lane, axis_name=AXIS)(own)

    return lanes


def step_of(experiment: Experiment, place: Callable[[Step], Step] = lambda step: step) -> Step:
    """The train step that an experiment describes; ``place`` as in :func:`dl.core.step.train_step`."""
    return train_step(
        experiment.task,
        experiment.optimizer,
        augment=experiment.augment,
        trim=experiment.trim,
        ema=experiment.ema,
        micro_batches=experiment.micro_batches,
        place=place,
    )


def first_batch(experiment: Experiment) -> Batch:
    """The first training batch as the model sees it, augmented."""
    key = purpose_key(jax.random.key(0), "report")
    return jax.jit(lambda batch: augment_batch(experiment.augment, key, batch))(experiment.data[0])


def evaluation_of(experiment: Experiment, values: Traced) -> Callable[[TrainState, Batch], Metrics]:
    """The evaluation of one batch that an experiment describes."""
    lane = rebuild(experiment, values)
    return eval_step(lane.task, lane.trim)


def rebuild(experiment: Experiment, values: Traced) -> Experiment:
    """The experiment with some fields of its config replaced, traced or not."""
    if not values or experiment.build is None:
        return experiment
    return built(experiment.build, dataclasses.replace(experiment.config, **values))


def graft(traced: Any, arrays: Any) -> Any:
    """``traced`` batches with every leaf that is not a traced value taken from ``arrays``.

    Keeps the data an argument of the program (the rebuilt experiment holds it as constants) while a
    traced seed stays the lane's own.
    """
    if not isinstance(traced, type(arrays)):  # a window of streamed batches
        return arrays
    return jax.tree.map(lambda t, a: t if isinstance(t, jax.core.Tracer) else a, traced, arrays)


def of_fold(batches: Any, traced: Traced) -> Any:
    """Evaluation batches of the lane's own fold, where they have the rows of all."""
    own = hasattr(batches, "fold") and "fold" in traced
    return batches.replace(fold=traced["fold"]) if own else batches


def initial(experiment: Experiment, values: Traced, data: Batches | Batch) -> TrainState:
    """The state before the first step; ``data`` are batches, or one batch, to take shapes from."""
    return _begun(rebuild(experiment, values), data)


def _begun(lane: Experiment, data: Batches | Batch) -> TrainState:
    batch = data if isinstance(data, dict) else data[0]
    return init_state(lane.task, lane.optimizer, batch, lane.seed, lane.ema is not None)


def shape_source(experiment: Experiment) -> Batches | Batch:
    """What a program takes the shapes of its batches from: the data, or the first batch of a stream."""
    return experiment.data[0] if hasattr(experiment.data, "iterate") else experiment.data


def metrics_of(experiment: Experiment) -> Metrics:
    """The shapes of the metrics that are logged of the experiment's step; nothing is computed."""

    def metrics(data: Any) -> Metrics:
        state = initial(experiment, {}, data)
        return _stepped(experiment, state, data if isinstance(data, dict) else data[0])

    return jax.eval_shape(metrics, shape_source(experiment))


def _stepped(experiment: Experiment, state: TrainState, batch: Batch) -> Metrics:
    """The logged metrics of a whole step, its update included."""
    step = step_of(experiment)
    grads, aux = step.gradients(state, batch)
    step.update(state, grads, aux)
    return logged(1, 1)(state, grads, aux)


def traceable_fields(experiment: Experiment) -> Traceable:
    """The fields of the experiment's config that may be traced.

    Tried are floats, and the integers ``seed`` and, of several, ``fold``; kept are those under which it still
    builds, initialises, steps and, where something is measured or drawn, predicts. None for an
    experiment that does not know its ``build``.
    """
    config = experiment.config
    if experiment.build is None or not dataclasses.is_dataclass(config):
        return Traceable({}, None)
    whole = ("seed", "fold") if getattr(config, "folds", None) is not None else ("seed",)

    def wished(name: str, value: Any) -> bool:
        return isinstance(value, float) or (
            name in whole and isinstance(value, int) and 0 <= value < 2**31
        )

    values = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    wanted = {name: value for name, value in values.items() if wished(name, value)}
    first = shape_source(experiment)

    def builds(values: Traced, data: Any) -> None:
        if rebuild(experiment, values).steps != experiment.steps:
            raise ValueError

    def steps(values: Traced, data: Any) -> Metrics:
        lane = rebuild(experiment, values)
        batches = data if isinstance(data, dict) else graft(lane.data, data)
        state = _begun(lane, batches)
        batch = batches if isinstance(batches, dict) else batches[state.step]
        if (lane.measure or lane.views) and batch.keys() >= set(lane.task.columns):
            lane.task.predict(state.eval_variables, batch)
        if lane.scalars is not None:
            lane.scalars(state)
        return _stepped(lane, state, batch)

    def tried(probe: Callable[..., Metrics | None], values: Traced) -> Traceable | None:
        try:
            return Traceable(values, jax.eval_shape(probe, values, first))
        except Exception:  # any failure means the same: Python needs the value itself
            return None

    def largest(probe: Callable[..., Metrics | None], kept: Traceable, more: Traced) -> Traceable:
        """``kept`` and all of ``more`` if they work together, else what works of its halves."""
        found = tried(probe, {**kept.values, **more}) if more else None
        if found is not None or len(more) < 2:
            return found or kept
        names = list(more)
        for half in (names[: len(names) // 2], names[len(names) // 2 :]):
            kept = largest(probe, kept, {name: more[name] for name in half})
        return kept

    # Mostly all work together. Those that fail mostly do so in `build`, which is quickly tried; tracing a step
    # takes much longer.
    if (found := tried(steps, wanted)) is not None:
        return found
    nothing = Traceable({}, None)
    return largest(steps, nothing, largest(builds, nothing, wanted).values)
