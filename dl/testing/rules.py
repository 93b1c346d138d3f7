"""How a rule that does not hold is told."""

import contextlib
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from dl.core.contract import changes
from dl.core.errors import UserError
from dl.core.state import path_name

CLOSE = 1e-4  # of a leaf's largest entry: sums round differently in programs of other shapes


def same(name: str, one: Any, other: Any, fix: str, exact: bool = False) -> None:
    """The rule that two trees are alike, up to rounding where not ``exact``."""
    changed = changes(one, other)
    rule(not changed, name, changed, fix)
    pairs = zip(jax.tree_util.tree_leaves_with_path(one), jax.tree.leaves(other), strict=True)
    for (path, a), b in pairs:
        x, y = (np.asarray(leaf).reshape(-1) for leaf in (a, b))
        if exact or x.dtype.kind in "biu":
            apart = (x != y) & ((x == x) | (y == y))
        else:
            room = CLOSE * max(np.max(np.abs(x), initial=0.0, where=np.isfinite(x)), 1e-3)
            apart = ~np.isclose(x, y, rtol=0.0, atol=room, equal_nan=True)
        if apart.any():
            values = f"{x[apart][0]} and {y[apart][0]}"
            rule(False, name, f"{path_name(path) or 'it'} is {values}", fix)


def rule(holds: Any, name: str, seen: str, fix: str = "") -> None:
    """Raise AssertionError where a rule does not hold: its name, what was seen, and how to mend it."""
    if not holds:
        raise AssertionError(f"{name}, but {seen}{fix and f': {fix}'}")


@contextlib.contextmanager
def explained(name: str) -> Iterator[None]:
    """Whatever a task or a set raises, as one line that names the rule."""
    try:
        yield
    except Exception as error:
        raise AssertionError(f"{name}, but: {said(error)}") from error


def said(error: Exception | None) -> str:
    """What an error says, on one line."""
    text = " ".join(str(error).split(" (https://")[0].split())[:300]
    return (
        text if isinstance(error, UserError | AssertionError) else f"{type(error).__name__}: {text}"
    )
