"""Object detection from scratch and without anchors (FCOS): blood cells.

Data: bccd (364 micrographs with boxes around red cells, white cells and platelets; official lists).
Reference: mAP at IoU 0.5 of .906 by a pre-trained YOLOv7; .80 is the aim from scratch.
"""

import dataclasses
import functools

import jax

import dl
from dl.core.errors import need
from dl.data import load
from dl.data.batches import eval_batches, train_batches
from dl.data.sets import annotated
from dl.data.transforms import images as augment
from dl.data.transforms import images_with_labels as joint
from dl.figures import pictures
from dl.models.detector import FCOS
from dl.models.resnet import ResNetFeatures
from dl.scores.detection import average_precision
from dl.tasks.detection import detection
from dl.training.prediction import predict_all

STRIDES = (8, 16, 32)


@dataclasses.dataclass(frozen=True)
class Config(dl.Recipe):
    data_dir: str | None = None
    """folder with one sub-folder a data set"""
    height: int = 240
    """of the pictures given to the network; the full preset is 480"""
    width: int = 320
    """the full preset is 640"""
    stages: tuple[int, ...] = (1, 1, 1, 1)
    """residual blocks of each stage; the full preset is 2 2 2 2"""
    backbone_width: int = 16
    """channels of the first stage; the full preset is 64"""
    head_width: int = 48
    """the full preset is 128"""
    head_depth: int = 2
    """convolutions before each output"""
    epochs: int = 40
    batch_size: int = 8
    learning_rate: float = 2e-3
    warmup_percent: int = 7
    weight_decay: float = 1e-2
    low: float = 0.7
    """smallest zoom in training"""
    high: float = 1.4
    """largest"""
    ema: float | None = 0.99


@functools.cache
def prepare(data_dir, height, width):
    """(class names, {set: pictures and boxes of that size})."""
    splits = load("bccd", data_dir)
    parts = {name: getattr(splits, name) for name in ("train", "validation", "test")}
    return splits.info.classes, {
        name: annotated.resize({c: part[c] for c in ("image", "boxes", "label")}, height, width)
        for name, part in parts.items()
    }


def build(config: Config) -> dl.Experiment:
    need("pycocotools.cocoeval", extra="detection", why="average precision")
    classes, parts = prepare(config.data_dir, config.height, config.width)
    sets = {name: eval_batches(parts[name], 8) for name in ("validation", "test")}
    backbone = ResNetFeatures(config.stages, width=config.backbone_width)
    model = FCOS(len(classes), backbone, STRIDES, config.head_width, config.head_depth)
    task = detection(model, STRIDES)
    predict = jax.jit(task.predict)

    def measure(variables, name):
        found = predict_all(predict, variables, sets[name], "image")
        return average_precision(found, parts[name]["boxes"], parts[name]["label"], classes)

    def views(variables):
        first = {name: column[:3] for name, column in parts["validation"].items()}
        found = jax.device_get(predict(variables, first["image"]))
        return {
            "boxes": pictures.detected(
                first["image"], found, first["boxes"], first["label"], classes
            )
        }

    return config.experiment(
        task,
        train_batches(parts["train"], config.batch_size, config.seed),
        augment=(
            joint.random_flips(0.5, 0.5),
            joint.random_scale(config.low, config.high, stretch=0.2, fill=200.0),
            augment.color_jitter(0.1, 0.2, 0.2),
        ),
        epochs=config.epochs,
        evals={"validation": sets["validation"]},
        tests={"test": sets["test"]},
        select="validation/map_50",
        measure=measure,
        views=views,
    )


if __name__ == "__main__":
    dl.main(Config, build)
