"""Visual inspection: whether a part has a defect, which and where, learned from masks or from good parts alone.

Data: magnetic_tile (five kinds of defect, split by tile), or a folder of pictures of your own with masks, whose
first class is good. `--learn good` trains on good parts alone and paints defects on them, after CutPaste (Li et
al. 2021) and DRAEM (Zavrtanik et al. 2021). Validation, which has both, chooses the step and the threshold.
"""

import dataclasses
from typing import Literal

import numpy as np
from scipy.special import softmax

import dl
from dl.baselines.inspection import inspection_baselines
from dl.data.own.masks import OwnMasks
from dl.data.sets.masked import good_alone, labelled, levelled
from dl.data.splits import in_memory, pieces
from dl.data.transforms import images as augment
from dl.data.transforms import images_with_labels as joint
from dl.data.transforms.scars import scars
from dl.figures.pictures import heat, overlay
from dl.figures.verification import receiver
from dl.models.unet import UNet
from dl.scores.inspection import inspection_measure, worst_places
from dl.scores.two_classes import chosen_threshold
from dl.scores.verification import Pairs
from dl.tasks.segmentation import rarity_weights, segmentation


@dataclasses.dataclass(frozen=True)
class Config(OwnMasks, dl.Recipe):
    data: str = "magnetic_tile"
    """magnetic_tile, or the path of your folder of pictures and masks"""
    learn: Literal["masks", "good"] = "masks"
    """from the masks of defects, every kind of them; or from good parts alone, whether there is any defect"""
    widths: tuple[int, ...] = (8, 16, 32, 64)
    """channels of each resolution, the finest first; on a GPU try 32 64 128 256"""
    patch: int = 2
    """side of the squares of pixels that enter as one place"""
    tile: int = 128
    """side of the squares that training cuts out, at most the pictures'"""
    focus: float = 0.5
    """share of them that lie around a defect, where the picture has one"""
    worst: int = 20
    """pixels that a part is judged by: those most likely a defect's"""
    steps: int = 1200
    batch_size: int = 8
    learning_rate: float = 3e-3
    weight_decay: float = 1e-3
    dice: float = 1.0
    """weight of the Dice loss beside cross-entropy"""
    rarity: float = 0.5
    """pixels count in the cross-entropy by their class's share in training to the power of minus this"""
    dropout: float = 0.2
    ema: float | None = 0.99


@dl.prepared
def rows_of(config: Config):
    splits = dl.data.open(config.data, "masks", config)
    splits = in_memory(splits, "train", "validation").map(labelled).map(levelled)
    return good_alone(splits) if config.learn == "good" else splits


def build(config: Config) -> dl.Experiment:
    splits, alone = rows_of(config), config.learn == "good"
    classes, held = len(splits.info.classes), splits.validation
    tall, wide = (min(config.tile, side) for side in splits.train["segments"].shape[1:])
    weights = rarity_weights(splits.train["segments"], classes, config.rarity)
    augmentation = [joint.focused_tile(tall, wide, config.focus), joint.random_flips(0.5, 0.5)]
    augmentation = [scars(), *augmentation] if alone else augmentation

    def chances(predictor, columns):
        """Of each kind of defect in the worst places of each picture, a few pictures at a time."""
        each = ((predictor(piece), piece["segments"]) for piece in pieces(columns, 50))
        return np.concatenate([worst_places(*both, config.worst)[:, 1:] for both in each])

    def views(predictor):
        """The curves of validation; and its oddest parts, with their defects' masks and what is found."""
        found, bad = chances(predictor, held).max(1), held["label"] > 0
        at = chosen_threshold(bad, found)
        few = dl.data.take(held, np.argsort(-found)[:8])
        odd, plain = 1 - softmax(predictor(few), -1)[..., 0], few["image"]
        marked = overlay(plain, odd > 0.5, few["segments"] > 0)
        curves = receiver({"network": Pairs(found, bad)}, {"network": at}, splits.info.title)
        return {"defects": np.concatenate([marked, heat(plain, odd)]), "curves": curves}

    return config.experiment(
        segmentation(
            UNet(classes, config.widths, config.dropout, config.patch),
            classes,
            dice=config.dice,
            class_weights=None if alone else weights,
        ),
        dl.train_batches(splits.train, config.batch_size, config.seed, at_most=True),
        augment=(*augmentation, augment.color_jitter(0.1, 0.2)),
        **dl.held_out(splits, 50),
        select="validation/auc",
        measure=inspection_measure(chances, held),
        baselines=lambda: inspection_baselines(splits, alone),
        views=views,
    )


if __name__ == "__main__":
    dl.main(Config, build)
