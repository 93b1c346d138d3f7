"""Sequence to sequence: learning to reverse, and reading it back by beam search."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from learning import learn

from dl.models.language import EncoderDecoder
from dl.models.transformer import Transformer
from dl.tasks.sequence_to_sequence import sequence_to_sequence

MODEL = EncoderDecoder(
    12, Transformer(32, 1, 4), Transformer(32, 1, 4, causal=True, cross=True), positions=10
)


def pairs(key, batch=64, longest=5):
    """Rows of digits and the same from the end, of 2 to ``longest`` tokens."""
    body = jax.random.randint(key, (batch, longest), 7, 12)
    length = jax.random.randint(jax.random.fold_in(key, 1), (batch, 1), 2, longest + 1)
    place = jnp.arange(longest)
    source = jnp.where(place < length, body, 0)
    turned = jnp.take_along_axis(body, jnp.maximum(length - 1 - place, 0), axis=1)
    target = jnp.where(place < length, turned, jnp.where(place == length, 3, 0))
    last = jnp.where(length == longest, 3, 0)
    start = jnp.full((batch, 1), 2)
    return {"source": source, "target": jnp.concatenate([start, target, last], axis=1)}


@functools.cache
def trained():
    task = sequence_to_sequence(MODEL, 8, label_smoothing=0.05)
    return learn(task, optax.adam(3e-3), lambda step: pairs(jax.random.key(step)), 400)[0].variables


@pytest.mark.parametrize("beams", [1, 3])
def test_it_learns_to_reverse(beams):
    task = sequence_to_sequence(MODEL, 8, beams=beams)
    batch = pairs(jax.random.key(999), 50)
    written = jax.jit(task.predict)(trained(), batch)
    expected = np.pad(np.asarray(batch["target"])[:, 1:], ((0, 0), (0, 2)))
    assert (np.asarray(written) == expected).all(axis=1).mean() > 0.9


def test_a_row_is_read_the_same_in_any_batch_and_padding():
    task = sequence_to_sequence(MODEL, 8, beams=3)
    source = pairs(jax.random.key(7), 6)["source"]
    together = jax.jit(task.predict)(trained(), {"source": source})
    alone = jax.jit(task.predict)(trained(), {"source": jnp.pad(source[2:3], ((0, 0), (0, 3)))})
    np.testing.assert_array_equal(together[2:3], alone)


def test_padding_counts_nowhere():
    task = sequence_to_sequence(MODEL, 8)
    batch = pairs(jax.random.key(3), 6)
    evaluate = jax.jit(task.evaluate)
    plain = evaluate(trained(), batch)
    assert plain["loss"].weight == (batch["target"][:, 1:] != 0).sum()
    wider = {name: jnp.pad(value, ((0, 0), (0, 2))) for name, value in batch.items()}
    padded = evaluate(trained(), wider)
    np.testing.assert_allclose(plain["loss"].total, padded["loss"].total, rtol=1e-4)
    masked = evaluate(trained(), {**batch, "mask": jnp.array([1.0] * 4 + [0.0] * 2)})
    first = evaluate(trained(), {name: value[:4] for name, value in batch.items()})
    np.testing.assert_allclose(masked["loss"].total, first["loss"].total, rtol=1e-4)
