"""GAN: digits from noise, compared with real ones by the features of a classifier trained beside it.

Data: MNIST. The distance is Fréchet's between normal distributions fitted to that judge's features of
generated and of real held-out pictures (not FID: the judge is no Inception network). Beside it stands
its floor: as many real training pictures against the same held-out ones.
"""

import dataclasses
import functools
from typing import Literal

import jax
import numpy as np

import dl
from dl.core.errors import bounded
from dl.core.state import digest
from dl.data import load
from dl.data.batches import eval_batches, train_batches
from dl.data.splits import shuffled
from dl.models.cnn import CNN
from dl.models.gan import GAN, Discriminator, Generator
from dl.models.layers import Dropout
from dl.scores.frechet import class_coverage, frechet_distance
from dl.tasks.adversarial import adversarial, hinge, non_saturating, players, wasserstein
from dl.tasks.classification import classification, unit_range
from dl.training.cached import train_cached
from dl.training.prediction import in_pieces

OBJECTIVES = {"non_saturating": non_saturating, "hinge": hinge, "wasserstein": wasserstein}


@dataclasses.dataclass(frozen=True)
class Config:
    data: str = "mnist"
    """mnist, or another set of pictures whose sides can be halved twice"""
    data_dir: str | None = None
    """folder with one sub-folder a data set"""
    seed: int = 0
    """of initialisation, data order and noise"""
    objective: Literal["non_saturating", "hinge", "wasserstein"] = "non_saturating"
    """the first two with spectral norm; wasserstein with a gradient penalty instead (WGAN-GP)"""
    steps: int = 5000
    """of the discriminator, and of the generator unless critic_steps is more"""
    batch_size: int = 64
    latent: int = 64
    """length of the noise"""
    widths: tuple[int, ...] = (64, 32)
    """the generator's channels, the smallest picture first"""
    critic_widths: tuple[int, ...] = (32, 64)
    """the discriminator's channels, the largest picture first"""
    critic_steps: int = 1
    """discriminator steps for each of the generator; 5 in Gulrajani et al. 2017"""
    gradient_penalty: float = 10.0
    """its weight, for wasserstein"""
    learning_rate: float = 5e-4
    """the generator's"""
    critic_rate: float = 5e-4
    """the discriminator's"""
    samples: int = 10000
    """pictures compared on each side, or as many as are held out"""
    judge_epochs: int = 3
    """passes of the judge over the training set"""


@functools.cache
def judge(data: str, data_dir: str | None, epochs: int):
    """``pictures in -1..1 -> (features [n, 64], classes [n])`` of a classifier trained once, its digest."""
    train = train_batches(load(data, data_dir).train, 128)
    model = CNN(int(train.arrays["label"].max()) + 1, (16, 32, 64))
    recipe = dl.Recipe(learning_rate=3e-3, warmup_percent=10, clip=None)
    variables = train_cached(recipe.experiment(classification(model), train, epochs=epochs))

    @jax.jit
    def look(pictures):
        pooled = lambda module, _: isinstance(module, Dropout)  # noqa: E731 (what the last layer reads)
        logits, seen = model.apply(variables, pictures, capture_intermediates=pooled)
        return jax.tree.leaves(seen)[0], logits.argmax(-1)

    return functools.partial(in_pieces, look), digest(variables)


@functools.cache
def real(data: str, data_dir: str | None, epochs: int, name: str, count: int):
    """The judge's features of that many pictures of the set ``name``."""
    image = getattr(load(data, data_dir), name)["image"]
    rows = np.sort(shuffled(len(image), 0)[:count])
    return judge(data, data_dir, epochs)[0](unit_range(image[rows]))[0]


def build(config: Config) -> dl.Experiment:
    bounded("--samples", config.samples, at_least=1)
    splits = load(config.data, config.data_dir)
    images, shape = splits.only("image"), splits.train["image"].shape[1:]
    wgan = config.objective == "wasserstein"
    model = GAN(
        Generator(shape, config.widths),
        Discriminator(config.critic_widths, spectral=not wgan),
        config.latent,
    )
    task = adversarial(
        model,
        OBJECTIVES[config.objective],
        gradient_penalty=config.gradient_penalty if wgan else 0.0,
    )
    generate = jax.jit(task.predict)
    judged = config.data, config.data_dir, config.judge_epochs

    def measure(variables, name):
        count = min(config.samples, len(getattr(splits, name)["image"]))
        noise = model.noise(jax.random.key(1), count)
        fake = in_pieces(functools.partial(generate, variables), noise)
        features, classes = judge(*judged)[0](fake)
        held_out = real(*judged, name, count)
        return {
            "frechet": frechet_distance(features, held_out),
            "frechet_floor": frechet_distance(real(*judged, "train", count), held_out),
            **class_coverage(classes, len(splits.info.classes)),
        }

    def views(variables):
        fake = generate(variables, model.noise(jax.random.key(1), 100))
        return {"samples": np.asarray(fake) / 2 + 0.5, "judge": judge(*judged)[1]}

    return dl.Experiment(
        task=task,
        data=train_batches(images.train, config.batch_size, config.seed),
        optimizer=players(
            dl.optimizer("adam", config.learning_rate, b1=0.5, b2=0.99),
            dl.optimizer("adam", config.critic_rate, b1=0.5, b2=0.99),
            critic_steps=config.critic_steps,
        ),
        steps=config.steps,
        seed=config.seed,
        evals={"validation": eval_batches(images.validation, 500)},
        tests={"test": eval_batches(images.test, 500)},
        select="-validation/frechet",
        ema=0.999,
        measure=measure,
        views=views,
    )


if __name__ == "__main__":
    dl.main(Config, build)
