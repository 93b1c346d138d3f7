"""Self-supervision: an encoder that learns from pictures without labels, by SimCLR or by masked autoencoding.

Data: CIFAR-10, MNIST, other named sets, or your own pictures. --stage pretrain (the default) tells how good the
features are by a linear probe, beside random ones of the same encoder; --stage finetune trains a classifier on a
few labels: from that run with --start runs/NAME, without it from scratch.
After SimCLR (Chen et al. 2020) and masked autoencoders (He et al. 2022).
"""

import dataclasses
from typing import Literal

import jax

import dl
from dl.baselines.majority import on_held
from dl.baselines.pictures import picture_baselines
from dl.baselines.probe import linear_probe
from dl.data.own.pictures import FLIPPED, OwnPictures
from dl.data.splits import labelled
from dl.data.transforms import images
from dl.figures.codes import code_map
from dl.models.pictures import PictureModel, picture_classifier
from dl.models.self_supervised import Projected, masked_autoencoder
from dl.models.vit import ViT
from dl.tasks.classification import classification
from dl.tasks.contrastive import contrastive
from dl.tasks.masked_autoencoding import masked_autoencoding


@dataclasses.dataclass(frozen=True)
class Config(OwnPictures, dl.Recipe):
    data: str = "cifar10_jpeg"
    """a named set (dl data list), tfds:NAME, or your own: a folder a class, or a table of paths"""
    stage: Literal["pretrain", "finetune"] = "pretrain"
    method: Literal["simclr", "mae"] = "simclr"
    """two views of a picture are alike, or hidden patches are told from the others, which takes --model vit"""
    labels: float | None = None
    """share of the training pictures whose labels fine-tuning knows, classes in proportion; by default all of your
    own, and 0.01 of a named set"""
    epochs: float | None = None
    """passes over the pictures; by default 5 to pre-train, and 1,000 steps to fine-tune"""
    batch_size: int = 128
    learning_rate: float = 2e-3
    warmup_percent: int = 10
    weight_decay: float = 1e-3
    ema: float | None = 0.99
    model: PictureModel = "cnn"
    widths: tuple[int, ...] = ()
    """channels a stage, one number for vit and mixer; none takes usual ones"""
    depth: int | None = None
    """layers of a stage; by default usual ones"""
    temperature: float = 0.5
    """what cosines are divided by: the lower, the more the nearest pictures count"""
    crop: float = 0.2
    """share of a picture that a view shows at least; digits need more than things"""
    flip: bool = False
    """mirror views left and right, as those of CIFAR-10 always are"""
    hidden: float = 0.75
    """share of the patches that mae hides"""


def build(config: Config) -> dl.Experiment:
    splits = dl.data.open(config.data, "pictures", config)
    train, few, classes = splits.train, dl.data.take(splits.train, slice(2)), splits.info.classes
    size, flip = few["image"].shape[1:], config.flip or config.data in FLIPPED
    tune = config.stage == "finetune"
    outputs = len(classes) if tune else 0
    widths, depth = config.widths, config.depth
    net = picture_classifier(config.model, outputs, size[:2], widths=widths, depth=depth)
    if tune:
        usual = 1.0 if "own" in splits.info.details else 0.01
        train = labelled(train, usual if config.labels is None else config.labels, classes)
        task = classification(net)
    elif config.method == "simclr":
        view = images.simclr_view(config.crop, 0.4, flip)
        task = contrastive(Projected(net), view, temperature=config.temperature)
    elif isinstance(net, ViT):
        task = masked_autoencoding(masked_autoencoder(net, size), hidden=config.hidden)
    else:
        raise dl.UserError("option-misplaced", "--method mae is of --model vit: say that too")

    def rivals():
        if tune:
            return picture_baselines(dataclasses.replace(splits, train=train))
        fresh = jax.jit(task.init)(jax.random.key(config.seed), few)
        return {"random features": on_held(splits, linear_probe(dl.Predictor(task, fresh), train))}

    def views(predictor):
        held = dl.data.take(splits.validation, slice(2000))
        return {"features": code_map(predictor(held), held["label"])}

    crop, mirror = images.random_crop(max(1, size[0] // 12)), [images.random_flip()] * flip
    return config.experiment(
        task,
        dl.train_batches(train, config.batch_size, config.seed, at_most=True),
        augment=(crop, *mirror) if tune else (),
        usual_epochs=5,
        **dl.held_out(splits, 500),
        select="validation/accuracy" if tune else "validation/probe",
        measure=None if tune else lambda own, *rows: linear_probe(own, train)(*rows),
        views=None if tune else views,
        baselines=rivals,
        classes=classes if tune else (),
    )


if __name__ == "__main__":
    dl.main(Config, build)
