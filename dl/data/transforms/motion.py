"""Random changes of moving points ``values [batch, time, points * axes]`` inside the compiled step, by example.

Each maker returns a pure ``(key, batch) -> batch`` for ``dl.Experiment(augment=(...,))``.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from dl.data.transforms.images import Transform, coin, uniform


def turned(degrees, scale, axes: int = 2, name: str = "values") -> Transform:
    """Every sequence turned in the plane of its first two axes by up to ``degrees`` either way, and made larger or
    smaller by up to a share of ``scale``, about 0."""

    def transform(key, batch):
        x = batch[name]
        turn, grow = jax.random.split(key)
        angle = uniform(turn, len(x), (), -1.0, 1.0) * jnp.deg2rad(degrees)
        size = 1 + uniform(grow, len(x), (), -1.0, 1.0) * scale
        points = x.reshape(*x.shape[:2], -1, axes)
        a, b = points[..., 0], points[..., 1]
        cos, sin = (f(angle)[:, None, None] for f in (jnp.cos, jnp.sin))
        rest = [points[..., n] for n in range(2, axes)]
        points = jnp.stack([cos * a - sin * b, sin * a + cos * b, *rest], -1)
        return {**batch, name: (points * size[:, None, None, None]).reshape(x.shape)}

    return transform


def cut_in_time(least, name: str = "values") -> Transform:
    """A random stretch of every sequence, of at least a share ``least`` of it, brought back to its length: as if
    it were done at another pace."""

    def transform(key, batch):
        x = batch[name]
        steps = x.shape[1]
        share, begin = jax.random.split(key)
        length = uniform(share, len(x), (), least, 1.0) * (steps - 1)
        first = uniform(begin, len(x)) * (steps - 1 - length)
        moment = first[:, None] + length[:, None] * jnp.linspace(0, 1, steps)
        before = jnp.clip(jnp.floor(moment).astype(jnp.int32), 0, steps - 2)
        share = (moment - before)[..., None].astype(x.dtype)

        def at(place):
            return jnp.take_along_axis(x, place[..., None], axis=1)

        return {**batch, name: at(before) * (1 - share) + at(before + 1) * share}

    return transform


def random_mirror(axes: int, pairs: Sequence[tuple[int, int]], name: str = "values") -> Transform:
    """Half of the sequences as in a mirror, what is left and right exchanged; see
    :func:`mirrored`."""

    def transform(key, batch):
        x = batch[name]
        return {
            **batch,
            name: jnp.where(coin(key, len(x))[:, None, None], mirrored(x, axes, pairs), x),
        }

    return transform


def mirrored(values: jax.Array, axes: int, pairs: Sequence[tuple[int, int]]) -> jax.Array:
    """Points ``[..., points * axes]`` seen in a mirror: the first axis of each negated, and what is left and
    right, ``pairs`` of points, exchanged."""
    points = values.reshape(*values.shape[:-1], -1, axes)
    order = np.arange(points.shape[-2])
    for left, right in pairs:
        order[left], order[right] = right, left
    sign = np.ones(axes, np.float32)
    sign[0] = -1
    return (points[..., order, :] * sign).reshape(values.shape)
