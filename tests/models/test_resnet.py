"""Residual networks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dl.models.resnet import BasicBlock, Bottleneck, ResNet, ResNet18, ResNet50, ResNetFeatures


def parameters(model, size):
    x = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    params = jax.eval_shape(model.init, jax.random.key(0), x)["params"]
    return sum(leaf.size for leaf in jax.tree.leaves(params))


@pytest.mark.parametrize(
    ("model", "published"), [(ResNet18(1000), 11_689_512), (ResNet50(1000), 25_557_032)]
)
def test_has_as_many_parameters_as_the_published_network(model, published):
    assert parameters(model, 64) == published


def test_feature_maps_halve_from_stage_to_stage():
    def sides(model):
        x = jnp.ones((1, 64, 64, 3))
        variables = jax.eval_shape(model.init, jax.random.key(0), x)
        return [f.shape[1] for f in jax.eval_shape(model.apply, variables, x)]

    assert sides(ResNetFeatures(width=2)) == [16, 8, 4, 2]
    assert sides(ResNetFeatures(width=2, small_images=True)) == [64, 32, 16, 8]


@pytest.mark.parametrize("block", [BasicBlock, Bottleneck])
def test_a_block_starts_as_the_identity(block):
    x = jnp.abs(jax.random.normal(jax.random.key(0), (1, 4, 4, 4)))
    model = block(4 // block.expansion)
    y, _ = model.init_with_output(jax.random.key(1), x)
    np.testing.assert_allclose(y, x, atol=1e-6)


def test_block_agrees_with_torch():
    """A strided block with weights of its own, against the same layers in PyTorch."""
    torch = pytest.importorskip("torch")
    x = jax.random.normal(jax.random.key(0), (2, 9, 9, 3))
    model = BasicBlock(4, stride=2)
    variables = jax.jit(model.init)(jax.random.key(1), x)
    variables = jax.tree.map(
        lambda v: v + 0.1 * jnp.abs(jax.random.normal(jax.random.key(2), v.shape)), variables
    )
    functional = torch.nn.functional

    def conv(h, name, stride, padding):
        kernel = torch.tensor(np.asarray(variables["params"][name]["kernel"]).transpose(3, 2, 0, 1))
        return functional.conv2d(h, kernel, stride=stride, padding=padding)

    def norm(h, name):
        stats, params = variables["batch_stats"][name], variables["params"][name]
        arrays = (stats["mean"], stats["var"], params["scale"], params["bias"])
        return functional.batch_norm(h, *(torch.tensor(np.asarray(a)) for a in arrays))

    h = torch.tensor(np.asarray(x)).permute(0, 3, 1, 2)
    y = torch.relu(norm(conv(h, "Conv_0", 2, 1), "BatchNorm_0"))
    y = norm(conv(y, "Conv_1", 1, 1), "BatchNorm_1")
    y = torch.relu(y + norm(conv(h, "shortcut", 2, 0), "shortcut_norm"))
    np.testing.assert_allclose(model.apply(variables, x), y.permute(0, 2, 3, 1).numpy(), atol=1e-4)


def test_training_updates_the_statistics():
    model = ResNet(2, (1, 1), width=2, small_images=True)
    x = jax.random.normal(jax.random.key(0), (2, 8, 8, 1))
    variables = jax.jit(model.init)(jax.random.key(1), x)
    y, changed = model.apply(variables, x, train=True, mutable=["batch_stats"])
    assert y.shape == (2, 2)
    mean = changed["batch_stats"]["ResNetFeatures_0"]["stem_norm"]["mean"]
    assert np.abs(mean).max() > 0
