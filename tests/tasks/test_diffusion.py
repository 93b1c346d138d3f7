"""Diffusion: the contract, both paths' solutions in closed form, guidance, what the loss is."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mistakes import raises

from dl.core.metrics import compute
from dl.models.diffusion import DiffusionUNet
from dl.tasks.diffusion import Sampler, ddpm, diffusion, drawn, flow, on_the_way

PATHS = {"ddpm": ddpm, "flow": flow}


class Told(nn.Module):
    """Says the label."""

    classes: int = 3

    @nn.compact
    def __call__(self, x, time, label, *, train=False):
        return x * self.param("scale", nn.initializers.zeros, ()) + label[:, None, None, None]


def batch(rows=4):
    draw = np.random.default_rng(0)
    image = draw.integers(0, 256, (rows, 8, 8, 1)).astype(np.uint8)
    return {"image": image, "label": np.arange(rows, dtype=np.int32) % 3}


def test_it_keeps_the_contract():
    data = batch()
    noise = np.random.default_rng(1).normal(size=data["image"].shape).astype(np.float32)
    model = DiffusionUNet((4,), 3, heads=1, patch=4)
    task = diffusion(model, ddpm, Sampler(2, True, 2.0))
    from dl.testing import check_task

    check_task(task, data, {"noise": noise}, eager=False)


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
def test_paths_go_from_pictures_to_noise(path):
    time = jnp.linspace(0, 1, 50)
    signal, noise = path.signal(time), path.noise(time)
    np.testing.assert_allclose([signal[0], noise[0]], [1, 0], atol=1e-6)
    assert signal[-1] < 0.011
    assert noise[-1] > 0.9999
    assert (np.diff(signal) <= 0).all()
    assert (np.diff(noise) >= 0).all()
    if path is ddpm:
        np.testing.assert_allclose(signal**2 + noise**2, 1, atol=1e-6)


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
def test_sampling_solves_the_equation_of_normal_pictures(path):
    """Of pictures of deviation c, a noisy one's is sqrt(signal^2 c^2 + noise^2) and the best guess linear: along
    the path a sample stays as many deviations from 0 as it began. Twice the steps halve the error of Euler and
    quarter that of Heun, but where a kink of the schedule is in the way."""
    c, draws = 0.2, jnp.array([[-1.5], [0.3], [2.0]])

    def guess(x, time):
        signal, noise = path.signal(time)[:, None], path.noise(time)[:, None]
        variance = (signal * c) ** 2 + noise**2
        picture, normal = x * signal * c**2 / variance, x * noise / variance
        return normal - picture if path.straight else normal

    end = jnp.sqrt((path.signal(jnp.ones(())) * c) ** 2 + path.noise(jnp.ones(())) ** 2)
    true = c * draws / end

    def error(steps, heun):
        return float(jnp.abs(drawn(path, Sampler(steps, heun), guess, draws)[0] - true).max())

    euler, heun = ([error(steps, kind) for steps in (32, 64)] for kind in (False, True))
    assert 1.8 < euler[0] / euler[1] < 2.2
    assert heun[0] / heun[1] > (3.8 if path.straight else 2.5)
    assert heun[1] < 0.3 * euler[1] < 0.01


@pytest.mark.parametrize("heun", [False, True])
def test_the_way_holds_every_call_and_ends_in_the_picture(heun):
    task = diffusion(Told(), flow, Sampler(3, heun, 1.0))
    variables = {"params": {"scale": jnp.zeros(())}}
    noise = np.random.default_rng(0).normal(size=(2, 2, 2, 1)).astype(np.float32)
    columns = {"noise": noise, "label": np.int32([1, 2])}
    sampler = Sampler(3, heun, 1.0)
    noisy, guessed = on_the_way(task, Told(), flow, sampler).predict(variables, columns)
    assert noisy.shape == guessed.shape == (2, 5 if heun else 3, 2, 2, 1)
    np.testing.assert_array_equal(noisy[:, 0], noise)
    np.testing.assert_allclose(
        guessed[:, 0, 0, 0, 0], np.clip(noise[:, 0, 0, 0] - [1, 2], -1, 1), atol=1e-6
    )
    np.testing.assert_allclose(guessed[:, -1], task.predict(variables, columns), atol=1e-6)


@pytest.mark.parametrize("guidance", [0.0, 0.5, 1.0, 3.0])
def test_guidance_goes_from_no_label_to_the_label_and_beyond(guidance):
    """One step along a straight path is the noise less what is said: here the label, and 3 for none."""
    task = diffusion(Told(), flow, Sampler(1, False, guidance))
    noise = np.full((3, 1, 1, 1), 2.0, np.float32)
    label = np.int32([1, 2, 2])
    found = task.predict({"params": {"scale": jnp.zeros(())}}, {"noise": noise, "label": label})
    said = 3 + guidance * (label - 3)
    np.testing.assert_allclose(found.ravel(), np.clip(2.0 - said, -1, 1), atol=1e-6)


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
def test_the_loss_is_the_squared_error_of_what_the_path_asks_for(path):
    """A network that says 0 errs by the square of draws, or of draws less picture."""
    data = {**batch(600), "label": np.zeros(600, np.int32)}
    task = diffusion(Told(), path)
    variables = task.init(jax.random.key(0), data)
    picture = data["image"] / 127.5 - 1
    expected = 1 + (np.square(picture).mean() if path.straight else 0)
    np.testing.assert_allclose(compute(task.evaluate(variables, data))["loss"], expected, rtol=0.02)


def test_some_labels_are_forgotten_in_training_and_none_in_evaluation():
    data = {**batch(600), "label": np.zeros(600, np.int32)}
    task = diffusion(Told(), ddpm, forget=0.25)
    variables = task.init(jax.random.key(0), data)
    trained = task.loss(variables, data, jax.random.key(1))[0]
    held = compute(task.evaluate(variables, data))["loss"]
    np.testing.assert_allclose(held, 1, rtol=0.02)  # says 0 of noise
    np.testing.assert_allclose(trained, 1 + 0.25 * 9, rtol=0.2)  # says 3 of a quarter


def test_what_makes_no_sense_is_refused():
    with raises("range", "guidance"):
        diffusion(Told(), sampler=Sampler(guidance=-1.0))
    with raises("range", "steps of sampling"):
        drawn(flow, Sampler(0), lambda x, time: x, jnp.ones((1, 1)))
    task, data = diffusion(Told()), batch()
    with raises("class-out-of-range", "0 to 2 apart"):
        task.check({}, data, {**data, "label": np.int32([0, 1, 2, 3])})
