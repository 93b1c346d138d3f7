"""The same bits on 1, 2, 4 or 8 devices: fixed micro-shards, summed in a fixed order.

Floating-point sums depend on their order, and so a run's bits on how many devices share a batch. Here a
batch is always cut into the same number of micro-shards. Each is computed by one program of one shape,
in a loop, wherever it falls; and their sums are taken pair by pair along one binary tree, whose lower
levels lie inside a device and whose upper ones between devices (each adds its partner's sum to its own:
addition commutes bit for bit, it only does not associate).

One exception: XLA compiles a program for one device by other passes (its partitioner's do not run), and in
it the axes of batched matrix products are in another order. A Transformer's gradients on one device differ
in the last bit from those on 2, 4 and 8, which agree; that this order is the cause is likely, not proven.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P

from dl.core.errors import UserError
from dl.core.metrics import Metrics
from dl.core.state import TrainState
from dl.core.step import Step
from dl.core.target import ROWS
from dl.core.task import Aux, Batch
from dl.parallel.sharding import Layout

SHARDS = 8


def check_topology(layout: Layout) -> None:
    """Raises where the promise cannot be kept on this mesh."""
    sizes = layout.mesh.shape
    others = any(size > 1 for axis, size in sizes.items() if axis != "data")
    if others or SHARDS % sizes["data"]:
        raise UserError(
            "mesh-not-deterministic",
            f"a deterministic topology needs a mesh of data=1, 2, 4 or {SHARDS} alone: where parameters "
            "are cut too, norms over them and partial matrix products are summed device by device",
        )


def shard_sum(function: Callable[[TrainState, jax.Array, Batch], Any], layout: Layout):
    """``(state, batch) -> sum over the micro-shards of function(state, index, shard)``.

    The function's value is a tree of arrays; the sum is the same, bit for bit, on every mesh that
    :func:`check_topology` lets pass, and every device holds it.
    """
    devices = layout.mesh.shape["data"]
    own = SHARDS // devices

    def local(state: TrainState, batch: Batch):
        shards = jax.tree.map(lambda x: x.reshape(own, -1, *x.shape[1:]), batch)
        first = jax.lax.axis_index("data") * own

        def value(place):
            # Barriers keep the compiler from fusing a shard's program with what is around it, which
            # differs from mesh to mesh.
            shard = jax.tree.map(lambda x: x[place], shards)
            inputs = jax.lax.optimization_barrier((state, first + place, shard))
            return jax.lax.optimization_barrier(function(*inputs))

        def fill(place, values):
            return jax.tree.map(lambda v, new: v.at[place].set(new), values, value(place))

        shapes = jax.eval_shape(value, jnp.int32(0))
        empty = jax.tree.map(lambda s: jnp.zeros((own, *s.shape), s.dtype), shapes)
        # The trip count is hidden from the compiler, which would inline a loop of one and fuse it with
        # what follows: other bits.
        count = jnp.where(state.step >= 0, own, 0)
        total = jax.lax.fori_loop(0, count, fill, empty)
        for _ in range(own.bit_length() - 1):
            total = jax.tree.map(lambda x: x[0::2] + x[1::2], total)
        total = jax.tree.map(lambda x: x[0], total)
        for level in range(devices.bit_length() - 1):
            partners = [(i, i ^ (1 << level)) for i in range(devices)]
            other = jax.tree.map(lambda x, p=partners: jax.lax.ppermute(x, "data", p), total)
            total = jax.tree.map(jnp.add, total, other)
        return jax.lax.optimization_barrier(total)

    rows = P(ROWS)
    return jax.shard_map(
        local, mesh=layout.mesh, in_specs=(P(), rows), out_specs=P(), check_vma=False
    )


def deterministic(step: Step, layout: Layout) -> Step:
    """``step`` over micro-shards. Each has a key of its own; losses are means over examples, as for
    `dl.core.step.accumulate`, and statistics such as batch norm's are means over micro-shards."""

    def weighed(state: TrainState, index: jax.Array, shard: Batch):
        state = dataclasses.replace(state, key=jax.random.fold_in(state.key, index))
        grads, aux = step.gradients(state, shard)
        weight = aux.metrics["loss"].weight
        return jax.tree.map(lambda g: weight * g, grads), aux

    def gradients(state: TrainState, batch: Batch):
        total, aux = shard_sum(weighed, layout)(state, batch)
        weight = jnp.maximum(aux.metrics["loss"].weight, 1e-8)
        updates = jax.tree.map(
            lambda x: x / SHARDS if jnp.issubdtype(x.dtype, jnp.floating) else x // SHARDS,
            aux.updates,
        )
        return jax.tree.map(lambda t: t / weight, total), Aux(aux.metrics, updates)

    return Step(gradients, step.update)


def deterministic_evaluation(
    evaluate: Callable[[TrainState, Batch], Metrics], layout: Layout
) -> Callable[[TrainState, Batch], Metrics]:
    """``evaluate`` over micro-shards."""
    return shard_sum(lambda state, index, shard: evaluate(state, shard), layout)
