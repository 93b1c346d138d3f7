"""Diffusion: pictures made of noise by a network that learned to take it away, by flow matching or by DDPM.

Data: MNIST, or your own pictures, a folder a class. The distance is Fréchet's in the features of gan.py's judge;
beside it its floor, as many real training pictures against the same held-out ones. Against copies: how far the
nearest training picture is from a sample, and from a real new picture.
"""

import dataclasses
from typing import Literal

import jax
import numpy as np

import dl
from dl.data.own.pictures import OwnPictures
from dl.data.splits import shuffled
from dl.figures.codes import strips
from dl.models.diffusion import DiffusionUNet
from dl.scores.frechet import copying, nearest
from dl.tasks import diffusion as paths
from dl.training.cached import FrechetJudge


@dataclasses.dataclass(frozen=True)
class Config(OwnPictures, dl.Recipe):
    data: str = "mnist"
    """mnist, another named set, or a folder of your pictures, a folder a class; sides that can be halved twice"""
    path: Literal["flow", "ddpm"] = "flow"
    """a straight line from picture to noise (flow matching), or one along which the variance stays"""
    steps: int = 5000
    optimizer: dl.OptimizerName = "adam"
    learning_rate: float = 2e-3
    ema: float | None = 0.998
    widths: tuple[int, ...] = (32, 64)
    """channels of each resolution, the finest first"""
    patch: int = 2
    """squares of so many pixels a side are one place of the network, which makes it cheap"""
    sampling: int = 10
    """steps from noise to a picture: DDIM's of ddpm, Euler's of flow"""
    heun: bool = False
    """look twice at every step (Heun's method): half as many then cost as much"""
    guidance: float = 1.0
    """0 draws without the label, 1 with it; more exaggerates what it changes, for a second look at every step"""
    samples: int = 10000
    """pictures compared on the test set, or as many as are held out"""
    glances: int = 1000
    """pictures compared at every evaluation on the way"""


@dl.prepared
def jury(config: Config) -> FrechetJudge:
    return FrechetJudge(dl.data.open(config.data, "pictures", config), config.samples, epochs=3)


def build(config: Config) -> dl.Experiment:
    for name in ("samples", "glances"):  # first used when some is trained
        dl.bounded(f"--{name}", getattr(config, name), at_least=1)
    splits = dl.data.open(config.data, "pictures", config)
    train, classes = splits.train, splits.info.classes
    model = DiffusionUNet(config.widths, len(classes), patch=config.patch)
    path = getattr(paths, config.path)
    sampler = paths.Sampler(config.sampling, config.heun, config.guidance)
    task = paths.diffusion(model, path, sampler)

    def asked(label):
        shape = (len(label), *train["image"].shape[1:])
        return {"noise": jax.random.normal(jax.random.key(1), shape), "label": label}

    def measure(predictor, columns, name):
        """Of as many pictures of each class as training has."""
        count = jury(config).rows(name) if name == "test" else config.glances
        rows = np.resize(shuffled(len(train["label"]), 1), count)
        fake, few = predictor(asked(train["label"][rows])), slice(config.glances)
        copies = copying(fake[few] * 127.5 + 127.5, columns["image"][few], train["image"])
        return jury(config).scores(name, fake) | copies

    def views(predictor):
        each = asked(np.repeat(np.arange(len(classes), dtype=np.int32), 10))
        fake, first = predictor(each) / 2 + 0.5, slice(None, None, 10)
        like = train["image"][nearest(fake[first] * 255, train["image"])[0]]
        way = dataclasses.replace(
            predictor, task=paths.on_the_way(task, model, path, sampler), program=None
        )
        return {
            "samples": strips(*fake.reshape(-1, 10, *fake.shape[1:])),
            "steps": strips(*(np.clip(x[0] / 2 + 0.5, 0, 1) for x in way(each))),
            "nearest": strips(fake[first], like / np.float32(255)),
        }

    return config.experiment(
        task,
        dl.train_batches(train, config.batch_size, config.seed, at_most=True),
        **dl.held_out(splits, 500),
        select="-validation/frechet",
        measure=measure,
        views=views,
    )


if __name__ == "__main__":
    dl.main(Config, build)
