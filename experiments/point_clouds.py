"""Point clouds: what a shape is, by points on its surface (PointNet) or the cells that hold one (VoxNet).

Data: ModelNet10, from voxels of 32 x 32 x 32, or --data FOLDER: a folder a class of off, ply, xyz, npy or bin.
Reference: VoxNet 92 % (Maturana & Scherer 2015); PointNet (Qi et al. 2017).
"""

import dataclasses
from typing import Literal

import jax.numpy as jnp

import dl
from dl.baselines.clouds import cloud_baselines
from dl.data.own.clouds import OwnClouds
from dl.data.transforms.images import jitter
from dl.data.transforms.motion import turned
from dl.figures.clouds import taken_for
from dl.models.clouds import PointNet, VoxelNetwork
from dl.tasks.classification import classification


@dataclasses.dataclass(frozen=True)
class Config(OwnClouds, dl.Recipe):
    data: str = "modelnet10"
    """a named set, or a folder of your own, a folder a class"""
    model: Literal["voxels", "points"] = "voxels"
    """convolutions over cells, or a network of points"""
    side: int = 32
    """cells a way, for voxels"""
    epochs: int | None = None
    learning_rate: float = 2e-3
    weight_decay: float = 1e-2
    ema: float | None = 0.99
    dropout: float = 0.4
    label_smoothing: float = 0.1
    turn: float = 10.0
    """degrees that training shapes are turned about their third axis, at most"""


def build(config: Config) -> dl.Experiment:
    splits = dl.data.open(config.data, "clouds", config)
    classes = splits.info.classes
    voxels = VoxelNetwork(len(classes), config.side, dropout=config.dropout)
    points = PointNet(len(classes), dropout=config.dropout)
    model = voxels if config.model == "voxels" else points
    task = classification(
        model, inputs="points", prepare=jnp.asarray, label_smoothing=config.label_smoothing
    )

    def views(predictor):
        held = dl.data.take(splits.validation, slice(64))
        return {"shapes": taken_for(held, predictor(held).argmax(-1), classes)}

    return config.experiment(
        task,
        dl.train_batches(splits.train, config.batch_size, config.seed, at_most=True),
        augment=(turned(config.turn, 0.1, 3, "points"), jitter(0.01, 0.03, "points")),
        usual_epochs=20,
        **dl.held_out(splits, 100),
        select="validation/accuracy",
        classes=classes,
        views=views,
        baselines=lambda: cloud_baselines(splits),
    )


if __name__ == "__main__":
    dl.main(Config, build)
