"""Few labels: a classifier with and without pictures that a GAN generates, or with pictures that have no label.

Data: MNIST, 1 % of its labels. A conditional GAN learns from the labelled pictures, or with --unlabelled from all
under the labels that a classifier of the few guesses; what it draws joins the training set (--generated 0: none).
--consistency learns from the pictures without labels themselves (FixMatch, Sohn et al. 2020).
"""

import dataclasses

import jax
import numpy as np

import dl
from dl.data.splits import hold_out
from dl.data.transforms import images as augment
from dl.data.transforms.policies import rand_augment
from dl.models.cnn import CNN
from dl.models.gan import GAN, Discriminator, Generator
from dl.tasks.adversarial import adversarial, hinge, players
from dl.tasks.classification import classification
from dl.tasks.consistency import UNKNOWN, consistent
from dl.training.cached import train_cached


@dataclasses.dataclass(frozen=True)
class Config(dl.Recipe):
    data: str = "mnist"
    """mnist, or another labelled set of pictures whose sides can be halved twice"""
    labelled: int = 550
    """labels there are, classes in proportion"""
    choice: int = 0
    """seed of which rows are labelled, and of the generator"""
    unlabelled: bool = False
    """let the generator see all pictures, under guessed labels where there are none"""
    generated: int = 5500
    """generated pictures that join the training set; 0 is the baseline"""
    consistency: bool = False
    """learn from the pictures without labels in place of generated ones: a class that the network is sure of must
    hold for a changed picture too"""
    gan_steps: int = 3000
    widths: tuple[int, ...] = (24, 48, 96)
    """the classifier's channels; half as many for the generator"""
    steps: int = 2000
    """of the classifier"""
    learning_rate: float = 3e-3
    warmup_percent: int = 10
    weight_decay: float = 1e-2
    label_smoothing: float | None = None
    """by default 0.05, and none with --consistency, where a network told to be unsure is never sure"""
    ema: float | None = 0.99


def classifier(config: Config, train, classes, **options) -> dl.Experiment:
    """The same training with and without generated pictures."""
    usual = 0.0 if config.consistency else 0.05
    smoothing = usual if config.label_smoothing is None else config.label_smoothing
    task = classification(CNN(len(classes), config.widths), label_smoothing=smoothing)
    if config.consistency:
        task = consistent(task, rand_augment())
    return config.experiment(
        task,
        dl.train_batches(train, config.batch_size, config.seed),
        augment=(augment.random_crop(padding=max(1, train["image"].shape[1] // 12)),),
        classes=classes,
        **options,
    )


@dl.prepared
def training_set(config: Config):
    """The labelled rows and the generated ones. These fields alone make them: others may be traced."""
    known = "data labelled choice unlabelled generated consistency gan_steps widths steps"
    plain = Config(**{name: getattr(config, name) for name in (*known.split(), "batch_size")})
    splits = dl.load(plain.data).only("image", "label")
    classes, label = splits.info.classes, splits.train["label"]
    _, rows = hold_out(len(label), plain.labelled, plain.choice, label)
    seen = few = dl.data.take(splits.train, rows)
    if plain.consistency:  # one row of eight has a label
        unknown = np.full_like(label, UNKNOWN)
        again = np.resize(rows, len(label) // 7)
        every = np.concatenate([splits.train["image"], splits.train["image"][again]])
        return {"image": every, "label": np.append(unknown, label[again])}
    if not plain.generated:
        return few
    if plain.unlabelled:
        first = classifier(dataclasses.replace(plain, seed=plain.choice), few, classes)
        guess, image = dl.Predictor(first.task, train_cached(first)), splits.train["image"]
        labels = guess(image).argmax(-1).astype(np.int32)
        labels[rows] = few["label"]
        seen = {"image": image, "label": labels}

    small = tuple(width // 2 for width in plain.widths[1:])
    generator = Generator(few["image"].shape[1:], small[::-1], len(classes))
    model = GAN(generator, Discriminator(small, spectral=True, classes=len(classes)), latent=64)
    rate = dl.optimizer("adam", 5e-4, b1=0.5, b2=0.99)
    task = adversarial(model, hinge, label="label")
    data = dl.train_batches(seen, 64, plain.choice, at_most=True)
    gan = dl.Experiment(task, data, players(rate, rate), plain.gan_steps, plain.choice, ema=0.999)
    noise = model.noise(jax.random.key(plain.choice), plain.generated)
    wanted = np.arange(plain.generated, dtype=np.int32) % len(classes)
    image = dl.Predictor(task, train_cached(gan))({"noise": noise, "label": wanted})
    drawn = {"image": np.uint8(np.round(image * 127.5 + 127.5)), "label": wanted}
    return {name: np.concatenate([few[name], drawn[name]]) for name in few}


def build(config: Config) -> dl.Experiment:
    splits = dl.load(config.data).only("image", "label")
    train = training_set(config)
    return classifier(
        config,
        train,
        splits.info.classes,
        **dl.held_out(splits, 500),
        select="validation/accuracy",
        views=lambda predictor: {"training": train["image"][-100:] / np.float32(255)},
    )


if __name__ == "__main__":
    dl.main(Config, build)
