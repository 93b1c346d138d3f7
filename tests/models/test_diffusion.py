"""The U-Net of diffusion against the same in NumPy, written from the papers."""

import jax
import jax.numpy as jnp
import numpy as np
from mistakes import raises

from dl.models.diffusion import DiffusionUNet, time_waves


def silu(x):
    return x / (1 + np.exp(-x))


def convolved(x, p):
    """3x3, padded."""
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    height, width = x.shape[1:3]
    parts = [
        padded[:, i : i + height, j : j + width] @ p["kernel"][i, j]
        for i in range(3)
        for j in range(3)
    ]
    return sum(parts) + p["bias"]


def dense(x, p):
    return x @ p["kernel"] + p.get("bias", 0)


def normed(x, p, groups):
    each = x.reshape(len(x), -1, groups, x.shape[-1] // groups)
    each = each - each.mean((1, 3), keepdims=True)
    each = each / np.sqrt(np.square(each).mean((1, 3), keepdims=True) + 1e-6)
    return each.reshape(x.shape) * p.get("scale", 1) + p.get("bias", 0)


def block(x, known, p):
    h = convolved(silu(normed(x, p["norm_in"], x.shape[-1] // 8)), p["in"])
    scale, shift = np.split(dense(known, p["known"])[:, None, None], 2, axis=-1)
    h = normed(h, {}, h.shape[-1] // 8) * (1 + scale) + shift
    return convolved(silu(h), p["out"]) + (dense(x, p["skip"]) if "skip" in p else x)


def attended(x, p, heads):
    rows = x.reshape(len(x), -1, x.shape[-1])
    q, k, v = (
        part.reshape(*rows.shape[:2], heads, -1) for part in np.split(dense(rows, p["qkv"]), 3, -1)
    )
    scores = np.einsum("bqhd,bkhd->bhqk", q, k) / np.sqrt(q.shape[-1])
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    read = np.einsum("bhqk,bkhd->bqhd", weights / weights.sum(-1, keepdims=True), v)
    return dense(read.reshape(rows.shape), p["out"]).reshape(x.shape)


def squares(x):
    """2x2 squares as channels."""
    return np.concatenate([x[:, i::2, j::2] for i in range(2) for j in range(2)], -1)


def spread(x):
    """The other way round."""
    batch, height, width, channels = x.shape
    out = np.zeros((batch, 2 * height, 2 * width, channels // 4))
    for place, part in enumerate(np.split(x, 4, -1)):
        out[:, place // 2 :: 2, place % 2 :: 2] = part
    return out


def test_it_is_what_the_papers_say():
    draw = np.random.default_rng(0)
    model = DiffusionUNet((16, 24), classes=3, heads=2)
    x = draw.normal(size=(2, 8, 12, 1)).astype(np.float32)
    time, label = np.float32([0.2, 0.9]), np.int32([3, 1])
    shapes = jax.eval_shape(model.init, jax.random.key(0), x, time, label)["params"]
    params = jax.tree.map(lambda a: draw.normal(size=a.shape).astype(np.float32) * 0.2, shapes)
    found = jax.jit(model.apply)({"params": params}, x, time, label)

    p = jax.tree.map(np.float64, params)
    angle = time[:, None] * 1000.0 ** (np.arange(32) / 31)
    waves = np.concatenate([np.sin(angle), np.cos(angle)], -1)
    known = dense(silu(dense(waves, p["time_in"])), p["time_out"])
    known = silu(known + p["label"]["embedding"][label])
    fine = block(convolved(squares(x), p["first"]), known, p["TimedBlock_0"])
    h = coarse = block(dense(squares(fine), p["Dense_0"]), known, p["TimedBlock_1"])
    h = h + attended(normed(h, p["GroupNorm_0"], 3), p["attention"], 2)
    h = block(h, known, p["TimedBlock_2"])
    h = block(np.concatenate([h, coarse], -1), known, p["TimedBlock_3"])
    h = spread(dense(h, p["Dense_1"]))
    h = block(np.concatenate([h, fine], -1), known, p["TimedBlock_4"])
    h = spread(convolved(silu(normed(h, p["GroupNorm_1"], 2)), p["last"]))
    np.testing.assert_allclose(found, h, atol=2e-4 * np.abs(h).max())


def test_times_are_told_apart_by_waves_of_many_lengths():
    waves = time_waves(jnp.linspace(0, 1, 1001), 16)
    apart = np.square(waves[1:] - waves[:-1]).sum(-1)
    assert apart.min() > 0.1
    np.testing.assert_allclose(np.square(waves).sum(-1), 8, rtol=1e-5)


def test_sizes_that_do_not_fit_are_named():
    model = DiffusionUNet((8, 8))
    with raises("indivisible", "multiples of 4", "(8, 10)"):
        jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 8, 10, 1)), jnp.zeros(1), None)
