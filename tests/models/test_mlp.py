"""MLP against PyTorch; its options; max-norm."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dl.core.optim import max_norm
from dl.models.layers import LayerNorm
from dl.models.mlp import MLP, mirrored


@pytest.mark.parametrize(
    ("activation", "name"),
    [(nn.relu, "ReLU"), (jnp.tanh, "Tanh"), (nn.sigmoid, "Sigmoid"), (nn.silu, "SiLU")],
)
def test_outputs_and_gradients_match_torch(activation, name):
    torch = pytest.importorskip("torch")
    model = MLP((6, 5, 3), activation)
    x = jax.random.normal(jax.random.key(0), (4, 2, 2))
    variables = model.init(jax.random.key(1), x)
    out, pull = jax.vjp(lambda v: model.apply(v, x), variables)
    (grads,) = pull(jnp.ones_like(out))

    layers = []
    for i, width in enumerate((6, 5, 3)):
        dense = variables["params"][f"Dense_{i}"]
        linear = torch.nn.Linear(dense["kernel"].shape[0], width)
        linear.weight.data = torch.tensor(np.array(dense["kernel"]).T)
        linear.bias.data = torch.tensor(np.array(dense["bias"]))
        layers += [linear] + ([getattr(torch.nn, name)()] if i < 2 else [])
    net = torch.nn.Sequential(*layers)
    expected = net(torch.tensor(np.array(x)).flatten(1))
    expected.sum().backward()
    np.testing.assert_allclose(out, expected.detach(), atol=1e-5)
    for i, linear in enumerate(net[::2]):
        got = grads["params"][f"Dense_{i}"]["kernel"]
        np.testing.assert_allclose(got, linear.weight.grad.T, atol=1e-5)


@pytest.mark.parametrize("norm", [None, nn.BatchNorm, LayerNorm])
def test_every_norm_trains_and_predicts(norm):
    model = MLP((8, 2), norm=norm, dropout=0.5, input_dropout=0.2)
    x = jax.random.normal(jax.random.key(0), (16, 3))
    variables = model.init(jax.random.key(1), x)
    rngs = {"dropout": jax.random.key(2)}
    out, updates = model.apply(variables, x, train=True, rngs=rngs, mutable=["batch_stats"])
    assert out.shape == (16, 2)
    assert ("batch_stats" in updates) == (norm is nn.BatchNorm)
    assert (model.apply(variables, x) == model.apply(variables, x)).all()


def test_dropout_rate_can_be_swept_by_vmap():
    x = jnp.ones((4, 3))
    variables = MLP((8, 2)).init(jax.random.key(1), x)
    rngs = {"dropout": jax.random.key(2)}

    def run(rate):
        return MLP((8, 2), dropout=rate).apply(variables, x, train=True, rngs=rngs)

    lanes = jax.vmap(run)(jnp.array([0.0, 0.9]))
    np.testing.assert_allclose(lanes[0], MLP((8, 2)).apply(variables, x), atol=1e-6)
    assert not np.allclose(lanes[0], lanes[1])


def test_max_norm_bounds_every_unit():
    params = {"kernel": jnp.array([[3.0, 0.1], [4.0, 0.1]]), "bias": jnp.array([9.0, 9.0])}
    optimizer = optax.chain(optax.sgd(0.1), max_norm(2.0))
    grads = jax.tree.map(jnp.zeros_like, params)
    updates, _ = optimizer.update(grads, optimizer.init(params), params)
    new = optax.apply_updates(params, updates)
    np.testing.assert_allclose(new["kernel"], [[1.2, 0.1], [1.6, 0.1]], atol=1e-6)
    np.testing.assert_allclose(new["bias"], params["bias"])


def test_a_decoder_mirrors_its_encoder():
    encoder, decoder = mirrored((8, 4), 2, 9)
    assert (encoder.features, decoder.features) == ((8, 4, 2), (4, 8, 9))
