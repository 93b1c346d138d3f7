"""Random transformations of images inside the compiled step, keyed per example.

Each maker returns a pure ``(key, batch) -> batch`` for ``dl.Experiment(augment=(...,))``, on
``batch['image']`` ``[batch, height, width, channels]`` of any dtype in 0..255 (dtypes are kept, but
for what mixes images or calls for fractions, which gives float32). What happens to an example depends
on its own key and, for mixup and cutmix, on its partner, never on the batch's cut across devices.

Strengths may be traced scalars, so that a sweep can vary them; sizes that fix shapes may not.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import jax
import jax.numpy as jnp

from dl.core.errors import UserError, bounded
from dl.core.random import example_keys
from dl.core.task import Batch

Transform = Callable[[jax.Array, Batch], Batch]


def uniform(
    key: jax.Array, count: int, shape: tuple[int, ...] = (), low=0.0, high=1.0
) -> jax.Array:
    """Independent draws for each example of a batch, ``[count, *shape]`` float32."""
    draw = jax.vmap(lambda k: jax.random.uniform(k, shape, jnp.float32))
    return low + (high - low) * draw(example_keys(key, count))


def integers(key: jax.Array, count: int, shape: tuple[int, ...], end: int) -> jax.Array:
    """Draws from ``0 ... end - 1`` for each example, int32 ``[count, *shape]``."""
    draws = (uniform(key, count, shape) * end).astype(jnp.int32)
    return jnp.minimum(draws, end - 1)  # a draw just below 1 may round up


def coin(key: jax.Array, count: int, probability=0.5) -> jax.Array:
    """One toss an example, bool ``[count]``."""
    return uniform(key, count) < probability


def random_crop(padding: int, mode: Literal["reflect", "constant"] = "reflect") -> Transform:
    """Shift each image by up to ``padding`` pixels either way: pad, then crop back to its size.

    ``reflect`` fills with the mirrored edge, ``constant`` with 0 (He et al. 2016 for CIFAR).
    """
    bounded("padding", padding, at_least=0, whole=True)

    def transform(key, batch):
        image = batch["image"]
        count, height, width = image.shape[:3]
        if mode == "reflect" and padding >= min(height, width):
            raise UserError(
                "padding-too-large",
                f"cannot reflect {padding} pixels of a {height}x{width} image: pad by fewer, or with zeros "
                "(mode='constant')",
            )
        margins = ((0, 0), (padding, padding), (padding, padding), (0, 0))
        padded = jnp.pad(image, margins, mode)
        corner = integers(key, count, (2,), 2 * padding + 1)

        def cut(x, start):
            return jax.lax.dynamic_slice(x, (start[0], start[1], 0), (height, width, x.shape[-1]))

        return {**batch, "image": jax.vmap(cut)(padded, corner)}

    return transform


def random_resized_crop(least: float, ratio: float = 4 / 3) -> Transform:
    """A random part of each image, brought back to its size by linear interpolation (Szegedy et al. 2015, "Going
    deeper with convolutions"). ``image`` keeps its dtype.

    Args:
      least: share of the area that the part has at least; ratio: of its width to its height, at most, and one by
        that at least. A part that would be wider or higher than the image is as wide or high as that.
    """
    bounded("least", least, above=0, at_most=1)
    bounded("ratio", ratio, at_least=1)

    def transform(key, batch):
        image = batch["image"]
        area, shape, *place = jnp.moveaxis(uniform(key, len(image), (4,)), 1, 0)
        area, shape = least + (1 - least) * area, jnp.log(ratio) * (2 * shape - 1)

        def weights(size, share, start):
            """How much of each old line is in each new one, ``[batch, new, old]``."""
            length = jnp.minimum(jnp.sqrt(share), 1.0) * size
            middle = (start * (size - length))[:, None] - 0.5
            middle = middle + (jnp.arange(size) + 0.5) * length[:, None] / size
            middle = jnp.clip(middle, 0, size - 1)[..., None]
            return jnp.maximum(1 - jnp.abs(middle - jnp.arange(size)), 0)

        down = weights(image.shape[1], area * jnp.exp(-shape), place[0])
        across = weights(image.shape[2], area * jnp.exp(shape), place[1])
        x = jnp.einsum("bij,bjwc->biwc", down, image.astype(jnp.float32))
        x = jnp.einsum("bij,bhjc->bhic", across, x)
        x = x if jnp.issubdtype(image.dtype, jnp.floating) else jnp.round(x)
        return {**batch, "image": x.astype(image.dtype)}

    return transform


def random_flip(probability=0.5) -> Transform:
    """Mirror left and right."""
    bounded("probability", probability, at_least=0, at_most=1)

    def transform(key, batch):
        image = batch["image"]
        chosen = coin(key, len(image), probability)[:, None, None, None]
        return {**batch, "image": jnp.where(chosen, image[:, :, ::-1], image)}

    return transform


def cutout(size: int, fill=0.0) -> Transform:
    """Blank a ``size`` x ``size`` square around a uniform place; it may hang over the edge (DeVries
    & Taylor 2017, "Improved regularization of CNNs with cutout")."""
    bounded("size", size, at_least=1)

    def transform(key, batch):
        image = batch["image"]
        hole = _square(key, image, jnp.float32(size), jnp.float32(size))
        return {**batch, "image": jnp.where(hole, jnp.asarray(fill, image.dtype), image)}

    return transform


def _square(key, image, tall, wide):
    """A random rectangle of each image as bool ``[batch, height, width, 1]``; sizes per example or
    common, centres uniform over the pixels."""
    count, height, width = image.shape[:3]
    centre = jnp.floor(uniform(key, count, (2,)) * jnp.array([height, width], jnp.float32))

    def hit(places, middle, extent):
        start = middle - jnp.floor(jnp.broadcast_to(extent, (count,)) / 2)
        offset = places - start[:, None]
        return (offset >= 0) & (offset < jnp.broadcast_to(extent, (count,))[:, None])

    rows = hit(jnp.arange(height), centre[:, 0], tall)
    columns = hit(jnp.arange(width), centre[:, 1], wide)
    return rows[:, :, None, None] & columns[:, None, :, None]


def _beta(key, count: int, alpha) -> jax.Array:
    """Beta(alpha, alpha) draws, one an example, ``[count]``."""
    return jax.vmap(lambda k: jax.random.beta(k, alpha, alpha))(example_keys(key, count))


def probabilities(label: jax.Array, classes: int) -> jax.Array:
    """Labels as float32 ``[batch, classes]``; what is that already is kept."""
    return jax.nn.one_hot(label, classes) if label.ndim == 1 else label.astype(jnp.float32)


def mixup(alpha, classes: int) -> Transform:
    """Blend each image and its label with its partner's by a share from Beta(alpha, alpha) (Zhang et
    al. 2018, "mixup: beyond empirical risk minimization"). Row i's partner is row n - 1 - i: rows are
    in random order already. ``label`` becomes probabilities, ``image`` float32."""
    bounded("alpha", alpha, above=0)
    bounded("classes", classes, at_least=1, whole=True)

    def transform(key, batch):
        image = batch["image"].astype(jnp.float32)
        label = probabilities(batch["label"], classes)
        share = _beta(key, len(image), alpha)
        pixel_share = share[:, None, None, None]
        mixed = pixel_share * image + (1 - pixel_share) * image[::-1]
        label = share[:, None] * label + (1 - share[:, None]) * label[::-1]
        return {**batch, "image": mixed, "label": label}

    return transform


def cutmix(alpha, classes: int) -> Transform:
    """Paste a rectangle of the partner's image, its area a share from Beta(alpha, alpha), and mix the
    labels by the area really pasted (Yun et al. 2019, "CutMix"). Partners as in :func:`mixup`;
    ``label`` becomes probabilities."""
    bounded("alpha", alpha, above=0)
    bounded("classes", classes, at_least=1, whole=True)

    def transform(key, batch):
        image = batch["image"]
        label = probabilities(batch["label"], classes)
        area_key, place_key = jax.random.fold_in(key, 0), jax.random.fold_in(key, 1)
        side = jnp.sqrt(1 - _beta(area_key, len(image), alpha))
        tall, wide = jnp.floor(side * image.shape[1]), jnp.floor(side * image.shape[2])
        patch = _square(place_key, image, tall, wide)
        share = patch.mean((1, 2, 3), dtype=jnp.float32)[:, None]
        mixed = jnp.where(patch, image[::-1], image)
        return {**batch, "image": mixed, "label": (1 - share) * label + share * label[::-1]}

    return transform


def color_jitter(brightness=0.0, contrast=0.0, saturation=0.0) -> Transform:
    """Scale brightness, contrast and saturation, in that order, each by a factor uniform in
    ``1 - strength ... 1 + strength``. Pixels are clipped to 0..255 and the dtype is kept."""
    for name, strength in (
        ("brightness", brightness),
        ("contrast", contrast),
        ("saturation", saturation),
    ):
        bounded(name, strength, at_least=0, at_most=1)

    def transform(key, batch):
        image = batch["image"]
        pixels = image.astype(jnp.float32)
        strengths = jnp.stack([jnp.float32(s) for s in (brightness, contrast, saturation)])
        factors = 1 + uniform(key, len(image), (3,), -1.0, 1.0) * strengths
        bright, strong, vivid = jnp.moveaxis(factors, 1, 0)[..., None, None, None]
        pixels = jnp.clip(pixels * bright, 0, 255)
        grey = luminance(pixels).mean((1, 2), keepdims=True)
        pixels = jnp.clip(grey + (pixels - grey) * strong, 0, 255)
        grey = luminance(pixels)
        pixels = jnp.clip(grey + (pixels - grey) * vivid, 0, 255)
        if not jnp.issubdtype(image.dtype, jnp.floating):
            pixels = jnp.round(pixels)
        return {**batch, "image": pixels.astype(image.dtype)}

    return transform


def random_grey(probability=0.2) -> Transform:
    """Take the colours away: every channel becomes the :func:`luminance`. The dtype is kept."""

    def transform(key, batch):
        image = batch["image"]
        grey = jnp.broadcast_to(luminance(image.astype(jnp.float32)), image.shape)
        grey = grey if jnp.issubdtype(image.dtype, jnp.floating) else jnp.round(grey)
        return {**batch, "image": grey.astype(image.dtype)}

    return chance(transform, probability)


def simclr_view(least: float, colour: float = 0.4, flip: bool = False) -> Transform:
    """What the views of contrastive learning are drawn by (Chen et al. 2020, SimCLR): a part of each image, of a
    share ``least`` of it or more, perhaps mirrored (``flip``), other in brightness, contrast and saturation by
    ``colour`` at most, in a fifth of the cases grey."""
    steps = [random_resized_crop(least), *([random_flip()] if flip else [])]
    steps += [color_jitter(colour, colour, colour), random_grey(0.2)]

    def transform(key, batch):
        for place, step in enumerate(steps):
            batch = step(jax.random.fold_in(key, place), batch)
        return batch

    return transform


def luminance(pixels: jax.Array) -> jax.Array:
    """``[..., channels]`` to ``[..., 1]``: Rec. 601 weights for three channels, else their mean."""
    if pixels.shape[-1] == 3:
        return (pixels * jnp.array([0.299, 0.587, 0.114], pixels.dtype)).sum(-1, keepdims=True)
    return pixels.mean(-1, keepdims=True)


def normalize(
    mean: Sequence[float], deviation: Sequence[float]
) -> Callable[[jax.Array], jax.Array]:
    """Pixels 0..255 to float32 with each channel's ``mean`` and ``deviation`` (both in 0..1) taken
    out. Not random, so it is a task's ``prepare`` and evaluation gets it too."""

    def prepare(image):
        return (image.astype(jnp.float32) / 255 - jnp.array(mean)) / jnp.array(deviation)

    return prepare


def chance(transform: Transform, probability) -> Transform:
    """``transform`` for a share of the examples, the others left as they are."""
    bounded("probability", probability, at_least=0, at_most=1)

    def sometimes(key, batch):
        changed = transform(jax.random.fold_in(key, 0), batch)
        count = len(batch["image"])
        chosen = coin(jax.random.fold_in(key, 1), count, probability)

        def pick(new, old):
            if new.shape != old.shape:
                raise UserError(
                    "chance-changes-shape",
                    f"chance() needs a transform that keeps shapes, and this one makes {list(new.shape)} of "
                    f"{list(old.shape)}: give another",
                )
            return jnp.where(chosen.reshape((count,) + (1,) * (new.ndim - 1)), new, old)

        return {name: pick(changed[name], batch[name]) for name in batch}

    return sometimes


def jitter(noise, offset, name: str = "window") -> Transform:
    """Windows ``batch[name] [batch, time, variables]`` with normal noise of that standard deviation on
    every value, and one ``offset`` for each variable, as no two instruments agree."""
    bounded("noise", noise, at_least=0)
    bounded("offset", offset, at_least=0)

    def transform(key, batch):
        x = batch[name]

        def normal(place, shape):
            keys = example_keys(jax.random.fold_in(key, place), len(x))
            return jax.vmap(lambda k: jax.random.normal(k, shape))(keys)

        every, each = normal(0, x.shape[1:]), normal(1, (1, x.shape[2]))
        return {**batch, name: x + noise * every + offset * each}

    return transform
