"""Convolution by whatever the platform does fastest, in one place.

On GPU and TPU this is XLA's own convolution. On CPU it is patches times kernel, one large matrix
product: as fast alone as XLA's convolution, and some ten times faster inside a compiled loop
(``scan_steps``, a sweep's lanes), where XLA for CPU falls back to a naive convolution; and a batch
of kernels (lanes under ``vmap``) stays a batched matrix product instead of a grouped convolution.
"""

import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax


def patches_convolution(x, kernel, strides, padding):
    """Convolution of ``x [batch, *space, in]`` with ``kernel [*window, in, out]`` as patches @ kernel.

    ``padding`` is ``'SAME'``, ``'VALID'`` or (low, high) per axis; ``strides`` one number per axis.
    """
    window = kernel.shape[:-2]
    space = x.shape[1:-1]
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(space, window, strides, padding)
    x = jnp.pad(x, ((0, 0), *padding, (0, 0)))
    out = [(s - w) // t + 1 for s, w, t in zip(x.shape[1:-1], window, strides, strict=True)]

    def shifted(offset):
        starts = (0, *offset, 0)
        reach = [o + (n - 1) * t + 1 for o, n, t in zip(offset, out, strides, strict=True)]
        limits = (x.shape[0], *reach, x.shape[-1])
        return lax.slice(x, starts, limits, (1, *strides, 1))

    columns = [shifted(offset) for offset in _grid(window)]
    patches = jnp.concatenate(columns, axis=-1) if len(columns) > 1 else columns[0]
    flat = patches.reshape(-1, patches.shape[-1]) @ kernel.reshape(-1, kernel.shape[-1])
    return flat.reshape(x.shape[0], *out, kernel.shape[-1])


def _grid(window):
    """Every offset in the window, in the order a kernel's leading axes flatten in."""
    sizes = list(window)
    for flat in range(math.prod(sizes)):
        offset = []
        for size in reversed(sizes):
            offset.append(flat % size)
            flat //= size
        yield tuple(reversed(offset))


def convolve(x, kernel, window_strides, padding, *, precision=None, **options):
    """A drop-in for ``lax.conv_general_dilated`` as ``flax.linen.Conv`` calls it (channels last).

    Dilated, grouped and very large windows go to XLA on every platform.
    """
    plain = options.get("feature_group_count", 1) == 1 and all(
        d == 1 for name in ("lhs_dilation", "rhs_dilation") for d in (options.get(name) or ())
    )
    small = math.prod(kernel.shape[:-2]) <= 64
    if jax.default_backend() == "cpu" and plain and small and precision is None:
        return patches_convolution(x, kernel, tuple(window_strides), padding)
    return lax.conv_general_dilated(
        x, kernel, window_strides, padding, precision=precision, **options
    )


# ``flax.linen.Conv`` in every respect, parameters included, but computed by `convolve`.
Conv = functools.partial(nn.Conv, conv_general_dilated=convolve)
