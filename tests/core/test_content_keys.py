"""Keys from contents: the same row, the same key, wherever it stands."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dl.core.random import content_keys


@pytest.mark.parametrize("dtype", [jnp.uint8, jnp.int32, jnp.float32, jnp.bfloat16])
def test_a_row_has_one_key_in_any_batch(dtype):
    rows = jax.random.randint(jax.random.key(0), (6, 3, 5), 0, 99).astype(dtype)
    whole = jax.random.key_data(content_keys(jax.random.key(1), rows))
    parts = [
        jax.random.key_data(content_keys(jax.random.key(1), rows[i : i + 2])) for i in (0, 2, 4)
    ]
    np.testing.assert_array_equal(whole, jnp.concatenate(parts))
    assert len(np.unique(np.asarray(whole), axis=0)) == 6
    other = jax.random.key_data(content_keys(jax.random.key(2), rows))
    assert (np.asarray(other) != np.asarray(whole)).any(axis=1).all()


def test_order_within_a_row_matters():
    a, b = content_keys(jax.random.key(0), jnp.array([[1, 2, 3], [3, 2, 1]]))
    assert (jax.random.key_data(a) != jax.random.key_data(b)).any()
