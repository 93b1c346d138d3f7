"""Variational autoencoder: the likelihood of digits, samples and interpolations.

Data: MNIST, binarised: in training every pixel is drawn anew at every step with its grey value as the
probability; in evaluation once for each picture, from its own contents.
Reference: 86.76 nats by 5,000 importance samples, one stochastic layer (Burda et al. 2016, table 1).
"""

import dataclasses
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

import dl
from dl.data.splits import shuffled
from dl.figures.codes import code_map, strips
from dl.models.mlp import mirrored
from dl.models.vae import VAE, interpolate
from dl.tasks.variational import bernoulli, gaussian, variational


@dataclasses.dataclass(frozen=True)
class Config(dl.Recipe):
    data: str = "mnist"
    """digits, mnist, or tfds:NAME"""
    optimizer: dl.OptimizerName = "adam"
    ema: float | None = 0.999
    clip: float | None = None
    epochs: int = 60
    """passes over the training set"""
    batch_size: int = 128
    latent: int = 40
    """length of the code"""
    widths: tuple[int, ...] = (512, 512)
    """of the encoder's hidden layers; the decoder mirrors them"""
    beta: float = 1.0
    """weight of the divergence in training (Higgins et al. 2017)"""
    particles: int = 1
    """codes an example in training; more tighten the bound (Burda et al. 2016)"""
    deviation: float | None = None
    """standard deviation of a Gaussian likelihood of grey values; left out, pixels are binarised"""
    samples: int = 5000
    """importance samples an example, on the test set"""
    rows: int = 1000
    """test examples for which they are drawn, spread evenly; all 10,000 take minutes"""


def build(config: Config) -> dl.Experiment:
    for name in ("samples", "rows"):  # first used when all is trained
        dl.bounded(f"--{name}", getattr(config, name), at_least=1)
    splits = dl.load(config.data)
    images, shape = splits.only("image"), splits.train["image"].shape[1:]
    model = VAE(*mirrored(config.widths, 2 * config.latent, math.prod(shape)), shape)
    binarize = config.deviation is None
    likelihood = bernoulli if config.deviation is None else gaussian(config.deviation)
    seen: Any = {"likelihood": likelihood, "binarize": binarize}
    task = variational(model, **seen, beta=config.beta, particles=config.particles)
    many = variational(model, **seen, importance=config.samples)
    exact = dataclasses.replace(many, predict=lambda v, x: many.apply(v, x, None)[0]["nll"])

    def measure(predictor, columns, name):
        if name != "test":
            return {}
        rows = np.sort(shuffled(len(columns["image"]), 0)[: config.rows])
        nll = dl.Predictor(exact, predictor.variables, batch_size=250)(columns["image"][rows])
        return {"nll": float(nll.mean())}

    def picture(code, variables):
        outputs = jnp.asarray(model.apply(variables, code, method="decode"))
        return nn.sigmoid(outputs) if binarize else jnp.clip(outputs, 0.0, 1.0)

    def views(predictor):
        variables, held = predictor.variables, splits.validation
        codes = model.apply(variables, held["image"] / np.float32(255), method="encode")[0]
        ends = codes[:: len(codes) // 12][:12].reshape(6, 2, -1)
        paths = [picture(interpolate(a, b, 12), variables) for a, b in ends]
        noise = jax.random.normal(jax.random.key(0), (100, config.latent))
        return {
            "samples": np.asarray(picture(noise, variables)),
            "interpolations": strips(*paths),
            "codes": code_map(codes, held["label"]),
        }

    return config.experiment(
        task,
        dl.train_batches(images.train, config.batch_size, config.seed),
        **dl.held_out(images, 500),
        select="-validation/loss",
        measure=measure,
        views=views,
    )


if __name__ == "__main__":
    dl.main(Config, build)
