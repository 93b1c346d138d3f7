"""Reconstruct what was seen, or what was hidden by noise."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from dl.core.column_checks import pixels
from dl.core.errors import bounded
from dl.core.metrics import mean
from dl.core.random import content_keys, example_keys, purpose_key
from dl.core.task import Task, in_precision_of
from dl.core.transforms import mean_of_values
from dl.models.autoencoder import Autoencoder
from dl.tasks.supervised import training

Noise = Callable[[jax.Array, jax.Array], jax.Array]  # (key, one example) -> the example, spoilt


def unit_interval(image: jax.Array) -> jax.Array:
    """Pixels 0..255 of any dtype to float32 in [0, 1]."""
    return image.astype(jnp.float32) / 255.0


def gaussian_noise(sd: float | jax.Array) -> Noise:
    """Normal noise of standard deviation ``sd`` added to every value."""
    bounded("the noise's standard deviation", sd, at_least=0)
    return lambda key, x: x + sd * jax.random.normal(key, x.shape, x.dtype)


def masking_noise(rate: float | jax.Array) -> Noise:
    """Each value set to 0 with probability ``rate`` (Vincent et al. 2008)."""
    bounded("rate", rate, at_least=0, at_most=1)
    return lambda key, x: jnp.where(jax.random.uniform(key, x.shape) < rate, 0.0, x).astype(x.dtype)


def psnr(squared_error: jax.Array, peak: float = 1.0) -> jax.Array:
    """Peak signal-to-noise ratio in dB of a mean squared error."""
    return 10.0 * jnp.log10(peak**2 / jnp.maximum(squared_error, 1e-12))


def spoilt(noise: Noise | None, raw: jax.Array, x: jax.Array) -> jax.Array:
    """Examples ``x``, prepared from ``raw``, as evaluation shows them: each with the noise that its own
    contents draw."""
    if noise is None:
        return x
    keys = content_keys(purpose_key(jax.random.key(0), "noise"), raw)
    return jax.vmap(noise)(keys, x)


def autoencoding(
    model: Autoencoder,
    *,
    noise: Noise | None = None,
    inputs: str = "image",
    prepare: Callable[[jax.Array], jax.Array] = unit_interval,
) -> Task:
    """Mean squared error between ``prepare(batch[inputs])`` and its reconstruction.

    Args:
      noise: spoils the input, never the target: a denoising autoencoder (Vincent et al. 2008). In
        evaluation it is drawn from each example's own contents.

    Metrics: ``loss``, squared error a value; ``psnr`` in dB for values in 0..1, averaged over examples;
    with noise also ``noisy_psnr``, the input's, which the model is to exceed.
    """

    def init(key, batch):
        return dict(model.init(key, prepare(batch[inputs])))

    def run(variables, x, **options):
        return model.apply(variables, in_precision_of(variables, x), **options)

    def apply(variables, batch, key):
        """The reconstruction of what was seen, and what was seen."""
        x = prepare(batch[inputs])
        if key is None:
            seen = spoilt(noise, batch[inputs], x)
            return (run(variables, seen), seen), {}
        seen = x if noise is None else jax.vmap(noise)(example_keys(key, len(x)), x)
        outputs, updates = run(variables, seen, train=True, **training(variables, key))
        return (outputs, seen), dict(updates)

    def score(outputs, batch, train):
        (said, seen), x, mask = outputs, prepare(batch[inputs]), batch.get("mask")

        def error(y):
            difference = (y - x).astype(jnp.float32).reshape(len(x), -1)
            return jnp.square(difference).mean(axis=1)

        metrics = {"loss": mean(error(said), mask), "psnr": mean(psnr(error(said)), mask)}
        if noise is not None:
            metrics["noisy_psnr"] = mean(psnr(error(seen)), mask)
        return metrics

    def predict(variables, columns):
        """Reconstructions ``[batch, *shape]``, in the prepared input's units; no noise is added."""
        return run(variables, prepare(columns[inputs]))

    def check(variables, batch, columns):
        if prepare is unit_interval:
            pixels(inputs, columns[inputs])

    return Task(init, apply, score, predict, (inputs,), check, average=mean_of_values)
