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


def test_cifar94s_statistics_go_back_to_their_average_with_the_weights():
    cifar = script("cifar94")
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (64, 32, 32, 3), np.uint8)
    part = {"image": images, "label": rng.integers(0, 10, 64).astype(np.int32)}
    experiment = cifar.build(part, part, 0, 32, 3.0, (8, 8, 8))
    task, batch = experiment.task, experiment.data[0]
    variables = task.init(jax.random.key(0), batch)
    begun = variables["batch_stats"]
    for step in range(5):
        _, updates = task.apply(variables, batch, jax.random.key(step))
        before, variables = variables, {**variables, **updates}
    # The fifth step of six: far from the start, but held back by 0.95^5 (4 / 6)^3 of the way.
    keep = 0.95**5 * (4 / experiment.steps) ** 3
    plain = without_look_ahead(task, before, batch, jax.random.key(4))
    wanted = jax.tree.map(lambda s, f: f + keep * (s - f), begun, plain)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), variables["batch_stats"], wanted
    )


def without_look_ahead(task, variables, batch, key):
    """The batch-norm statistics after a step at count 0, where none is pulled back."""
    held = {**variables["look_ahead"], "count": jax.numpy.zeros((), jax.numpy.int32)}
    return task.apply({**variables, "look_ahead": held}, batch, key)[1]["batch_stats"]


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
