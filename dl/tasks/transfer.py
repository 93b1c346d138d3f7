"""Begin from parameters learned elsewhere."""

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from dl.core.errors import UserError
from dl.core.task import Task, Variables


def transferred(task: Task, **modules: Variables) -> Task:
    """``task`` that begins with these parameters in place of fresh ones.

    Args:
      **modules: parameters by the name of the top-level module they are for, such as
        ``encoder=pretrained['params']``.
    """

    def init(key, batch):
        variables = task.init(key, batch)
        params = dict(variables["params"])
        for name, given in modules.items():
            if name not in params:
                raise UserError(f"the model has no module {name!r}, only {', '.join(params)}")
            _check_alike(name, params[name], given)
            params[name] = _at_run_time(given)
        return {**variables, "params": params}

    return dataclasses.replace(task, init=init)


def started(task: Task, variables: Variables) -> Task:
    """``task`` that begins with these variables of its model, and with fresh ones where they have none.

    Args:
      variables: collections by name, each a tree that may lack whole modules (a last layer, say), such
        as :func:`dl.interop.load` gives.
    """

    def init(key, batch):
        fresh = task.init(key, batch)
        for name, given in variables.items():
            _check_within(name, fresh, given)
        return _over(fresh, _at_run_time(variables))

    return dataclasses.replace(task, init=init)


def _at_run_time(given):
    """The arrays as a compiled program asks for them when it runs, on one device: as constants of it
    they would be compiled in, and written to the compile cache, whole. On several devices constants
    they are, since each device takes its own part of a constant and a host's answer comes to one."""
    given = jax.tree.map(np.asarray, given)
    if jax.device_count() > 1:
        return jax.tree.map(jnp.asarray, given)
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), given)
    return jax.pure_callback(lambda: given, shapes)


def _over(fresh, given):
    if not isinstance(given, Mapping):
        return given
    return {
        name: _over(leaf, given[name]) if name in given else leaf for name, leaf in fresh.items()
    }


def _check_within(name: str, fresh, given) -> None:
    """Every array given must have its place, of the same shape."""
    found = fresh.get(name) if isinstance(fresh, Mapping) else None
    if isinstance(given, Mapping) and isinstance(found, Mapping):
        for inner, leaf in given.items():
            _check_within(inner, found, leaf)
    elif found is None or isinstance(given, Mapping) or jnp.shape(found) != jnp.shape(given):
        raise UserError(
            f"the variables given are of another model: {name!r} is not what the task's model has there"
        )


def _check_alike(name: str, fresh, given) -> None:
    def shapes(tree):
        paths = jax.tree_util.tree_leaves_with_path(tree)
        return {jax.tree_util.keystr(path): jnp.shape(leaf) for path, leaf in paths}

    ours, theirs = shapes(fresh), shapes(given)
    for path in [*ours, *theirs]:
        if ours.get(path) != theirs.get(path):
            raise UserError(
                f"the parameters given for {name!r} are of another model: {path} is "
                f"{theirs.get(path, 'absent')}, not {ours.get(path, 'absent')}"
            )
