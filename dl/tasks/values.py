"""Checks of values on the host, whole columns: a data set's before training, for a task's ``check``, and
what a score compares."""

import numpy as np

from dl.core.errors import UserError


def within(name: str, column: np.ndarray, count: int, *, lowest: int = 0) -> None:
    """Raise UserError where an integer ``column`` leaves ``lowest ... count - 1``.

    A compiled program does not: a label beyond the classes counts for nothing, a token beyond the
    vocabulary becomes NaN.
    """
    if not np.issubdtype(column.dtype, np.number) or not column.size:
        return
    low, high = column.min(), column.max()
    if low < lowest or high >= count:
        also = f" (or {lowest} for none)" if lowest < 0 else ""
        raise UserError(
            f"column {name!r} holds {low} to {high}, but the model tells 0 to {count - 1} apart{also}: "
            "give the model as many classes as there are, and number them from 0"
        )


def pixels(name: str, column: np.ndarray) -> None:
    """Raise UserError where a float ``column`` is in 0..1 or -1..1, though pixels 0..255 are wanted; zeros
    alone are black in 0..1 too."""
    if np.issubdtype(column.dtype, np.floating) and column.any() and column.max() <= 1.0:
        raise UserError(
            f"column {name!r} holds {column.dtype} from {column.min():.3g} to {column.max():.3g}, but is "
            "prepared as pixels 0..255: give the pixels as they are, or pass prepare=lambda x: x"
        )


def same_shape(one: str, a: np.ndarray, other: str, b: np.ndarray) -> None:
    """Raise UserError where the two sides of a score differ in shape: NumPy would pair every entry of one
    with every entry of the other, or leave the longer one's end out."""
    if np.shape(a) != np.shape(b):
        raise UserError(
            f"{one} has shape {list(np.shape(a))}, {other} {list(np.shape(b))}: a score compares them entry "
            "by entry, so give both in one shape"
        )
