"""What ``build(config)`` returns: everything a run is made of, as one frozen value."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import numpy as np
import optax

from dl.core.errors import UserError
from dl.core.state import TrainState
from dl.core.task import Batch, Task, Variables


@runtime_checkable
class Batches(Protocol):
    """A data set cut into batches: ``batches[step]`` is a pure function of (seed, step).

    A compiled step takes the batches as an argument and traces the step, so they are a registered pytree
    (``flax.struct.dataclass``) of jnp columns; or they have ``iterate(start)`` and are read on the host. An
    evaluation set has ``__len__``, and pads its last batch under a float ``mask``; a training set has no end.

    Attributes:
      size: number of examples; batch_size: rows a batch.
    """

    @property
    def size(self) -> int: ...

    @property
    def batch_size(self) -> int: ...

    def __getitem__(self, step: Any) -> Batch:
        """The batch of ``step``; evaluation sets count batches from 0 and carry a mask."""
        ...

    def indices(self, step: Any) -> Any:
        """The rows of the data set that the batch of ``step`` holds, ``[batch]``."""
        ...

    def digest(self) -> str:
        """SHA-256 (hex) of the examples."""
        ...


class Moment(NamedTuple):
    """What a hook is given.

    Attributes:
      step: steps taken; metrics: of the evaluation at this step, where there is one.
      state: in NumPy, not to be written to; predictor: of the variables that are evaluated (``dl.Predictor``).
    """

    step: int
    metrics: Mapping[str, Any]
    state: TrainState
    predictor: Any


@dataclasses.dataclass(frozen=True)
class Hook:
    """A host function that looks on while a run trains, and cannot change a bit of it.

    What it did is kept in the run's folder: a run that is killed and resumed does not call it a second time for
    a step that it was done with.

    Attributes:
      function: ``(moment) -> {name: number} | None``; the numbers are logged.
      every: steps between calls; None calls it at every evaluation.
      name: what its calls are kept under, by default the function's.
    """

    function: Callable[[Moment], Mapping[str, float] | None]
    every: int | None = None
    name: str = ""


@dataclasses.dataclass(frozen=True)
class Experiment:
    """One run, described whole and not yet started.

    Attributes:
      task: what to learn.
      data: training batches.
      optimizer: an Optax transformation.
      steps: optimiser steps of the run.
      seed: seed of initialisation, dropout and augmentation (the data has its own).
      evals: sets evaluated during training, by name.
      tests: sets evaluated once, at the end, with the state that ``select`` chose.
      select: the metric that chooses the best checkpoint, ``'validation/accuracy'`` or, where lower
        is better, ``'-validation/loss'``; None takes the last state.
      patience: stop after this many evaluations without a better ``select``.
      augment: pure ``(key, batch) -> batch``, which training batches pass through on the device, in order
        (:mod:`dl.data.transforms.images`); evaluation and prediction see plain data.
      trim: how batches are cut down to what they hold before they are computed
        (:func:`dl.data.batches.buckets.trim`), or None.
      ema: decay of the variables' moving average, which is what is evaluated then, or None.
      micro_batches: pieces each batch is cut into to save memory.
      measure: ``(predictor, columns, name) -> {metric: value}``, for what no mean over examples gives (BLEU,
        mAP, AUC); called on the host after the evaluation of the set ``name`` and merged into it.
        ``predictor`` (:class:`dl.Predictor`) has the evaluated variables; ``columns`` are the set's own,
        ``{name: [rows, ...]}`` in NumPy, without padding; of a set that streams each is read when asked for.
      views: ``(predictor) -> {name: picture}``, drawn into the run folder at every evaluation: an image
        batch ``[n, height, width, channels]`` in 0..1, a string, or a matplotlib figure.
      scalars: ``(state) -> {name: number}``, a pure function whose numbers are logged beside the training
        metrics: the value of a schedule, a temperature that is learned, the norm of one layer.
      hooks: host functions that look on (:class:`Hook`); a bare function is called at every evaluation.
      answer: ``(predictor, columns) -> {name: [rows, ...]}``, what ``dl predict`` says of rows in the user's
        words, where predictions do not by themselves: transcripts, mended probabilities.
      baselines: ``() -> {name: {'test/accuracy': value, ...}}``, what simple rivals reach on the same sets, by
        the metrics' names; called once a run, while the step compiles. Reports show it beside the figures.
      classes: what the label's values are called, for reports.
      start: the folder of a run, or of weights in Hugging Face's layout, whose variables the run begins with: all
        of those whose path and shape agree (:mod:`dl.training.starting`).
      notes: ``(variables) -> [sentence]``, of their shapes, what is said when a run begins.
      names: by column that the task reads, what its features ``[rows, features]`` are called, or, of tokens
        ``[rows, time]``, their values: for reports.
      cells: ``(set, row) -> {heading: text}``, a row of a set in the words and units of the user's table, for
        reports (:func:`dl.data.cells.table_cells`), where the task reads codes and scaled numbers.
      sharding: rules for where parameters lie on a mesh, before the default ones: pairs of a pattern
        searched for in a parameter's path and the mesh axes of its last dimensions, such as
        ``(("head/kernel", (None, "tensor")),)`` (see :mod:`dl.parallel.sharding`).
      config: the configuration this was built from, stored in the run folder.
      build: the pure function that built this from ``config`` (see :func:`built`); with it, fields of
        the config can be traced, as lanes of a sweep and for a solo run to have a lane's bits.
    """

    task: Task
    data: Batches
    optimizer: optax.GradientTransformation
    steps: int
    seed: Any = 0
    evals: Mapping[str, Batches] = dataclasses.field(default_factory=dict)
    tests: Mapping[str, Batches] = dataclasses.field(default_factory=dict)
    select: str | None = None
    patience: int | None = None
    augment: tuple[Callable[[jax.Array, Batch], Batch], ...] = ()
    trim: Callable[[Callable[[Batch], Any]], Callable[[Batch], Any]] | None = None
    ema: float | None = None
    micro_batches: int = 1
    measure: Callable[[Any, Mapping[str, Any], str], dict[str, float]] | None = None
    views: Callable[[Any], dict[str, Any]] | None = None
    scalars: Callable[[TrainState], Mapping[str, Any]] | None = None
    hooks: "tuple[Hook | Callable[[Moment], Mapping[str, float] | None], ...]" = ()
    answer: Callable[[Any, Mapping[str, Any]], dict[str, Any]] | None = None
    baselines: Callable[[], Mapping[str, Mapping[str, float]]] | None = None
    classes: tuple[str, ...] = ()
    start: str | None = None
    notes: Callable[[Variables], list[str]] | None = None
    names: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)
    cells: Callable[[str, int], Mapping[str, str]] | None = None
    sharding: tuple[tuple[str, tuple[str | None, ...]], ...] = ()
    config: Any = None
    # Not copied by dataclasses.replace: an experiment changed by hand is no longer what build makes.
    build: "Callable[[Any], Experiment] | None" = dataclasses.field(default=None, init=False)


def check_door(build: Any, config: Any) -> None:
    """Raise UserError unless ``build`` is a function and ``config`` a frozen dataclass."""
    if isinstance(build, Experiment) or not callable(build):
        given = "what they made" if isinstance(build, Experiment) else f"{build!r:.40}"
        raise UserError(
            "build-not-function",
            "give the function that makes the experiment and its config apart, (build, Config()), so that "
            f"the run can be rebuilt, and not {given}",
        )
    if dataclasses.is_dataclass(config) and isinstance(config, type):
        raise UserError(
            "config-not-dataclass",
            f"the config is the class {config.__name__}: give its values, {config.__name__}()",
        )
    known = getattr(config, "__dataclass_params__", None)
    if known is None or not known.frozen:
        raise UserError(
            "config-not-dataclass",
            f"the config must be a frozen dataclass, such as Config(), not {config!r:.60}: the run's folder "
            "keeps its fields, so write @dataclasses.dataclass(frozen=True) above its class",
        )


def built(build: Callable[[Any], Experiment], config: Any) -> Experiment:
    """``build(config)``, knowing both, so that fields of the config can be traced.

    Raises:
      UserError: ``config`` is no frozen dataclass, or ``build`` makes no experiment of it.
    """
    check_door(build, config)
    config = _plain(config)
    made = build(config)
    if not isinstance(made, Experiment):
        raise UserError(
            "build-not-experiment", f"build(config) must return a dl.Experiment, not {made!r:.60}"
        )
    return _built_by(build, _plain(dataclasses.replace(made, config=config)))


def with_task(experiment: Experiment, task: Task) -> Experiment:
    """``experiment`` of another task, which knows its build still."""
    return _built_by(experiment.build, dataclasses.replace(experiment, task=task))


def _built_by(build: Any, experiment: Experiment) -> Experiment:
    object.__setattr__(experiment, "build", build)  # frozen for everyone else
    return experiment


def unboxed(value: Any) -> Any:
    """NumPy's and JAX's numbers and arrays as Python's numbers and lists; a short float as the shortest decimal
    that rounds to it, 0.1 for ``np.float32(0.1)``."""
    if isinstance(value, jax.Array) and not isinstance(value, jax.core.Tracer):
        value = np.asarray(value)
    if isinstance(value, np.ndarray):
        return unboxed(value[()]) if value.ndim == 0 else [unboxed(own) for own in value]
    if isinstance(value, np.generic):
        return float(str(value)) if isinstance(value, np.floating) else value.item()
    return value


def _plain(values: Any) -> Any:
    """A dataclass with Python's numbers in place of NumPy's, which neither JSON nor a trace takes for numbers."""
    own = {f.name: getattr(values, f.name) for f in dataclasses.fields(values)}
    odd = {name: unboxed(value) for name, value in own.items() if isinstance(value, np.generic)}
    return dataclasses.replace(values, **odd) if odd else values
