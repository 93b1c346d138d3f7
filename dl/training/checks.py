"""What can be known to be wrong with an experiment before it leaves a trace on disk or compiles.

Everything here looks at shapes, by tracing once, or at columns on the host; a compiled step holds none
of it.
"""

import contextlib
import dataclasses
import inspect
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax

from dl.core.contract import changes, kind, shape, sound
from dl.core.errors import UserError, one_line, unknown
from dl.core.experiment import Batches, Experiment
from dl.core.lanes import step_of
from dl.core.state import TrainState, init_state, path_name
from dl.core.step import GRADIENT_NORM
from dl.core.task import Task
from dl.platform import host_memory
from dl.runs.folder import to_json

OWN = str(Path(__file__).parents[1])


def check(experiment: Experiment, here: bool = True) -> TrainState:
    """Raise UserError for what would fail later, or silently compute nonsense; if it is to run ``here``, also
    for a state that this machine cannot hold. Gives the shapes of the state."""
    if not isinstance(experiment, Experiment):
        raise UserError(
            "build-not-experiment", f"what to train is a dl.Experiment, not {kind(experiment)}"
        )
    _kept(experiment.config)
    _fields(experiment)
    batch = _first(experiment.data)
    state, metrics = _step(experiment, batch)
    _scalars(experiment, state, metrics)
    size = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state) if _is_number(x))
    if here and size > _memory():
        raise UserError(
            "model-too-large",
            f"the parameters and the optimiser's state take {size / 2**30:,.1f} GiB, and there are "
            f"{_memory() / 2**30:,.1f} GiB: make the model smaller",
        )
    _values(experiment.task, state.variables, "training", experiment.data)
    found: set[str] = set()
    seen: dict[str, list[str]] = {}
    for name, batches in {**experiment.evals, **experiment.tests}.items():
        metrics = _evaluation(experiment, state.eval_variables, name, batches, batch, seen)
        _values(experiment.task, state.variables, name, batches)
        found |= {f"{name}/{metric}" for metric in metrics if name in experiment.evals}
    rule = experiment.select and experiment.select.removeprefix("-")
    if rule and rule not in found and experiment.measure is None:
        raise unknown("metric to select by,", rule, found)
    return state


def _values(task: Task, variables: Any, name: str, batches: Any) -> None:
    """The task's own check of a set's columns; of a set that streams only the first batch is at hand."""
    if task.check is None:
        return
    columns = getattr(batches, "columns", None)
    columns = batches[0] if columns is None else columns
    try:
        task.check(variables, _first(batches), {k: np.asarray(v) for k, v in columns.items()})
    except UserError as error:
        raise UserError(error.code, f"in the {name} data, {error}") from None


def _kept(config: Any) -> None:
    """What a run's folder keeps of the config must be the same in another process."""
    for field in dataclasses.fields(config) if dataclasses.is_dataclass(config) else ():
        text = repr(getattr(config, field.name))
        with contextlib.suppress(TypeError):  # of what cannot be copied
            text = str(to_json(dataclasses.asdict(config)[field.name]))
        if " at 0x" in text.lower():
            raise UserError(
                "config-not-dataclass",
                f"the run's folder cannot keep the config's field {field.name!r}, {text:.80}: give it a name or a "
                "number by which build finds the object, or make it a frozen dataclass",
            )


# -- fields ------------------------------------------------------------------------------------------


def _fields(experiment: Experiment) -> None:
    e = experiment
    if not isinstance(e.steps, int | np.integer) or e.steps < 1:
        raise UserError("range", f"steps must be 1 or more (a whole number), not {e.steps!r}")
    whole = isinstance(e.seed, int | np.integer) and not isinstance(e.seed, bool)
    if not isinstance(e.seed, jax.Array) and not (whole and 0 <= e.seed < 2**32):
        raise UserError("range", f"seed must be from 0 to 2**32 - 1, not {e.seed!r}")
    if not isinstance(e.task, Task):
        raise UserError(
            "not-a-task",
            f"task must be a dl.Task, such as classification(model), not {kind(e.task)}",
        )
    if not isinstance(e.optimizer, optax.GradientTransformation):
        raise UserError(
            "not-an-optimizer",
            f"optimizer must be an Optax transformation, such as dl.optimizer('adam', 1e-3), not "
            f"{kind(e.optimizer)}",
        )
    if isinstance(e.data, Mapping) or not hasattr(e.data, "digest") or hasattr(e.data, "__len__"):
        raise UserError(
            "not-training-batches",
            f"data must be endless training batches, such as train_batches(columns, 64), not "
            f"{kind(e.data)}",
        )
    for name, batches in {**e.evals, **e.tests}.items():
        if isinstance(batches, Mapping) or not hasattr(batches, "__len__"):
            raise UserError(
                "not-evaluation-batches",
                f"the set {name!r} must be evaluation batches, such as eval_batches(columns, 500), "
                f"not {kind(batches)}",
            )
    if e.select is not None and not e.evals:
        raise UserError(
            "select-without-evals",
            f"select={e.select!r} needs a set to evaluate: give evals={{'validation': ...}}",
        )
    if e.patience is not None and e.select is None:
        raise UserError(
            "patience-without-select",
            "patience needs a metric to wait for: give select='validation/accuracy', or "
            "'-validation/loss' where lower is better",
        )
    if e.patience is not None and e.patience < 1:
        raise UserError("range", f"patience must be 1 or more evaluations, not {e.patience}")
    if isinstance(e.ema, int | float) and not 0 <= e.ema < 1:
        raise UserError(
            "range", f"ema, the decay of averaged parameters, must be in [0, 1), not {e.ema}"
        )
    if not isinstance(e.augment, tuple | list) or not all(map(callable, e.augment)):
        raise UserError(
            "augment-not-functions",
            f"augment must be a tuple of functions (key, batch) -> batch, such as "
            f"(random_crop(padding=1),), not {kind(e.augment)}",
        )
    takes = {"measure": "predictor, columns, name", "views": "predictor", "scalars": "state"}
    for name, given in takes.items():
        function = getattr(e, name)
        if function is not None and not _takes(function, given.count(",") + 1):
            raise UserError(
                "not-a-function",
                f"{name} must be a function ({given}) -> dict, not {kind(function)}",
            )
    pieces, rows = e.micro_batches, e.data.batch_size
    if not isinstance(pieces, int) or pieces < 1 or rows % pieces:
        raise UserError(
            "micro-batches-uneven",
            f"a batch of {rows} cannot be cut into {pieces} micro-batches: choose a divisor of {rows}",
        )


# -- what tracing tells ------------------------------------------------------------------------------


def _first(batches: Batches) -> dict[str, Any]:
    """The shapes of a set's first batch."""
    if hasattr(batches, "iterate"):
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), batches[0])
    try:
        return jax.eval_shape(lambda batches, step: batches[step], batches, np.int32(0))
    except (TypeError, jax.errors.JAXTypeError) as error:
        raise UserError(
            "batches-not-traceable",
            f"{type(batches).__name__} cannot be passed to a compiled step, which reads batches[step] while it "
            "is traced: make it a pytree of jax arrays (flax.struct.dataclass) that indexes with jnp, or give "
            f"it iterate(start), and it streams ({one_line(error, 100)})",
        ) from error


def _step(experiment: Experiment, batch: dict[str, Any]) -> tuple[TrainState, Any]:
    """The shapes of the state, and the metrics of a step that was traced from it."""
    e = experiment
    task = sound(e.task)
    with explained("initialising the model", batch):
        state = jax.eval_shape(
            lambda batch: init_state(task, e.optimizer, batch, 0, e.ema is not None), batch
        )
    step = step_of(dataclasses.replace(e, task=task))
    with explained("a training step", batch):
        after, metrics = jax.eval_shape(step, state, batch)
    changed = changes(state, after)
    if changed:
        raise UserError(
            "state-changes-shape",
            f"a step must leave the state's shapes and dtypes as they were; {changed}",
        )
    return state, metrics


def _scalars(experiment: Experiment, state: TrainState, metrics: Mapping[str, Any]) -> None:
    """Trace the scalars of a state: single numbers, under names that no metric of a step has."""
    if experiment.scalars is None:
        return
    with explained("computing the scalars", state):
        found = jax.eval_shape(experiment.scalars, state)
    named = found if isinstance(found, Mapping) else {}
    wrong = (
        f"{name!r} as {kind(x)}" for name, x in named.items() if getattr(x, "shape", None) != ()
    )
    odd = next(wrong, None if found is named else kind(found))
    if odd is not None:
        raise UserError(
            "scalars-not-numbers", f"scalars must give a dict of single numbers by name, not {odd}"
        )
    if twice := sorted({*metrics, GRADIENT_NORM.removeprefix("_")} & {*found}):
        raise UserError(
            "scalar-twice",
            f"scalars gives {twice[0]!r}, and a step's metrics have it already: give it another name",
        )


def _evaluation(
    experiment: Experiment,
    variables: Any,
    name: str,
    batches: Batches,
    train: dict[str, Any],
    seen: dict[str, list[str]],
) -> list[str]:
    """The names of a set's metrics, having traced its evaluation."""
    batch = _first(batches)
    pad = batches.size % batches.batch_size != 0
    known = str((batch, pad))
    if known in seen:
        return seen[known]
    differ = {k: v for k, v in train.items() if k in batch and v.shape[1:] != batch[k].shape[1:]}
    than = f" (training batches have {_shapes(differ)})" if differ else ""
    with explained(f"evaluating {name!r}", batch, than):
        evaluate = sound(experiment.task).evaluate
        program, metrics = jax.make_jaxpr(evaluate, return_shape=True)(variables, batch)
    paths = [path for path, _ in jax.tree_util.tree_leaves_with_path((variables, batch))]
    place = [n for n, path in enumerate(paths) if path_name(path) == "1/mask"]
    if place and pad:
        mask = program.jaxpr.invars[place[0]]
        read = [v for equation in program.jaxpr.eqns for v in equation.invars]
        if not any(v is mask for v in [*read, *program.jaxpr.outvars]):
            raise UserError(
                "mask-ignored",
                f"the task's score does not look at batch['mask'], but the last batch of {name!r} is "
                "padded, and would count twice: use dl.core.metrics.mean(values, batch['mask'])",
            )
    seen[known] = list(metrics)
    return seen[known]


def _takes(function: Any, count: int) -> bool:
    """Whether ``function`` can be called with ``count`` arguments, as far as can be told."""
    try:
        own = list(inspect.signature(function).parameters.values())
    except TypeError:
        return False
    except ValueError:  # it tells nothing of itself
        return True
    placed = [p for p in own if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    needed = sum(p.default is p.empty for p in placed)
    return needed <= count <= len(placed) or any(p.kind is p.VAR_POSITIONAL for p in own)


@contextlib.contextmanager
def explained(what: str, tree: Any, more: str = "") -> Iterator[None]:
    """Turn what a model raises while it is traced into one line: what, on which shapes, and where."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        lacks = isinstance(error, KeyError) and isinstance(tree, dict) and error.args
        if lacks and error.args[0] not in tree:
            said = f"there is no column {error.args[0]!r}"
        else:
            text = str(error).split(" (https://")[0]
            said = f"{type(error).__name__}: {one_line(text, 300)}"
        raise UserError(
            "own-code-fails", f"{what} fails on {_shapes(tree)}{more}: {said}{_place(error)}"
        ) from error


def _place(error: Exception) -> str:
    """The last line of the user's own code on the way to ``error``."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [
        f for f in frames if "site-packages" not in f.filename and not f.filename.startswith(OWN)
    ]
    return f" (at {Path(own[-1].filename).name}:{own[-1].lineno})" if own else ""


def _shapes(tree: Any) -> str:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    told = ", ".join(f"{path_name(path)} {shape(x)}" for path, x in leaves[:6])
    return told + (", ..." if len(leaves) > 6 else "")


def _is_number(x: Any) -> bool:
    return hasattr(x, "dtype") and not jax.dtypes.issubdtype(x.dtype, jax.dtypes.extended)


def _memory() -> int:
    """Bytes of all devices together, supposing other processes' are like ours; of the hosts where devices
    do not say."""
    limits = [(d.memory_stats() or {}).get("bytes_limit", 0) for d in jax.local_devices()]
    return (sum(limits) or host_memory()) * jax.process_count()
