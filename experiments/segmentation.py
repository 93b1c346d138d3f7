"""Segmentation of cell membranes in electron micrographs by a U-Net, beside a threshold.

Data: isbi_membrane (30 sections of 512 x 512: 20 train, 4 validate, 6 test, in blocks of the stack).
Reference: mean IoU .82 is the aim; thresholding the grey value gives about .55.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

import dl
from dl.baselines.threshold import best_threshold
from dl.data.transforms import images as augment
from dl.data.transforms import images_with_labels as joint
from dl.figures import pictures
from dl.models.unet import Symmetrized, UNet
from dl.scores.segmentation import binary_iou
from dl.tasks.segmentation import segmentation, sliding_window


@dataclasses.dataclass(frozen=True)
class Config(dl.Recipe):
    widths: tuple[int, ...] = (16, 32, 64)
    """channels of each resolution, the finest first"""
    patch: int = 1
    """side of the squares of pixels that enter as one place"""
    symmetries: int = 1
    """flips and turns of a picture that a prediction averages over, up to 8"""
    tile: int = 128
    """side of the squares that training cuts out"""
    steps: int = 1200
    batch_size: int = 8
    learning_rate: float = 3e-3
    weight_decay: float = 1e-3
    dice: float = 1.0
    """weight of the Dice loss beside cross-entropy"""
    membrane_weight: float = 1.0
    """how much a membrane's pixel counts in the cross-entropy"""
    elastic: float = 8.0
    """standard deviation of the warping, in pixels"""
    warped: float = 1.0
    """share of the tiles that are warped; others keep their sharpness"""
    dropout: float = 0.2
    members: int = 1
    """networks trained side by side, whose outputs are averaged"""
    ema: float | None = 0.99


@dl.prepared
def threshold(config: Config) -> float:
    train = dl.load("isbi_membrane").train
    return best_threshold(train["image"][..., 0], train["segments"])[0]


def build(config: Config) -> dl.Experiment:
    dl.bounded("--membrane-weight", config.membrane_weight, at_least=0)
    splits = dl.load("isbi_membrane")
    weights = jnp.stack([jnp.float32(config.membrane_weight), jnp.float32(1.0)])
    model = Symmetrized(UNet(2, config.widths, config.dropout, config.patch), config.symmetries)
    task = segmentation(model, 2, class_weights=weights, dice=config.dice)
    task = dl.ensemble(task, config.members, one_by_one=jax.default_backend() == "cpu")

    def measure(predictor, columns, name):
        brighter = columns["image"][..., 0] > threshold(config)
        return {"threshold_iou": float(np.mean(binary_iou(brighter, columns["segments"] > 0)))}

    def views(predictor):
        """Membranes found (green), missed (blue) and made up (red) on a validation section, by tiles."""
        image, truth = splits.validation["image"][:1], splits.validation["segments"][:1]
        guess = sliding_window(predictor, image[0], 2 * config.tile).argmax(-1)[None]
        grey = np.repeat(image / 255.0, 3, -1)
        sheet = np.concatenate([grey, pictures.overlay(image, guess, truth, shown=0)])
        return {"membranes": sheet}

    return config.experiment(
        task,
        dl.train_batches(splits.train, config.batch_size, config.seed),
        augment=(
            joint.random_tile(config.tile, config.tile),
            joint.random_flips(0.5, 0.5),
            joint.random_quarter_turns(),
            augment.chance(joint.elastic(config.elastic), config.warped),
            augment.color_jitter(0.1, 0.2),
        ),
        **dl.held_out(splits, 1),
        select="validation/mean_iou",
        measure=measure,
        views=views,
    )


if __name__ == "__main__":
    dl.main(Config, build)
