"""Low-rank adapters: few numbers are trained, beside matrices that stay as they are."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax.traverse_util import unflatten_dict

from dl.core.errors import UserError, bounded
from dl.core.groups import matching
from dl.core.optim import stacked_axes
from dl.core.random import purpose_key
from dl.core.state import by_path
from dl.core.task import Batch, Task, Variables


def lora(
    task: Task,
    rank: int,
    *,
    pattern: str = "kernel$",
    alpha: float | jax.Array | None = None,
    whole: Sequence[str] = (),
) -> Task:
    """``task`` that trains, for each matrix ``W``, two of rank ``rank`` alone: it computes with
    ``W + alpha / rank * a @ b`` (Hu et al. 2021, "LoRA: low-rank adaptation of large language models").

    ``b`` begins as zero, so the first outputs are those of ``task``. The variables' ``params`` are the adapters,
    ``{..., "kernel": {"a": [inputs, rank], "b": [rank, outputs]}}``, so they alone have gradients, an optimiser's
    memory and decay; what stays as it is lies in the collection ``base``. :func:`merge` makes one of both. A
    convolution's kernel counts as a matrix ``[height * width * inputs, outputs]``.

    >>> task = dl.lora(task, 8, pattern="attention/.*kernel$", whole=("^head/",))  # doctest: +SKIP

    Args:
      pattern: searched for in the paths of parameters; those found that have two axes or more are adapted.
      alpha: by default ``rank``; may be traced.
      whole: patterns of what is trained whole, such as a fresh head.

    Raises:
      UserError: a pattern is in no path, or nothing that it is in is a matrix (raised by ``init``).
    """
    bounded("rank", rank, at_least=1, whole=True)
    bounded("alpha", alpha, above=0)
    if task.members is not None:
        raise UserError(
            "ensemble-last", "give the task adapters first, and make it an ensemble last"
        )
    scale = 1.0 if alpha is None else alpha / rank
    whole = (whole,) if isinstance(whole, str) else tuple(whole)
    patterns = (*whole, pattern)

    def init(key: jax.Array, batch: Batch) -> Variables:
        variables = task.init(key, batch)
        params = variables["params"]
        if "lora" in variables:
            raise UserError(
                "adapters-twice",
                "this task trains adapters already: give it them once, or a run's, merged, by --start",
            )
        if "base" in variables:
            raise UserError(
                "collection-taken",
                "the task has variables in a collection 'base' of its own, where lora keeps what it adapts: call "
                "it otherwise",
            )
        places, axes = (
            by_path(tree) for tree in (matching(patterns, params), stacked_axes(params))
        )
        trained: dict[str, Any] = {}
        base: dict[str, Any] = {}
        adapted = 0
        for number, (path, leaf) in enumerate(by_path(params).items()):
            front, own = leaf.shape[: axes[path]], leaf.shape[axes[path] :]
            if 0 <= places[path] < len(whole):
                trained[path] = leaf
                continue
            base[path] = leaf
            if places[path] == len(whole) and len(own) >= 2:
                inputs, drawn = math.prod(own[:-1]), purpose_key(key, "lora", number)
                a = jax.random.normal(drawn, (*front, inputs, rank), leaf.dtype)
                trained[f"{path}/a"] = a / math.sqrt(inputs)
                trained[f"{path}/b"] = jnp.zeros((*front, rank, own[-1]), leaf.dtype)
                adapted += 1
        if not adapted:
            raise UserError(
                "pattern-nowhere",
                f"{pattern!r} is in the path of no matrix: adapters are for kernels, such as kernel$",
            )
        added = {"params": unflatten_dict(trained, sep="/"), "base": unflatten_dict(base, sep="/")}
        return {**variables, **added, "lora": {"scale": jnp.float32(scale)}}

    def apply(variables: Variables, batch: Batch, key: jax.Array | None) -> tuple[Any, Variables]:
        outputs, updates = task.apply(merge(variables), batch, key)
        kept = {name: tree for name, tree in variables.items() if name in ("base", "lora")}
        return outputs, updates if key is None else {**updates, **kept}

    def check(variables: Variables, batch: Batch, columns: dict[str, Any]) -> None:
        assert task.check is not None
        task.check(jax.eval_shape(merge, variables), batch, columns)

    return dataclasses.replace(
        task,
        init=init,
        apply=apply,
        predict=lambda variables, columns: task.predict(merge(variables), columns),
        check=task.check and check,
        given=(*task.given, "lora"),
    )


def merge(variables: Variables) -> Variables:
    """The variables of the task that :func:`lora` was given, adapters added to what they adapt; others as they
    are. The adapted task takes them too."""
    if "base" not in variables or "lora" not in variables:
        return variables
    trained, scale = by_path(variables["params"]), variables["lora"]["scale"]
    # In the precision of the adapters, which mixed precision lowers.
    dtype = next(iter(trained.values())).dtype

    def merged(path: str, leaf: jax.Array) -> jax.Array:
        a, b = trained.pop(f"{path}/a", None), trained.pop(f"{path}/b", None)
        if a is not None:
            leaf = leaf + ((a @ b) * scale).astype(leaf.dtype).reshape(leaf.shape)
        return leaf.astype(dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf

    params = {path: merged(path, leaf) for path, leaf in by_path(variables["base"]).items()}
    rest = {n: v for n, v in variables.items() if n not in ("params", "base", "lora")}
    return {**rest, "params": unflatten_dict({**params, **trained}, sep="/")}
