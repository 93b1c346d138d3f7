"""Style transfer: Gram matrices against torch, both ways of getting there, mistakes."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from learning import learn
from mistakes import raises

import dl
from dl.core import metrics as M
from dl.models.cnn import CNN
from dl.models.convolution import Conv
from dl.models.style import StyleNetwork
from dl.tasks.style_transfer import gram, maps_of, roughness, style_network, style_transfer

KERNELS = [
    0.4 * jax.random.normal(jax.random.key(i), shape)
    for i, shape in enumerate([(3, 3, 3, 8), (3, 3, 8, 8)])
]


def features(x):
    """Random features: already good enough for texture (Ustyuzhaninov et al. 2016)."""
    maps = []
    for kernel in KERNELS:
        width = kernel.shape[-1]
        x = jax.nn.relu(
            Conv(width, (3, 3), use_bias=False).apply({"params": {"kernel": kernel}}, x)
        )
        maps.append(x)
    return maps


def pictures():
    place = jnp.arange(16)
    style = 255 * ((place[:, None] + place) % 4 < 2)
    style = jnp.stack([style, 255 - style, 0 * style], -1)
    content = jnp.stack([255 * ((place[:, None] - 8) ** 2 + (place - 8) ** 2 < 30)] * 3, -1)
    return {"content": content[None].astype(jnp.uint8), "style": style[None].astype(jnp.uint8)}


def train(task, batch, steps, rate):
    optimizer = optax.adam(rate)
    state = dl.init_state(task, optimizer, batch)
    before = M.compute(task.evaluate(state.variables, batch))
    state, _, after = learn(task, optimizer, batch, steps, state)
    return state, before, after


def test_gram_matches_torch():
    torch = pytest.importorskip("torch")
    x = jax.random.normal(jax.random.key(0), (2, 3, 4, 5))
    flat = torch.tensor(np.array(x)).reshape(2, 12, 5)
    expected = torch.bmm(flat.transpose(1, 2), flat) / 12
    np.testing.assert_allclose(gram(x), expected, rtol=1e-5)


def test_roughness_of_a_ramp():
    ramp = jnp.tile(jnp.arange(5.0)[None, :, None, None], (1, 1, 4, 1))
    np.testing.assert_allclose(roughness(ramp), [1.0])


def test_the_picture_itself_is_learned():
    task = style_transfer(features, [0.0, 1.0], [10.0, 10.0], smoothness=0.01)
    batch = pictures()
    state, before, after = train(task, batch, 150, 0.02)
    assert before["content"] == 0
    assert after["style"] < 0.2 * before["style"]
    picture = jax.jit(task.predict)(state.variables, {})
    assert picture.shape == (1, 16, 16, 3)
    assert set(state.variables["params"]) == {"picture"}
    assert dl.digest(state.variables["targets"]) == dl.digest(
        task.init(jax.random.key(0), batch)["targets"]
    )


@pytest.mark.slow
def test_a_network_learns_one_style_for_any_picture():
    model = StyleNetwork((4, 8, 8), blocks=1)
    data = pictures()
    task = style_network(model, features, data["style"][0], [0.0, 0.1], [1.0, 1.0])
    state, before, after = train(task, {"image": data["content"]}, 40, 1e-2)
    assert after["style"] < 0.6 * before["style"]
    assert task.predict(state.variables, {"image": data["content"]}).shape == (1, 16, 16, 3)


def test_weights_that_do_not_fit_are_named():
    task = style_transfer(features, [1.0], [1.0, 1.0])
    variables = jax.jit(task.init)(jax.random.key(0), pictures())
    with raises("style-weights-count", "2 feature maps"):
        task.evaluate(variables, pictures())


def test_maps_of_a_network_come_in_the_order_of_its_layers():
    model = CNN(3, (2, 3), depth=6)  # twelve layers: BatchNorm_10 comes after BatchNorm_9
    x = jax.random.uniform(jax.random.key(0), (1, 8, 8, 3))
    variables = jax.jit(model.init)(jax.random.key(1), x)
    maps = jax.jit(maps_of(model, variables, nn.BatchNorm))(x)
    assert [m.shape[1:] for m in maps] == [(8, 8, 2)] * 6 + [(4, 4, 3)] * 6
    assert all((m >= 0).all() for m in maps)
    pooled = model.apply(variables, 2 * x - 1)
    dense = variables["params"]["Dense_0"]
    np.testing.assert_allclose(
        maps[-1].mean((1, 2)) @ dense["kernel"] + dense["bias"], pooled, atol=1e-5
    )
