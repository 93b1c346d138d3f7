"""Gradients against differences of an independent function, computed in NumPy in float64."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np


def agree(function: Callable[..., float], given: Any, gradients: Any, close: float = 1e-5) -> None:
    """``gradients`` of a tree ``given`` are the slopes of ``function(given)`` along one random direction of every
    leaf, to ``close`` times the leaf's largest one."""
    rng = np.random.default_rng(0)
    leaves, tree = jax.tree.flatten(jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), given))
    found = jax.tree.leaves(gradients)
    assert len(found) == len(leaves)
    for place, leaf in enumerate(leaves):
        way = rng.normal(size=leaf.shape) / np.sqrt(leaf.size)
        sides = []
        for sign in (1, -1):
            moved = [*leaves[:place], leaf + sign * 1e-4 * way, *leaves[place + 1 :]]
            sides.append(function(jax.tree.unflatten(tree, moved)))
        slope, scale = (sides[0] - sides[1]) / 2e-4, np.linalg.norm(found[place])
        np.testing.assert_allclose(np.sum(found[place] * way), slope, atol=close * max(1, scale))
