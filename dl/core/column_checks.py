"""Checks of values on the host, whole columns: a data set's before training, for a task's ``check``, and
what a score compares."""

import numpy as np

from dl.core.errors import UserError


def within(name: str, column: np.ndarray, count: int, *, lowest: int = 0) -> None:
    """Raise UserError where a ``column`` of class numbers leaves ``lowest ... count - 1``, or holds NaN or a
    fraction.

    A compiled program does not: a label beyond the classes counts for nothing, a token beyond the
    vocabulary becomes NaN.
    """
    if not np.issubdtype(column.dtype, np.number) or not column.size:
        return
    low, high = column.min(), column.max()
    if not (low >= lowest and high < count):  # NaN is in no range
        also = f" (or {lowest} for none)" if lowest < 0 else ""
        raise UserError(
            "class-out-of-range",
            f"column {name!r} holds {low} to {high}, but the model tells 0 to {count - 1} apart{also}: "
            "give the model as many classes as there are, and number them from 0",
        )
    if column.dtype.kind == "f" and (column != np.trunc(column)).any():
        raise UserError(
            "class-not-whole",
            f"column {name!r} holds {column[column != np.trunc(column)][0]:g}, and a class is a whole number",
        )


def pixels(
    name: str, column: np.ndarray, fix: str = "make the task with prepare=lambda x: x"
) -> None:
    """Raise UserError where a ``column`` is plainly no pixels 0..255, which it is prepared as: truth values,
    numbers all in 0..1, below 0 (standardised, say) or beyond 255 (16 bits). Zeros alone are black in any
    range."""
    if column.dtype.kind not in "biuf" or not column.size or not column.any():
        return
    low, high = column.min(), column.max()
    if low < 0 or high > 255 or high <= 1:
        raise UserError(
            "pixels-range",
            f"column {name!r} holds {column.dtype} from {low:.3g} to {high:.3g}, but is prepared as pixels "
            f"0..255: give the pixels as they are, or {fix}",
        )


def same_shape(one: str, a: np.ndarray, other: str, b: np.ndarray) -> None:
    """Raise UserError where the two sides of a score differ in shape: NumPy would pair every entry of one
    with every entry of the other, or leave the longer one's end out."""
    if np.shape(a) != np.shape(b):
        raise UserError(
            "shapes-differ",
            f"{one} has shape {list(np.shape(a))}, {other} {list(np.shape(b))}: a score compares them entry "
            "by entry, so give both in one shape",
        )
