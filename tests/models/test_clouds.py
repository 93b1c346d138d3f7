"""Networks of clouds of points."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dl.models.clouds import PointNet, VoxelNetwork, occupied

X = np.random.default_rng(0).uniform(-0.9, 0.9, (3, 20, 3)).astype(np.float32)


def made(model):
    variables = model.init(jax.random.key(0), X)
    stats = jax.tree.map(lambda x: x + 0.2, variables["batch_stats"])
    return {**variables, "batch_stats": stats}


@pytest.mark.parametrize("model", [PointNet(4, (8, 6), 5), VoxelNetwork(4, 8, (2, 3), 5)])
def test_neither_the_order_of_points_nor_their_repetition_matters(model):
    variables = made(model)
    said = model.apply(variables, X)
    order = np.random.default_rng(1).permutation(20)
    np.testing.assert_allclose(model.apply(variables, X[:, order]), said, rtol=1e-5, atol=1e-6)
    again = np.concatenate([X, X[:, :7]], 1)
    np.testing.assert_allclose(model.apply(variables, again), said, rtol=1e-5, atol=1e-6)


def test_pointnet_is_numpys_in_values_and_gradients():
    model = PointNet(4, (8, 6), 5)
    variables = made(model)
    params, stats = (jax.tree.map(np.float64, variables[k]) for k in ("params", "batch_stats"))

    def reference(x):
        for place in range(3):
            x = x @ params[f"Dense_{place}"]["kernel"]
            norm, seen = params[f"BatchNorm_{place}"], stats[f"BatchNorm_{place}"]
            x = (x - seen["mean"]) / np.sqrt(seen["var"] + 1e-5) * norm["scale"] + norm["bias"]
            x = np.maximum(x, 0)
            x = x.max(1) if place == 1 else x
        return x @ params["Dense_3"]["kernel"] + params["Dense_3"]["bias"]

    np.testing.assert_allclose(
        model.apply(variables, X), reference(np.float64(X)), rtol=1e-4, atol=1e-5
    )
    slope = jax.grad(lambda x: jnp.sin(model.apply(variables, x)).sum())(X)
    step = np.random.default_rng(2).normal(size=X.shape)
    ahead, behind = (np.sin(reference(X + s * 1e-6 * step)).sum() for s in (1, -1))
    np.testing.assert_allclose((slope * step).sum(), (ahead - behind) / 2e-6, rtol=1e-3)


def test_cells_that_hold_a_point_are_told():
    found = np.asarray(occupied(X, 6))
    wanted = np.zeros_like(found)
    for row, cloud in enumerate(X):
        for point in cloud:
            wanted[row, *((point + 1) * 3).astype(int)] = 1
    np.testing.assert_array_equal(found, wanted)
    ends = np.asarray(occupied(np.array([[[1.0, -1.0, 1.0]]], np.float32), 4))
    assert ends[0, 3, 0, 3] == ends.sum() == 1


def test_voxnet_is_xlas_own_convolution_of_the_cells():
    model = VoxelNetwork(4, 8, (2, 3), 5)
    variables = made(model)
    params, stats = variables["params"], variables["batch_stats"]
    x = occupied(X, 8)[..., None]
    for place, width in enumerate((2, 3)):
        convolution = nn.Conv(
            width, (4,) * 3 if place == 0 else (3,) * 3, strides=(2,) * 3, use_bias=False
        )
        x = convolution.apply({"params": params[f"Conv_{place}"]}, x)
        norm = nn.BatchNorm(use_running_average=True)
        name = f"BatchNorm_{place}"
        x = nn.relu(norm.apply({"params": params[name], "batch_stats": stats[name]}, x))
    x = nn.relu(x.reshape(3, -1) @ params["Dense_0"]["kernel"] + params["Dense_0"]["bias"])
    wanted = x @ params["Dense_1"]["kernel"] + params["Dense_1"]["bias"]
    np.testing.assert_allclose(model.apply(variables, X), wanted, rtol=1e-4, atol=1e-5)
