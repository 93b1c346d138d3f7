"""Image classification with a small convolutional network, or an imported one (--weights FOLDER).

Data: handwritten digits (embedded, 8x8), MNIST, CIFAR-10 or any labelled image set of TFDS.
Reference: MNIST 99.2 % in the Flax and Keras tutorials.
"""

import dataclasses

import dl
from dl import interop
from dl.core.transforms import initialized_from
from dl.data import load
from dl.data.batches import eval_batches, train_batches
from dl.data.transforms import images as augment
from dl.models.cnn import CNN
from dl.tasks.classification import classification


@dataclasses.dataclass(frozen=True)
class Config(dl.Recipe):
    data: str = "digits"
    """digits, mnist, cifar10, cifar10_jpeg, or tfds:NAME"""
    data_dir: str | None = None
    """folder with one sub-folder a data set"""
    epochs: int = 10
    """passes over the training set; digits takes five times as many, being small"""
    learning_rate: float = 3e-3
    warmup_percent: int = 10
    weight_decay: float = 1e-2
    ema: float | None = 0.99
    weights: str | None = None
    """folder of a ResNet or ViT in Hugging Face's layout, to fine-tune in place of widths and depth"""
    widths: tuple[int, ...] = (24, 48, 96, 192)
    """channels of each stage"""
    depth: int = 1
    """convolutions a stage"""
    dropout: float = 0.1
    """rate before the classifier"""
    label_smoothing: float = 0.05
    mixup: float = 0.0
    """alpha of mixup (Zhang et al. 2018); 0 leaves it out"""
    cutout: int = 0
    """side of the square cut out of training images (DeVries & Taylor 2017)"""


def build(config: Config) -> dl.Experiment:
    splits = load(config.data, config.data_dir).only("image", "label")  # a TFDS set may have more
    classes = len(splits.info.classes)
    height = splits.train["image"].shape[1]
    transforms = [augment.random_crop(padding=max(1, height // 12))]
    if "cifar" in config.data or config.data.startswith("tfds:"):
        transforms.append(augment.random_flip())
    if config.cutout:
        transforms.append(augment.cutout(config.cutout))
    if config.mixup:
        transforms.append(augment.mixup(config.mixup, classes))

    if config.weights is None:
        model = CNN(classes, config.widths, config.depth, config.dropout)
        task = classification(model, label_smoothing=config.label_smoothing)
    else:
        model, given = interop.load(config.weights, classes=classes, dropout=config.dropout)
        prepare = interop.image_preparation(config.weights)
        task = classification(model, prepare=prepare, label_smoothing=config.label_smoothing)
        task = initialized_from(task, given)
    return config.experiment(
        task,
        train_batches(splits.train, config.batch_size, config.seed),
        augment=tuple(transforms),
        epochs=config.epochs * (5 if config.data == "digits" else 1),
        evals={"validation": eval_batches(splits.validation, 500)},
        tests={"test": eval_batches(splits.test, 500)},
        select="validation/accuracy",
        classes=splits.info.classes,
    )


if __name__ == "__main__":
    dl.main(Config, build)
