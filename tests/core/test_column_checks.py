"""What is no pixel, no class and no box is refused before training, by every task that looks at some."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mistakes import raises

from dl.core.column_checks import pixels, within
from dl.core.errors import UserError
from dl.models.autoencoder import Autoencoder
from dl.models.detector import Places
from dl.models.gan import GAN
from dl.models.mlp import MLP
from dl.models.style import StyleNetwork
from dl.models.unet import UNet
from dl.models.vae import VAE
from dl.tasks.adversarial import adversarial
from dl.tasks.autoencoding import autoencoding
from dl.tasks.classification import classification
from dl.tasks.detection import detection
from dl.tasks.segmentation import segmentation
from dl.tasks.style_transfer import style_network, style_transfer
from dl.tasks.variational import variational

DRAW = np.random.default_rng(0)
SHAPE = (8, 8, 1)
IMAGE = DRAW.integers(0, 256, (4, *SHAPE)).astype(np.uint8)
LABEL = np.array([0, 1, 1, 0], np.int32)


class Detector:
    """Two classes at one place, as far as a task can see of a detector."""

    def init(self, key, x, train):
        return {"params": {"w": jnp.zeros(())}}

    def apply(self, variables, x, train):
        there = jnp.zeros((len(x), 1, 2))
        return Places(
            jnp.zeros((1, 2)), jnp.ones(1), there, jnp.zeros((len(x), 1, 4)), there[..., 0]
        )


def mean_colour(x):
    return [x]


# Each task that prepares pixels 0..255, and a batch for it.
TASKS = {
    "classification": (classification(MLP((2,))), {"image": IMAGE, "label": LABEL}),
    "segmentation": (
        segmentation(UNet(2, (4, 4)), 2),
        {"image": IMAGE, "segments": (IMAGE[..., 0] > 127).astype(np.int32) - 1},
    ),
    "detection": (
        detection(Detector(), (8,)),  # type: ignore[arg-type]
        {
            "image": IMAGE,
            "boxes": np.array([[[1, 2, 7, 8]]] * 4, np.float32),
            "label": np.array([[0], [1], [-1], [1]], np.int32),
        },
    ),
    "autoencoding": (autoencoding(Autoencoder(MLP((2,)), MLP((64,)), SHAPE)), {"image": IMAGE}),
    "variational": (variational(VAE(MLP((4,)), MLP((64,)), SHAPE)), {"image": IMAGE}),
    "adversarial": (adversarial(GAN(MLP((64,)), MLP((1,)))), {"image": IMAGE}),
    "style transfer": (
        style_transfer(mean_colour, [1.0], [1.0]),
        {"content": IMAGE, "style": IMAGE[::-1]},
    ),
    "style network": (
        style_network(StyleNetwork(), mean_colour, IMAGE[0], [1.0], [1.0]),
        {"image": IMAGE},
    ),
}
PICTURES = {
    "scaled to 0..1": lambda x: x / 255.0,
    "standardised": lambda x: (x - x.mean()) / x.std(),
    "of 16 bits": lambda x: x.astype(np.uint16) * 257,
    "of truth values": lambda x: x > 127,
    "of 0 and 1": lambda x: (x > 127).astype(np.uint8),
}


def checked(task, batch, **changed):
    """The task's own check of a data set of this batch, some of its columns changed."""
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), batch)
    variables = {}
    if task.average is not None or "boxes" in batch:  # the other tasks look at columns alone
        variables = jax.eval_shape(task.init, jax.random.key(0), shapes)
    task.check(variables, shapes, {**batch, **changed})


@pytest.mark.parametrize("name", TASKS)
def test_pictures_that_are_no_pixels_are_refused_by_every_task(name):
    task, batch = TASKS[name]
    checked(task, batch)
    for column in set(batch) & {"image", "content", "style"}:
        for change in PICTURES.values():
            with raises("pixels-range", f"column {column!r}", "0..255"):
                checked(task, batch, **{column: change(batch[column])})
        checked(task, batch, **{column: np.zeros_like(batch[column], np.float32)})


def test_the_style_of_a_network_is_looked_at_too():
    task = style_network(StyleNetwork(), mean_colour, IMAGE[0] / 255.0, [1.0], [1.0])
    with raises("pixels-range", "'style' holds float64"):
        checked(task, {"image": IMAGE})


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"label": np.array([[0], [1], [2], [0]])}, ("class-out-of-range", "'label' holds 0 to 2", "0 to 1")),
        ({"boxes": np.array([[[0.1, 0.2, 0.5, 0.9]]] * 4)}, ("boxes-not-pixels", "0..1")),
        ({"boxes": np.array([[[5.0, 2, 1, 9]]] * 4)}, ("box-corners", "3 boxes", "[5.0, 2.0, 1.0, 9")),
        ({"boxes": np.array([[[5.0, 2, np.nan, 9]]] * 4)}, ("box-corners", "3 boxes")),
    ],
)  # fmt: skip
def test_boxes_that_are_none_are_refused(changed, says):
    with raises(*says):
        checked(*TASKS["detection"], **changed)


def test_pictures_without_an_object_pass():
    checked(*TASKS["detection"], label=np.full((4, 1), -1), boxes=np.zeros((4, 1, 4)))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(width=32) | st.integers(-3, 5), min_size=1), st.integers(-1, 0))
def test_classes_are_whole_numbers_of_the_range_and_nothing_else(values, lowest):
    column = np.array(values, np.float32)
    if all(float(v).is_integer() and lowest <= v < 3 for v in column):
        within("label", column, 3, lowest=lowest)
    else:
        with pytest.raises(UserError, match="column 'label' holds") as told:
            within("label", column, 3, lowest=lowest)
        assert told.value.code in ("class-out-of-range", "class-not-whole")


def test_pixels_are_not_asked_of_what_holds_no_numbers():
    pixels("image", np.array(["a"]))
    pixels("image", np.zeros((0, 8, 8, 1)))
