"""Each operation of the policies is Pillow's, and every example draws its own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mistakes import raises
from PIL import Image, ImageEnhance, ImageOps

from dl.data.transforms import policies
from dl.data.transforms.policies import (
    OPERATIONS,
    Augmented,
    operate,
    rand_augment,
    trivial_augment,
)

KEY = jax.random.key(3)
PICTURE = np.random.default_rng(0).integers(30, 200, (24, 31, 3)).astype(np.uint8)
PICTURE[:12] = PICTURE[:12] // 2 + 10  # no flat histogram
AMOUNTS = {"shear": 0.3, "translate": (5.0, 7.0), "rotate": 25.0, "blend": 0.4, "bits": 3.0}


def ours(name, sign=1.0, share=0.5, picture=PICTURE):
    found = jax.jit(operate)(
        jnp.asarray(picture, jnp.float32), OPERATIONS.index(name), AMOUNTS, share, sign
    )
    return np.asarray(found)


def theirs(name, sign):
    picture, factor = Image.fromarray(PICTURE), 1 + sign * 0.4
    grey, size = (128, 128, 128), (31, 24)

    def moved(*numbers):
        return picture.transform(size, Image.Transform.AFFINE, numbers, fillcolor=grey)

    return {
        "identity": lambda: picture,
        "shear_x": lambda: moved(1, sign * 0.3, 0, 0, 1, 0),
        "shear_y": lambda: moved(1, 0, 0, sign * 0.3, 1, 0),
        "translate_x": lambda: moved(1, 0, sign * 7, 0, 1, 0),
        "translate_y": lambda: moved(1, 0, 0, 0, 1, sign * 5),
        "rotate": lambda: picture.rotate(-sign * 25, fillcolor=grey),
        "brightness": lambda: ImageEnhance.Brightness(picture).enhance(factor),
        "color": lambda: ImageEnhance.Color(picture).enhance(factor),
        "contrast": lambda: ImageEnhance.Contrast(picture).enhance(factor),
        "sharpness": lambda: ImageEnhance.Sharpness(picture).enhance(factor),
        "posterize": lambda: ImageOps.posterize(picture, 3),
        "solarize": lambda: ImageOps.solarize(picture, 128),
        "auto_contrast": lambda: ImageOps.autocontrast(picture),
        "equalize": lambda: ImageOps.equalize(picture),
    }[name]()


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_is_pillows(name, sign):
    found, wanted = ours(name, sign), np.asarray(theirs(name, sign), np.float32)
    apart = np.abs(found - wanted).max(-1) > 2.0  # they round greys and blends to whole numbers
    # A pixel whose source lies between two may be taken from the other one.
    assert apart.mean() < (0.02 if name == "rotate" or name.startswith("shear") else 1e-9)


def test_a_picture_of_one_colour_is_none_to_stretch():
    flat = np.full((4, 4, 1), 77, np.uint8)
    for name in ("auto_contrast", "equalize", "sharpness", "contrast"):
        np.testing.assert_array_equal(ours(name, picture=flat), 77)
    ours("sharpness", picture=flat[:1])


@pytest.mark.parametrize("policy", [rand_augment(), rand_augment(1, 30.0), trivial_augment()])
def test_each_example_draws_its_own(policy):
    batch = {"image": jnp.asarray(np.stack([PICTURE] * 12)), "label": jnp.arange(12)}
    first, again = (jax.jit(policy)(KEY, batch) for _ in range(2))
    np.testing.assert_array_equal(first["image"], again["image"])
    assert first["image"].dtype == jnp.uint8
    assert len({image.tobytes() for image in np.asarray(first["image"])}) > 6
    # A row does not depend on those beside it.
    alone = jax.jit(policy)(KEY, {name: column[:3] for name, column in batch.items()})
    np.testing.assert_array_equal(first["image"][:3], alone["image"])


def test_every_operation_is_drawn_and_none_of_no_magnitude_changes_much():
    batch = {"image": jnp.asarray(np.stack([PICTURE] * 200))}
    weak = jax.jit(rand_augment(1, 0.0))(KEY, batch)["image"]
    same = (weak == batch["image"]).mean((1, 2, 3))
    assert 0.7 < (same > 0.99).mean() < 1  # but for contrast and equalising, and solar at 255
    lanes = jax.vmap(lambda m: rand_augment(2, m)(KEY, batch)["image"])(jnp.array([0.0, 20.0]))
    assert (lanes[0] != lanes[1]).any()  # the magnitude may be traced


def test_a_config_says_how_pictures_are_changed():
    assert len(Augmented().transforms(8, 10)) == 1
    assert len(Augmented(policy="randaugment", cutmix=1.0, cutout=2).transforms(8, 10, True)) == 5
    with raises("options-exclusive", "--mixup", "--cutmix"):
        Augmented(mixup=0.2, cutmix=1.0).transforms(8, 10)
    with raises("range", "magnitude"):
        policies.rand_augment(1, 31.0)
