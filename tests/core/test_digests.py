"""Digests by lanes: the same from the host and from devices, and others for other arrays."""

import hashlib

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from dl.core.digests import CHUNK, SHA, all_finite, lane_digests, words_on_devices, words_on_host
from dl.training.leaves import examined

RNG = np.random.default_rng(0)
WHOLE = RNG.normal(size=(3, CHUNK // 4 + 5, 8)).astype(
    np.float32
)  # of several pieces, the last one short
ARRAYS = {
    "float32": WHOLE,
    "bfloat16": WHOLE[0].astype(ml_dtypes.bfloat16),
    "float16": WHOLE[0].astype(np.float16),
    "float8": WHOLE[0].astype(ml_dtypes.float8_e4m3fn),
    "complex": WHOLE[0] + 1j * WHOLE[1],
    "int8": RNG.integers(-128, 128, 77).astype(np.int8),
    "int4": RNG.integers(-8, 8, 77).astype(ml_dtypes.int4),
    "bool": RNG.integers(0, 2, (5, 7)).astype(bool),
    "uint32": RNG.integers(0, 2**32, 9).astype(np.uint32),
    "scalar": np.float32(2.5),
    "empty": np.zeros((0, 3), np.float32),
    "strided": WHOLE[:, ::3, 1],
    "not finite": np.array([0, np.nan, np.inf], np.float32),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_host_and_device_compute_the_same(name):
    array = ARRAYS[name]
    there = np.asarray(jax.jit(words_on_devices)(jnp.asarray(array)))
    np.testing.assert_array_equal(words_on_host(np.asarray(array)), there)
    assert bool(there[-1]) == all_finite(array) == (name != "not finite")


def test_words_of_64_bits_count_as_two():
    wide = np.arange(5, dtype=np.int64) << 31
    if hasattr(jax, "enable_x64"):
        wider = jax.enable_x64
    else:  # as jax 0.7, which Colab has, calls it
        from jax.experimental import enable_x64 as wider
    with wider(True):
        there = np.asarray(words_on_devices(jnp.asarray(wide)))
    np.testing.assert_array_equal(words_on_host(wide), there)


def test_the_digest_stays_what_it_was():
    """It stands in the folders of runs, which must be read for ever."""
    found, finite = lane_digests({"a": np.arange(6, dtype=np.float32).reshape(2, 3)})
    assert found == {"a": "lanes:ee08448fe426cdc48a634b0c59b76f98"}
    assert finite == {"a": True}


@pytest.mark.parametrize("rows", [4, 2**19])  # of the larger, threads digest several at once
@pytest.mark.parametrize("place", [np.asarray, jnp.asarray])
def test_runs_of_before_keep_the_digest_of_bytes(rows, place):
    good, bad = np.full((rows, 2), 2, np.float32), np.array([1, np.nan], ml_dtypes.bfloat16)
    own = {"state/variables/good": good, "state/variables/bad": bad, "state/opt_state/bad": bad}
    found, not_finite = examined({name: place(x) for name, x in own.items()}, SHA)
    assert not_finite == ["state/variables/bad"]
    for name, x in own.items():
        kind = f"{x.dtype}{x.shape}".encode()
        assert found[name] == hashlib.sha256(kind + x.tobytes()).hexdigest()


def test_any_changed_word_any_exchange_and_any_shape_is_another():
    small = RNG.integers(0, 4, 64).astype(np.uint32)  # few values, as labels have
    variants = [small, small.reshape(8, 8), small.view(np.int32), small[:-1], np.append(small, 0)]
    for place in range(64):
        for bit in (0, 1, 15, 31):
            changed = small.copy()
            changed[place] ^= np.uint32(1 << bit)
            variants.append(changed)
    for _ in range(200):  # two signs, which linear sums would not see; two places
        a, b = RNG.choice(64, 2, replace=False)
        signs, swapped = small.copy(), np.arange(64, dtype=np.uint32)
        signs[[a, b]] ^= np.uint32(1 << 31)
        swapped[[a, b]] = swapped[[b, a]]
        variants += [signs, swapped]
    found = [lane_digests({"x": x})[0]["x"] for x in variants]
    same = {hashlib.sha256(f"{x.dtype}{x.shape}".encode() + x.tobytes()).digest() for x in variants}
    assert len(set(found)) == len(same) > 600
