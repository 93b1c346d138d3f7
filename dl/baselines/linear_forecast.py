"""Forecasts that any network has to be compared with; the naive one is in :mod:`dl.tasks.forecasting`."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple, Protocol

import jax
import numpy as np

from dl.core.errors import UserError
from dl.core.experiment import Batches
from dl.data.batches.windows import TrainWindows
from dl.data.splits import Splits
from dl.scores.forecasting import naive_error, point_scores, seasonal_naive


class LinearForecast:
    """The linear map from past to future with the least squared error, in closed form.

    Every variable is one example, and each window's own mean is taken off and put back, so the map
    knows shapes and no levels (Toner & Darlow 2024, "An analysis of linear time series forecasting
    models": what DLinear, NLinear and RLinear approach by gradient descent).

    Attributes:
      weight: float64 ``[look_back, horizon]``.
    """

    def __init__(self, weight: np.ndarray):
        self.weight = weight

    def __call__(self, past: np.ndarray) -> np.ndarray:
        """``[batch, look_back(, variables)]`` to ``[batch, horizon(, variables)]``, float64."""
        past = np.asarray(past, np.float64)
        level = _mean(past)
        return np.moveaxis(np.moveaxis(past - level, 1, -1) @ self.weight, -1, 1) + level


def fit_linear(
    windows: Iterable[tuple[np.ndarray, np.ndarray]], ridge: float = 1e-3, relative: bool = False
) -> LinearForecast:
    """The :class:`LinearForecast` of training windows ``(past, future)``, each ``[batch, time(,
    variables)]``.

    Args:
      ridge: penalty on the weights, by the mean variance of the inputs.
      relative: weigh each window by its own variance, for series of different size; a window that
        never changes counts nothing, and neither does one with a gap (NaN) in its future.

    Raises:
      UserError: there are no windows.
    """
    gram: np.ndarray | float = 0.0
    cross: np.ndarray | float = 0.0
    for past, future in windows:
        past, future = np.asarray(past, np.float64), np.asarray(future, np.float64)
        level = _mean(past)
        spread = (past - level).std(1, keepdims=True) if relative else np.ones_like(level)
        weight = np.divide(1.0, spread, out=np.zeros_like(spread), where=spread > 0)
        x, y = (
            np.moveaxis((part - level) * weight, 1, -1).reshape(-1, part.shape[1])
            for part in (past, future)
        )
        if (gap := np.isnan(y).any(1)).any():
            x, y = x[~gap], y[~gap]
        gram, cross = gram + x.T @ x, cross + x.T @ y
    if not isinstance(gram, np.ndarray):
        raise UserError("nothing-to-fit", "there are no windows to fit a linear forecast to")
    size = len(gram)
    penalty = ridge * np.trace(gram) / size * np.eye(size)
    # Least squares, and not a solution of the equations, for windows that determine no map: all constant.
    return LinearForecast(np.linalg.lstsq(gram + penalty, cross)[0])


def _mean(past: np.ndarray) -> np.ndarray:
    """The mean over time, ``[batch, 1, ...]``: of a window that never changes, its very value."""
    return past[:, :1] + (past - past[:, :1]).mean(1, keepdims=True)


class Levelled(Batches, Protocol):
    """Evaluation batches whose ``level`` is to be added to their values, as in :mod:`dl.data.batches.windows`."""

    @property
    def level(self) -> np.ndarray: ...


class Compared(NamedTuple):
    """Every window of a set, ``[windows, time(, variables)]``, and the ``forecasts`` of rivals by name; all
    float64, in the units of the series; and of a panel ``naive_error [series]``, or None."""

    past: np.ndarray
    future: np.ndarray
    forecasts: dict[str, np.ndarray]
    naive_error: np.ndarray | None = None

    def scores(self, forecast: np.ndarray | None = None) -> dict[str, float]:
        """The :func:`~dl.scores.forecasting.point_scores` of each rival under its name, such as
        ``naive_mse``, and of one more ``forecast``, where it is given, as they are: of several quantiles on
        its last axis the middle one's."""
        if forecast is not None and forecast.ndim > self.future.ndim:
            forecast = forecast[..., forecast.shape[-1] // 2]
        named = {f"{name}_": rival for name, rival in self.forecasts.items()}
        return {
            prefix + score: value
            for prefix, said in (named if forecast is None else named | {"": forecast}).items()
            for score, value in point_scores(said, self.future, self.naive_error).items()
        }


def compared(
    train: Batches,
    sets: Mapping[str, Levelled],
    period: int,
    naive_errors: Mapping[str, np.ndarray] | None = None,
) -> dict[str, Compared]:
    """What a network's forecasts of each set stand beside: ``naive``, the last ``period`` over and over, ``last``,
    the last value, and ``linear``, fitted to the training windows as by :func:`fit_linear`.

    All are evaluation windows with columns ``past`` and ``future``, the training ones too. Those of a panel
    come with the :func:`~dl.scores.forecasting.naive_error` of its series, by set: they are scored by it,
    and the linear forecast weighs each window by its own variance.
    """
    linear = fit_linear(_pairs(train), relative=naive_errors is not None)
    found = {}
    for name, batches in sets.items():
        parts = map(np.concatenate, zip(*_pairs(batches), strict=True))
        past, future = (part.astype(np.float64) + batches.level for part in parts)
        naive = seasonal_naive(past, future.shape[1], period, axis=1)
        error = None if naive_errors is None else naive_errors[name]
        rivals = {"naive": naive, "linear": linear(past)}
        if period > 1:
            rivals["last"] = seasonal_naive(past, future.shape[1], 1, axis=1)
        found[name] = Compared(past, future, rivals, error)
    return found


def series_rivals(
    splits: Splits, train: TrainWindows, sets: Mapping[str, Levelled]
) -> dict[str, Compared]:
    """:func:`compared` for whatever ``dl.data.open(..., "series")`` gives, and the windows of it."""
    period = splits.info.details["period"]
    if "length" not in splits.train:
        return compared(train.ordered(4096), sets, period)
    known, length = splits.train["values"], splits.train["length"]
    errors = {"validation": naive_error(known, period, length)}
    if splits.validation:
        held = splits.validation["values"]
        known = np.concatenate([known, np.full(held.shape, np.nan)], 1)
        np.put_along_axis(known, length[:, None] + np.arange(held.shape[1]), held, 1)
        length = length + held.shape[1]
    errors["test"] = naive_error(known, period, length)
    return compared(train.ordered(4096), sets, period, errors)


def rival_scores(sets: Mapping[str, Compared]) -> dict[str, dict[str, float]]:
    """The scores of each rival by set and metric, such as ``{'linear': {'test/mse': 0.4}}``."""
    names = {name for found in sets.values() for name in found.forecasts}
    return {
        name: {
            f"{place}/{metric}": value
            for place, found in sets.items()
            for metric, value in point_scores(
                found.forecasts[name], found.future, found.naive_error
            ).items()
        }
        for name in sorted(names)
    }


def _pairs(batches: Batches) -> Iterable[tuple[np.ndarray, np.ndarray]]:
    for index in range(len(batches)):  # type: ignore[arg-type]
        batch = jax.device_get(batches[index])
        real = batch["mask"] > 0
        yield batch["past"][real], batch["future"][real]
