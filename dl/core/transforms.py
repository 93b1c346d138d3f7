"""Transformations of a task: mixed precision, ensembles, parameters learned elsewhere."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dl.core.errors import UserError
from dl.core.task import Batch, Members, Task, Variables, _cast, member_key


def mixed_precision(task: Task, compute: jnp.dtype = jnp.bfloat16) -> Task:
    """``task`` with parameters kept in float32 and cast to ``compute`` for every use.

    Flax layers follow the dtype of their parameters and inputs, so no model changes; tasks hand their
    model its inputs by :func:`in_precision_of`, and leave targets (boxes, times, prices) alone.
    Gradients come back through the cast in float32; statistics, losses, metrics and predictions are float32
    (Micikevicius et al. 2018, "Mixed precision training"; bfloat16 needs no loss scaling).
    """

    def lowered(variables: Variables) -> Variables:
        return {**variables, "params": _cast(variables["params"], compute)}

    members = task.members
    return dataclasses.replace(
        task,
        apply=lambda variables, batch, key: task.apply(lowered(variables), batch, key),
        predict=lambda variables, columns: _cast(
            task.predict(lowered(variables), columns), jnp.float32
        ),
        members=members and members._replace(task=mixed_precision(members.task, compute)),
    )


def traced_within(task: Task, context: Callable[[], AbstractContextManager[Any]]) -> Task:
    """``task`` whose functions enter ``context()`` wherever they are traced, such as that of
    :func:`dl.core.target.computing`: so they compute alike in every program that calls them."""

    def within(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def traced(*given: Any) -> Any:
            with context():
                return function(*given)

        return traced

    members = task.members and task.members._replace(task=traced_within(task.members.task, context))
    return dataclasses.replace(
        task,
        init=within(task.init),
        apply=within(task.apply),
        score=members.task.score if members else within(task.score),
        predict=within(task.predict),
        members=members,
    )


def ensemble(task: Task, members: int, *, one_by_one: bool = False) -> Task:
    """``members`` of ``task`` trained side by side on the same batches (Lakshminarayanan et al. 2017,
    "Simple and scalable predictive uncertainty estimation using deep ensembles").

    Variables are the members' stacked, ``[members, ...]``. Each member is a run of its own: it differs
    from the others by its key (its start, its dropout, its augmentation), takes its own step, optimiser
    and clipping included, and moves exactly as it would alone. Training's metrics are the mean of
    theirs. Evaluation scores, and ``predict`` gives, what they say together (``task.average``).

    Args:
      one_by_one: members take turns, which on CPU suits convolutions; else all compute at once.

    Raises:
      UserError: there is no member, or the task's outputs have no mean.
    """
    if not isinstance(members, int) or members < 1:
        raise UserError("range", f"an ensemble needs 1 member or more, not {members!r}")
    if members == 1:
        return task
    if task.members is not None:
        raise UserError(
            "ensemble-nested",
            "this task is an ensemble already: give the members of both in one number",
        )
    if task.average is None:
        raise UserError(
            "ensemble-no-mean",
            "this task cannot be an ensemble, as it does not say what its members' outputs mean together; "
            "tokens, boxes and counts have no mean. Train the members as runs of their own (--seeds), or, "
            "of values or of logits, dataclasses.replace(task, average=mean_of_values) or "
            "mean_of_probabilities, both from dl.core.transforms",
        )
    average = task.average
    each = Members(task, members, one_by_one)

    def init(key: jax.Array, batch: Batch) -> Variables:
        return each.map(lambda member: task.init(member_key(key, member), batch))

    def apply(variables: Variables, batch: Batch, key: jax.Array | None) -> tuple[Any, Variables]:
        def one(member: jax.Array, own: Variables) -> tuple[Any, Variables]:
            return task.apply(own, batch, None if key is None else member_key(key, member))

        outputs, updates = each.map(one, variables)
        return average(outputs), updates

    def predict(variables: Variables, columns: Batch) -> Any:
        return average(each.map(lambda _, own: task.predict(own, columns), variables))

    def check(variables: Variables, batch: Batch, columns: dict[str, Any]) -> None:
        assert task.check is not None
        first = jax.eval_shape(lambda tree: jax.tree.map(lambda x: x[0], tree), variables)
        task.check(first, batch, columns)

    return dataclasses.replace(
        task,
        init=init,
        apply=apply,
        predict=predict,
        check=task.check and check,
        members=each,
    )


def mean_of_values(several: Any) -> Any:
    """The mean over the first axis of every leaf, for :attr:`Task.average`.

    Raises:
      UserError: a leaf of whole numbers or truth values, which have no mean.
    """

    def mean(leaf: jax.Array) -> jax.Array:
        _averageable(leaf)
        return leaf.astype(jnp.float32).mean(0)

    return jax.tree.map(mean, several)


def mean_of_probabilities(several: Any) -> Any:
    """The logits of the mean probability, for :attr:`Task.average` of logits ``[models, ..., classes]``.

    Their softmax is the mean of the models' (a mean of logits would be their geometric mean instead).

    Raises:
      UserError: a leaf of whole numbers or truth values, which are no logits.
    """

    def mean(leaf: jax.Array) -> jax.Array:
        _averageable(leaf)
        log = jax.nn.log_softmax(leaf.astype(jnp.float32))
        return jax.nn.logsumexp(log, axis=0) - jnp.log(leaf.shape[0])

    return jax.tree.map(mean, several)


def _averageable(leaf: jax.Array) -> None:
    if not jnp.issubdtype(leaf.dtype, jnp.floating):
        raise UserError(
            "ensemble-no-mean",
            f"an ensemble cannot average {leaf.dtype}: class numbers, tokens and counts have no mean. "
            "Average what they are decided from (probabilities, values), and decide after",
        )


def initialized_from(task: Task, variables: Variables | None = None, **modules: Any) -> Task:
    """``task`` that begins with parameters learned elsewhere, and with fresh ones where none are given.

    Args:
      variables: collections by name, each a tree that may lack whole modules (a last layer, say), such
        as :func:`dl.interop.load` gives.
      **modules: all parameters of top-level modules, by the module's name, such as
        ``encoder=pretrained['params']``.

    Raises:
      UserError: what is given is of another model (raised by ``init``).
    """
    given = variables or {}
    if not given and not modules:
        return task

    def init(key: jax.Array, batch: Batch) -> Variables:
        fresh = task.init(key, batch)
        for name, tree in given.items():
            _check_within(name, fresh, tree)
        params = fresh["params"]
        for name, tree in modules.items():
            if name not in params:
                raise UserError(
                    "unknown", f"the model has no module {name!r}, only {', '.join(params)}"
                )
            _check_alike(name, params[name], tree)
        return _over(
            fresh, at_run_time({**given, "params": {**given.get("params", {}), **modules}})
        )

    return dataclasses.replace(task, init=init)


def at_run_time(given: Any) -> Any:
    """The arrays as a compiled program asks for them when it runs, on one device: as constants of it
    they would be compiled in, and written to the compile cache, whole. On several devices constants
    they are, since each device takes its own part of a constant and a host's answer comes to one."""
    given = jax.tree.map(np.asarray, given)
    if jax.device_count() > 1:
        return jax.tree.map(jnp.asarray, given)
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), given)
    return jax.pure_callback(lambda: given, shapes)


def _over(fresh: Any, given: Any) -> Any:
    if not isinstance(given, Mapping):
        return given
    return {
        name: _over(leaf, given[name]) if name in given else leaf for name, leaf in fresh.items()
    }


def _check_within(name: str, fresh: Any, given: Any) -> None:
    """Every array given must have its place, of the same shape."""
    found = fresh.get(name) if isinstance(fresh, Mapping) else None
    if isinstance(given, Mapping) and isinstance(found, Mapping):
        for inner, leaf in given.items():
            _check_within(inner, found, leaf)
    elif found is None or isinstance(given, Mapping) or jnp.shape(found) != jnp.shape(given):
        raise UserError(
            "weights-of-another-model",
            f"the variables given are of another model: {name!r} is not what the task's model has there",
        )


def _check_alike(name: str, fresh: Any, given: Any) -> None:
    def shapes(tree: Any) -> dict[str, tuple[int, ...]]:
        paths = jax.tree_util.tree_leaves_with_path(tree)
        return {jax.tree_util.keystr(path): jnp.shape(leaf) for path, leaf in paths}

    ours, theirs = shapes(fresh), shapes(given)
    for path in [*ours, *theirs]:
        if ours.get(path) != theirs.get(path):
            raise UserError(
                "weights-of-another-model",
                f"the parameters given for {name!r} are of another model: {path} is "
                f"{theirs.get(path, 'absent')}, not {ours.get(path, 'absent')}",
            )
