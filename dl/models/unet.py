"""Encoder and decoder with skips between, for a label on every pixel."""

from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp

from dl.core.errors import UserError, bounded
from dl.models.convolution import Conv, max_pool
from dl.models.layers import Dense, Dropout


class UNet(nn.Module):
    """U-Net (Ronneberger et al. 2015, "U-Net: convolutional networks for biomedical image
    segmentation"), padded so that the output has the input's size, with batch norm.

    Input ``[batch, height, width, channels]``, both sides multiples of ``patch * 2 ** (len(widths) -
    1)`` (see :func:`dl.tasks.segmentation.sliding_window` for others); output ``[batch, height, width,
    classes]`` logits.

    Attributes:
      widths: channels of each resolution, the finest first; dropout: rate at the coarsest.
      patch: squares of that side enter, and leave, as the channels of one place. With 2 a network of
        doubled widths costs less than one more level of full resolution, whose convolutions are all
        memory traffic (Shi et al. 2016, "Real-time single image and video super-resolution using an
        efficient sub-pixel convolutional neural network", for the way out).
    """

    classes: int
    widths: Sequence[int] = (16, 32, 64, 128)
    dropout: float = 0.2
    patch: int = 1

    @nn.compact
    def __call__(self, x, *, train: bool = False):
        check_sides(x, self.widths, self.patch)

        def pair(x, width):
            for _ in range(2):
                x = Conv(width, (3, 3), use_bias=False)(x)
                x = nn.relu(nn.BatchNorm(use_running_average=not train, momentum=0.9)(x))
            return x

        x, skips = space_to_depth(x, self.patch), []
        for width in self.widths[:-1]:
            x = pair(x, width)
            skips.append(x)
            x = max_pool(x, (2, 2), strides=(2, 2))
        x = pair(x, self.widths[-1])
        x = Dropout(self.dropout)(x, train=train)
        for width, skip in zip(reversed(self.widths[:-1]), reversed(skips), strict=True):
            x = depth_to_space(Dense(4 * width)(x), 2)  # a 2x2 transposed convolution of stride 2
            x = pair(jnp.concatenate([skip, x], axis=-1), width)
        return depth_to_space(Dense(self.classes * self.patch**2)(x), self.patch)


def check_sides(x, widths: Sequence[int], patch: int) -> None:
    """Raise UserError where a network of these ``widths``, each but the first at half the size of the one before,
    cannot take pictures ``x [batch, height, width, channels]`` in squares of ``patch``."""
    if not widths:
        raise UserError("widths-empty", "give a width or more: the channels of each stage")
    for width in widths:
        bounded("each width", width, at_least=1, whole=True)
    bounded("patch", patch, at_least=1, whole=True)
    step = patch * 2 ** (len(widths) - 1)
    if x.shape[1] % step or x.shape[2] % step:
        raise UserError(
            "indivisible",
            f"picture sides must be multiples of {step}, not {x.shape[1:3]}",
        )


def depth_to_space(x, side: int = 2):
    """``[batch, height, width, side**2 * channels]`` to ``[batch, side * height, side * width, channels]``."""
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height, width, side, side, channels // side**2)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, side * height, side * width, -1)


def space_to_depth(x, side: int):
    """The inverse of :func:`depth_to_space`."""
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height // side, side, width // side, side, channels)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, height // side, width // side, -1)


class Symmetrized(nn.Module):
    """A network of pictures whose predictions are averaged over the symmetries of the square.

    In training it is ``network`` itself. Otherwise each picture ``[batch, height, width, channels]`` is
    shown in the first ``count`` of its eight flips and turns (of which the last four lay it on its side), and the
    log-probabilities of ``network``'s logits, turned back, are averaged: ``[batch, height, width, classes]``.
    """

    network: nn.Module
    count: int = 8

    def __call__(self, x, *, train: bool = False):
        bounded("the number of symmetries", self.count, at_least=1, at_most=8, whole=True)
        if train or self.count == 1:
            return self.network(x, train=train)
        total = jnp.zeros(())
        for turns, flip in [(t, f) for t in (0, 2, 1, 3) for f in (False, True)][: self.count]:
            seen = jnp.rot90(jnp.flip(x, 2) if flip else x, turns, (1, 2))
            said = nn.log_softmax(self.network(seen).astype(jnp.float32))
            said = jnp.rot90(said, -turns, (1, 2))
            total = total + (jnp.flip(said, 2) if flip else said)
        return total / self.count
