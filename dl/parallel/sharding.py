"""Where every array of a run lies on a mesh: rules from parameter paths to axes, and the rest by size.

A program is written for one device and jitted with these shardings; XLA inserts the communication.
"""

import dataclasses
import functools
import math
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from dl.core.state import TrainState, path_name
from dl.core.step import Step
from dl.core.target import ROWS, pieces
from dl.core.task import Batch

# (pattern searched for in the path, axes of the last dimensions); the first that matches counts.
Rules = tuple[tuple[str, tuple[str | None, ...]], ...]

# Megatron's cut of a Transformer: projections in by columns, projections out by rows, so that a branch
# needs one sum over the axis; embeddings by vocabulary.
TRANSFORMER: Rules = (
    (
        r"(^|/)layers?(_\d+)?/((attention|memory)/)?(qkv|query|key_value|in)/kernel$",
        (None, "tensor"),
    ),
    (r"(^|/)layers?(_\d+)?/((attention|memory)/)?(qkv|query|key_value|in)/bias$", ("tensor",)),
    (r"(^|/)layers?(_\d+)?/((attention|memory)/)?out/kernel$", ("tensor", None)),
    (r"(^|/)embedding/embedding$", ("tensor", None)),
    (r"(^|/)experts/in$", ("expert", None, "tensor")),
    (r"(^|/)experts/out$", ("expert", "tensor", None)),
)

SMALL = 1024  # elements; smaller leaves are kept whole, for gathering them costs more than they do


def spec(path: str, shape: tuple[int, ...], mesh: Mesh, rules: Rules) -> P:
    """The axes of one leaf of the state.

    The first matching rule gives axes to the last dimensions of ``shape`` (so that it holds for layers
    stacked ``[layers, ...]`` too), where they divide evenly. Then ``fsdp``, unless a rule used it, cuts
    the largest dimension left that it divides, but never that of scanned layers.
    """
    axes: list[str | None] = [None] * len(shape)
    for pattern, wanted in rules:
        if re.search(pattern, path) and len(wanted) <= len(shape):
            for place, axis in enumerate(wanted, len(shape) - len(wanted)):
                if axis is not None and shape[place] % mesh.shape[axis] == 0:
                    axes[place] = axis
            break
    size = mesh.shape["fsdp"]
    if size > 1 and "fsdp" not in axes and math.prod(shape) >= SMALL:
        # Layers of a scan lie on one another along the first axis: cut there, each would be sent whole.
        first = 1 if re.search(r"(^|/)layers/", path) else 0
        free = [i for i in range(first, len(shape)) if axes[i] is None and shape[i] % size == 0]
        if free:
            axes[max(free, key=lambda i: (shape[i], i))] = "fsdp"
    while axes and axes[-1] is None:
        axes.pop()
    return P(*axes)


@dataclasses.dataclass(frozen=True)
class Layout:
    """A mesh, and the rules by which a run's arrays lie on it.

    Attributes:
      rules: for the leaves of the state, before the default of :func:`spec`.
      shards: micro-shards that every batch is cut into whatever the mesh, for a run whose bits do not
        depend on it (see :mod:`dl.parallel.deterministic`); None leaves sums to XLA.
    """

    mesh: Mesh
    rules: Rules = TRANSFORMER
    shards: int | None = None

    @property
    def pieces(self) -> int:
        """How many pieces a batch is cut into, so that its size must be a multiple of them."""
        return self.shards or pieces(self.mesh)

    @property
    def whole(self) -> NamedSharding:
        """Every device holds all."""
        return NamedSharding(self.mesh, P())

    def rows(self, axis: int = 0) -> NamedSharding:
        """Cut along ``axis``, the one of a batch's rows."""
        return NamedSharding(self.mesh, P(*[None] * axis, ROWS))

    def state(self, tree: Any) -> Any:
        """The sharding of each leaf of a state, or of a part of one such as its gradients."""

        def one(path, leaf):
            return NamedSharding(
                self.mesh, spec(path_name(path), leaf.shape, self.mesh, self.rules)
            )

        return jax.tree_util.tree_map_with_path(one, tree)

    def everywhere(self, tree: Any) -> Any:
        """Host arrays, the same in every process, as arrays that every device holds whole."""

        def put(leaf):
            array = np.asarray(leaf)
            return jax.make_array_from_callback(array.shape, self.whole, lambda at: array[at])

        return jax.tree.map(put, tree)


def on_host(leaf: jax.Array) -> np.ndarray:
    """One leaf whole, in every process; all must ask for the same one at the same time."""
    if leaf.is_fully_addressable or leaf.is_fully_replicated:
        return np.asarray(leaf)
    return gathered(leaf)


def gathered(leaf: jax.Array, most: int = 2**28) -> np.ndarray:
    """A leaf that lies in parts, whole on the host: piece by piece along an axis that is not cut, so that no
    device holds more than ``most`` bytes of it beside its own part, where it has such an axis."""
    sharding: Any = leaf.sharding
    cuts = (*sharding.spec, *[None] * leaf.ndim)[: leaf.ndim]
    uncut = [axis for axis, cut in enumerate(cuts) if cut is None]
    if leaf.nbytes <= most or not uncut:
        return np.asarray(slicing(sharding.mesh, 0, leaf.shape[0] if leaf.ndim else 0)(leaf, 0))
    axis = max(uncut, key=lambda axis: leaf.shape[axis])
    length = leaf.shape[axis]
    size = max(1, length * most // leaf.nbytes)
    take, found = slicing(sharding.mesh, axis, size), np.empty(leaf.shape, leaf.dtype)
    for start in range(0, length, size):
        start = min(start, length - size)
        place = (*[slice(None)] * axis, slice(start, start + size))
        found[place] = np.asarray(take(leaf, start))
    return found


@functools.cache
def slicing(mesh: Mesh, axis: int, size: int) -> Callable[[jax.Array, int], jax.Array]:
    """A program that gives every device ``size`` rows of an axis from a start on."""

    def take(leaf: jax.Array, start: int) -> jax.Array:
        if not size or size == leaf.shape[axis]:
            return leaf
        return jax.lax.dynamic_slice_in_dim(leaf, start, size, axis)

    return jax.jit(take, out_shardings=NamedSharding(mesh, P()))


def constrain(tree: Any, shardings: Any) -> Any:
    """``tree`` inside a trace, told to lie so."""
    return jax.tree.map(jax.lax.with_sharding_constraint, tree, shardings)


@dataclasses.dataclass(frozen=True)
class CutBatches:
    """Batches inside a trace, each cut over the mesh: a device gathers the rows it computes with.

    With ``pad``, batches are first filled up with copies of their last row under mask 0, to as many as
    the mesh divides evenly; for evaluation, whose metrics are exact whatever the padding.
    """

    batches: Any
    layout: Layout
    pad: bool = False

    def __getitem__(self, step: Any) -> Batch:
        batch = self.batches[step]
        if self.pad:
            batch = padded(batch, self.layout.pieces)
        return constrain(batch, jax.tree.map(lambda _: self.layout.rows(), batch))


def padded(batch: Batch, multiple: int) -> Batch:
    """``batch`` with rows added under mask 0, to a multiple of ``multiple``."""
    missing = -len(batch["mask"]) % multiple
    if not missing:
        return batch
    filled = {
        name: jnp.concatenate([value, jnp.repeat(value[-1:], missing, axis=0)])
        for name, value in batch.items()
    }
    real = jnp.arange(len(filled["mask"])) < len(batch["mask"])
    return {**filled, "mask": jnp.where(real, filled["mask"], 0)}


def lane_layout(lanes: int) -> Layout | None:
    """The devices that a sweep's lanes are dealt to evenly, each computing its own and none talking to
    another; None where that is only one. Lies over as many local devices as divide ``lanes``."""
    devices = jax.local_devices()
    count = max(n for n in range(1, len(devices) + 1) if lanes % n == 0)
    return Layout(Mesh(np.array(devices[:count]), ("lanes",))) if count > 1 else None


def jit_lanes(function: Callable, layout: Layout, own: int, shared: int, **options: Any):
    """``function`` of arrays ``[lanes, ...]``, jitted with its lanes dealt to devices; its first ``own``
    arguments and its values have lanes, the last ``shared`` arguments are everyone's."""
    specs = (P("lanes"),) * own + (P(),) * shared
    mapped = jax.shard_map(
        function, mesh=layout.mesh, in_specs=specs, out_specs=P("lanes"), check_vma=False
    )
    lies = tuple(NamedSharding(layout.mesh, spec) for spec in specs)
    return jax.jit(mapped, in_shardings=lies, out_shardings=lies[0], **options)


def stack_lanes(lanes: list[Any], layout: Layout | None) -> Any:
    """One tree ``[lanes, ...]`` of a tree for each lane, dealt to the layout's devices; the list is emptied as
    it goes, so that hardly more than one copy is ever held."""
    first, structure = jax.tree.flatten(lanes[0])
    leaves = [first, *map(jax.tree.leaves, lanes[1:])]
    lanes.clear()
    stacked = []
    while first:
        leaf = jnp.stack([own.pop(0) for own in leaves])
        if layout is not None:
            leaf = jax.device_put(leaf, NamedSharding(layout.mesh, P("lanes")))
        stacked.append(leaf)
    return jax.tree.unflatten(structure, stacked)


def one_lane(tree: Any, place: int, layout: Layout | None) -> Any:
    """One lane of a tree ``[lanes, ...]``: of arrays on one device by one program, which compiles sooner than
    one for each of their shapes."""
    on_device = all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(tree))
    if layout is None and on_device:
        return _at(tree, place)
    return jax.tree.map(lambda leaf: leaf[place], tree)


@jax.jit
def _at(tree: Any, place: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf[place], tree)


def sharded(step: Step, layout: Layout) -> Step:
    """``step`` with its gradients and its new state held to where the parameters lie.

    So a gradient's sum over devices leaves each with its own part alone (a reduce-scatter), and the
    optimiser computes no more than that part.
    """

    def gradients(state: TrainState, batch: Batch):
        grads, aux = step.gradients(state, batch)
        return constrain(grads, layout.state(grads)), aux

    def update(state: TrainState, grads, aux) -> TrainState:
        new = step.update(state, grads, aux)
        return constrain(new, layout.state(new))

    return Step(gradients, update)
