"""Networks of moving points, and what mirrors and turns do to these."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mistakes import raises

from dl.data.transforms.motion import cut_in_time, mirrored, random_mirror, turned
from dl.models.motion import MotionNetwork, distances, speeds
from dl.models.transformer import Transformer

DRAW = np.random.default_rng(0)
X = DRAW.normal(size=(3, 16, 10)).astype(np.float32)
PAIRS = ((1, 2), (3, 4))


def reference(variables, x):
    """The network without dropout, in NumPy."""
    params, stats = (
        jax.tree.map(np.float64, variables[name]) for name in ("params", "batch_stats")
    )

    def leaky(x):
        return np.where(x > 0, x, 0.2 * x)

    def convolved(x, params, stats):
        kernel = params["Conv_0"]["kernel"]
        edge = (len(kernel) - 1) // 2
        wide = np.pad(x, ((0, 0), (edge, edge), (0, 0)))
        out = sum(wide[:, k : k + x.shape[1]] @ kernel[k] for k in range(len(kernel)))
        norm, seen = params["BatchNorm_0"], stats["BatchNorm_0"]
        out = (out - seen["mean"]) / np.sqrt(seen["var"] + 1e-5) * norm["scale"] + norm["bias"]
        return leaky(out)

    def halved(x):
        return np.maximum(x[:, ::2], x[:, 1::2])

    points = np.float64(x).reshape(*x.shape[:2], 5, 2)
    apart = [
        np.linalg.norm(points[:, :, i] - points[:, :, j], axis=-1)
        for i in range(5)
        for j in range(i + 1, 5)
    ]
    slow = np.concatenate([np.zeros_like(x[:, :1]), x[:, 1:] - x[:, :-1]], 1)
    half = x[:, ::2]
    fast = np.concatenate([np.zeros_like(half[:, :1]), half[:, 1:] - half[:, :-1]], 1)
    streams = []
    for name, stream in (("still", np.stack(apart, -1)), ("slow", slow), ("fast", fast)):
        for place in range(3):
            stream = convolved(stream, params[f"{name}_{place}"], stats[f"{name}_{place}"])
        streams.append(stream if name == "fast" else halved(stream))
    x = np.concatenate(streams, -1)
    for place in range(6):
        name = f"_Convolved_{place}"
        x = convolved(x, params[name], stats[name])
        x = halved(x) if place in (1, 3) else x
    x = x.max(1)
    x = leaky(x @ params["Dense_0"]["kernel"] + params["Dense_0"]["bias"])
    return x @ params["Dense_1"]["kernel"] + params["Dense_1"]["bias"]


def test_values_and_gradients_are_those_of_numpy():
    model = MotionNetwork(4, 2, 6)
    variables = jax.jit(model.init)(jax.random.key(0), X)
    stats = jax.tree.map(lambda x: x + 0.3, variables["batch_stats"])
    variables = {"params": variables["params"], "batch_stats": stats}
    out = jax.jit(model.apply)(variables, X)
    np.testing.assert_allclose(out, reference(variables, X), rtol=1e-4, atol=1e-5)
    slope = jax.jit(jax.grad(lambda x: jnp.sum(jnp.sin(model.apply(variables, x)))))(X)
    step = DRAW.normal(size=X.shape)
    ahead, behind = (np.sin(reference(variables, X + s * 1e-5 * step)).sum() for s in (1, -1))
    np.testing.assert_allclose((slope * step).sum(), (ahead - behind) / 2e-5, rtol=2e-3)


def test_a_body_reads_the_streams_and_plain_features_do():
    body = Transformer(8, 1, 2)
    model = MotionNetwork(4, 0, 4, body=body)
    out, _ = jax.jit(model.init_with_output)(jax.random.key(0), X)
    assert out.shape == (3, 4)


@pytest.mark.parametrize("columns", [2, 5])
def test_columns_that_are_no_points_are_refused(columns):
    with raises("indivisible", f"{columns} columns", "--axes"):
        jax.eval_shape(MotionNetwork(4, 2, 4).init, jax.random.key(0), jnp.zeros((1, 8, columns)))


def test_distances_know_no_place_turn_or_mirror():
    points = X.reshape(3, 16, 5, 2)
    turn = np.array([[0.6, -0.8], [0.8, 0.6]], np.float32)
    for other in (points + 3, points @ turn, points * np.array([-1, 1], np.float32)):
        np.testing.assert_allclose(distances(other), distances(points), rtol=1e-4, atol=1e-5)
    assert np.isfinite(jax.grad(lambda p: distances(p).sum())(jnp.zeros((2, 3, 2)))).all()


def test_speeds_are_differences():
    found = np.asarray(speeds(X, 2))
    assert found.shape == (3, 8, 10)
    assert not found[:, 0].any()
    np.testing.assert_allclose(found[:, 3], X[:, 6] - X[:, 4], rtol=1e-5)


def test_a_mirror_exchanges_left_and_right_and_twice_is_none():
    seen = np.asarray(mirrored(X, 2, PAIRS)).reshape(3, 16, 5, 2)
    own = X.reshape(3, 16, 5, 2)
    np.testing.assert_array_equal(seen[..., 0, :], own[..., 0, :] * [-1, 1])
    np.testing.assert_array_equal(seen[..., 1, :], own[..., 2, :] * [-1, 1])
    np.testing.assert_array_equal(mirrored(seen.reshape(X.shape), 2, PAIRS), X)
    half = random_mirror(2, PAIRS)(jax.random.key(0), {"values": np.repeat(X[:1], 200, 0)})[
        "values"
    ]
    same = (np.asarray(half) == X[0]).all((1, 2))
    assert 60 < same.sum() < 140
    np.testing.assert_array_equal(np.asarray(half)[~same][0], mirrored(X[0], 2, PAIRS))


def test_a_turn_keeps_distances_but_for_size():
    found = turned(30.0, 0.2)(jax.random.key(1), {"values": X})["values"]
    own, other = (np.asarray(distances(x.reshape(3, 16, 5, 2))) for x in (jnp.asarray(X), found))
    ratio = other / own
    np.testing.assert_allclose(ratio, np.broadcast_to(ratio[:, :1, :1], ratio.shape), rtol=1e-3)
    assert 0.8 < ratio.min() < ratio.max() < 1.2
    still = turned(0.0, 0.0)(jax.random.key(1), {"values": X})["values"]
    np.testing.assert_allclose(still, X, rtol=1e-6)
    deep = DRAW.normal(size=(2, 4, 6)).astype(np.float32)
    three = turned(90.0, 0.0, 3)(jax.random.key(2), {"values": deep})["values"]
    np.testing.assert_allclose(three[..., 2::3], deep[..., 2::3], rtol=1e-6)


def test_a_cut_in_time_is_a_stretch_at_another_pace():
    ramp = np.broadcast_to(np.arange(16, dtype=np.float32)[:, None], (50, 16, 2)).copy()
    found = np.asarray(cut_in_time(0.5)(jax.random.key(0), {"values": ramp})["values"])
    pace = np.diff(found[..., 0], axis=1)
    np.testing.assert_allclose(pace, np.broadcast_to(pace[:, :1], pace.shape), atol=1e-4)
    assert 0.5 <= pace.min() < 0.7
    assert 0.9 < pace.max() <= 1
    assert found.min() >= 0
    assert found.max() <= 15
    whole = cut_in_time(1.0)(jax.random.key(0), {"values": ramp})["values"]
    np.testing.assert_allclose(whole, ramp, atol=1e-5)


@pytest.mark.parametrize("seed", [0, 1])
def test_one_key_gives_one_change(seed):
    for change in (cut_in_time(0.5), turned(10.0, 0.1), random_mirror(2, PAIRS)):
        one, other = (change(jax.random.key(seed), {"values": X})["values"] for _ in range(2))
        np.testing.assert_array_equal(one, other)
