"""Random parts of pictures: within them, as large and as wide as said, and shown as they lie."""

import numpy as np
import pytest
from PIL import Image

from dl.data.readers.random_parts import RandomPart, part_of


@pytest.mark.parametrize("size", [(300, 400), (400, 300), (8, 8), (1, 1), (20, 1000), (1000, 20)])
def test_parts_lie_within_the_picture(size):
    parts = np.array([part_of(*size, key)[:4] for key in range(2000)])  # type: ignore[call-arg]
    top, left, tall, wide = parts.T
    assert (np.minimum(top, left) >= 0).all()
    assert (np.minimum(tall, wide) >= 1).all()
    assert ((top + tall <= size[0]) & (left + wide <= size[1])).all()
    if min(size) >= 300:
        for edge in (top == 0, left == 0, top + tall == size[0], left + wide == size[1]):
            assert edge.any()
        area = tall * wide / (size[0] * size[1])
        assert 0.07 < area.min() < 0.1
        assert area.max() > 0.95
        aspect = wide / tall
        assert 0.74 < aspect.min() < 0.78
        assert 1.28 < aspect.max() < 1.35
        mirrored = np.mean([part_of(*size, key)[4] for key in range(2000)])  # type: ignore[call-arg]
        assert 0.45 < mirrored < 0.55
    assert part_of(*size, 5) == part_of(*size, 5)  # type: ignore[call-arg]


@pytest.mark.parametrize(("ending", "times"), [("png", 1), ("jpg", 1), ("jpg", 8)])
def test_what_is_seen_is_the_part(tmp_path, ending, times):
    """Red grows to the right and green downwards, so that the edges of what is seen say where it lay."""
    height, width = 160 * times, 240 * times
    across, down = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    pixels = np.stack([across, down, np.zeros_like(down)], -1).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / f"a.{ending}", quality=95)
    row = {"file": str(tmp_path / f"a.{ending}"), "label": np.int32(3)}
    for key in range(12):
        seen = RandomPart(32, 48)(row, key)
        assert seen["image"].shape == (32, 48, 3)
        assert seen["label"] == 3
        top, left, tall, wide, mirrored = part_of(height, width, key)
        image = seen["image"][:, ::-1] if mirrored else seen["image"]
        reds, greens = image[..., 0].mean(0), image[..., 1].mean(1)
        red = np.interp(
            left + wide * (np.arange(48) + 0.5) / 48, np.arange(width) + 0.5, pixels[0, :, 0]
        )
        green = np.interp(
            top + tall * (np.arange(32) + 0.5) / 32, np.arange(height) + 0.5, pixels[:, 0, 1]
        )
        np.testing.assert_allclose(reds, red, atol=4)
        np.testing.assert_allclose(greens, green, atol=4)


def test_grey_pictures_keep_one_channel(tmp_path):
    Image.fromarray(np.zeros((20, 30), np.uint8)).save(tmp_path / "a.png")
    row = {"file": str(tmp_path / "a.png"), "label": 0}
    assert RandomPart(8, 8, mode="L")(row, 1)["image"].shape == (8, 8, 1)
