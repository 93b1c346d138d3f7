"""Forecasts that any network has to be compared with; the naive one is in :mod:`dl.tasks.forecasting`."""

from collections.abc import Iterable

import numpy as np


class LinearForecast:
    """The linear map from past to future with the least squared error, in closed form.

    Every variable is one example, and each window's own mean is taken off and put back, so the map
    knows shapes and no levels (Toner & Darlow 2024, "An analysis of linear time series forecasting
    models": what DLinear, NLinear and RLinear approach by gradient descent).

    Attributes:
      weight: ``[look_back, horizon]``.
    """

    def __init__(self, weight: np.ndarray):
        self.weight = weight

    def __call__(self, past: np.ndarray) -> np.ndarray:
        """``[batch, look_back(, variables)]`` to ``[batch, horizon(, variables)]``."""
        level = past.mean(1, keepdims=True)
        return np.moveaxis(np.moveaxis(past - level, 1, -1) @ self.weight, -1, 1) + level


def fit_linear(
    windows: Iterable[tuple[np.ndarray, np.ndarray]], ridge: float = 1e-3, relative: bool = False
) -> LinearForecast:
    """The :class:`LinearForecast` of training windows ``(past, future)``, each ``[batch, time(,
    variables)]``.

    Args:
      ridge: penalty on the weights, by the mean variance of the inputs.
      relative: weigh each window by its own variance, for series of different size.
    """
    gram: np.ndarray | float = 0.0
    cross: np.ndarray | float = 0.0
    for past, future in windows:
        level = past.mean(1, keepdims=True)
        spread = past.std(1, keepdims=True) + 1e-12 if relative else 1.0
        x, y = (
            np.moveaxis((part - level) / spread, 1, -1).reshape(-1, part.shape[1])
            for part in (past.astype(np.float64), future.astype(np.float64))
        )
        gram, cross = gram + x.T @ x, cross + x.T @ y
    assert isinstance(gram, np.ndarray)
    size = len(gram)
    penalty = ridge * np.trace(gram) / size * np.eye(size)
    return LinearForecast(np.linalg.solve(gram + penalty, cross).astype(np.float32))
