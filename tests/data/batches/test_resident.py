"""Batches are pure functions of (seed, step), and every example comes exactly once an epoch."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from mistakes import raises

from dl.data.batches.resident import eval_batches, stream_rows, train_batches


@settings(max_examples=40, deadline=None)
@given(size=st.integers(1, 60), batch=st.integers(1, 60), seed=st.integers(0, 2**32 - 1))
def test_the_stream_is_endless_whole_epochs(size, batch, seed):
    batch = min(batch, size)
    epochs = 3
    steps = -(-epochs * size // batch)
    rows = np.concatenate([stream_rows(s, size, batch, np.uint32(seed), np) for s in range(steps)])
    for epoch in range(epochs):
        part = rows[epoch * size : (epoch + 1) * size]
        np.testing.assert_array_equal(np.sort(part), np.arange(size))


def test_device_and_host_agree_far_into_a_run():
    jitted = jax.jit(lambda step: stream_rows(step, 1000, 96, jnp.uint32(5)))
    for step in (0, 10, 11, 124, 125, 10**9):
        np.testing.assert_array_equal(
            jitted(jnp.int32(step)), stream_rows(step, 1000, 96, np.uint32(5), np)
        )


def test_a_batch_depends_on_seed_and_step_alone():
    arrays = {"x": np.arange(100), "y": -np.arange(100)}
    first, again, other = (train_batches(arrays, 7, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first[5]["x"], again[5]["x"])
    assert (first[5]["x"] != other[5]["x"]).any()
    np.testing.assert_array_equal(first[5]["x"], -first[5]["y"])
    np.testing.assert_array_equal(first[5]["x"], first.indices(5))


def test_the_seed_may_be_traced():
    draw = jax.jit(lambda seed: train_batches({"x": jnp.arange(50)}, 5, seed)[3]["x"])
    expected = train_batches({"x": np.arange(50)}, 5, 9)[3]["x"]
    np.testing.assert_array_equal(draw(jnp.uint32(9)), expected)


def test_evaluation_sees_every_row_once_under_its_mask():
    batches = eval_batches({"x": np.arange(10)}, 4)
    assert len(batches) == 3
    parts = [batches[i] for i in range(3)]
    x = np.concatenate([p["x"] for p in parts])
    mask = np.concatenate([p["mask"] for p in parts]) > 0
    np.testing.assert_array_equal(x[mask], np.arange(10))
    assert len(x) == 12


def test_mistakes_are_named():
    for size in (0, 11):
        with raises("batch-size-impossible", f"batch size {size} ", "choose 1 to 10"):
            train_batches({"x": np.arange(10)}, size)
    with raises("column-lengths", "'x': 10, 'y': 9"):
        train_batches({"x": np.arange(10), "y": np.arange(9)}, 2)
    with raises("column-not-numbers", "'y'", "<U4"):
        eval_batches({"x": np.arange(2), "y": np.array(["text", "too"])}, 2)


def test_the_mark_of_real_rows_has_its_name_to_itself():
    with raises("mask-column", "'mask'"):
        eval_batches({"x": np.arange(4), "mask": np.arange(4)}, 2)


def test_digests_tell_contents_apart():
    base = train_batches({"x": np.arange(10)}, 2).digest()
    assert base == eval_batches({"x": np.arange(10)}, 3).digest()
    assert base != train_batches({"x": np.arange(10).astype(np.int32)}, 2).digest()
    assert base != train_batches({"z": np.arange(10)}, 2).digest()
