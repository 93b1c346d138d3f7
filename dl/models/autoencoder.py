"""Encoders to a code and decoders from it, dense and convolutional."""

from collections.abc import Sequence

import flax.linen as nn

from dl.core.errors import UserError
from dl.models.convolution import Conv
from dl.models.layers import Activation, Dense
from dl.models.unet import depth_to_space


class Autoencoder(nn.Module):
    """``decode(encode(x))`` (Hinton & Salakhutdinov 2006).

    Attributes:
      encoder: ``[batch, ...] -> [batch, code]``, such as an MLP or a :class:`ConvEncoder`.
      decoder: ``[batch, code] -> [batch, ...]`` of as many values as ``shape`` has.
      shape: of one example.
    """

    encoder: nn.Module
    decoder: nn.Module
    shape: Sequence[int]

    def encode(self, x, *, train: bool = False):
        """The code of each of ``x [batch, *shape]``: ``[batch, code]``."""
        return self.encoder(x, train=train)

    def decode(self, code, *, train: bool = False):
        """``[batch, code] -> [batch, *shape]``."""
        return self.decoder(code, train=train).reshape(code.shape[0], *self.shape)

    def __call__(self, x, *, train: bool = False):
        return self.decode(self.encode(x, train=train), train=train)


class ConvEncoder(nn.Module):
    """Stages of 3x3 convolution with stride 2 and activation, then a linear layer.

    ``[batch, height, width, channels] -> [batch, features]``.
    """

    features: int
    widths: Sequence[int] = (32, 64)
    activation: Activation = nn.relu

    @nn.compact
    def __call__(self, x, *, train: bool = False):
        for width in self.widths:
            x = self.activation(Conv(width, (3, 3), strides=(2, 2))(x))
        return Dense(self.features)(x.reshape(x.shape[0], -1))


class ConvDecoder(nn.Module):
    """A linear layer, then stages that double the size: activation, 3x3 convolution, sub-pixels to
    pixels (Shi et al. 2016), which computes what a transposed convolution does at the small size.

    ``[batch, code] -> [batch, *shape]``.

    Attributes:
      shape: (height, width, channels), the first two divisible by 2 for every stage.
      widths: channels of each stage, the smallest picture first.
    """

    shape: Sequence[int]
    widths: Sequence[int] = (64, 32)
    activation: Activation = nn.relu

    @nn.compact
    def __call__(self, code, *, train: bool = False):
        x = seed(code, self.shape, self.widths)
        for width in (*self.widths[1:], self.shape[2]):
            x = depth_to_space(Conv(4 * width, (3, 3))(self.activation(x)))
        return x


def seed(code, shape: Sequence[int], widths: Sequence[int]):
    """The small picture a decoder begins with, by a linear layer of the module that calls this."""
    height, width, _ = shape
    halvings = 2 ** len(widths)
    if height % halvings or width % halvings:
        raise UserError(
            "indivisible",
            f"pictures of {height} x {width} cannot be halved {len(widths)} times: use fewer widths",
        )
    small = height // halvings, width // halvings, widths[0]
    return Dense(small[0] * small[1] * small[2])(code).reshape(code.shape[0], *small)
