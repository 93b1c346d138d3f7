"""What can be known to be wrong with an experiment before it leaves a trace on disk or compiles.

Everything here looks at shapes, by tracing once, or at columns on the host; a compiled step holds none
of it.
"""

import contextlib
import dataclasses
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dl.core.errors import UserError, unknown
from dl.core.experiment import Batches, Experiment
from dl.core.lanes import step_of
from dl.core.metrics import Mean
from dl.core.state import init_state, path_name
from dl.core.task import Task
from dl.platform import host_memory

OWN = str(Path(__file__).parents[1])


def check(experiment: Experiment) -> None:
    """Raise UserError for what would fail later, or silently compute nonsense."""
    if not isinstance(experiment, Experiment):
        raise UserError(f"what to train is a dl.Experiment, not {_kind(experiment)}")
    _fields(experiment)
    batch = _first(experiment.data)
    state = _step(experiment, batch)
    size = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state) if _is_number(x))
    if size > _memory():
        raise UserError(
            f"the parameters and the optimiser's state take {size / 2**30:,.1f} GiB, and there are "
            f"{_memory() / 2**30:,.1f} GiB: make the model smaller"
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


def _values(task: Task, variables: Any, name: str, batches: Any) -> None:
    """The task's own check of a set's columns; of a set that streams only the first batch is at hand."""
    if task.check is None:
        return
    columns = getattr(batches, "columns", None)
    columns = batches[0] if columns is None else columns
    try:
        task.check(variables, _first(batches), {k: np.asarray(v) for k, v in columns.items()})
    except UserError as error:
        raise UserError(f"in the {name} data, {error}") from None


def check_inputs(task: Task, variables: Any, inputs: Any, batch: dict[str, Any]) -> None:
    """Raise UserError where ``task.predict`` would misread ``inputs``: the check that its training data
    passed, of the columns that they stand for.

    Args:
      batch: one of its training batches, for the columns that predictions are not made of.
    """
    if task.inputs is None:
        return
    # Which columns the inputs are, the task tells: it is asked for them of a batch that holds their names.
    named: Any = {name: name for name in batch}
    names: Any = task.inputs(named)
    if isinstance(inputs, Mapping) and not isinstance(names, dict):
        raise UserError(
            f"predict takes {names!r} alone, as an array, and this is a dict of columns"
        )
    given = inputs if isinstance(names, dict) and isinstance(inputs, Mapping) else {"": inputs}
    columns = names if isinstance(names, dict) else {"": names}
    if any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves(inputs)):
        return  # within someone's own trace there are no values to look at
    found = {}
    for key, name in columns.items():
        if not isinstance(name, str) or name not in batch:
            return
        if key not in given:
            needs = ", ".join(map(repr, columns))
            raise UserError(f"predict needs {needs}, and {key!r} is missing")
        found[name] = np.asarray(given[key])
        _batched(name, found[name], batch[name])
    if task.check is not None:
        shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), (variables, batch))
        whole = {name: np.asarray(column) for name, column in batch.items()}
        task.check(shapes[0], shapes[1], {**whole, **found})


def _batched(name: str, given: np.ndarray, trained: Any) -> None:
    """Raise UserError where a column holds no numbers, or NaN that it has not in training, or has not as many
    axes as there."""
    if given.dtype.kind in "OSUMmcV":
        raise UserError(f"predict takes numbers, and {name!r} is {given.dtype}{list(given.shape)}")
    row = list(trained.shape[1:])
    if given.ndim == trained.ndim:
        odd = ~np.isfinite(given) if given.dtype.kind == "f" else np.zeros(())
        if odd.any() and np.isfinite(trained.astype(np.float32)).all():
            raise UserError(
                f"{name!r} holds {odd.sum()} values that are missing or infinite, and none was in training"
            )
        return
    wanted = f"[batch{''.join(f', {n}' for n in row)}]"
    hint = ": give a batch of one, x[None]" if list(given.shape) == row else ""
    raise UserError(
        f"predict takes a batch, {name!r} as {wanted}, and this is {list(given.shape)}{hint}"
    )


# -- fields ------------------------------------------------------------------------------------------


def _fields(experiment: Experiment) -> None:
    e = experiment
    if not isinstance(e.steps, int | np.integer) or e.steps < 1:
        raise UserError(f"steps must be 1 or more (a whole number), not {e.steps!r}")
    whole = isinstance(e.seed, int | np.integer) and not isinstance(e.seed, bool)
    if not isinstance(e.seed, jax.Array) and not (whole and 0 <= e.seed < 2**32):
        raise UserError(f"seed must be from 0 to 2**32 - 1, not {e.seed!r}")
    if not isinstance(e.task, Task):
        raise UserError(
            f"task must be a dl.Task, such as classification(model), not {_kind(e.task)}"
        )
    if not isinstance(e.optimizer, optax.GradientTransformation):
        raise UserError(
            f"optimizer must be an Optax transformation, such as dl.optimizer('adam', 1e-3), not "
            f"{_kind(e.optimizer)}"
        )
    if isinstance(e.data, Mapping) or not hasattr(e.data, "digest") or hasattr(e.data, "__len__"):
        raise UserError(
            f"data must be endless training batches, such as train_batches(columns, 64), not "
            f"{_kind(e.data)}"
        )
    for name, batches in {**e.evals, **e.tests}.items():
        if isinstance(batches, Mapping) or not hasattr(batches, "__len__"):
            raise UserError(
                f"the set {name!r} must be evaluation batches, such as eval_batches(columns, 500), "
                f"not {_kind(batches)}"
            )
    if e.select is not None and not e.evals:
        raise UserError(
            f"select={e.select!r} needs a set to evaluate: give evals={{'validation': ...}}"
        )
    if e.patience is not None and e.select is None:
        raise UserError(
            "patience needs a metric to wait for: give select='validation/accuracy', or "
            "'-validation/loss' where lower is better"
        )
    if e.patience is not None and e.patience < 1:
        raise UserError(f"patience must be 1 or more evaluations, not {e.patience}")
    if isinstance(e.ema, int | float) and not 0 <= e.ema < 1:
        raise UserError(f"ema, the decay of averaged parameters, must be in [0, 1), not {e.ema}")
    if not isinstance(e.augment, tuple | list) or not all(map(callable, e.augment)):
        raise UserError(
            f"augment must be a tuple of functions (key, batch) -> batch, such as "
            f"(random_crop(padding=1),), not {_kind(e.augment)}"
        )
    pieces, rows = e.micro_batches, e.data.batch_size
    if not isinstance(pieces, int) or pieces < 1 or rows % pieces:
        raise UserError(
            f"a batch of {rows} cannot be cut into {pieces} micro-batches: choose a divisor of {rows}"
        )


# -- what tracing tells ------------------------------------------------------------------------------


def _first(batches: Batches) -> dict[str, Any]:
    """The shapes of a set's first batch."""
    if hasattr(batches, "iterate"):
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), batches[0])
    return jax.eval_shape(lambda batches: batches[0], batches)


def _step(experiment: Experiment, batch: dict) -> Any:
    """The shapes of the state, having traced a step from it."""
    e = experiment

    def init(key, batch):
        variables = e.task.init(key, batch)
        if not isinstance(variables, dict) or "params" not in variables:
            raise UserError(
                "the task's init must return a dict of variables with 'params', as a Flax model's "
                f"init does, not {_kind(variables)}"
            )
        return variables

    task = _sound(dataclasses.replace(e.task, init=init))
    with explained("initialising the model", batch):
        state = jax.eval_shape(
            lambda batch: init_state(task, e.optimizer, batch, 0, e.ema is not None), batch
        )
    step = step_of(dataclasses.replace(e, task=task))
    with explained("a training step", batch):
        after, _ = jax.eval_shape(step, state, batch)
    changed = _changes(state, after)
    if changed:
        raise UserError(f"a step must leave the state's shapes and dtypes as they were; {changed}")
    return state


def _sound(task: Task) -> Task:
    """``task``, and every member of an ensemble, raising in training where ``apply`` or ``score`` does not
    return what it must."""

    def apply(variables, batch, key):
        out = task.apply(variables, batch, key)
        if not (isinstance(out, tuple) and len(out) == 2 and isinstance(out[1], Mapping)):
            raise UserError(
                f"the task's apply must return (outputs, updates), updates a dict, not {_kind(out)}"
            )
        if key is None:
            return out
        updates = dict(out[1])
        rest = {name: value for name, value in variables.items() if name != "params"}
        for name in sorted(rest.keys() - updates.keys()):
            raise UserError(
                f"the task's apply returns no update of the collection {name!r} in training: put its "
                f"new value into the updates (model.apply(..., mutable=[{name!r}]) gives it), or the old one"
            )
        changed = _changes(rest, updates)
        if changed:
            raise UserError(f"the updates of the task's apply must be shaped as before; {changed}")
        return out

    def score(outputs, batch, train):
        metrics = task.score(outputs, batch, train)
        if not isinstance(metrics, dict):
            raise UserError(f"the task's score must return a dict of means, not {_kind(metrics)}")
        if not isinstance(metrics.get("loss"), Mean):
            raise UserError(
                "the metrics of the task's score must hold 'loss' as dl.core.metrics.mean(losses), which "
                f"knows how many examples it counts; there are {_names(metrics)}"
            )
        _means(metrics)
        total = metrics["loss"].total
        if jnp.shape(total) != () or not jnp.issubdtype(jnp.result_type(total), jnp.floating):
            raise UserError(
                f"the 'loss' of the task's score must be one float, not {_shape(total)}: make it by "
                "dl.core.metrics.mean(losses)"
            )
        return metrics

    members = task.members
    return dataclasses.replace(
        task,
        apply=apply,
        score=score,
        members=members and members._replace(task=_sound(members.task)),
    )


def _evaluation(experiment, variables, name, batches, train, seen) -> list[str]:
    """The names of a set's metrics, having traced its evaluation."""
    batch = _first(batches)
    pad = batches.size % batches.batch_size != 0
    known = str((batch, pad))
    if known in seen:
        return seen[known]
    differ = {k: v for k, v in train.items() if k in batch and v.shape[1:] != batch[k].shape[1:]}
    than = f" (training batches have {_shapes(differ)})" if differ else ""
    with explained(f"evaluating {name!r}", batch, than):
        evaluate = _sound(experiment.task).evaluate
        program, metrics = jax.make_jaxpr(evaluate, return_shape=True)(variables, batch)
    paths = [path for path, _ in jax.tree_util.tree_leaves_with_path((variables, batch))]
    place = [n for n, path in enumerate(paths) if path_name(path) == "1/mask"]
    if place and pad:
        mask = program.jaxpr.invars[place[0]]
        read = [v for equation in program.jaxpr.eqns for v in equation.invars]
        if not any(v is mask for v in [*read, *program.jaxpr.outvars]):
            raise UserError(
                f"the task's score does not look at batch['mask'], but the last batch of {name!r} is "
                "padded, and would count twice: use dl.core.metrics.mean(values, batch['mask'])"
            )
    seen[known] = list(metrics)
    return seen[known]


def _means(metrics: dict) -> None:
    for name, value in metrics.items():
        if not isinstance(value, Mean):
            raise UserError(
                f"the metric {name!r} of the task's score must be made by dl.core.metrics.mean, not be "
                f"{_kind(value)}"
            )


@contextlib.contextmanager
def explained(what: str, tree: Any, more: str = "") -> Iterator[None]:
    """Turn what a model raises while it is traced into one line: what, on which shapes, and where."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if isinstance(error, KeyError) and isinstance(tree, dict) and error.args[0] not in tree:
            said = f"there is no column {error.args[0]!r}"
        else:
            text = str(error).split(" (https://")[0].strip()
            said = f"{type(error).__name__}: {' '.join(text.split())[:300]}"
        raise UserError(f"{what} fails on {_shapes(tree)}{more}: {said}{_place(error)}") from error


def _place(error: Exception) -> str:
    """The last line of the user's own code on the way to ``error``."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [
        f for f in frames if "site-packages" not in f.filename and not f.filename.startswith(OWN)
    ]
    return f" (at {Path(own[-1].filename).name}:{own[-1].lineno})" if own else ""


def _changes(before: Any, after: Any) -> str:
    """The first leaf whose shape or dtype is another, in words; empty where there is none."""
    old, new = (
        {path_name(path): _shape(x) for path, x in jax.tree_util.tree_leaves_with_path(tree)}
        for tree in (before, after)
    )
    for name in sorted(old.keys() | new.keys()):
        if old.get(name) != new.get(name):
            return f"{name} was {old.get(name, 'missing')} and is {new.get(name, 'missing')}"
    return ""


def _shapes(tree: Any) -> str:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    told = ", ".join(f"{path_name(path)} {_shape(x)}" for path, x in leaves[:6])
    return told + (", ..." if len(leaves) > 6 else "")


def _shape(x: Any) -> str:
    return f"{x.dtype}{list(x.shape)}" if hasattr(x, "dtype") else _kind(x)


def _is_number(x: Any) -> bool:
    return hasattr(x, "dtype") and not jax.dtypes.issubdtype(x.dtype, jax.dtypes.extended)


def _names(metrics: Any) -> str:
    return ", ".join(map(str, metrics)) or "none" if isinstance(metrics, dict) else _kind(metrics)


def _kind(value: Any) -> str:
    if value is None:
        return "None"
    if isinstance(value, jax.Array | jax.ShapeDtypeStruct):
        return _shape(value)
    if callable(value) and hasattr(value, "__name__"):
        return f"{value.__name__} itself"
    return type(value).__name__


def _memory() -> int:
    """Bytes of all devices together, supposing other processes' are like ours; of the hosts where devices
    do not say."""
    limits = [(d.memory_stats() or {}).get("bytes_limit", 0) for d in jax.local_devices()]
    return (sum(limits) or host_memory()) * jax.process_count()
