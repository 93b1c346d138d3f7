"""Begin from parameters learned elsewhere."""

import jax
import jax.numpy as jnp

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
            params[name] = jax.tree.map(jnp.asarray, given)
        return {**variables, "params": params}

    return task._replace(init=init)


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
