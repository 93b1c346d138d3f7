"""GAN: digits from noise, compared with real ones by the features of a classifier trained beside it.

Data: MNIST. The distance is Fréchet's between normal distributions fitted to that judge's features of
generated and of real held-out pictures (not FID: the judge is no Inception network). Beside it stands
its floor: as many real training pictures against the same held-out ones.
"""

import dataclasses
import functools
from typing import Literal

import jax

import dl
from dl.models.gan import GAN, Discriminator, Generator
from dl.tasks import adversarial as game
from dl.training.cached import FrechetJudge


@dataclasses.dataclass(frozen=True)
class Config:
    data: str = "mnist"
    """mnist, or another set of pictures whose sides can be halved twice"""
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


@dl.prepared
def jury(config: Config) -> FrechetJudge:
    return FrechetJudge(dl.load(config.data), config.samples, config.judge_epochs)


def build(config: Config) -> dl.Experiment:
    dl.bounded("--samples", config.samples, at_least=1)
    splits, wgan = dl.load(config.data), config.objective == "wasserstein"
    images, shape = splits.only("image"), splits.train["image"].shape[1:]
    critic = Discriminator(config.critic_widths, spectral=not wgan)
    model = GAN(Generator(shape, config.widths), critic, config.latent)
    objective, penalty = getattr(game, config.objective), config.gradient_penalty if wgan else 0.0
    adam = functools.partial(dl.optimizer, "adam", b1=0.5, b2=0.99)
    both = adam(config.learning_rate), adam(config.critic_rate)

    def measure(predictor, columns, name):
        noise = model.noise(jax.random.key(1), jury(config).rows(name))
        return jury(config).scores(name, predictor(noise))

    def views(predictor):
        fake = predictor(model.noise(jax.random.key(1), 100))
        return {"samples": fake / 2 + 0.5, "judge": jury(config).digest}

    return dl.Experiment(
        task=game.adversarial(model, objective, gradient_penalty=penalty),
        data=dl.train_batches(images.train, config.batch_size, config.seed),
        optimizer=game.players(*both, critic_steps=config.critic_steps),
        steps=config.steps,
        seed=config.seed,
        **dl.held_out(images, 500),
        select="-validation/frechet",
        ema=0.999,
        measure=measure,
        views=views,
    )


if __name__ == "__main__":
    dl.main(Config, build)
