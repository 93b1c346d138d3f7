"""Autoencoder: dimensionality reduction and denoising, beside principal components.

Data: MNIST or any image set; reference: PCA of the same code size, fitted on the same training rows.
"""

import dataclasses
import functools
import math

import jax
import numpy as np

import dl
from dl.data import load
from dl.data.batches import eval_batches, train_batches
from dl.figures.codes import code_map, strips
from dl.models.autoencoder import Autoencoder
from dl.models.mlp import MLP
from dl.tasks.autoencoding import autoencoding, gaussian_noise, psnr, spoilt, unit_interval


@dataclasses.dataclass(frozen=True)
class Config(dl.Recipe):
    data: str = "mnist"
    """digits, mnist, cifar10, cifar10_jpeg, or tfds:NAME"""
    data_dir: str | None = None
    """folder with one sub-folder a data set"""
    epochs: int = 30
    """passes over the training set"""
    batch_size: int = 128
    code: int = 32
    """length of the code; 2 gives a map without a projection"""
    widths: tuple[int, ...] = (512, 256)
    """of the encoder's hidden layers; the decoder mirrors them"""
    noise: float | None = None
    """standard deviation of noise to be removed, for pixels in 0..1"""
    learning_rate: float = 2e-3
    ema: float | None = 0.999
    clip: float | None = None


@functools.cache
def principal_components(data: str, data_dir: str | None, code: int):
    """PCA's ``x [n, values] -> reconstruction`` from the training rows."""
    from sklearn.decomposition import PCA

    x = np.asarray(load(data, data_dir).train["image"], np.float32) / 255
    pca = PCA(code, svd_solver="covariance_eigh").fit(x.reshape(len(x), -1))
    return lambda x: pca.inverse_transform(pca.transform(x.reshape(len(x), -1))).reshape(x.shape)


def build(config: Config) -> dl.Experiment:
    splits = load(config.data, config.data_dir)
    images, shape = splits.only("image"), splits.train["image"].shape[1:]
    model = Autoencoder(
        MLP((*config.widths, config.code), jax.nn.gelu),
        MLP((*config.widths[::-1], math.prod(shape)), jax.nn.gelu),
        shape,
    )
    noise = None if config.noise is None else gaussian_noise(config.noise)
    task = autoencoding(model, noise=noise)

    def seen(image):
        return np.asarray(spoilt(noise, image, unit_interval(image)))

    def measure(variables, name):
        image = getattr(splits, name)["image"]
        found = principal_components(config.data, config.data_dir, config.code)(seen(image))
        error = np.square(found - image / np.float32(255)).mean((1, 2, 3))
        return {"pca_loss": float(error.mean()), "pca_psnr": float(psnr(error).mean())}

    def views(variables):
        image, label = splits.validation["image"], splits.validation["label"]
        few = image[:: len(image) // 12][:12]
        codes = np.asarray(model.apply(variables, seen(image), method="encode"))
        again = np.asarray(model.apply(variables, seen(few)))
        return {"strips": strips(few / 255, seen(few), again), "codes": code_map(codes, label)}

    return config.experiment(
        task,
        train_batches(images.train, config.batch_size, config.seed),
        epochs=config.epochs,
        evals={"validation": eval_batches(images.validation, 500)},
        tests={"test": eval_batches(images.test, 500)},
        select="-validation/loss",
        measure=measure,
        views=views,
    )


if __name__ == "__main__":
    dl.main(Config, build)
