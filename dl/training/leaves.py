"""The arrays of a state by their paths: their digests, and whether they are finite."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

from dl.core.digests import KIND, SHA, all_finite, lane_digests, of_each
from dl.core.state import array_digest, by_path, combine, like, path_name, plain
from dl.core.step import GRADIENT_NORM
from dl.parallel.sharding import on_host

_FLEETING = f"totals/{GRADIENT_NORM}/"


def flatten(tree: Any) -> dict[str, Any]:
    """Leaves of ``tree`` by path, PRNG keys as their words; without what no checkpoint holds."""
    return {n: x for n, x in by_path(plain(tree)).items() if not n.startswith(_FLEETING)}


def digests(flat: dict[str, Any], kind: str | None = None) -> dict[str, str]:
    """The digest of each array, of a kind of :mod:`dl.core.digests`; by default that of new runs."""
    if (kind or KIND.get()) != SHA:
        return lane_digests(flat)[0]
    if not all(isinstance(leaf, np.ndarray) for leaf in flat.values()):
        # One at a time, so that no host holds all that lies spread over processes.
        return {name: array_digest(on_host(leaf)) for name, leaf in flat.items()}
    return of_each(array_digest, flat)


def examined(flat: dict[str, Any], kind: str | None = None) -> tuple[dict[str, str], list[str]]:
    """The digest of each leaf, and the names of variables that are not finite."""
    variables = [name for name in flat if name.startswith("state/variables")]
    if (kind or KIND.get()) == SHA:
        return digests(flat, SHA), [n for n in variables if not all_finite(flat[n])]
    leaves, finite = lane_digests(flat)
    return leaves, [n for n in variables if not finite[n]]


def unflatten(flat: dict[str, Any], template: Any) -> Any:
    """``flat`` in the shape of ``template``, and where its leaves lie."""

    def take(path: tuple[Any, ...], leaf: Any) -> jax.Array:
        if (found := flat.get(path_name(path))) is None:
            return jax.numpy.array(leaf)
        sharding = getattr(leaf, "sharding", None)
        if isinstance(found, jax.Array) or not isinstance(sharding, NamedSharding):
            return jnp.array(found)  # a copy: restored arrays get donated
        # Each device is handed its part alone; again copies.
        return jax.make_array_from_callback(found.shape, sharding, lambda at: np.array(found[at]))

    return like(jax.tree_util.tree_map_with_path(take, plain(template)), template)


def state_digest(leaves: dict[str, str]) -> str:
    """One digest for a checkpoint's state, from its leaves' (running metrics are left out)."""
    return combine({n: v for n, v in leaves.items() if n.startswith("state/")})
