"""The scripts that wait for an accelerator run, at tiny size, where there is none."""

import importlib.util
from pathlib import Path

import jax
import numpy as np
import pytest

FOLDER = Path(__file__).parent / "benchmarks"


def script(name):
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_gpt2_at_tiny_size(capsys):
    gpt2 = script("gpt2")
    found = gpt2.main(["--size", "tiny", "--batch", "4", "--steps", "2"])
    assert np.isfinite(found["loss"])
    said = capsys.readouterr().out
    assert "tokens/s" in said
    if jax.default_backend() == "cpu":
        assert "no accelerator is here" in said
    # nanoGPT's count: 124 M parameters, context 1,024
    assert gpt2.flops_a_token(124_000_000, 12, 768, 1024) == pytest.approx(8.57e8, rel=1e-3)


@pytest.mark.slow
def test_cifar94_at_tiny_size(capsys):
    cifar = script("cifar94")
    (accuracy,) = cifar.main(["--tiny", "--runs", "1", "--epochs", "2"])
    assert 0 <= accuracy <= 1
    assert "in" in capsys.readouterr().out


def test_cifar94s_pictures_are_mirrored_every_other_epoch():
    cifar = script("cifar94")
    images = np.random.default_rng(0).integers(0, 256, (8, 4, 4, 3), np.uint8)
    batches = cifar.Alternating(cifar.train_batches({"image": images}, 8))
    for row in range(8):
        seen = []
        for epoch in range(4):
            place = int(np.flatnonzero(np.asarray(batches.indices(epoch)) == row)[0])
            seen.append(np.asarray(batches[epoch]["image"][place]))
        assert np.array_equal(seen[0], seen[2])
        assert np.array_equal(seen[0], seen[1][:, ::-1])


def test_cifar94s_whitening_whitens():
    cifar = script("cifar94")
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (64, 8, 8, 3)) // 4 * rng.integers(1, 4, (64, 1, 1, 1))
    kernel = cifar.whitening(images)
    out = jax.lax.conv_general_dilated(
        cifar.normal(images),
        kernel[..., :12],
        (1, 1),
        "VALID",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    covariance = np.cov(np.asarray(out).reshape(-1, 12).T)
    np.testing.assert_allclose(covariance, np.eye(12), atol=0.05)
