"""Image classification by a small convolutional network, one of another --model, or an imported one (--weights).

Data: handwritten digits (embedded, 8x8), MNIST, CIFAR-10, labelled image sets of TFDS, or your own pictures.
Reference: MNIST 99.2 % in the Flax and Keras tutorials. After ResNet (He et al. 2016), ConvNeXt (Liu et al. 2022),
ViT (Dosovitskiy et al. 2021), MLP-Mixer (Tolstikhin et al. 2021).
"""

import dataclasses
from typing import Any

import flax.linen as nn
import jax

import dl
from dl.baselines.pictures import picture_baselines
from dl.data.own.pictures import FLIPPED, OwnPictures, random_parts
from dl.data.transforms.policies import Augmented
from dl.models.convolution import Conv, max_pool
from dl.models.layers import Dropout
from dl.models.pictures import PictureModel, picture_classifier
from dl.scores.two_classes import two_class_measure
from dl.tasks.classification import classification, unit_range


@dataclasses.dataclass(frozen=True)
class Config(OwnPictures, Augmented, dl.Recipe):
    data: str = "digits"
    """digits, mnist, cifar10, ... (dl data list), tfds:NAME, or a path: a folder a class, or a table of paths"""
    epochs: int | None = None
    """passes over the training set; by default 10, or more until a small set is trained for 1,000 steps"""
    learning_rate: float = 3e-3
    warmup_percent: int = 10
    weight_decay: float = 1e-2
    ema: float | None = 0.99
    weights: str | None = None
    """folder of a ResNet or ViT in Hugging Face's layout, to fine-tune in place of the next four fields"""
    model: PictureModel = "cnn"
    """cnn and resnet suit small sets; vit and mixer read patches, and need more pictures or epochs"""
    widths: tuple[int, ...] = ()
    """channels a stage, one number for vit and mixer; none takes 24 48 96 192 of cnn, 32 64 128 256 of resnet,
    32 64 128 of convnext, 64 of vit and mixer"""
    depth: int | None = None
    """layers, or of cnn, resnet and convnext those a stage; by default 1, in convnext 2, in vit and mixer 6"""
    patch: int | None = None
    """pixels of a patch's side in convnext, vit and mixer; by default so many that few patches are left"""
    dropout: float = 0.1
    """rate before the classifier; in vit and mixer after every layer's branches"""
    label_smoothing: float = 0.05
    resized_crop: bool = False
    """see a random part of each picture, half of them mirrored, in place of small shifts, as usual for ImageNet
    (Szegedy et al. 2015); for pictures that --stream"""
    balance: bool = False
    """show training as many pictures of each class, however rare it is"""


class CNN(nn.Module):
    """Stages of 3x3 convolutions, each at half the size of the one before; the classifier reads their mean."""

    classes: int
    widths: tuple[int, ...]
    depth: int
    dropout: float | jax.Array

    @nn.compact
    def __call__(self, x, *, train: bool = False):
        for stage, width in enumerate(self.widths):
            if stage > 0:
                x = max_pool(x, (2, 2), strides=(2, 2))
            for _ in range(self.depth):
                x = Conv(width, (3, 3), use_bias=False)(x)
                x = nn.relu(nn.BatchNorm(use_running_average=not train, momentum=0.9)(x))
        x = Dropout(self.dropout)(x.mean((1, 2)), train=train)
        return nn.Dense(self.classes)(x)


def build(config: Config) -> dl.Experiment:
    splits = dl.data.open(config.data, "pictures", config)
    classes, held = len(splits.info.classes), splits.validation
    height, width = dl.data.take(splits.train, slice(1))["image"].shape[1:3]
    train = random_parts(splits.train) if config.resized_crop else splits.train
    flip = config.data in FLIPPED or config.data.startswith("tfds:")
    balance = "label" if config.balance else None
    design: Any = {"widths": config.widths, "depth": config.depth, "patch": config.patch}
    if config.weights is None:
        of, given, prepare = (config.model, classes, (height, width)), None, unit_range
        model = picture_classifier(*of, **design, dropout=config.dropout)
        if config.model == "cnn":
            model = CNN(classes, model.widths, model.depth, config.dropout)
    elif config.model != "cnn" or any(design.values()):
        said = "--weights brings its network: leave --model, --widths, --depth and --patch out"
        raise dl.UserError("option-misplaced", said)
    else:
        model, given = dl.interop.load(config.weights, classes=classes, dropout=config.dropout)
        prepare = dl.interop.image_preparation(config.weights)
    task = classification(model, prepare=prepare, label_smoothing=config.label_smoothing)
    return config.experiment(
        dl.initialized_from(task, given),
        dl.train_batches(train, config.batch_size, config.seed, balance, at_most=True),
        augment=config.transforms(height, classes, flip, crop=not config.resized_crop),
        usual_epochs=10,
        **dl.held_out(splits, max(1, 500 * 32**2 // max(height * width, 32**2))),
        select="validation/accuracy",
        classes=splits.info.classes,
        measure=two_class_measure(held, dl.data.known(held)) if classes == 2 else None,
        baselines=lambda: picture_baselines(splits),
    )


if __name__ == "__main__":
    dl.main(Config, build)
