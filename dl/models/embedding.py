"""Vectors that lie near each other where what they stand for is the same."""

from collections.abc import Sequence
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from dl.models.convolution import Conv, max_pool
from dl.models.layers import Dense, Dropout


class Embedded(NamedTuple):
    """What an :class:`Embedding` gives.

    Attributes:
      vector: ``[batch, width]``, of length 1.
      cosine: ``[batch, classes]`` of the vector and each class's prototype.
    """

    vector: jax.Array
    cosine: jax.Array


def unit_length(x: jax.Array) -> jax.Array:
    """``x [..., width]`` scaled to length 1; zeros stay zeros, and their gradient is finite."""
    return x * jax.lax.rsqrt(jnp.maximum(jnp.square(x).sum(-1, keepdims=True), 1e-12))


class Embedding(nn.Module):
    """A body's features as a vector of length 1, beside a learned prototype of each class of training.

    ``x`` of the body to :class:`Embedded`, in float32.

    Attributes:
      body: ``[batch, ...]`` to ``[batch, features]``; called with ``train``.
      width: of the vector; classes: of training.
    """

    body: nn.Module
    width: int
    classes: int

    @nn.compact
    def __call__(self, x, *, train: bool = False) -> Embedded:
        x = Dense(self.width, use_bias=False)(self.body(x, train=train))
        x = nn.BatchNorm(use_running_average=not train, momentum=0.9, use_scale=False)(x)
        vector = unit_length(x.astype(jnp.float32))
        shape = (self.classes, self.width)
        prototypes = self.param("prototypes", nn.initializers.normal(1.0), shape)
        return Embedded(vector, vector @ unit_length(prototypes.astype(jnp.float32)).T)


class PlacedCNN(nn.Module):
    """Stages of a 3x3 convolution, each at half the size of the one before, whose last map is given whole: for
    pictures where things have their places, as in a face.

    ``[batch, height, width, channels]`` to ``[batch, features]``.

    Attributes:
      widths: channels of each stage; dropout: rate on the features.
    """

    widths: Sequence[int]
    dropout: float | jax.Array = 0.0

    @nn.compact
    def __call__(self, x, *, train: bool = False):
        for width in self.widths:
            x = max_pool(x, (2, 2), strides=(2, 2))
            x = Conv(width, (3, 3), use_bias=False)(x)
            x = nn.relu(nn.BatchNorm(use_running_average=not train, momentum=0.9)(x))
        return Dropout(self.dropout)(x.reshape(x.shape[0], -1), train=train)
