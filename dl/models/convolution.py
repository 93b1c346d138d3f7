"""Convolution and max-pooling by whatever the platform does fastest, in one place.

On GPU and TPU these are XLA's own. XLA for CPU has a fast convolution for one order of axes, and inside a
compiled loop (``scan_steps``, a sweep's lanes) computes any other order ten times slower, which is what
the derivatives of a convolution come out in. So on CPU they are written here as convolutions in that one
order; and a batch of kernels (lanes under ``vmap``), which XLA would make a naive grouped convolution,
becomes patches times kernels, a batched matrix product.
"""

import functools
import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from dl.core.target import ROWS, hold, target


class Geometry(NamedTuple):
    """How a window moves: strides, and (low, high) padding, for every spatial axis."""

    strides: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]


# For y = x * w with x [batch, *space, in], w [*window, in, out] and y [batch, *places, out], <x * w, y'> is
# linear in each of the three: so the derivatives by two of them are again convolutions, of the other two,
# and the three functions below are each other's derivatives to any order.


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def convolution(geometry: Geometry, x, w):
    """y."""
    strides, padding = geometry
    return _lanes(
        lambda x, w: ordered_convolution(x, w, strides, padding),
        lambda x, w: patches_convolution(x, w, strides, padding),
    )(x, w)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def input_gradient(geometry: Geometry, space: tuple[int, ...], y, w):
    """The gradient by x ``[batch, *space, in]`` where that by y is given."""
    strides, padding = geometry

    def ordered(y, w):
        pads = []
        sizes = zip(space, w.shape, y.shape[1:], geometry.strides, padding, strict=False)
        for size, window, places, stride, (low, _) in sizes:
            before = window - 1 - low
            pads.append((before, size + window - 2 - (places - 1) * stride - before))
        turned = jnp.flip(w, range(len(space))).swapaxes(-1, -2)
        return ordered_convolution(y, turned, (1,) * len(space), pads, strides)

    def patches(y, w):
        x = jax.ShapeDtypeStruct((y.shape[0], *space, w.shape[-2]), y.dtype)
        forward = jax.linear_transpose(lambda x: patches_convolution(x, w, strides, padding), x)
        return forward(y)[0]

    return _lanes(ordered, patches)(y, w)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def kernel_gradient(geometry: Geometry, window: tuple[int, ...], x, y):
    """The gradient by w ``[*window, in, out]`` where that by y is given."""
    strides, padding = geometry

    def ordered(x, y):
        pads = []
        sizes = zip(x.shape[1:], window, y.shape[1:], strides, padding, strict=False)
        for size, reach, places, stride, (low, _) in sizes:
            pads.append((low, reach + (places - 1) * stride - size - low))
        x, y = x.swapaxes(0, -1), jnp.moveaxis(y, 0, -2)  # the sum is over the batch
        found = ordered_convolution(x, y, (1,) * len(window), pads, kernel_dilation=strides)
        return jnp.moveaxis(found, 0, -2)

    def patches(x, y):
        w = jax.ShapeDtypeStruct((*window, x.shape[-1], y.shape[-1]), x.dtype)
        forward = jax.linear_transpose(lambda w: patches_convolution(x, w, strides, padding), w)
        return forward(y)[0]

    return _lanes(ordered, patches)(x, y)


def _space(x):
    return x.shape[1:-1]


def _window(w):
    return w.shape[:-2]


convolution.defvjp(
    lambda g, x, w: (convolution(g, x, w), (x, w)),
    lambda g, saved, y: (
        input_gradient(g, _space(saved[0]), y, saved[1]),
        kernel_gradient(g, _window(saved[1]), saved[0], y),
    ),
)
input_gradient.defvjp(
    lambda g, space, y, w: (input_gradient(g, space, y, w), (y, w)),
    lambda g, _, saved, x: (
        convolution(g, x, saved[1]),
        kernel_gradient(g, _window(saved[1]), x, saved[0]),
    ),
)
kernel_gradient.defvjp(
    lambda g, window, x, y: (kernel_gradient(g, window, x, y), (x, y)),
    lambda g, _, saved, w: (
        input_gradient(g, _space(saved[0]), saved[1], w),
        convolution(g, saved[0], w),
    ),
)


def _lanes(alone: Callable, side_by_side: Callable) -> Callable:
    """``alone(a, b)``, which under ``vmap`` becomes ``side_by_side`` in every lane."""
    chosen = jax.custom_batching.custom_vmap(alone)

    @chosen.def_vmap
    def rule(size, batched, a, b):
        axes = tuple(0 if flag else None for flag in batched)
        return jax.vmap(side_by_side, axes, axis_size=size)(a, b), True

    return chosen


def ordered_convolution(x, w, strides, padding, input_dilation=None, kernel_dilation=None):
    """XLA's convolution with the axes in the order that is fast on CPU, in loops and out of them."""
    last = x.ndim - 1
    ends = (0, last, *range(1, last))
    axes = lax.ConvDimensionNumbers(ends, (last, last - 1, *range(last - 1)), ends)
    return lax.conv_general_dilated(x, w, strides, padding, input_dilation, kernel_dilation, axes)


def patches_convolution(x, kernel, strides, padding):
    """Convolution of ``x [batch, *space, in]`` with ``kernel [*window, in, out]`` as patches @ kernel.

    ``padding`` is ``'SAME'``, ``'VALID'`` or (low, high) per axis; ``strides`` one number per axis.
    """
    columns = _shifted(x, kernel.shape[:-2], strides, padding)
    patches = jnp.concatenate(columns, axis=-1) if len(columns) > 1 else columns[0]
    flat = patches.reshape(-1, patches.shape[-1]) @ kernel.reshape(-1, kernel.shape[-1])
    return flat.reshape(*patches.shape[:-1], kernel.shape[-1])


def _shifted(x, window, strides, padding, fill=0.0) -> list[jax.Array]:
    """``x [batch, *space, in]`` as every place of the window sees it, each ``[batch, *places, in]``."""
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(x.shape[1:-1], window, strides, padding)
    x = jnp.pad(x, ((0, 0), *padding, (0, 0)), constant_values=fill)
    places = [(s - w) // t for s, w, t in zip(x.shape[1:-1], window, strides, strict=True)]
    columns = []
    for offset in itertools.product(*map(range, window)):
        limits = [o + n * t + 1 for o, n, t in zip(offset, places, strides, strict=True)]
        ends = (x.shape[0], *limits, x.shape[-1])
        columns.append(lax.slice(x, (0, *offset, 0), ends, (1, *strides, 1)))
    return columns


def convolve(x, kernel, window_strides, padding, **options):
    """A drop-in for ``lax.conv_general_dilated`` as ``flax.linen.Conv`` calls it (channels last).

    Dilated, grouped and very large windows go to XLA on every platform; but one filter for each channel is on CPU
    a sum of shifted products, since XLA's own is slow there.
    """
    return hold(_convolve(hold(x, ROWS), kernel, window_strides, padding, **options), ROWS)


def _convolve(x, kernel, window_strides, padding, *, precision=None, **options):
    groups = options.get("feature_group_count", 1)
    dilated = any(
        d != 1 for name in ("lhs_dilation", "rhs_dilation") for d in (options.get(name) or ())
    )
    window, strides = kernel.shape[:-2], tuple(window_strides)
    unusual = dilated or math.prod(window) > 64 or precision
    if target().platform == "cpu" and not unusual and 1 < groups == x.shape[-1] == kernel.shape[-1]:
        columns = _shifted(x, window, strides, padding)
        return sum(c * k for c, k in zip(columns, kernel.reshape(-1, groups), strict=True))
    if target().platform != "cpu" or unusual or groups > 1:
        return lax.conv_general_dilated(
            x, kernel, window_strides, padding, precision=precision, **options
        )
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(x.shape[1:-1], window, strides, padding)
    # One matrix product; and of volumes, whose convolutions take XLA for CPU some thirty times as long.
    if math.prod(window) == 1 or len(window) == 3:
        return patches_convolution(x, kernel, strides, padding)
    return convolution(Geometry(strides, tuple(map(tuple, padding))), x, kernel)


# ``flax.linen.Conv`` in every respect, parameters included, but computed by `convolve`.
Conv = functools.partial(nn.Conv, conv_general_dilated=convolve)


def max_pool(x, window_shape, strides=None, padding="VALID"):
    """``flax.linen.max_pool`` of ``x [batch, *space, features]`` in values and gradients, ties included.

    A maximum of shifted pictures: on CPU its gradient takes a twentieth of the time of XLA's, and on a GPU
    it needs no scatter, whose order would have to be forced.
    """
    strides = tuple(strides or (1,) * len(window_shape))
    if not jnp.issubdtype(x.dtype, jnp.floating):
        return nn.max_pool(x, window_shape, strides, padding)

    def first(a, b):  # of equals, as in XLA; NaN wins
        return jnp.where((a >= b) | jnp.isnan(a), a, b)

    return functools.reduce(first, _shifted(x, tuple(window_shape), strides, padding, -jnp.inf))


def has_slow_convolution(jaxpr: Any) -> bool:
    """Whether a program holds, at any depth, a convolution that XLA for CPU is slow at in a loop.

    Fast there are those that are not grouped and have their axes in order: batch or, in the kernel,
    window first, features last. Those of this module are, in every derivative.
    """
    for equation in equations(jaxpr):
        if equation.primitive.name == "conv_general_dilated":
            axes = equation.params["dimension_numbers"]
            last = len(axes.lhs_spec) - 1
            ends = (0, last, *range(1, last))
            ordered = axes.lhs_spec == ends and axes.out_spec == ends
            ordered = ordered and axes.rhs_spec == (last, last - 1, *range(last - 1))
            groups = equation.params["feature_group_count"] * equation.params["batch_group_count"]
            if not ordered or groups > 1:
                return True
    return False


def equations(jaxpr: Any) -> Iterator[Any]:
    """Those of a traced program, at any depth."""
    for equation in jaxpr.eqns:
        yield equation
        for value in jax.tree.leaves(equation.params, is_leaf=_is_jaxpr):
            if _is_jaxpr(value):
                yield from equations(getattr(value, "jaxpr", value))


def _is_jaxpr(value: Any) -> bool:
    return hasattr(value, "eqns") or hasattr(getattr(value, "jaxpr", None), "eqns")
