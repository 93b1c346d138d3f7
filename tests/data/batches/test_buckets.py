"""Bucketed batches are whole epochs of like lengths, and a trimmed step computes the same."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from mistakes import raises

from dl.core.metrics import compute, mean
from dl.core.state import init_state
from dl.core.step import eval_step, train_step
from dl.core.task import Task
from dl.core.transforms import ensemble, mean_of_values
from dl.data.batches.buckets import bucket_batches, trim


@pytest.mark.parametrize(
    ("size", "batch", "pool"),
    [(2, 2, 1), (3, 2, 6), (17, 2, 6), (33, 16, 1), (64, 16, 4), (100, 7, 3), (129, 128, 16)],
)
def test_an_epoch_has_every_row_once_and_no_empty_batch(size, batch, pool):
    lengths = (np.arange(size) * 7919) % 31
    batches = bucket_batches({"row": np.arange(size)}, lengths, batch, seed=5, pool=pool)
    steps = batches.steps_per_epoch
    epochs = jax.jit(lambda b: jax.lax.map(lambda s: b[s], jnp.arange(2 * steps)))(batches)
    real = np.asarray(epochs["mask"]) > 0
    assert real.any(1).all()
    rows = np.asarray(epochs["row"])
    for part in (slice(0, steps), slice(steps, None)):
        np.testing.assert_array_equal(np.sort(rows[part][real[part]]), np.arange(size))


def test_rows_of_a_batch_are_alike_in_length():
    random = np.random.default_rng(0)
    lengths = random.integers(1, 100, 2000)
    batches = bucket_batches({"length": lengths}, lengths, 20, pool=5)
    draw = jax.jit(lambda b, s: b[s]["length"])
    spans = [float(jnp.ptp(draw(batches, step))) for step in range(20)]
    assert max(spans) <= 12  # a pool of 100 of 2,000 rows spans about 5 lengths


def test_steps_and_seeds_decide_the_rows():
    def make(seed):
        return bucket_batches({"row": np.arange(64)}, np.arange(64) % 9, 8, seed)

    draw = jax.jit(lambda b: jax.lax.map(lambda s: (b[s]["row"], b.indices(s)), jnp.arange(16)))
    rows, indices = draw(make(1))
    np.testing.assert_array_equal(rows, draw(make(1))[0])
    np.testing.assert_array_equal(rows, indices)
    assert (rows != draw(make(2))[0]).any()
    assert (rows[:8] != rows[8:]).any()


def test_one_row_a_batch_is_refused():
    with raises("batch-size-impossible", "choose 2 to 9"):
        bucket_batches({"row": np.arange(9)}, np.arange(9), 1)


def _counting_task():
    """Adds up the tokens within each row's length; its metric tells the width it ran at."""

    def apply(variables, batch, key):
        tokens = batch["tokens"]
        real = jnp.arange(tokens.shape[1]) < batch["length"][:, None]
        total = jnp.sum(jnp.where(real, tokens, 0)) * variables["params"]["w"]
        return (total, jnp.float32(tokens.shape[1])), {}

    return Task(
        init=lambda key, batch: {"params": {"w": jnp.float32(1)}},
        apply=apply,
        score=lambda outputs, batch, train: {
            "loss": mean(outputs[0][None]),
            "width": mean(outputs[1][None]),
        },
        predict=lambda variables, inputs: inputs,
    )


@pytest.mark.parametrize("members", [1, 2])
def test_a_trimmed_step_is_the_same_step_on_fewer_columns(members):
    task, optimizer = _counting_task(), optax.sgd(0.1)
    if members > 1:
        task = ensemble(dataclasses.replace(task, average=mean_of_values), members)
    tokens = jnp.ones((2, 12))
    state = init_state(task, optimizer, {"tokens": tokens, "length": jnp.array([1, 1])})
    short = trim(["tokens"], [4, 8], lambda batch: batch["length"].max())
    whole, cut = train_step(task, optimizer), train_step(task, optimizer, trim=short)

    @jax.jit
    def both(batch):
        return whole(state, batch), cut(state, batch), eval_step(task, short)(state, batch)

    for length, width in ((3, 4), (4, 4), (5, 8), (9, 12), (12, 12)):
        batch = {"tokens": tokens, "length": jnp.array([1, length])}
        (new, metrics), (cut_new, cut_metrics), evaluated = both(batch)
        np.testing.assert_array_equal(
            new.variables["params"]["w"], cut_new.variables["params"]["w"]
        )
        assert metrics["loss"] == cut_metrics["loss"]
        assert compute(cut_metrics)["width"] == compute(evaluated)["width"] == width


def test_rows_of_one_length_that_a_file_sorts_by_label_are_mixed():
    label = np.repeat([0, 1], 500)
    batches = bucket_batches({"label": label}, np.full(1000, 81), 20, pool=5)
    assert all(2 <= int(batches[step]["label"].sum()) <= 18 for step in range(20))
    lengths = np.arange(1000) // 50  # ties within a pool stay as they were
    same = bucket_batches({"label": label}, lengths, 20, pool=5)
    np.testing.assert_array_equal(same.order, np.arange(1000))
