"""The layer table and what flows through the layers, against hand counts and direct computation."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dl.core.random import purpose_key
from dl.report.layers import LOOKS_INTO_LOOPS, flows, summary
from dl.tasks.classification import classification

KEY = jax.random.key(0)


class Net(nn.Module):
    @nn.compact
    def __call__(self, x, *, train: bool = False):
        x = nn.relu(nn.Conv(3, (3, 3), use_bias=False)(x)).reshape(x.shape[0], -1)
        cell = nn.scan(Step, variable_broadcast="params", split_rngs={"params": False}, length=4)
        x, _ = cell(name="loop")(nn.Dense(5)(x), None)
        return nn.Dense(7, name="head")(x)


class Step(nn.Module):
    @nn.compact
    def __call__(self, carry, _):
        return nn.Dense(5, name="again")(carry), None


BATCH = {
    "image": jax.random.normal(KEY, (2, 6, 6, 1)),
    "label": jnp.array([1, 3]),
}
TASK = classification(Net(), prepare=lambda x: x)


def test_parameters_shapes_and_flops_are_those_counted_by_hand():
    layers = {layer.path: layer for layer in summary(TASK, BATCH).layers}
    conv, dense, again, head = (layers[n] for n in ("Conv_0", "Dense_0", "loop/again", "head"))
    assert (conv.kind, conv.output, conv.parameters) == ("Conv", "[2, 6, 6, 3]", 27)
    assert conv.flops == 2 * (2 * 6 * 6 * 3) * 9
    assert (dense.parameters, dense.flops) == (108 * 5 + 5, 2 * 2 * 108 * 5)
    assert again.flops == 4 * 2 * 2 * 5 * 5  # as often as the loop runs
    assert (head.output, head.parameters) == ("[2, 7]", 42)
    text = repr(summary(TASK, BATCH))
    assert "loop/again" in text
    assert "<td>Conv_0</td>" in summary(TASK, BATCH)._repr_html_()


def test_activations_and_gradients_are_those_of_the_loss():
    variables = TASK.init(KEY, BATCH)
    found = flows(TASK, variables, BATCH, KEY)
    logits = np.asarray(TASK.predict(variables, BATCH))
    assert found["head"].mean == pytest.approx(logits.mean(), abs=1e-6)
    assert found["head"].rms == pytest.approx(np.sqrt((logits**2).mean()), rel=1e-5)

    def loss(params):
        return TASK.loss({**variables, "params": params}, BATCH, purpose_key(KEY, "report"))[0]

    slope = jax.grad(loss)(variables["params"])["head"]
    flat = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(slope)])
    assert found["head"].gradient == pytest.approx(np.sqrt((flat**2).mean()), rel=1e-4)
    assert found["loop/again"].gradient is not None
    assert (found["loop/again"].rms is not None) == LOOKS_INTO_LOOPS
