"""Segmentation by a U-Net, beside a threshold: cell membranes in electron micrographs, or pictures of your own.

Data: isbi_membrane (30 sections of 512 x 512: 20 train, 4 validate, 6 test), or a folder of pictures and masks.
Reference: mean IoU .82 is the aim; thresholding the grey value gives about .55.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

import dl
from dl.baselines.pictures import mask_baselines
from dl.data.own.masks import OwnMasks
from dl.data.transforms import images as augment
from dl.data.transforms import images_with_labels as joint
from dl.figures import pictures
from dl.models.unet import Symmetrized, UNet
from dl.tasks.segmentation import segmentation, sliding_window


@dataclasses.dataclass(frozen=True)
class Config(OwnMasks, dl.Recipe):
    data: str = "isbi_membrane"
    """isbi_membrane, or the path of your folder of pictures and masks"""
    widths: tuple[int, ...] = (16, 32, 64)
    """channels of each resolution, the finest first"""
    patch: int = 1
    """side of the squares of pixels that enter as one place"""
    symmetries: int = 1
    """flips and turns of a picture that a prediction averages over, up to 8"""
    tile: int = 128
    """side of the squares that training cuts out, at most the pictures'"""
    steps: int = 1200
    batch_size: int = 8
    learning_rate: float = 3e-3
    weight_decay: float = 1e-3
    dice: float = 1.0
    """weight of the Dice loss beside cross-entropy"""
    membrane_weight: float = 1.0
    """how much a pixel of the first class (a membrane's) counts in the cross-entropy"""
    flip: bool = False
    """mirror your training pictures left and right"""
    any_side_up: bool = False
    """mirror, turn and warp your training pictures at will, as those of isbi_membrane always are"""
    elastic: float = 8.0
    """standard deviation of the warping, in pixels"""
    warped: float = 1.0
    """share of the tiles that are warped; others keep their sharpness"""
    dropout: float = 0.2
    members: int = 1
    """networks trained side by side, whose outputs are averaged"""
    ema: float | None = 0.99


def build(config: Config) -> dl.Experiment:
    dl.bounded("--membrane-weight", config.membrane_weight, at_least=0)
    splits = dl.data.open(config.data, "masks", config)
    classes, membranes = len(splits.info.classes), config.data == "isbi_membrane"
    height, width = dl.data.take(splits.train, slice(1))["segments"].shape[1:]
    tile = min(config.tile, height, width)
    weights = jnp.stack([jnp.float32(config.membrane_weight), *[jnp.float32(1.0)] * (classes - 1)])
    network = UNet(classes, config.widths, config.dropout, config.patch)
    model = Symmetrized(network, config.symmetries)
    task = segmentation(model, classes, class_weights=weights, dice=config.dice)
    task = dl.ensemble(task, config.members, one_by_one=jax.default_backend() == "cpu")
    augmentation = [joint.random_tile(tile, tile)]
    if membranes or config.any_side_up:
        augmentation += [joint.random_flips(0.5, 0.5), joint.random_quarter_turns()]
        augmentation += [augment.chance(joint.elastic(config.elastic), config.warped)]
    elif config.flip:
        augmentation += [joint.random_flips(0.5)]

    def views(predictor):
        """Membranes (the second class) found (green), missed (blue) and made up (red) on a picture, by tiles."""
        first = dl.data.take(splits.validation or splits.train, slice(1))
        image, truth = first["image"], first["segments"]
        guess = sliding_window(predictor, image[0], 2 * tile).argmax(-1)[None]
        plain = np.broadcast_to(image / 255.0, (*image.shape[:-1], 3))
        drawn = pictures.overlay(image, guess, truth, shown=0 if membranes else 1)
        return {"membranes" if membranes else "masks": np.concatenate([plain, drawn])}

    return config.experiment(
        task,
        dl.train_batches(splits.train, config.batch_size, config.seed),
        augment=(*augmentation, augment.color_jitter(0.1, 0.2)),
        **dl.held_out(splits, max(1, 512**2 // (height * width))),
        select="validation/mean_iou",
        baselines=lambda: mask_baselines(splits),
        views=views,
    )


if __name__ == "__main__":
    dl.main(Config, build)
