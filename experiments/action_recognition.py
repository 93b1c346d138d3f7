"""Action recognition: what people do, by the joints of their bodies; or any clips with a class each.

Data: J-HMDB joints (three official splits, --official), radar (radhar), or --data FILE: a table of a row a frame.
Reference: DD-Net 77.2 %, mean of the three (Yang et al. 2019); on radar 90.5 % (Singh et al. 2019).
"""

import dataclasses
from typing import Literal

import numpy as np

import dl
from dl.baselines.clips import clip_baselines
from dl.data.own.clips import OwnClips
from dl.data.sets.clips import resampled
from dl.data.transforms.motion import cut_in_time, random_mirror, turned
from dl.models.motion import MotionNetwork
from dl.models.transformer import Transformer
from dl.tasks.classification import classification

# Shoulders, hips, elbows, knees, wrists and ankles of J-HMDB.
LEFT_AND_RIGHT = ((3, 4), (5, 6), (7, 8), (9, 10), (11, 12), (13, 14))


@dataclasses.dataclass(frozen=True)
class Config(OwnClips, dl.Recipe):
    data: str = "jhmdb_pose"
    """a named set, or a csv, Parquet or Arrow file of your own with a row a frame"""
    model: Literal["tcn", "transformer"] = "tcn"
    """temporal convolutions, or a Transformer, over what joints do"""
    axes: int | None = None
    """numbers that a point has, side by side in your columns; by default 2 of jhmdb_pose, else 0: no points"""
    frames: int = 32
    """moments that every clip is brought to"""
    width: int = 32
    layers: int = 3
    """of the transformer"""
    dropout: float = 0.5
    label_smoothing: float = 0.1
    epochs: int | None = None
    learning_rate: float = 3e-3
    weight_decay: float = 1e-2
    warmup_percent: int = 10
    clip: float | None = None
    ema: float | None = 0.99
    turn: float = 10.0
    """degrees that training clips are turned by, at most"""
    least: float = 0.7
    """share of a training clip that is seen, at least"""


@dl.prepared
def rows_of(config: Config):
    splits = dl.data.open(config.data, "clips", config)
    return splits.map(lambda part: resampled(part, config.frames))


def build(config: Config) -> dl.Experiment:
    dl.bounded("--frames", config.frames, at_least=8)
    splits = rows_of(config)
    classes, poses = splits.info.classes, config.data == "jhmdb_pose"
    axes = 2 * poses if config.axes is None else config.axes
    transformer = Transformer(4 * config.width, config.layers, 4, dropout=config.dropout)
    body = transformer if config.model == "transformer" else None
    model = MotionNetwork(len(classes), axes, config.width, config.dropout, body)
    scale = max(float(np.std(splits.train["values"])), 1e-6)
    task = classification(
        model, inputs="values", prepare=lambda x: x / scale, label_smoothing=config.label_smoothing
    )
    augment = [cut_in_time(config.least)]
    if axes >= 2:
        augment.append(turned(config.turn, 0.1, axes))
    if poses:
        augment.append(random_mirror(2, LEFT_AND_RIGHT))
    return config.experiment(
        task,
        dl.train_batches(splits.train, config.batch_size, config.seed, at_most=True),
        augment=tuple(augment),
        usual_epochs=60,
        **dl.held_out(splits, 500),
        select="validation/accuracy",
        classes=classes,
        baselines=lambda: clip_baselines(splits),
    )


if __name__ == "__main__":
    dl.main(Config, build)
