"""Predictions for a whole set at once, for what no mean over examples measures."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from dl.core.experiment import Batches


def predict_all(
    predict: Callable[[Any, Any], Any],
    variables: Any,
    batches: Batches,
    inputs: str | tuple[str, ...],
) -> Any:
    """The predictions for every example of an evaluation set, in order, on the host.

    Args:
      predict: a task's ``predict``; jit it once where it is called often.
      batches: evaluation batches, whose padding is left out.
      inputs: the column to feed it, or several, as the task takes them.

    Returns:
      What ``predict`` returns with leaves ``[examples, ...]``.
    """
    parts = []
    for index in range(len(batches)):  # type: ignore[arg-type]
        batch = batches[index]
        x = batch[inputs] if isinstance(inputs, str) else {name: batch[name] for name in inputs}
        real = np.asarray(batch["mask"]) > 0
        found = jax.device_get(predict(variables, x))
        parts.append(jax.tree.map(lambda leaf, real=real: np.asarray(leaf)[real], found))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)


def in_pieces(f: Callable[..., Any], *arrays: Any, pieces: int = 10) -> Any:
    """``f(*arrays)``, a piece of the rows at a time, for what would take too much memory at once: leaves
    ``[rows, ...]`` on the host."""
    parts = zip(*(np.array_split(array, pieces) for array in arrays), strict=True)
    found = [jax.device_get(f(*part)) for part in parts]
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *found)
