"""What moving points do: classifiers of ``[batch, time, points * axes]``, axes of a point side by side."""

import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from dl.core.errors import UserError
from dl.models.convolution import Conv, max_pool
from dl.models.layers import Dense, Dropout
from dl.models.transformer import Transformer


def distances(points: jax.Array) -> jax.Array:
    """Of ``points [..., points, axes]`` the distance of every pair, ``[..., points * (points - 1) / 2]``: the same
    however all are moved, turned or mirrored (Yang et al. 2019, "joint collection distances")."""
    one, other = np.array([*itertools.combinations(range(points.shape[-2]), 2)]).T
    apart = points[..., one, :] - points[..., other, :]
    return jnp.sqrt(jnp.square(apart).sum(-1) + 1e-12)


def speeds(x: jax.Array, stride: int) -> jax.Array:
    """``x [batch, time, features]`` at ``time / stride`` moments, less what it was ``stride`` steps before; 0 at
    the first."""
    some = x[:, ::stride]
    return some - jnp.concatenate([some[:, :1], some[:, :-1]], axis=1)


class _Convolved(nn.Module):
    """A convolution over time, batch norm, leaky ReLU."""

    width: int
    window: int

    @nn.compact
    def __call__(self, x, train):
        x = Conv(self.width, (self.window,), use_bias=False)(x)
        return nn.leaky_relu(nn.BatchNorm(use_running_average=not train, momentum=0.9)(x), 0.2)


class MotionNetwork(nn.Module):
    """Distances between points, and how fast these move from step to step and over two; temporal convolutions
    of each, then of all together, the largest over time (Yang et al. 2019, "Make skeleton-based action recognition
    model smaller, faster and better", DD-Net).

    ``[batch, time, features]`` to ``[batch, classes]`` logits.

    Attributes:
      axes: numbers of a point, such as 2; 0 where features are no points, and are taken as they are.
      width: of the first convolutions; those after have 2, 4 and 8 times as many.
      body: in place of the last convolutions, whose outputs it reads: ``[batch, time / 2, 3 * width]``.

    Raises:
      UserError: the features are not two points or more of ``axes`` numbers.
    """

    classes: int
    axes: int = 2
    width: int = 64
    dropout: float | jax.Array = 0.5
    body: Transformer | None = None

    @nn.compact
    def __call__(self, x, *, train: bool = False):
        def halved(x):
            return max_pool(x[:, :, None], (2, 1), strides=(2, 1))[:, :, 0]

        def read(x, halve, name):
            for place, window in enumerate((1, 3, 1)):
                x = _Convolved(self.width, window, name=f"{name}_{place}")(x, train)
                x = Dropout(0.2 * self.dropout)(x, train=train)
            return halved(x) if halve else x

        if self.axes and (x.shape[-1] % self.axes or x.shape[-1] == self.axes):
            raise UserError(
                "indivisible",
                f"{x.shape[-1]} columns of numbers are no points of {self.axes}: say --axes 0, or name the "
                "points' columns by --values",
            )
        x = x[:, : x.shape[1] // 4 * 4]
        still = distances(x.reshape(*x.shape[:2], -1, self.axes)) if self.axes else x
        streams = [read(still, True, "still"), read(speeds(x, 1), True, "slow")]
        streams.append(read(speeds(x, 2), False, "fast"))
        x = jnp.concatenate(streams, axis=-1)
        if self.body is not None:
            places = self.param(
                "positions", nn.initializers.normal(0.02), (x.shape[1], self.body.width)
            )
            x, _ = self.body(Dense(self.body.width)(x) + places.astype(x.dtype), train=train)
            x = x.mean(1)
        else:
            for times, last in ((2, False), (4, False), (8, True)):
                for _ in range(2):
                    x = _Convolved(times * self.width, 3)(x, train)
                x = x if last else halved(x)
            x = x.max(1)
        x = nn.leaky_relu(Dense(2 * self.width)(Dropout(self.dropout)(x, train=train)), 0.2)
        return Dense(self.classes)(Dropout(self.dropout)(x, train=train))
