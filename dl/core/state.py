"""The whole of a run at one moment, as one pytree."""

import hashlib
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct

from dl.core.random import purpose_key
from dl.core.task import Batch, Task, Variables


@struct.dataclass
class TrainState:
    """What a checkpoint holds, and all that the next step depends on besides its batch.

    Attributes:
      step: int32 scalar, optimiser steps taken; it is the data position too.
      variables: Flax variable dict.
      opt_state: Optax state.
      ema: moving average of the variables (:func:`dl.core.step.moving_average`), or None.
      key: the run's PRNG key; constant, since every key is folded from it.
    """

    step: jax.Array
    variables: Variables
    opt_state: optax.OptState
    ema: Any
    key: jax.Array

    @property
    def eval_variables(self) -> Variables:
        """The variables to evaluate and predict with: the averaged ones where kept."""
        return self.variables if self.ema is None else self.ema


def by_path(tree: Any) -> dict[str, Any]:
    """The leaves of a tree by path, such as ``params/head/kernel``."""
    return {path_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def init_state(
    task: Task,
    optimizer: optax.GradientTransformation,
    batch: Batch,
    seed: int | jax.Array = 0,
    ema: bool = False,
) -> TrainState:
    """The state before the first step; ``batch`` gives shapes and dtypes."""
    key = jax.random.key(seed)
    return begun_with(task, optimizer, task.init(purpose_key(key, "init"), batch), key, ema)


def begun_with(
    task: Task, optimizer: optax.GradientTransformation, variables: Variables, key: Any, ema: bool
) -> TrainState:
    """The state before the first step of a run that begins with these variables."""
    begin = optimizer.init if task.members is None else jax.vmap(optimizer.init)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        variables=variables,
        opt_state=begin(variables["params"]),
        # A copy, so that donating the state never sees one buffer twice.
        ema=jax.tree.map(jnp.copy, variables) if ema else None,
        key=key,
    )


def with_given(state: TrainState, begin: TrainState, given: Sequence[str]) -> TrainState:
    """``state`` with what the config gives (the collections ``given``, as :class:`~dl.core.task.Task` names them,
    and the numbers of ``optax.inject_hyperparams``) as ``begin``, a state alike, has it."""
    injected = jax.tree_util.GetAttrKey("hyperparams")  # a field, unlike a module of that name

    def own(path: Any, old: Any, new: Any) -> Any:
        kind, *names = path_name(path).split("/")
        collection = kind in ("variables", "ema") and names[0] in given
        return new if collection or (kind == "opt_state" and injected in path) else old

    return jax.tree_util.tree_map_with_path(own, state, begin)


def plain(tree: Any) -> Any:
    """``tree`` with typed PRNG keys as their uint32 words, for hashing and for disk."""
    return jax.tree.map(lambda x: jax.random.key_data(x) if _is_key(x) else x, tree)


def like(tree: Any, template: Any) -> Any:
    """The inverse of :func:`plain`: ``tree`` with keys wherever ``template`` has them."""

    def wrap(x: Any, t: Any) -> Any:
        return jax.random.wrap_key_data(x, impl=jax.random.key_impl(t)) if _is_key(t) else x

    return jax.tree.map(wrap, tree, template)


def _is_key(x: Any) -> bool:
    return hasattr(x, "dtype") and jnp.issubdtype(x.dtype, jax.dtypes.prng_key)


def leaf_digests(tree: Any) -> dict[str, str]:
    """SHA-256 (hex) of every leaf's dtype, shape and bytes, by its path such as
    ``variables/params/Dense_0/kernel``."""
    digests = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(plain(tree)):
        digests[path_name(path)] = array_digest(jax.device_get(leaf))
    return digests


def array_digest(array: np.ndarray) -> str:
    """SHA-256 (hex) of an array's dtype, shape and bytes."""
    array = np.ascontiguousarray(array)
    hasher = hashlib.sha256(f"{array.dtype}{array.shape}".encode())
    hasher.update(array.reshape(-1).view(np.uint8).data)
    return hasher.hexdigest()


def digest(tree: Any) -> str:
    """One SHA-256 (hex) for a whole tree: equal exactly when every leaf has the same bits."""
    return combine(leaf_digests(tree))


def combine(leaves: dict[str, str]) -> str:
    """The digest of a tree from its :func:`leaf_digests`."""
    lines = "".join(f"{path} {value}\n" for path, value in sorted(leaves.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def shapes(tree: Any) -> dict[str, str]:
    """The dtypes and shapes of a tree's leaves, such as ``float32[64, 4]``, by path."""
    return {path: f"{leaf.dtype}{list(leaf.shape)}" for path, leaf in by_path(tree).items()}


def path_name(path: tuple[Any, ...]) -> str:
    """A pytree key path as ``a/b/0``."""
    return "/".join(
        str(getattr(part, "key", getattr(part, "name", getattr(part, "idx", part))))
        for part in path
    )
