"""Digests tell states apart by any single bit, and equal states not at all."""

import jax
import jax.numpy as jnp
import numpy as np

from dl.core.state import digest, leaf_digests, like, plain


def tree():
    return {"a": jnp.arange(6.0).reshape(2, 3), "b": (jnp.int32(1), jax.random.key(3)), "c": None}


def test_equal_trees_have_equal_digests():
    assert digest(tree()) == digest(tree())


def test_one_bit_changes_the_digest_and_names_its_leaf():
    other = tree()
    bits = np.array(other["a"]).view(np.uint32)
    bits[1, 2] ^= 1
    other["a"] = jnp.asarray(bits.view(np.float32))
    assert digest(other) != digest(tree())
    mine, theirs = leaf_digests(tree()), leaf_digests(other)
    assert [name for name in mine if mine[name] != theirs[name]] == ["a"]


def test_shape_and_dtype_count():
    assert digest({"a": jnp.zeros((2, 3))}) != digest({"a": jnp.zeros((3, 2))})
    assert digest({"a": jnp.zeros(2, jnp.int32)}) != digest({"a": jnp.zeros(2, jnp.float32)})


def test_keys_survive_as_plain_words():
    back = like(plain(tree()), tree())
    assert (jax.random.bits(back["b"][1]) == jax.random.bits(tree()["b"][1])).all()
