"""A network trained on the way: trained once, read afterwards, anew when anything changes."""

import jax
import jax.numpy as jnp
import numpy as np
from learning import as_made
from mistakes import raises

import dl
from dl.data.batches import train_batches
from dl.models.mlp import MLP
from dl.tasks.classification import classification, unit_range
from dl.training.cached import FrechetJudge, judge, train_cached


def experiment(rate=0.1, steps=20):
    x = jax.random.normal(jax.random.key(0), (64, 5))
    data = train_batches({"x": x, "label": (x[:, 0] > 0).astype(jnp.int32)}, 16)
    task = classification(MLP((2,)), inputs="x", prepare=lambda x: x)
    return dl.Experiment(task, data, dl.optimizer("sgd", rate), steps)


def test_it_is_the_run_s_training_and_is_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("DL_CACHE", str(tmp_path / "cache"))
    run = dl.train(*as_made(experiment()), runs=tmp_path, name="run", progress=False)
    first = train_cached(experiment())
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
        first["params"],
        jax.device_get(run.state.variables["params"]),
    )
    (kept,) = (tmp_path / "cache" / "fitted").iterdir()
    before = kept.stat().st_mtime_ns
    assert dl.digest(train_cached(experiment())) == dl.digest(first)
    assert kept.stat().st_mtime_ns == before

    kept.write_bytes(b"cut off")
    assert dl.digest(train_cached(experiment())) == dl.digest(first)
    assert dl.digest(train_cached(experiment(rate=0.2))) != dl.digest(first)
    assert len(list((tmp_path / "cache" / "fitted").iterdir())) == 2


def test_a_loss_that_is_not_finite_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("DL_CACHE", str(tmp_path))
    with raises("loss-not-finite", "lower the learning rate") as told:
        train_cached(experiment(rate=1e38, steps=5))
    assert isinstance(told.value, dl.NonFiniteError)


def test_a_judge_tells_features_and_classes(tmp_path, monkeypatch):
    monkeypatch.setenv("DL_CACHE", str(tmp_path))
    draw = np.random.default_rng(0)
    label = np.arange(128, dtype=np.int32) % 2
    image = np.uint8(draw.integers(0, 40, (128, 8, 8, 1)) + 200 * label[:, None, None, None])
    looking = judge({"image": image, "label": label}, (4, 8), epochs=20)
    features, classes = looking(unit_range(image))
    assert features.shape == (128, 8)
    assert (classes == label).mean() > 0.9


def test_real_pictures_are_nearer_than_noise_by_the_frechet_judge(tmp_path, monkeypatch):
    monkeypatch.setenv("DL_CACHE", str(tmp_path))
    splits = dl.load("digits")
    judged = FrechetJudge(splits, samples=150, epochs=20, widths=(8, 16))
    held = judged.rows("test")
    real = unit_range(splits.validation["image"][:held])
    noise = np.random.default_rng(0).uniform(-1, 1, real.shape).astype(np.float32)
    near, far = judged.scores("test", real), judged.scores("test", noise)
    assert near["frechet"] < 0.5 * far["frechet"]
    assert near["frechet_floor"] == far["frechet_floor"] < 0.5 * far["frechet"]
    assert near["classes"] > far["classes"]
    with raises("range", "samples"):
        FrechetJudge(splits, samples=0, epochs=1)
