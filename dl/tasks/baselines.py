"""Forecasts that any network has to be compared with; the naive one is in :mod:`dl.tasks.forecasting`."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import jax
import numpy as np

from dl.core.experiment import Batches
from dl.tasks.forecasting import seasonal_naive


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


class Compared(NamedTuple):
    """Every window of a set, ``[windows, time(, variables)]``, and the ``forecasts`` of rivals by name."""

    past: np.ndarray
    future: np.ndarray
    forecasts: dict[str, np.ndarray]


def compared(
    train: Batches, sets: Mapping[str, Batches], period: int, relative: bool = False
) -> dict[str, Compared]:
    """What a network's forecasts of each set stand beside: ``naive``, the last ``period`` over and over,
    and ``linear``, fitted to the training windows as by :func:`fit_linear`.

    All are evaluation batches with columns ``past`` and ``future``, the training windows too.
    """
    linear = fit_linear(_pairs(train), relative=relative)
    found = {}
    for name, batches in sets.items():
        past, future = map(np.concatenate, zip(*_pairs(batches), strict=True))
        naive = seasonal_naive(past, future.shape[1], period, axis=1)
        forecasts = {"naive": np.asarray(naive), "linear": linear(past)}
        found[name] = Compared(past, future, forecasts)
    return found


def _pairs(batches: Batches) -> Iterable[tuple[np.ndarray, np.ndarray]]:
    for index in range(len(batches)):  # type: ignore[arg-type]
        batch = jax.device_get(batches[index])
        real = batch["mask"] > 0
        yield batch["past"][real], batch["future"][real]
