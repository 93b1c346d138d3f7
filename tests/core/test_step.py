"""The step and its transformations: what they compute, and that cutting work up changes nothing."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import dl
from dl.core.state import leaf_digests
from dl.core.step import gradient, guarded, zero_metrics
from dl.core.target import Target, tracing_for
from dl.data.batches import train_batches
from dl.tasks.classification import classification


class Net(nn.Module):
    norm: bool = False

    @nn.compact
    def __call__(self, x, *, train=False):
        x = nn.tanh(nn.Dense(8)(x))
        if self.norm:
            x = nn.BatchNorm(use_running_average=not train)(x)
        return nn.Dense(3)(x)


def experiment(norm=False, prepare=lambda x: x):
    rng = np.random.default_rng(0)
    arrays = {
        "image": rng.normal(size=(40, 5)).astype(np.float32),
        "label": rng.integers(0, 3, 40).astype(np.int32),
    }
    return classification(Net(norm), prepare=prepare), train_batches(arrays, 12, 0)


def start(task, batches, ema=False, optimizer=None):
    optimizer = optimizer or optax.adam(1e-2)
    return optimizer, dl.init_state(task, optimizer, batches[0], 0, ema)


def test_step_is_optax_on_the_gradient():
    task, batches = experiment()
    optimizer, state = start(task, batches, optimizer=optax.sgd(0.1))
    new, metrics = dl.train_step(task, optimizer)(state, batches[0])
    key = dl.core.random.purpose_key(state.key, "loss", 0)
    grads, _ = gradient(task)(state.variables, batches[0], key)
    expected = jax.tree.map(lambda p, g: p - 0.1 * g, state.variables["params"], grads)
    jax.tree.map(np.testing.assert_allclose, new.variables["params"], expected)
    assert int(new.step) == 1
    assert metrics["loss"].weight == 12


@pytest.mark.parametrize("count", [2, 3, 4])
def test_accumulated_gradient_is_the_whole_batchs(count):
    task, batches = experiment()
    _, state = start(task, batches)
    batch = {**batches[0], "mask": jnp.array([1.0] * 7 + [0.0] * 5)}  # uneven micro-batches
    key = jax.random.key(1)
    whole, aux = gradient(task)(state.variables, batch, key)
    parts, aux_parts = dl.accumulate(gradient(task), count)(state.variables, batch, key)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), whole, parts)
    np.testing.assert_allclose(
        aux.metrics["loss"].total, aux_parts.metrics["loss"].total, rtol=1e-5
    )


def test_bits_do_not_depend_on_how_steps_are_dispatched():
    task, batches = experiment(norm=True)
    optimizer, state = start(task, batches, ema=True)
    step = dl.train_step(task, optimizer, ema=0.9)
    run = jax.jit(dl.scan_steps(step))
    zeros = zero_metrics(lambda s, b: step(s, b)[1], state, batches[0])
    ends = []
    for cuts in ([7], [1] * 7, [3, 4], [1, 5, 1]):
        now, totals = state, zeros
        for count in cuts:
            now, totals, finite = run(now, totals, batches, jnp.int32(count))
            assert finite
        ends.append(leaf_digests({"state": now, "totals": totals}))
    assert all(end == ends[0] for end in ends)


@pytest.mark.parametrize("platform", ["cpu", "gpu"])  # by a branch, or by a select
def test_a_step_with_a_non_finite_loss_is_undone(platform):
    task, batches = experiment()
    poisoned = batches.replace(arrays={**batches.arrays, "image": batches.arrays["image"].copy()})
    bad_step = 2
    poisoned.arrays["image"][np.asarray(batches.indices(bad_step))[4]] = np.nan
    first = min(s for s in range(4) if np.isnan(np.asarray(poisoned[s]["image"])).any())
    optimizer, state = start(task, batches)
    step = dl.train_step(task, optimizer)
    zeros = zero_metrics(lambda s, b: step(s, b)[1], state, batches[0])
    with tracing_for(Target(platform)):
        stopped, totals, finite = jax.jit(dl.scan_steps(step))(state, zeros, poisoned, jnp.int32(9))
    assert not finite
    assert int(stopped.step) == first
    assert totals["loss"].weight == 12 * first
    assert all(jnp.isfinite(x).all() for x in jax.tree.leaves(stopped.variables))
    with tracing_for(Target(platform)):
        again, _, finite = guarded(step)(stopped, totals, jnp.bool_(True), poisoned)
    assert not finite
    assert int(again.step) == first


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.9, 0.999])
def test_the_moving_average_is_a_weighted_mean_of_what_was_and_never_of_the_start(decay):
    """By hand, in float64: the weights of all steps so far, statistics averaged with parameters."""
    task, batches = experiment(norm=True)
    optimizer, state = start(task, batches, ema=True)
    step = jax.jit(dl.train_step(task, optimizer, ema=decay))
    seen, weights = [], np.zeros(0)
    for index in range(40):
        state, _ = step(state, batches[index])
        seen.append(state.variables)
        share = max(1 - decay, 9 / (index + 9))
        weights = np.append(weights * (1 - share), share)
        assert weights.sum() == pytest.approx(1.0)
    assert weights[-1] == max(1 - decay, 9 / 48)
    assert set(state.ema) == {"params", "batch_stats"}
    for leaf, *values in zip(
        jax.tree.leaves(state.ema), *(jax.tree.leaves(s) for s in seen), strict=True
    ):
        expected = np.tensordot(weights, np.array(values, np.float64), 1)
        np.testing.assert_allclose(leaf, expected, rtol=1e-4, atol=1e-6)
    assert state.eval_variables is state.ema


def test_the_first_average_is_the_first_step():
    task, batches = experiment()
    optimizer, state = start(task, batches, ema=True)
    new, _ = dl.train_step(task, optimizer, ema=0.999)(state, batches[0])
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-8), new.ema, new.variables
    )


def test_statistics_are_updated_by_training_alone():
    task, batches = experiment(norm=True)
    optimizer, state = start(task, batches)
    new, _ = dl.train_step(task, optimizer)(state, batches[0])
    moved = jax.tree.map(
        lambda a, b: bool((a != b).any()),
        state.variables["batch_stats"],
        new.variables["batch_stats"],
    )
    assert all(jax.tree.leaves(moved))


def test_mixed_precision_computes_low_and_keeps_high():
    seen = []

    class Spy(nn.Module):
        @nn.compact
        def __call__(self, x, *, train=False):
            hidden = nn.Dense(4)(x)
            seen.append((x.dtype, hidden.dtype))
            return nn.Dense(3)(hidden)

    _, batches = experiment()
    low = dl.mixed_precision(classification(Spy(), prepare=lambda x: x))
    optimizer, state = start(low, batches)
    new, metrics = dl.train_step(low, optimizer)(state, batches[0])
    assert seen[-1] == (jnp.bfloat16, jnp.bfloat16)
    assert all(x.dtype == jnp.float32 for x in jax.tree.leaves(new.variables["params"]))
    assert metrics["loss"].total.dtype == jnp.float32


def test_augmentation_sees_training_batches_alone():
    task, batches = experiment()

    def shout(key, batch):
        return {**batch, "image": batch["image"] + 1000 * jax.random.uniform(key)}

    optimizer, state = start(task, batches)
    _, plain = dl.train_step(task, optimizer)(state, batches[0])
    _, loud = dl.train_step(task, optimizer, augment=(shout,))(state, batches[0])
    assert loud["loss"].total != plain["loss"].total
    evaluated = dl.eval_step(task)(state, batches[0])["loss"].total
    np.testing.assert_allclose(evaluated, plain["loss"].total, rtol=1e-6)


def test_any_task_that_keeps_the_contract_trains():
    """A task is four functions: here the mean of the data, without a Flax model."""
    task = dl.Task(
        init=lambda key, batch: {"params": {"mean": jnp.zeros(())}},
        apply=lambda v, batch, key: ((v["params"]["mean"] - batch["x"]) ** 2, {}),
        score=lambda errors, batch, train: {"loss": dl.core.metrics.mean(errors)},
        predict=lambda v, x: v["params"]["mean"],
    )
    data = train_batches({"x": np.full((8, 1), 3.0, np.float32)}, 4, 0)
    optimizer, state = start(task, data, optimizer=optax.sgd(0.2))
    step = jax.jit(dl.train_step(task, optimizer))
    for index in range(50):
        state, _ = step(state, data[index])
    np.testing.assert_allclose(state.variables["params"]["mean"], 3.0, rtol=1e-4)
