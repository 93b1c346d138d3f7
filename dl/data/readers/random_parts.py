"""Random parts of pictures, each read anew for every step of training."""

import dataclasses
import math
from typing import Any

import numpy as np

from dl.core.random import mix
from dl.data.readers.pictures import read_picture

_TRIES = 10


@dataclasses.dataclass(frozen=True)
class RandomPart:
    """A random part of a row's picture, brought to a size: ``image`` uint8 ``[height, width, channels]``.

    The part has 8 % to all of the picture's area and sides of 3:4 to 4:3 (Szegedy et al. 2015, "Going deeper with
    convolutions"), and half of them are mirrored left and right. Which one follows from ``key`` alone. A JPEG of
    which less would do is decoded at a half, fourth or eighth.

    ``background`` and ``mode`` are as of :func:`dl.data.readers.pictures.read_pixels`.
    """

    height: int
    width: int
    background: int | tuple[int, int, int] = 255
    mode: str = "RGB"

    def __call__(self, row: dict[str, Any], key: int) -> dict[str, Any]:
        from PIL import Image

        whole: tuple[int, int] = (1, 1)

        def least(*sides: int) -> int:
            nonlocal whole
            whole = sides[0], sides[1]
            _, _, tall, wide, _ = part_of(*whole, key)
            return math.ceil(min(whole) * max(self.height / tall, self.width / wide))

        given: Any = {"mode": self.mode, "background": self.background}
        picture = read_picture(row["file"], least=least, **given)
        top, left, tall, wide, mirrored = part_of(*whole, key)
        across, down = picture.width / whole[1], picture.height / whole[0]
        box = (left * across, top * down, (left + wide) * across, (top + tall) * down)
        part = picture.resize((self.width, self.height), Image.Resampling.BICUBIC, box)
        image = np.asarray(part).reshape(self.height, self.width, -1)
        return {"image": image[:, ::-1] if mirrored else image, "label": row["label"]}


def part_of(height: int, width: int, key: int) -> tuple[int, int, int, int, bool]:
    """Top, left, height and width of a picture's random part, and whether it is mirrored; where ten draws do not
    fit into the picture, its middle."""
    draws = mix(np.uint32(key) ^ mix(np.arange(2 * _TRIES + 3), np), np) / 2.0**32
    mirrored = bool(draws[-1] < 0.5)
    for area, ratio in draws[: 2 * _TRIES].reshape(_TRIES, 2):
        size = (0.08 + 0.92 * area) * height * width
        aspect = math.exp((2 * ratio - 1) * math.log(4 / 3))
        tall, wide = round(math.sqrt(size / aspect)), round(math.sqrt(size * aspect))
        if 0 < tall <= height and 0 < wide <= width:
            top, left = (
                int(d * (room + 1))
                for d, room in zip(draws[-3:-1], (height - tall, width - wide), strict=True)
            )
            return top, left, tall, wide, mirrored
    tall, wide = min(height, round(width * 4 / 3)), min(width, round(height * 4 / 3))
    return (height - tall) // 2, (width - wide) // 2, tall, wide, mirrored
