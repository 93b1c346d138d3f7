"""Keys and permutations are functions of their arguments alone."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from dl.core.random import example_keys, permute, purpose_key


@settings(max_examples=40, deadline=None)
@given(size=st.integers(1, 3000), seed=st.integers(0, 2**32 - 1), epoch=st.integers(0, 10**6))
def test_permute_is_a_permutation(size, seed, epoch):
    shuffled = permute(np.arange(size), size, seed, epoch, np)
    np.testing.assert_array_equal(np.sort(shuffled), np.arange(size))


def test_host_and_device_give_the_same_permutation():
    for size in (1, 2, 1000, 65537):
        host = permute(np.arange(size), size, 7, 3, np)
        device = jax.jit(lambda i, s=size: permute(i, s, 7, 3))(jnp.arange(size))
        np.testing.assert_array_equal(host, device)


def test_epochs_and_seeds_shuffle_differently():
    orders = {tuple(permute(np.arange(50), 50, s, e, np)) for s in range(3) for e in range(3)}
    assert len(orders) == 9


def _table(places, rows, pick):
    """How often each half of a place meets each half of the row that comes there, ``[64, 64]``."""
    table = np.zeros((64, 64), int)
    np.add.at(table, (pick(places), pick(rows)), 1)
    return table


def test_neighbouring_seeds_and_epochs_shuffle_independently():
    # Where seeds share round keys, what one does to the low halves the next does to the high ones: the
    # two tables are then equal. Independent ones, Poisson with mean 1, differ in 1 - sum p(k)^2 of the cells.
    places, independent = np.arange(4096), 1 - np.exp(-2) * np.i0(2.0)
    low, high = (lambda x: x & 63), (lambda x: x >> 6)
    for s in (0, 1, 6, 41, 2**31 - 1):
        first = permute(places, 4096, np.uint32(s), 5, np)
        for seed, epoch in ((s + 1, 5), (s + 2, 5), (s + 1, 4), (s + 1, 6), (s ^ 1, 4)):
            other = permute(places, 4096, np.uint32(seed), epoch, np)
            assert (first == other).sum() < 12  # of which 1 is expected
            for mine, theirs in ((low, high), (high, low), (low, low), (high, high)):
                apart = _table(places, first, mine) != _table(places, other, theirs)
                assert abs(apart.mean() - independent) < 0.06


def test_shuffles_are_close_to_uniform():
    # Each element should land in each place about equally often: chi-square over 2,000 epochs.
    places = np.stack([permute(np.arange(8), 8, 1, e, np) for e in range(2000)])
    counts = np.stack([(places == v).sum(0) for v in range(8)])
    assert ((counts - 250) ** 2 / 250).sum() < 49 + 5 * np.sqrt(2 * 49)


def test_keys_differ_by_purpose_step_and_example():
    key = jax.random.key(0)
    words = [
        jax.random.key_data(k)
        for k in (
            purpose_key(key, "init"),
            purpose_key(key, "loss", 0),
            purpose_key(key, "loss", 1),
        )
    ]
    words += list(jax.random.key_data(example_keys(key, 3)))
    assert len({tuple(np.asarray(w).tolist()) for w in words}) == 6
