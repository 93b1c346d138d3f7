"""Random policies over fourteen operations of pictures (Cubuk et al. 2019, "AutoAugment"), inside the compiled
step; and the augmentations that a script's configuration asks for."""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp

from dl.core.errors import UserError, bounded
from dl.core.random import example_keys
from dl.data.transforms import images
from dl.data.transforms.images import Transform, luminance

BINS = 30  # magnitudes go from 0 to this
GREY = 128.0  # what comes in from outside a picture
OPERATIONS = (
    *("identity", "shear_x", "shear_y", "translate_x", "translate_y", "rotate", "brightness"),
    *("color", "contrast", "sharpness", "posterize", "solarize", "auto_contrast", "equalize"),
)
_PLACE = {name: place for place, name in enumerate(OPERATIONS)}
Amounts = Callable[
    [Any, int, int], dict[str, Any]
]  # (share of BINS, height, width) -> by operation


def rand_augment(count: int = 2, magnitude: float | jax.Array = 9.0) -> Transform:
    """``count`` operations of the fourteen one after the other, all with one ``magnitude`` of 0 to 30 (Cubuk et
    al. 2020, "RandAugment"). ``image`` keeps its dtype; the magnitude may be traced."""
    bounded("count", count, at_least=1, whole=True)
    bounded("magnitude", magnitude, at_least=0, at_most=BINS)

    def amounts(share, height, width):
        moved = 150 / 331  # of a side
        return {
            "shear": 0.3 * share,
            "translate": (moved * share * height, moved * share * width),
            "rotate": 30 * share,
            "blend": 0.9 * share,
            "bits": 8 - jnp.round(4 * share),
        }

    return _policy(count, lambda key: jnp.float32(magnitude) / BINS, amounts)


def trivial_augment() -> Transform:
    """One operation of the fourteen, of a magnitude drawn from 31, in the wide ranges of Müller & Hutter (2021,
    "TrivialAugment"); pictures move by 32 pixels at most, and by no more than their side."""

    def amounts(share, height, width):
        return {
            "shear": 0.99 * share,
            "translate": (share * min(32, height), share * min(32, width)),
            "rotate": 135 * share,
            "blend": 0.99 * share,
            "bits": 8 - jnp.round(6 * share),
        }

    return _policy(1, lambda key: jax.random.randint(key, (), 0, BINS + 1) / BINS, amounts)


def _policy(count: int, draw: Callable[[jax.Array], jax.Array], amounts: Amounts) -> Transform:
    def one(key, image):
        height, width = image.shape[:2]
        for place in range(count):
            kind, sign, strength = jax.random.split(jax.random.fold_in(key, place), 3)
            operation = jax.random.randint(kind, (), 0, len(OPERATIONS))
            share = draw(strength)
            signed = jnp.where(jax.random.bernoulli(sign), 1.0, -1.0)
            image = operate(image, operation, amounts(share, height, width), share, signed)
        return image

    def transform(key, batch):
        image = batch["image"]
        pixels = jnp.round(jnp.clip(image.astype(jnp.float32), 0, 255))
        changed = jax.vmap(one)(example_keys(key, len(image)), pixels)
        return {**batch, "image": changed.astype(image.dtype)}

    return transform


def operate(image, operation, amounts, share, sign):
    """One operation, by its number in :data:`OPERATIONS`, of a picture of whole numbers, float32 ``[height, width,
    channels]``. All are computed and one is taken, since the examples of a batch draw different ones."""

    def named(*names):
        return jnp.isin(operation, jnp.array([_PLACE[name] for name in names]))

    changed = jnp.where(
        operation == _PLACE["identity"], image, _moved(image, operation, amounts, sign)
    )
    blended = _blended(image, operation, 1 + sign * amounts["blend"])
    changed = jnp.where(named("brightness", "color", "contrast", "sharpness"), blended, changed)
    step = 2.0 ** (8 - amounts["bits"])
    changed = jnp.where(named("posterize"), jnp.floor(image / step) * step, changed)
    solar = jnp.where(image < 255 * (1 - share), image, 255 - image)
    changed = jnp.where(named("solarize"), solar, changed)
    changed = jnp.where(named("auto_contrast"), _auto_contrast(image), changed)
    return jnp.where(named("equalize"), _equalized(image), changed)


def _moved(image, operation, amounts, sign):
    """Sheared from the corner, shifted or turned around the middle; the nearest pixel is taken."""
    height, width = image.shape[:2]
    y, x = jnp.meshgrid(jnp.arange(height) + 0.5, jnp.arange(width) + 0.5, indexing="ij")
    shear, (down, right) = sign * amounts["shear"], amounts["translate"]
    turn = jnp.deg2rad(sign * amounts["rotate"])
    across, along = x - width / 2, y - height / 2
    turned_x = jnp.cos(turn) * across + jnp.sin(turn) * along + width / 2
    turned_y = jnp.cos(turn) * along - jnp.sin(turn) * across + height / 2

    def chosen(name, own, other):
        return jnp.where(operation == _PLACE[name], own, other)

    from_x = chosen("shear_x", x + shear * y, chosen("translate_x", x + sign * right, x))
    from_y = chosen("shear_y", y + shear * x, chosen("translate_y", y + sign * down, y))
    row = jnp.floor(chosen("rotate", turned_y, from_y)).astype(jnp.int32)
    column = jnp.floor(chosen("rotate", turned_x, from_x)).astype(jnp.int32)
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    taken = image[jnp.clip(row, 0, height - 1), jnp.clip(column, 0, width - 1)]
    return jnp.where(inside[..., None], taken, GREY)


def _blended(image, operation, factor):
    """``factor`` of the way from what lacks brightness, colour, contrast or sharpness to the picture."""
    grey = luminance(image)
    height, width = image.shape[:2]
    around = sum(
        image[1 + dy : height - 1 + dy, 1 + dx : width - 1 + dx]
        for dy in (-1, 0, 1)
        for dx in (-1, 0, 1)
    )
    inner = jnp.round((around + 4 * image[1:-1, 1:-1]) / 13)
    smooth = image.at[1:-1, 1:-1].set(inner) if min(height, width) > 2 else image
    lacks = jnp.where(operation == _PLACE["color"], grey, 0.0)
    lacks = jnp.where(operation == _PLACE["contrast"], jnp.round(grey.mean()), lacks)
    lacks = jnp.where(operation == _PLACE["sharpness"], smooth, lacks)
    return jnp.round(jnp.clip(lacks + factor * (image - lacks), 0, 255))


def _auto_contrast(image):
    low, high = image.min((0, 1)), image.max((0, 1))
    stretched = jnp.floor((image - low) * (255 / jnp.maximum(high - low, 1)))
    return jnp.where(high > low, stretched, image)


def _equalized(image):
    """Each channel's grey levels spread evenly, as Pillow does it."""

    def channel(values):
        level = values.astype(jnp.int32)
        count = jnp.zeros(256, jnp.int32).at[level].add(1)
        step = (values.size - count[level.max()]) // 255
        table = (step // 2 + jnp.cumsum(count) - count) // jnp.maximum(step, 1)
        return jnp.where(step == 0, level, jnp.clip(table, 0, 255)[level])

    flat = image.reshape(-1, image.shape[-1])
    return jax.vmap(channel, -1, -1)(flat).astype(image.dtype).reshape(image.shape)


@dataclasses.dataclass(frozen=True)
class Augmented:
    """The fields of a script's ``Config`` that say how training pictures are changed."""

    flip: bool = False
    """mirror training pictures left and right, as those of CIFAR-10 and TFDS always are"""
    policy: Literal["randaugment", "trivialaugment"] | None = None
    """change training pictures by random operations: shears, turns, colours, contrasts"""
    mixup: float = 0.0
    """alpha of mixup (Zhang et al. 2018); 0 leaves it out"""
    cutmix: float = 0.0
    """alpha of cut-mix (Yun et al. 2019), in place of mixup; 0 leaves it out"""
    cutout: int = 0
    """side of the square cut out of training images (DeVries & Taylor 2017)"""

    def transforms(
        self, height: int, classes: int, flip: bool = False, crop: bool = True
    ) -> tuple[Transform, ...]:
        """Where asked to ``crop``, crops by a twelfth of the ``height``; what the fields say; and ``flip``
        whatever they say.

        Raises:
          UserError: both mixup and cut-mix are asked for.
        """
        if self.mixup and self.cutmix:
            raise UserError(
                "options-exclusive", "--mixup and --cutmix both mix labels: give one of the two"
            )
        policies = {"randaugment": rand_augment, "trivialaugment": trivial_augment}
        wanted = (
            (crop, lambda: images.random_crop(padding=max(1, height // 12))),
            (self.flip or flip, images.random_flip),
            (self.policy, lambda: policies[str(self.policy)]()),
            (self.cutout, lambda: images.cutout(self.cutout)),
            (self.mixup, lambda: images.mixup(self.mixup, classes)),
            (self.cutmix, lambda: images.cutmix(self.cutmix, classes)),
        )
        return tuple(make() for asked, make in wanted if asked)
