"""What the functions of a task must return, told while they are traced."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from dl.core.errors import UserError
from dl.core.metrics import Mean, Metrics
from dl.core.state import by_path
from dl.core.task import Batch, Task, Variables


def sound(task: Task) -> Task:
    """``task``, and every member of an ensemble, raising UserError while it is traced where ``init``,
    ``apply`` or ``score`` does not return what it must."""

    def init(key: jax.Array, batch: Batch) -> Variables:
        variables = task.init(key, batch)
        if not isinstance(variables, dict) or "params" not in variables:
            raise UserError(
                "init-return",
                "the task's init must return a dict of variables with 'params', as a Flax model's "
                f"init does, not {kind(variables)}",
            )
        return variables

    def apply(variables: Variables, batch: Batch, key: jax.Array | None) -> tuple[Any, Variables]:
        out = task.apply(variables, batch, key)
        if not (isinstance(out, tuple) and len(out) == 2 and isinstance(out[1], Mapping)):
            raise UserError(
                "apply-return",
                f"the task's apply must return (outputs, updates), updates a dict, not {kind(out)}",
            )
        if key is None:
            return out
        updates = dict(out[1])
        rest = {name: value for name, value in variables.items() if name != "params"}
        for name in sorted(rest.keys() - updates.keys()):
            raise UserError(
                "update-missing",
                f"the task's apply returns no update of the collection {name!r} in training: put its "
                f"new value into the updates (model.apply(..., mutable=[{name!r}]) gives it), or the old one",
            )
        changed = changes(rest, updates)
        if changed:
            raise UserError(
                "state-changes-shape",
                f"the updates of the task's apply must be shaped as before; {changed}",
            )
        return out

    def score(outputs: Any, batch: Batch, train: bool) -> Metrics:
        metrics = task.score(outputs, batch, train)
        if not isinstance(metrics, dict):
            raise UserError(
                "score-return", f"the task's score must return a dict of means, not {kind(metrics)}"
            )
        names = ", ".join(map(str, metrics)) or "none"
        if not isinstance(metrics.get("loss"), Mean):
            raise UserError(
                "loss-missing",
                "the metrics of the task's score must hold 'loss' as dl.core.metrics.mean(losses), which "
                f"knows how many examples it counts; there are {names}",
            )
        for name, value in metrics.items():
            if not isinstance(value, Mean):
                raise UserError(
                    "metric-not-mean",
                    f"the metric {name!r} of the task's score must be made by dl.core.metrics.mean, not be "
                    f"{kind(value)}",
                )
        total = metrics["loss"].total
        if jnp.shape(total) != () or not jnp.issubdtype(jnp.result_type(total), jnp.floating):
            raise UserError(
                "loss-shape",
                f"the 'loss' of the task's score must be one float, not {shape(total)}: make it by "
                "dl.core.metrics.mean(losses)",
            )
        return metrics

    members = task.members and task.members._replace(task=sound(task.members.task))
    return dataclasses.replace(
        task,
        init=init,
        apply=apply,
        score=members.task.score if members else score,
        members=members,
    )


def changes(before: Any, after: Any) -> str:
    """The first leaf whose shape or dtype is another, in words; empty where there is none."""
    old, new = ({n: shape(x) for n, x in by_path(tree).items()} for tree in (before, after))
    for name in sorted(old.keys() | new.keys()):
        if old.get(name) != new.get(name):
            return f"{name} was {old.get(name, 'missing')} and is {new.get(name, 'missing')}"
    return ""


def shape(x: Any) -> str:
    return f"{x.dtype}{list(x.shape)}" if hasattr(x, "dtype") else kind(x)


def kind(value: Any) -> str:
    if value is None:
        return "None"
    if isinstance(value, jax.Array | jax.ShapeDtypeStruct):
        return shape(value)
    if callable(value) and hasattr(value, "__name__"):
        return f"{value.__name__} itself"
    return type(value).__name__
