"""Encoder and decoder with skips between, for a label on every pixel."""

from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp

from dl.models.convolution import Conv
from dl.models.layers import Dense, Dropout


class UNet(nn.Module):
    """U-Net (Ronneberger et al. 2015, "U-Net: convolutional networks for biomedical image
    segmentation"), padded so that the output has the input's size, with batch norm.

    Input ``[batch, height, width, channels]``, both sides multiples of ``2 ** (len(widths) - 1)`` (see
    :func:`dl.tasks.segmentation.sliding_window` for others); output ``[batch, height, width, classes]``
    logits.

    Attributes:
      widths: channels of each resolution, the finest first; dropout: rate at the coarsest.
    """

    classes: int
    widths: Sequence[int] = (16, 32, 64, 128)
    dropout: float = 0.2

    @nn.compact
    def __call__(self, x, *, train: bool = False):
        step = 2 ** (len(self.widths) - 1)
        if x.shape[1] % step or x.shape[2] % step:
            raise ValueError(f"picture sides must be multiples of {step}, not {x.shape[1:3]}")

        def pair(x, width):
            for _ in range(2):
                x = Conv(width, (3, 3), use_bias=False)(x)
                x = nn.relu(nn.BatchNorm(use_running_average=not train, momentum=0.9)(x))
            return x

        skips = []
        for width in self.widths[:-1]:
            x = pair(x, width)
            skips.append(x)
            x = nn.max_pool(x, (2, 2), strides=(2, 2))
        x = pair(x, self.widths[-1])
        x = Dropout(self.dropout)(x, train=train)
        for width, skip in zip(reversed(self.widths[:-1]), reversed(skips), strict=True):
            x = depth_to_space(Dense(4 * width)(x))  # a 2x2 transposed convolution of stride 2
            x = pair(jnp.concatenate([skip, x], axis=-1), width)
        return Dense(self.classes)(x)


def depth_to_space(x):
    """``[batch, height, width, 4 * channels]`` to ``[batch, 2 * height, 2 * width, channels]``."""
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height, width, 2, 2, channels // 4)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, 2 * height, 2 * width, channels // 4)
