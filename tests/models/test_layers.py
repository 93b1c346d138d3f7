"""Dense, LayerNorm and RMSNorm against PyTorch; dropout by its statistics."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dl.models.layers import Dense, Dropout, LayerNorm, RMSNorm, keep_mask, symmetric_uniform

SHAPES = [(3, 5), (2, 3, 5), (2, 3, 4, 5)]


def vjp(function, *arguments):
    out, pull = jax.vjp(function, *arguments)
    return out, pull(jnp.cos(jnp.arange(out.size, dtype=out.dtype)).reshape(out.shape))


def test_uniform_starts_lie_on_both_sides_of_zero():
    drawn = np.asarray(symmetric_uniform(0.25)(jax.random.key(0), (10_000,)))
    assert -0.25 <= drawn.min() < -0.249
    assert 0.249 < drawn.max() < 0.25
    assert abs(drawn.mean()) < 4 * 0.25 / np.sqrt(3 * len(drawn))  # four standard errors


@pytest.mark.parametrize("shape", SHAPES)
def test_dense_is_flax_dense(shape):
    x = jax.random.normal(jax.random.key(0), shape)
    variables = Dense(7).init(jax.random.key(1), x)
    ours = vjp(lambda v, x: Dense(7).apply(v, x), variables, x)
    flax = vjp(lambda v, x: nn.Dense(7).apply(v, x), variables, x)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), ours, flax)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("norm", [LayerNorm, RMSNorm])
def test_norms_match_torch(norm, shape):
    torch = pytest.importorskip("torch")
    x = np.asarray(jax.random.normal(jax.random.key(0), shape)) * 3 + 1
    scale = np.linspace(0.5, 2, shape[-1]).astype(np.float32)
    params = {"scale": jnp.asarray(scale)}
    theirs = torch.nn.RMSNorm(shape[-1], eps=1e-6)
    if norm is LayerNorm:
        params["bias"] = jnp.asarray(scale[::-1].copy())
        theirs = torch.nn.LayerNorm(shape[-1])
        theirs.bias.data = torch.tensor(scale[::-1].copy())
    theirs.weight.data = torch.tensor(scale)
    out, (grads, dx) = vjp(lambda p, x: norm().apply({"params": p}, x), params, jnp.asarray(x))

    tx = torch.tensor(x, requires_grad=True)
    expected = theirs(tx)
    expected.backward(torch.cos(torch.arange(expected.numel())).reshape(expected.shape))
    np.testing.assert_allclose(out, expected.detach(), atol=1e-5)
    np.testing.assert_allclose(dx, tx.grad, atol=1e-5)
    np.testing.assert_allclose(grads["scale"], theirs.weight.grad, atol=1e-4)


def test_keep_mask_has_its_rate_and_no_stripes():
    keep = np.asarray(keep_mask(jax.random.key(3), (400, 400), 0.3), np.float64)
    assert abs(keep.mean() - 0.7) < 4 * np.sqrt(0.21 / keep.size)
    centred = keep - keep.mean()
    for shift, axis in [(1, 0), (1, 1), (7, 1), (64, 1)]:
        assert abs((centred * np.roll(centred, shift, axis)).mean() / 0.21) < 4 / 400
    other = np.asarray(keep_mask(jax.random.key(4), (400, 400), 0.3))
    assert abs((keep == other).mean() - (0.49 + 0.09)) < 0.01


def test_dropout_keeps_the_mean_and_takes_a_traced_rate():
    x = jnp.ones((200, 200))

    @jax.jit
    def drop(rate):
        return Dropout(rate).apply({}, x, train=True, rngs={"dropout": jax.random.key(0)})

    assert abs(drop(jnp.float32(0.25)).mean() - 1) < 0.02
    assert (drop(jnp.float32(0.0)) == 1).all()
    assert Dropout(0.5).apply({}, x, train=False) is x
