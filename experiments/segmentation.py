"""Segmentation by a U-Net, beside simple baselines: cell membranes, driving scenes, or pictures of your own.

Data: isbi_membrane (30 sections of 512 x 512: 20 train, 4 validate, 6 test), camvid (11 classes, the official
lists, at 240 x 180), or a folder of pictures and masks. `mean_iou` is over pictures, `class_iou` over classes.
Reference: membranes .82 is the aim, a threshold gives about .55; camvid .556 at twice the size (SegNet).
"""

import dataclasses

import jax

import dl
from dl.baselines.pictures import mask_baselines
from dl.data.own.masks import OwnMasks
from dl.data.splits import some_rows
from dl.data.transforms import images as augment
from dl.data.transforms import images_with_labels as joint
from dl.figures import pictures
from dl.models.unet import Symmetrized, UNet
from dl.tasks.segmentation import rarity_weights, segmentation


@dataclasses.dataclass(frozen=True)
class Config(OwnMasks, dl.Members, dl.Recipe):
    data: str = "isbi_membrane"
    """isbi_membrane, camvid, magnetic_tile, or the path of your folder of pictures and masks"""
    widths: tuple[int, ...] = (16, 32, 64)
    """channels of each resolution, the finest first"""
    patch: int = 1
    """side of the squares of pixels that enter as one place; on a GPU try 1 with --widths 32 64 128 256 512"""
    symmetries: int = 1
    """flips and turns of a picture that a prediction averages over, up to 8; 2 mirror it left and right"""
    tile: int = 128
    """side of the squares that training cuts out; of pictures less high or wide their whole height or width"""
    steps: int = 1200
    batch_size: int = 8
    learning_rate: float = 3e-3
    weight_decay: float = 1e-3
    dice: float = 1.0
    """weight of the Dice loss beside cross-entropy"""
    rarity: float = 0.0
    """pixels count in the cross-entropy by their class's share in training to the power of minus this"""
    zoom: float = 1.0
    """training pictures are magnified by up to this factor"""
    flip: bool = False
    """mirror your training pictures left and right"""
    any_side_up: bool = False
    """mirror, turn and warp your training pictures at will, as those of isbi_membrane always are"""
    elastic: float = 8.0
    """standard deviation of the warping, in pixels"""
    warped: float = 1.0
    """share of the tiles that are warped; others keep their sharpness"""
    dropout: float = 0.2
    ema: float | None = 0.99


def build(config: Config) -> dl.Experiment:
    dl.bounded("--rarity", config.rarity, at_least=0)
    dl.bounded("--zoom", config.zoom, at_least=1)
    splits = dl.data.open(config.data, "masks", config)
    classes, membranes = len(splits.info.classes), config.data == "isbi_membrane"
    height, width = dl.data.take(splits.train, slice(1))["segments"].shape[1:]
    any_side_up, weights = membranes or config.any_side_up, None
    tall, wide = (min(config.tile, side) for side in (height, width))
    if config.rarity:
        weights = rarity_weights(some_rows(splits.train)["segments"], classes, config.rarity)
    network = UNet(classes, config.widths, config.dropout, config.patch)
    model = Symmetrized(network, config.symmetries)
    task = segmentation(model, classes, class_weights=weights, dice=config.dice)
    task = dl.ensemble(task, config.members, one_by_one=jax.default_backend() == "cpu")
    augmentation = [joint.random_scale(1.0, config.zoom)] if config.zoom > 1 else []
    augmentation += [joint.random_tile(*((min(tall, wide),) * 2 if any_side_up else (tall, wide)))]
    if any_side_up:
        augmentation += [joint.random_flips(0.5, 0.5), joint.random_quarter_turns()]
        augmentation += [augment.chance(joint.elastic(config.elastic), config.warped)]
    elif config.flip:
        augmentation += [joint.random_flips(0.5)]

    def views(predictor):
        first = dl.data.take(splits.validation or splits.train, slice(1))
        guess, shown = predictor(first).argmax(-1), None if classes > 2 else 0 if membranes else 1
        drawn = pictures.segmented(first["image"], guess, first["segments"], shown)
        return {"membranes" if membranes else "masks": drawn}

    return config.experiment(
        task,
        dl.train_batches(splits.train, config.batch_size, config.seed, at_most=True),
        augment=(*augmentation, augment.color_jitter(0.1, 0.2)),
        **dl.held_out(splits, max(1, 512**2 // (height * width))),
        select="validation/mean_iou" if classes == 2 else "validation/class_iou",
        baselines=lambda: mask_baselines(splits),
        views=views,
    )


if __name__ == "__main__":
    dl.main(Config, build)
