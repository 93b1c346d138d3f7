"""Windows of one or many series with gaps, as :mod:`dl.data.own.series` reads them."""

from typing import Any

import numpy as np

from dl.core.errors import UserError
from dl.data.batches.windows import (
    EvalWindows,
    Slice,
    TrainWindows,
    eval_windows,
    forecasting,
    panel_forecasting,
    train_windows,
    unit_windows,
)
from dl.data.readers.levels import as_float32
from dl.data.sets.series import smoothed, standardize
from dl.data.splits import Splits


def forecasting_windows(
    splits: Splits, batch_size: int, eval_batch_size: int = 512, seed: Any = 0
) -> tuple[TrainWindows, dict[str, EvalWindows]]:
    """Training windows, and validation and test windows by name, of whatever ``dl.data.open(..., "series")``
    gives, as long as ``info.details`` says: look_back and horizon."""
    sizes = splits.info.details["look_back"], splits.info.details["horizon"], batch_size
    if "series" in splits.train:
        return series_forecasting(splits, *sizes, eval_batch_size=eval_batch_size, seed=seed)
    cut = panel_forecasting if "length" in splits.train else forecasting
    train, held, test = cut(splits, *sizes, eval_batch_size=eval_batch_size, seed=seed)
    return train, ({} if held is None else {"validation": held}) | {"test": test}


def series_forecasting(
    splits: Splits,
    look_back: int,
    horizon: int,
    batch_size: int,
    *,
    eval_batch_size: int = 256,
    seed: Any = 0,
) -> tuple[TrainWindows, dict[str, EvalWindows]]:
    """The same for ``series [rows]`` and ``values [rows, variables]``, whose parts follow each other in each
    series and may have gaps.

    ``past [batch, look_back, variables]`` has no gap: a missing value is the last one before, or 0 where there
    is none. ``future [batch, horizon, variables]`` keeps NaN. ``known [batch, horizon, columns]``, where the
    series have it, is of the future, 0 where missing. A validation or test window's future lies wholly in its
    part while its past may reach back into the one before. A window counts unless its future or its past holds
    no value at all.

    Raises:
      UserError: no window fits a part.
    """
    given = splits.parts
    series = np.concatenate([part["series"] for part in given.values()])
    which = np.repeat(np.arange(len(given)), [len(part["series"]) for part in given.values()])
    order = np.lexsort((np.arange(len(series)), which, series))
    series, which = series[order], which[order]
    values = as_float32(np.concatenate([part["values"] for part in given.values()])[order])
    there = ~np.isnan(values)
    begins = np.searchsorted(series, series)
    last = np.maximum.accumulate(np.where(there, np.arange(len(values))[:, None], -1), axis=0)
    filled = np.where(last >= begins[:, None], np.take_along_axis(values, last.clip(0), 0), 0)
    arrays = {"filled": filled.astype(np.float32), "values": values}
    fields = [Slice("past", "filled", 0, look_back), Slice("future", "values", look_back, horizon)]
    if "known" in splits.train:
        known = np.concatenate([part["known"] for part in given.values()])[order]
        arrays["known"] = as_float32(np.where(np.isnan(known), 0, known))
        fields.append(Slice("known", "known", look_back, horizon))
    seen = np.append(0, np.cumsum(there.any(1)))

    def starts(place: int) -> np.ndarray:
        now = np.arange(look_back, len(series) - horizon + 1)  # where the future begins
        end = now + horizon
        fits = (series[now - look_back] == series[end - 1]) & (which[end - 1] == place)
        fits &= which[now] == place
        fits &= (seen[end] > seen[now]) & (seen[now] > seen[now - look_back])
        if not fits.any():
            name = list(given)[place]
            raise UserError(
                "no-window",
                f"no window of {look_back} + {horizon} steps fits the {name} part: hold more out, or "
                "give a smaller look-back or horizon",
            )
        return now[fits] - look_back

    places = {name: starts(place) for place, name in enumerate(given)}
    train = train_windows(arrays, tuple(fields), batch_size, seed, starts=places.pop("train"))
    return train, {
        name: eval_windows(arrays, tuple(fields), eval_batch_size, starts=chosen)
        for name, chosen in places.items()
    }


def life_windows(
    splits: Splits, window: int, cap: float | None, smoothing: float = 0.0
) -> dict[str, dict[str, Any]]:
    """:func:`~dl.data.batches.windows.unit_windows` of units that run to failure, by set: of test each unit's last
    one, and again with lives that are not capped, as ``test_uncapped``.

    Args:
      splits: ``unit``, ``condition``, ``rul [rows]`` and ``sensors [rows, sensors]``, scaled by operating
        condition; those that never move in training are left out.
      window: rows that a prediction sees; cap: largest life that a label says.
      smoothing: decay of the running averages that stand beside the sensors; 0 leaves them out.
    """
    moving = splits.train["sensors"].std(0) > 1e-6 * np.abs(splits.train["sensors"]).mean(0)
    splits, *_ = standardize(splits, "sensors", by="condition")

    def cut(name: str, cap: float | None) -> dict[str, Any]:
        columns = splits.parts[name]
        sensors = columns["sensors"][:, moving]
        if smoothing:
            running = smoothed(sensors, columns["unit"], smoothing)
            sensors = np.concatenate([sensors, running], axis=1)
        return unit_windows(
            dict(columns, sensors=sensors), window, cap=cap, last_only=name == "test"
        )

    return {name: cut(name, cap) for name in splits.parts} | {"test_uncapped": cut("test", None)}
