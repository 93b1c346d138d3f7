"""Pictures as an imported network wants to see them, and what it sees in them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from dl.core.errors import UserError
from dl.interop.folder import load, read_config, read_object
from dl.models.resnet import ResNet, ResNetFeatures

Preparation = Callable[[jax.Array], jax.Array]


def image_preparation(folder: str | Path) -> Preparation:
    """What turns pictures ``[batch, height, width, channels]`` in 0..255 into the input of the network
    in ``folder``: resized, grey ones in three channels, with its mean and spread.

    All this is in the folder's ``preprocessor_config.json``. Without one, pictures come in -1..1, and
    are resized only for a network that takes one size alone (ViT).
    """
    config, found = read_config(Path(folder)), _preprocessor(Path(folder))
    side = found.get("size", config.get("image_size")) if found.get("do_resize", True) else None
    if isinstance(side, dict):
        side = side.get("height", side.get("shortest_edge"))
    normalise = normalisation(folder)

    def prepare(images):
        x = images.astype(jnp.float32) / 255.0
        if side is not None and x.shape[1:3] != (side, side):
            x = jax.image.resize(x, (x.shape[0], side, side, x.shape[3]), "bilinear")
        return normalise(x)

    return prepare


def normalisation(folder: str | Path) -> Preparation:
    """Pictures in 0..1, of any size, to the range that the network in ``folder`` wants."""
    channels = read_config(Path(folder)).get("num_channels", 3)
    found = _preprocessor(Path(folder))
    wanted = found.get("do_normalize", True)
    mean = jnp.asarray(found.get("image_mean", 0.5) if wanted else 0.0)
    spread = jnp.asarray(found.get("image_std", 0.5) if wanted else 1.0)

    def normalise(x):
        if x.shape[-1] == 1 and channels > 1:
            x = jnp.repeat(x, channels, axis=-1)
        if x.shape[-1] != channels:
            raise UserError(
                "channels-differ",
                f"{folder} takes pictures of {channels} channels, not {x.shape[-1]}",
            )
        return (x - mean) / spread

    return normalise


def _preprocessor(folder: Path) -> dict[str, Any]:
    path = folder / "preprocessor_config.json"
    return read_object(path) if path.exists() else {}


def feature_maps(folder: str | Path) -> Callable[[jax.Array], list[jax.Array]]:
    """What every stage of the ResNet in ``folder`` sees in pictures ``[batch, height, width, channels]``
    in 0..1: the finest first, at strides of 4, 8, 16, ..."""
    model, variables = load(folder)
    if not isinstance(model, ResNet):
        raise UserError(
            "weights-no-feature-maps",
            f"{folder} holds a {type(model).__name__}: feature maps are of a ResNet",
        )
    features = ResNetFeatures(model.stages, model.block, model.width, stem=model.stem)
    inner = {name: tree["ResNetFeatures_0"] for name, tree in variables.items()}
    normalise = normalisation(folder)

    def maps(x) -> list[jax.Array]:
        found: Any = features.apply(inner, normalise(x))
        return found

    return maps
