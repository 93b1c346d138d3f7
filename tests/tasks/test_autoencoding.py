"""Autoencoding: squared error and PSNR, denoising, exact evaluation."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from learning import learn

from dl.core import metrics as M
from dl.models.autoencoder import Autoencoder
from dl.models.mlp import MLP
from dl.tasks.autoencoding import autoencoding, gaussian_noise, masking_noise, psnr

MODEL = Autoencoder(MLP((32, 4)), MLP((32, 36)), (6, 6, 1))


def stripes(key, batch=64):
    """Pictures of two numbers: brightness of the left half and of the right."""
    sides = jax.random.uniform(key, (batch, 1, 2, 1)) * 255
    return {"image": jnp.tile(jnp.repeat(sides, 3, axis=2), (1, 6, 1, 1)).astype(jnp.uint8)}


def train(task, steps=150):
    def batches(step):
        return stripes(jax.random.key(step))

    return learn(task, optax.adam(3e-3), batches, steps)[0].variables


def test_it_learns_to_compress():
    task = autoencoding(MODEL)
    metrics = M.compute(jax.jit(task.evaluate)(train(task), stripes(jax.random.key(999))))
    assert metrics["loss"] < 0.005
    assert metrics["psnr"] > 20
    assert "noisy_psnr" not in metrics


def test_it_learns_to_remove_noise():
    task = autoencoding(MODEL, noise=gaussian_noise(0.2))
    metrics = M.compute(jax.jit(task.evaluate)(train(task), stripes(jax.random.key(999))))
    assert abs(metrics["noisy_psnr"] - -20 * np.log10(0.2)) < 0.5
    assert metrics["psnr"] > metrics["noisy_psnr"] + 3


def test_metrics_are_those_of_the_pictures_whatever_the_batch():
    task = autoencoding(MODEL, noise=masking_noise(jnp.float32(0.3)))
    batch = stripes(jax.random.key(0), 6)
    variables = jax.jit(task.init)(jax.random.key(1), batch)
    evaluate = jax.jit(task.evaluate)
    whole = evaluate(variables, {**batch, "mask": jnp.array([1.0] * 4 + [0.0] * 2)})
    parts = [evaluate(variables, {"image": batch["image"][i : i + 2]}) for i in (0, 2)]
    merged = M.merge(*parts)
    for name, (total, weight) in whole.items():
        np.testing.assert_allclose(total, merged[name].total, rtol=1e-5)
        assert weight == merged[name].weight == 4
    x = batch["image"] / 255.0
    clean = autoencoding(MODEL)
    error = jnp.square(clean.predict(variables, batch) - x).mean((1, 2, 3))
    metrics = M.compute(jax.jit(clean.evaluate)(variables, batch))
    np.testing.assert_allclose(metrics["loss"], error.mean(), rtol=1e-5)
    np.testing.assert_allclose(metrics["psnr"], psnr(error).mean(), rtol=1e-5)


def test_masking_noise_has_its_rate():
    spoilt = masking_noise(0.3)(jax.random.key(0), jnp.ones((100, 100)))
    assert abs((spoilt == 0).mean() - 0.3) < 0.02
