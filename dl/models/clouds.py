"""Classifiers of clouds of points: ``[batch, points, 3]``, at most 1 from 0, to ``[batch, classes]`` logits."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from dl.models.convolution import Conv
from dl.models.layers import Dense, Dropout


class PointNet(nn.Module):
    """The same layers for every point, the largest of each feature over all, a classifier of these: whichever
    order points come in, and however often one of them (Qi et al. 2017, "PointNet", without its transforms).

    Attributes:
      widths: of the layers for each point; hidden: of the classifier.
    """

    classes: int
    widths: Sequence[int] = (64, 64, 128, 512)
    hidden: int = 256
    dropout: float | jax.Array = 0.3

    @nn.compact
    def __call__(self, x, *, train: bool = False):
        for width in self.widths:
            x = nn.BatchNorm(use_running_average=not train, momentum=0.9)(
                Dense(width, use_bias=False)(x)
            )
            x = nn.relu(x)
        x = x.max(1)
        x = nn.BatchNorm(use_running_average=not train, momentum=0.9)(
            Dense(self.hidden, use_bias=False)(x)
        )
        return Dense(self.classes)(Dropout(self.dropout)(nn.relu(x), train=train))


def occupied(points: jax.Array, side: int) -> jax.Array:
    """Which of ``side`` cells a way hold a point: 1.0 or 0.0 ``[batch, side, side, side]``. By products of what
    lies in which slice, of which no platform has to scatter anything."""
    place = jnp.clip(((points + 1) * (side / 2)).astype(jnp.int32), 0, side - 1)
    x, y, z = (jax.nn.one_hot(place[..., axis], side) for axis in range(3))
    plane = (x[..., :, None] * y[..., None, :]).reshape(*x.shape[:2], -1)
    cells = jnp.einsum("npk,npz->nkz", plane, z)
    return jnp.minimum(cells, 1.0).reshape(points.shape[0], side, side, side)


class VoxelNetwork(nn.Module):
    """Convolutions in three dimensions over the cells that hold a point (Maturana & Scherer 2015, "VoxNet").

    Attributes:
      side: cells a way; widths: channels of each convolution, which halves the side.
    """

    classes: int
    side: int = 32
    widths: Sequence[int] = (16, 32, 64)
    hidden: int = 128
    dropout: float | jax.Array = 0.3

    @nn.compact
    def __call__(self, x, *, train: bool = False):
        x = occupied(x, self.side).astype(x.dtype)[..., None]
        for place, width in enumerate(self.widths):
            window = (4, 4, 4) if place == 0 else (3, 3, 3)
            x = Conv(width, window, strides=(2, 2, 2), use_bias=False)(x)
            x = nn.relu(nn.BatchNorm(use_running_average=not train, momentum=0.9)(x))
        x = Dropout(self.dropout)(x.reshape(x.shape[0], -1), train=train)
        x = nn.relu(Dense(self.hidden)(x))
        return Dense(self.classes)(Dropout(self.dropout)(x, train=train))
