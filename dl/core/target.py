"""What a program is traced for: the platform that will run it, and the mesh its arrays lie on.

A model picks the kernel of the platform that its program is *lowered for*, which need not be this
machine's: a plan compiles for cards that are elsewhere, an exported program runs on any. And it says how its
activations lie. Without that, XLA lets the cut of the weights spread into them: under ``fsdp`` each
device would compute every row's attention.
"""

import contextlib
import math
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple, TypeVar

import jax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

EXPERT = "expert"  # the axis of a mesh that cuts a mixture's experts, and with them the batch
ROWS = ("data", "fsdp", EXPERT)  # those that batches are cut over
SEQUENCE = "sequence"  # the one that cuts each row of them, along time
FREE = P.UNCONSTRAINED  # an axis that the compiler may lay as it likes

Array = TypeVar("Array", bound=jax.Array)


class Target(NamedTuple):
    """Where a program is to run.

    Attributes:
      platform: ``'cpu'``, ``'gpu'``, ``'tpu'``; ``'any'`` for a program that several are to run.
      mesh: over which devices a batch's rows lie; None on one device, and where no array is to be held.
      capability: of the CUDA devices, such as ``(9, 0)`` for an H100; None asks the device that is here.
      deterministic: kernels that add in one order alone; remat: what of a layer is kept for the backward
        pass, in place of what its model says (see :func:`computing`).
    """

    platform: str
    mesh: Mesh | None = None
    capability: tuple[int, int] | None = None
    deterministic: bool = False
    remat: "Remat | None" = None


Remat = Literal["none", "products", "all"]
Precision = Literal["bfloat16", "tensorfloat32", "float32"]

# Part of the key under which JAX caches what it traced, so no program is mistaken for another platform's.
_context = jax.make_user_context(None)
_settings = jax.make_user_context((False, None))


def target() -> Target:
    """What the program that is being traced is for; by default one device of the kind that is here."""
    found: Target | None = _context.value
    if found is not None:
        return found
    deterministic, remat = _settings.value
    return Target(jax.default_backend(), deterministic=deterministic, remat=remat)


@contextlib.contextmanager
def computing(
    deterministic: bool = False, precision: Precision | None = None, remat: Remat | None = None
) -> Iterator[None]:
    """How all programs that are made within compute, where it is not as usual.

    Args:
      deterministic: on a GPU, only kernels whose sums have one order; elsewhere there are no others.
      precision: of float32 products, where the device has faster ones: TF32 and bfloat16 passes are what
        GPUs and TPUs take by default.
      remat: what is computed again in the backward pass, instead of kept: ``'all'`` of a layer,
        all but its matrix ``'products'``, or ``'none'``; None leaves it to the model.
    """
    with _settings((deterministic, remat)):
        if precision is None:
            yield
            return
        with jax.default_matmul_precision(precision):
            yield


@contextlib.contextmanager
def tracing_for(where: Target) -> Iterator[None]:
    """All that is traced within is for ``where``."""
    with _context(where):
        yield


def pieces(mesh: Mesh, axes: str | tuple[str, ...] = ROWS) -> int:
    """How many pieces these axes of the mesh cut an array into."""
    return math.prod(mesh.shape[axis] for axis in ([axes] if isinstance(axes, str) else axes))


def cut_along_time(*arrays: jax.Array) -> bool:
    """Whether the mesh of the :func:`target` cuts sequences, and these, ``[batch, time, ...]``, evenly."""
    mesh = target().mesh
    if mesh is None or mesh.shape[SEQUENCE] == 1:
        return False
    return all(x.ndim > 1 and x.shape[1] % mesh.shape[SEQUENCE] == 0 for x in arrays)


def hold(x: Array, *axes: str | tuple[str, ...] | None) -> Array:
    """``x`` told to lie so on the mesh of the :func:`target`; ``x`` itself where there is none.

    Args:
      axes: the axes of the mesh that cut each axis of ``x``: :data:`ROWS` for the rows of a batch,
        :data:`SEQUENCE` for time, ``'tensor'`` for the features of heads, None for one that every device
        holds whole, :data:`FREE` for one that is left to the compiler. So are axes not named, and those
        that do not divide evenly.
    """
    mesh = target().mesh
    if mesh is None:
        return x

    def fitting(axis: Any, size: int) -> Any:
        if axis is None or axis is FREE:
            return axis
        return axis if size % pieces(mesh, axis) == 0 else FREE

    wanted = (*axes, *(FREE,) * (x.ndim - len(axes)))
    spec = P(*map(fitting, wanted, x.shape))
    return jax.lax.with_sharding_constraint(x, NamedSharding(mesh, spec))
