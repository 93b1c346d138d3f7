"""What predictions of numbers are worth."""

import numpy as np
from jax.typing import ArrayLike

from dl.core.column_checks import same_shape


def rmse(said: ArrayLike, truth: ArrayLike) -> float:
    """The root of the mean squared error of ``said [rows]`` beside ``truth [rows]``, in their unit, by float64;
    NaN without rows.

    Raises:
      UserError: the two differ in shape, which NumPy would pair entry by entry.
    """
    said, truth = np.asarray(said, np.float64), np.asarray(truth, np.float64)
    same_shape("what is said", said, "the truth", truth)
    return float(np.sqrt(np.mean((said - truth) ** 2))) if said.size else float("nan")
