"""Groups of parameters: what each gets of the optimiser, what is frozen, and which layer is which."""

from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from mistakes import raises

import dl
from dl.core.groups import layers, layerwise, told
from dl.core.optim import OptimizerName, stacked_axes
from dl.core.state import by_path, path_name
from dl.models.convnext import ConvNeXt
from dl.models.detector import FCOS
from dl.models.language import LanguageModel, TextClassifier
from dl.models.mlp import MLP
from dl.models.resnet import ResNet, ResNetFeatures
from dl.models.transformer import Transformer
from dl.tasks.sequence_classification import sequence_classification

PARAMS = {
    "encoder": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)},
    "head": {"kernel": jnp.full((2, 2), 2.0)},
}
GRADIENT = jax.tree.map(lambda x: 0.1 * jnp.arange(1.0, 1 + x.size).reshape(x.shape), PARAMS)


def moved(optimizer, steps=3, params=PARAMS, gradient=GRADIENT):
    state = optimizer.init(params)
    for _ in range(steps):
        updates, state = optimizer.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
    return params, state


def test_each_group_moves_as_an_optimizer_of_its_own_would():
    own = {"factor": 0.5, "weight_decay": 0.0}
    got, _ = moved(dl.optimizer("adamw", 0.1, weight_decay=0.2, groups={"^head/": own}))
    head, _ = moved(dl.optimizer("adamw", 0.05))
    rest, _ = moved(dl.optimizer("adamw", 0.1, weight_decay=0.2))
    np.testing.assert_array_equal(got["head"]["kernel"], head["head"]["kernel"])
    jax.tree.map(np.testing.assert_array_equal, got["encoder"], rest["encoder"])


def test_a_group_may_have_a_schedule_and_the_first_pattern_counts():
    rate = optax.linear_schedule(0.0, 1.0, 2)
    groups = {"head/kernel": {"learning_rate": rate}, "kernel": {"learning_rate": 0.0}}
    got, _ = moved(dl.optimizer("sgd", 0.1, groups=groups), steps=2)
    np.testing.assert_allclose(got["head"]["kernel"], 2 - 0.5 * GRADIENT["head"]["kernel"])
    np.testing.assert_array_equal(got["encoder"]["kernel"], 1)
    np.testing.assert_allclose(got["encoder"]["bias"], 1 - 0.2 * GRADIENT["encoder"]["bias"])


@pytest.mark.parametrize("name", get_args(OptimizerName))
def test_what_is_frozen_keeps_its_bits_and_takes_no_memory(name):
    groups = {"^encoder/": {"freeze": True}}
    got, state = moved(dl.optimizer(name, 0.1, weight_decay=0.3, clip=1.0, groups=groups))
    jax.tree.map(np.testing.assert_array_equal, got["encoder"], PARAMS["encoder"])
    assert (got["head"]["kernel"] != 2).all()
    kept = [path_name(p) for p, _ in jax.tree_util.tree_leaves_with_path(state)]
    assert not any("encoder" in path for path in kept)
    # The head moves as it would alone: what is frozen is no part of the norm that is clipped.
    alone, _ = moved(
        dl.optimizer(name, 0.1, weight_decay=0.3, clip=1.0),
        params={"head": PARAMS["head"]},
        gradient={"head": GRADIENT["head"]},
    )
    np.testing.assert_allclose(got["head"]["kernel"], alone["head"]["kernel"], rtol=1e-6)


@pytest.mark.parametrize("name", ["lamb", "muon", "adamw"])
def test_groups_see_which_axes_are_layers(name):
    body, x = Transformer(8, 3, 2, scan=True), jnp.ones((1, 4, 8))
    params = jax.jit(body.init)(jax.random.key(0), x)["params"]
    gradient = jax.tree.map(jnp.cos, params)
    plain, _ = moved(dl.optimizer(name, 0.1, weight_decay=0.1), 2, params, gradient)
    groups = {"in/kernel": {"factor": 1.0}}  # biases, which tell what is stacked, are in the other
    got, _ = moved(dl.optimizer(name, 0.1, weight_decay=0.1, groups=groups), 2, params, gradient)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), got, plain)


def test_mistakes_are_told_in_one_line():
    with raises("pattern-nowhere", "'encodr/'", "near are encoder", "there are encoder, head"):
        dl.optimizer("sgd", 0.1, groups={"encodr/": {"freeze": True}}).init(PARAMS)
    with raises("groups-malformed", "'head': 3"):
        dl.optimizer("sgd", 0.1, groups={"head": 3})
    with raises("pattern-nowhere", "there are encoder, head"):
        dl.optimizer("sgd", 0.1, groups={"zzzz": {"freeze": True}}).init(PARAMS)
    with raises("pattern", "'('"):
        dl.optimizer("sgd", 0.1, groups={"(": {"freeze": True}}).init(PARAMS)
    with raises("all-frozen"):
        dl.optimizer("sgd", 0.1, groups={".": {"freeze": True}}).init(PARAMS)
    with raises("unknown", "'lr'", "factor"):
        dl.optimizer("sgd", 0.1, groups={"head": {"lr": 1.0}})
    with raises("options-exclusive", "'head'"):
        dl.optimizer("sgd", 0.1, groups={"head": {"factor": 1.0, "learning_rate": 1.0}})


def test_a_traced_rate_is_a_lane_to_the_bit():
    def head(rate):
        groups = {"head": {"factor": 0.3}, "bias": {"freeze": True}}
        optimizer = dl.optimizer("adamw", rate, weight_decay=rate, clip=1.0, groups=groups)
        return moved(optimizer)[0]["head"]["kernel"]

    rates = jnp.array([0.1, 0.2, 0.3])
    lanes = jax.jit(lambda rates: jax.lax.map(head, rates))(rates)
    for rate, lane in zip(rates, lanes, strict=True):
        np.testing.assert_array_equal(jax.jit(head)(rate), lane)


# -- layers -----------------------------------------------------------------------------------------------


def shapes(model, x):
    return jax.eval_shape(lambda key: model.init(key, x), jax.random.key(0))["params"]


def layer_of(params):
    found, names = layers(params, stacked_axes(params))
    leaves = jax.tree_util.tree_leaves_with_path(found)
    return {path_name(path): n for path, n in leaves}, names


def test_layers_are_the_numbered_blocks():
    tokens = jnp.zeros((1, 6), jnp.int32)
    params = shapes(TextClassifier(LanguageModel(9, Transformer(8, 2, 2), 6), 2), tokens)
    found, names = layer_of(params)
    assert found["encoder/embedding/embedding"] == found["encoder/positions"] == 0
    assert found["encoder/body/layer_1/in/kernel"] == 2
    assert found["head/kernel"] == found["encoder/body/norm/scale"] == 3
    assert names[1:] == [["layer_0"], ["layer_1"], ["encoder/body/norm", "head"]]
    assert (
        "share of the learning rate by layer: 0.125 "
        in told(params, stacked_axes(params), (), 0.5)[0]
    )

    found, _ = layer_of(shapes(ResNet(10), jnp.zeros((1, 32, 32, 3))))
    assert found["ResNetFeatures_0/stem/kernel"] == 0
    assert found["ResNetFeatures_0/BasicBlock_7/Conv_1/kernel"] == 8
    assert found["Dense_0/kernel"] == 9
    found, _ = layer_of(shapes(MLP((4, 4, 2)), jnp.zeros((1, 3))))
    assert [found[f"Dense_{n}/kernel"] for n in range(3)] == [1, 2, 3]


def test_layers_of_blocks_in_stages_of_windows_and_of_adapters():
    found, _ = layer_of(shapes(ConvNeXt(3, (4, 8), (2, 3), 2), jnp.zeros((1, 16, 16, 3))))
    at = {path.split("/")[0]: n for path, n in found.items()}
    blocks = [at[f"block_{stage}_{n}"] for stage, n in [(0, 0), (0, 1), (1, 0), (1, 1), (1, 2)]]
    assert blocks == [1, 2, 3, 4, 5]
    assert (at["patches_0"], at["norm_0"], at["patches_1"], at["norm_1"]) == (0, 0, 3, 3)
    assert at["head"] == at["norm"] == 6

    found, _ = layer_of(
        shapes(FCOS(2, ResNetFeatures((1, 1), width=4), (4,), 8), jnp.zeros((1, 32, 32, 3)))
    )
    at = {path.split("/")[1]: n for path, n in found.items() if path.startswith("backbone/")}
    assert (at["stem"], at["BasicBlock_0"], at["BasicBlock_1"]) == (0, 1, 2)
    assert {n for path, n in found.items() if not path.startswith("backbone/")} == {3}

    windows = {f"window_{n}": {"kernel": jnp.ones((n, 2, 2))} for n in (3, 4, 5)}
    with raises("no-layers", "window_3"):  # which are beside each other
        layer_of(windows)
    stem = {"kernel": jnp.ones((3, 2, 2))}
    blocks = {f"layer_{n}": {"in": {"kernel": jnp.ones((2, 2))}} for n in range(2)}
    found, _ = layer_of({"conv_0": stem, "conv_1": stem, "body": blocks, "head": stem})
    assert [
        found[f"{name}/kernel"] for name in ("conv_0", "conv_1", "body/layer_1/in", "head")
    ] == [*(0, 0, 2, 3)]


@pytest.mark.parametrize("scan", [False, True])
def test_adapters_are_of_the_layers_that_they_adapt(scan):
    model = TextClassifier(LanguageModel(9, Transformer(8, 3, 2, scan=scan), 6), 3)
    task = dl.lora(sequence_classification(model), 2, whole=("^head/",))
    rows = {"tokens": jnp.ones((1, 6), jnp.int32), "tokens_length": jnp.full(1, 6)}
    for ensemble in (1, 2):
        made = dl.ensemble(task, ensemble)
        params = jax.eval_shape(made.init, jax.random.key(0), rows)["params"]
        axes = by_path(stacked_axes(params))
        more = ensemble - 1 + scan
        assert {n for path, n in axes.items() if path.endswith(("/a", "/b"))} == {more}
        assert axes["head/bias"] == ensemble - 1
        if ensemble == 1:
            found = by_path(layers(params, stacked_axes(params))[0])
            wanted = [np.ravel(n).tolist() for path, n in found.items() if "in/kernel/a" in path]
            assert np.concatenate(wanted).tolist() == [1, 2, 3]


@pytest.mark.parametrize("scan", [False, True])
def test_layer_decay_scales_each_layers_learning_rate(scan):
    params = jax.jit(Transformer(8, 3, 2, scan=scan).init)(jax.random.key(0), jnp.ones((1, 4, 8)))
    ones = jax.tree.map(jnp.ones_like, params["params"])
    optimizer = optax.chain(optax.sgd(1.0), layerwise(0.5, stacked_axes))
    updates, _ = optimizer.update(ones, optimizer.init(ones), ones)
    if scan:
        kernels = list(updates["layers"]["in"]["kernel"])
    else:
        kernels = [updates[f"layer_{n}"]["in"]["kernel"] for n in range(3)]
    for kernel, share in zip(kernels, (0.125, 0.25, 0.5), strict=True):
        np.testing.assert_array_equal(kernel, -share)
    np.testing.assert_array_equal(updates["norm"]["scale"], -1.0)


def test_a_model_without_numbered_modules_has_no_layers():
    with raises("no-layers", "encoder, head"):
        layerwise(0.5, stacked_axes).init(PARAMS)
    with raises("range", "layer_decay"):
        layerwise(0.0, stacked_axes)
