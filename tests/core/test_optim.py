"""Schedules and optimisers by name are Optax's, with decay where it belongs."""

from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from mistakes import raises

import dl
from dl.core.optim import (
    OptimizerName,
    ScheduleName,
    decay_matrices,
    max_norm,
    stacked_axes,
)
from dl.models.transformer import Transformer


@pytest.mark.parametrize("name", get_args(ScheduleName))
def test_schedules_rise_to_the_peak_and_never_above(name):
    rate = jax.vmap(dl.schedule(name, 0.5, 100, warmup=10, end=0.1))(jnp.arange(100))
    assert rate[0] == 0.0
    np.testing.assert_allclose(rate.max(), 0.5, rtol=1e-6)
    assert rate.argmax() == 10
    if name in ("linear", "cosine", "exponential", "wsd"):
        np.testing.assert_allclose(rate[-1], 0.05, atol=0.03)


@pytest.mark.parametrize("name", get_args(OptimizerName))
def test_optimizers_descend(name):
    target = {"w": jnp.array([[1.0, -2.0], [0.5, 3.0]]), "b": jnp.array([0.3, -0.1])}
    params = jax.tree.map(jnp.zeros_like, target)
    optimizer = dl.optimizer(name, 0.05, clip=1.0)

    def loss(params):
        return sum(((params[name] - target[name]) ** 2).sum() for name in target)

    @jax.jit
    def step(params, state):
        updates, state = optimizer.update(jax.grad(loss)(params), state, params)
        return optax.apply_updates(params, updates), state

    state, before = optimizer.init(params), loss(params)
    for _ in range(60):
        params, state = step(params, state)
    assert loss(params) < 0.8 * before


@pytest.mark.parametrize("name", ["adam", "adamw", "lion"])
def test_a_moment_in_bfloat16_is_rounded_where_it_is_kept_and_nowhere_else(name):
    """Against NumPy: decay rates beside it are not rounded to bfloat16, in which 0.99 is 0.988."""
    draws = np.random.default_rng(0).normal(size=(60, 7)).astype(np.float32) + 1
    optimizer = dl.optimizer(name, 0.01, moment="bfloat16")
    params = {"w": jnp.zeros(7)}
    state = optimizer.init(params)
    first, second, w = np.zeros((3, 7), np.float32)
    for step, gradient in enumerate(draws, 1):
        updates, state = optimizer.update({"w": jnp.asarray(gradient)}, state, params)
        params = optax.apply_updates(params, updates)
        if name == "lion":
            w -= np.float32(0.01) * np.sign(0.1 * gradient + 0.9 * first).astype(np.float32)
            first = 0.01 * gradient + 0.99 * first
        else:
            first = 0.1 * gradient + 0.9 * first
            second = 0.001 * gradient**2 + 0.999 * second
            w -= 0.01 * (first / (1 - 0.9**step)) / np.sqrt(second / (1 - 0.999**step))
        first = first.astype(jnp.bfloat16).astype(np.float32)
    kept = next(x for x in jax.tree.leaves(state) if x.dtype == jnp.bfloat16)
    np.testing.assert_allclose(kept.astype(np.float32), first, rtol=1e-6)
    np.testing.assert_allclose(params["w"], w, rtol=1e-4)


def test_decay_spares_biases_and_scales():
    params = {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}
    assert decay_matrices(params) == {"kernel": True, "bias": False}
    for name in ("sgd", "adamw", "lion"):
        optimizer = dl.optimizer(name, 0.1, weight_decay=0.5)
        zeros = jax.tree.map(jnp.zeros_like, params)
        updates, _ = optimizer.update(zeros, optimizer.init(params), params)
        assert (updates["kernel"] < 0).all()
        np.testing.assert_array_equal(updates["bias"], 0.0)


def test_hyper_parameters_may_be_traced():
    def first_update(rate, decay):
        optimizer = dl.optimizer("adamw", rate, weight_decay=decay)
        params = {"w": jnp.ones((2, 2))}
        return optimizer.update(params, optimizer.init(params), params)[0]["w"][0, 0]

    lanes = jax.vmap(first_update)(jnp.array([0.1, 0.2]), jnp.array([0.0, 0.5]))
    np.testing.assert_allclose(lanes, [-0.1, -0.2 * 1.5], rtol=1e-4)


def test_unknown_names_suggest_the_right_one():
    with raises("unknown", "did you mean 'adamw'"):
        dl.optimizer("adammw", 1e-3)
    with raises("unknown", "did you mean 'cosine'"):
        dl.schedule("cosin", 1e-3, 10)


# -- layers and models stacked on one another ----------------------------------------------------------

BODIES = {scan: Transformer(8, 3, 2, scan=scan) for scan in (False, True)}
X = jax.random.normal(jax.random.key(1), (2, 4, 8))
PLAIN = jax.jit(BODIES[False].init)(jax.random.key(0), X)["params"]


def stacked(plain):
    layers = [plain[f"layer_{i}"] for i in range(3)]
    return {"layers": jax.tree.map(lambda *a: jnp.stack(a), *layers), "norm": plain["norm"]}


def test_stacked_axes_are_told_by_biases_and_scales():
    assert set(jax.tree.leaves(stacked_axes(PLAIN))) == {0}
    found = stacked_axes(stacked(PLAIN))
    assert set(jax.tree.leaves(found["layers"])) == {1}
    assert set(jax.tree.leaves(found["norm"])) == {0}
    members = jax.tree.map(lambda x: jnp.stack([x, x]), stacked(PLAIN))
    found = stacked_axes(members)
    assert set(jax.tree.leaves(found["layers"])) == {2}
    assert set(jax.tree.leaves(found["norm"])) == {1}
    # Norms by other names, as published networks have them.
    block = {
        "norm": {"gamma": jnp.ones((3, 4)), "beta": jnp.ones((3, 4))},
        "w": jnp.ones((3, 4, 4)),
    }
    assert set(jax.tree.leaves(stacked_axes({"layers": block, "head": jnp.ones((4, 2))}))) == {0, 1}
    assert jax.tree.leaves(decay_matrices(block)) == [False, False, True]  # beta, gamma, w
    # Alike in all lengths, and yet no stack.
    square = {"a": {"kernel": jnp.ones((4, 4)), "bias": jnp.ones(4)}, "b": {"scale": jnp.ones(4)}}
    assert set(jax.tree.leaves(stacked_axes(square))) == {0}
    convolution = {"kernel": jnp.ones((3, 3, 4, 8)), "bias": jnp.ones(8)}
    assert stacked_axes(convolution) == {"kernel": 0, "bias": 0}
    # Attention's bias has two axes of its own: [heads, size].
    heads = {"kernel": jnp.ones((16, 2, 8)), "bias": jnp.ones((2, 8))}
    assert stacked_axes(heads) == {"kernel": 0, "bias": 0}


@pytest.mark.parametrize("name", get_args(OptimizerName))
def test_a_scanned_model_moves_as_the_unscanned_one(name):
    made = optax.chain(dl.optimizer(name, 0.01, weight_decay=0.3, clip=0.1), max_norm(0.9))

    ends = []
    for params in (PLAIN, stacked(PLAIN)):
        # The gradients of both are the same numbers: a network's differ in their last bits, of which a
        # sign or a division by their own size makes whole steps.
        step = jax.jit(lambda p, s: made.update(jax.tree.map(lambda x: jnp.sin(99 * x), p), s, p))
        state = made.init(params)
        for _ in range(3):
            updates, state = step(params, state)
            params = optax.apply_updates(params, updates)
        ends.append(params)
    for a, b in zip(jax.tree.leaves(stacked(ends[0])), jax.tree.leaves(ends[1]), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-3 if name == "muon" else 1e-5)


@pytest.mark.parametrize("name", ["adamw", "lion", "lamb", "muon", "sgd", "adam"])
def test_decay_reaches_every_matrix_and_nothing_else(name):
    """With no gradient a leaf shrinks by rate * decay, or stays."""
    params = {
        "dense": {"kernel": jnp.ones((8, 8)), "bias": jnp.ones(8)},
        "conv": {"kernel": jnp.ones((3, 3, 4, 8)), "bias": jnp.ones(8)},
        "layers": {"dense": {"kernel": jnp.ones((3, 8, 8)), "bias": jnp.ones((3, 8))}},
        "norm": {"scale": jnp.ones(8)},
    }
    made = dl.optimizer(name, 0.1, weight_decay=0.1)
    zeros = jax.tree.map(jnp.zeros_like, params)
    updates, _ = jax.jit(made.update)(zeros, made.init(params), params)
    for path, leaf in jax.tree_util.tree_leaves_with_path(updates):
        if "kernel" not in str(path):
            np.testing.assert_array_equal(leaf, 0.0)
        elif name in ("adamw", "lion", "muon", "sgd"):
            np.testing.assert_allclose(leaf, -0.01, rtol=1e-5)
        else:
            assert (leaf < 0).all()


def test_lamb_and_muon_are_optaxs_own_where_nothing_is_stacked():
    params = {"kernel": jax.random.normal(jax.random.key(0), (6, 4)), "bias": jnp.ones(4)}
    grads = jax.tree.map(jnp.cos, params)
    pairs = {
        "lamb": optax.lamb(0.1, weight_decay=0.2, mask=decay_matrices),
        "muon": optax.contrib.muon(0.1, weight_decay=0.2, weight_decay_mask=decay_matrices),
    }
    for name, theirs in pairs.items():
        ours = dl.optimizer(name, 0.1, weight_decay=0.2)
        for made in (a := [], b := []):
            optimizer = ours if made is a else theirs
            state, now = optimizer.init(params), params
            for _ in range(3):
                updates, state = optimizer.update(grads, state, now)
                now = optax.apply_updates(now, updates)
            made.extend(jax.tree.leaves(now))
        for x, y in zip(a, b, strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6)


def test_wsd_falls_over_the_last_fifth_of_the_run_and_rsqrt_is_finite_at_once():
    rate = jax.vmap(dl.schedule("wsd", 1.0, 100, warmup=20, end=0.1))(jnp.arange(101))
    np.testing.assert_allclose(rate[20:81], 1.0)
    np.testing.assert_allclose(rate[80:], np.linspace(1.0, 0.1, 21), rtol=1e-5)
    for warmup in (0, 1, 30):
        made = dl.schedule("rsqrt", 1.0, 100, warmup=warmup)
        with jax.debug_nans(True), jax.debug_infs(True):
            assert jax.jit(made)(0) == (0.0 if warmup else 1.0)
        if warmup:
            assert float(made(4 * warmup)) == pytest.approx(0.5)
