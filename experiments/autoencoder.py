"""Autoencoder: dimensionality reduction and denoising, beside principal components.

Data: MNIST or any image set; reference: PCA of the same code size, fitted on the same training rows.
"""

import dataclasses
import math

import numpy as np

import dl
from dl.baselines.components import reconstruction
from dl.figures.codes import code_map, strips
from dl.models.autoencoder import Autoencoder
from dl.models.mlp import mirrored
from dl.tasks.autoencoding import autoencoding, gaussian_noise, psnr, spoilt, unit_interval


@dataclasses.dataclass(frozen=True)
class Config(dl.Recipe):
    data: str = "mnist"
    """digits, mnist, cifar10, cifar10_jpeg, or tfds:NAME"""
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


@dl.prepared
def principal_components(config: Config):
    return reconstruction(dl.load(config.data).train["image"], config.code)


def build(config: Config) -> dl.Experiment:
    splits = dl.load(config.data)
    images, shape = splits.only("image"), splits.train["image"].shape[1:]
    model = Autoencoder(*mirrored(config.widths, config.code, math.prod(shape)), shape)
    noise = None if config.noise is None else gaussian_noise(config.noise)
    task = autoencoding(model, noise=noise)

    def seen(image):
        return np.asarray(spoilt(noise, image, unit_interval(image)))

    def measure(predictor, columns, name):
        image = columns["image"]
        found = principal_components(config)(seen(image))
        error = np.square(found - image / np.float32(255)).mean((1, 2, 3))
        return {"pca_loss": float(error.mean()), "pca_psnr": float(psnr(error).mean())}

    def views(predictor):
        image, label = splits.validation["image"], splits.validation["label"]
        few = image[:: len(image) // 12][:12]
        codes = np.asarray(model.apply(predictor.variables, seen(image), method="encode"))
        again = np.asarray(model.apply(predictor.variables, seen(few)))
        return {"strips": strips(few / 255, seen(few), again), "codes": code_map(codes, label)}

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
