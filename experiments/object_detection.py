"""Object detection from scratch and without anchors (FCOS): blood cells, or pictures of your own.

Data: bccd (364 micrographs, boxes around red cells, white cells and platelets), or a folder of COCO, VOC or YOLO.
Reference: mAP at IoU 0.5 of .906 by a pre-trained YOLOv7; .80 is the aim from scratch.
"""

import dataclasses

import dl
from dl.baselines.boxes import usual_boxes
from dl.data.own.boxes import OwnBoxes
from dl.data.transforms import images as augment
from dl.data.transforms import images_with_labels as joint
from dl.figures import pictures
from dl.models.detector import FCOS
from dl.models.resnet import ResNetFeatures
from dl.scores.detection import average_precision
from dl.tasks.detection import detection

STRIDES = (8, 16, 32)


@dataclasses.dataclass(frozen=True)
class Config(OwnBoxes, dl.Recipe):
    data: str = "bccd"
    """bccd, or the path of your folder or JSON file"""
    height: int | None = 240
    """of the pictures given to the network; the full preset is 480"""
    width: int | None = 320
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


def build(config: Config) -> dl.Experiment:
    dl.need("pycocotools.cocoeval", extra="detection", why="average precision")
    splits = dl.data.open(config.data, "boxes", config)
    classes = splits.info.classes
    backbone = ResNetFeatures(config.stages, width=config.backbone_width)
    model = FCOS(len(classes), backbone, STRIDES, config.head_width, config.head_depth)

    def measure(predictor, columns, name):
        return average_precision(predictor(columns), columns["boxes"], columns["label"], classes)

    def views(predictor):
        few = dl.data.take(splits.validation or splits.train, slice(3))
        truth = few["boxes"], few["label"]
        return {"boxes": pictures.detected(few["image"], predictor(few), *truth, classes)}

    return config.experiment(
        detection(model, STRIDES),
        dl.train_batches(splits.train, config.batch_size, config.seed, at_most=True),
        augment=(
            joint.random_flips(0.5, 0.5),
            joint.random_scale(config.low, config.high, stretch=0.2, fill=200.0),
            augment.color_jitter(0.1, 0.2, 0.2),
        ),
        **dl.held_out(splits, 8),
        select="validation/map_50",
        measure=measure,
        baselines=lambda: {"usual boxes": usual_boxes(splits)},
        views=views,
    )


if __name__ == "__main__":
    dl.main(Config, build)
