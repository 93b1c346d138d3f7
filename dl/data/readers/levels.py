"""What float32 can hold of a series.

Devices compute in float32, which has 24 bits: at 1e8 it knows multiples of 8 alone. Series are therefore
read in float64 and cast last, after their level is taken off where it would cost them digits.
"""

import warnings

import numpy as np

from dl.core.errors import UserError
from dl.data.batches.resident import Arrays

# What rounding to float32 may do to a value, in standard deviations of its variable: beyond the first,
# windows of a series take its level off; beyond the second, other windows are refused.
_FINE, _COARSE = 1e-5, 1e-3


def _rounding(values: np.ndarray) -> np.ndarray:
    """The most that float32 may move a value ``[rows, ...]``, in standard deviations of its column:
    ``[...]``, 0 where it moves none or the column never changes."""
    values = values.astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        apart = values - values[:1]  # so that a constant's deviation is 0 and not rounding noise
        exact = (values.astype(np.float32) == values).all(0) | (apart == 0).all(0)
        deviation = np.where(exact, 1.0, apart.std(0))
        return np.where(exact, 0.0, np.abs(values).max(0) * 2.0**-24 / deviation)


def levels_of(known: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """What to take off a series ``whole [rows, ...]``, float64, before it becomes float32: ``[...]``, the
    mean of its ``known`` beginning where float32 would cost it digits, elsewhere 0."""
    with np.errstate(over="ignore", invalid="ignore"):
        level = known[0] + (known - known[:1]).mean(0)
    return np.where(_rounding(whole) > _FINE, level, 0.0)


def as_float32(values: np.ndarray) -> np.ndarray:
    """``values`` cast; raises where float32 has no such number."""
    largest = np.abs(values).max(initial=0.0)
    if largest > np.finfo(np.float32).max:
        raise UserError(
            "number-too-large",
            f"a value of size {largest:g} is beyond float32: standardise the series first "
            "(dl.data.sets.series.standardize)",
        )
    return values.astype(np.float32)


def keep_digits(arrays: Arrays) -> None:
    """Raises where a float64 or int64 array on its way to the device would lose what tells its values
    apart."""
    for name, value in arrays.items():
        if not isinstance(value, np.ndarray) or not len(value):
            continue
        if value.dtype == np.float64 and (_rounding(value) > _COARSE).any():
            raise UserError(
                "digits-lost",
                f"float32, in which devices compute, cannot tell the values of {name!r} apart, which "
                f"reach {np.abs(value).max():g}: take their mean off first "
                "(dl.data.sets.series.standardize)",
            )
        whole = np.iinfo(np.int32)
        if value.dtype == np.int64 and (value.min() < whole.min or value.max() > whole.max):
            raise UserError(
                "number-too-large",
                f"{name!r} holds whole numbers beyond int32: subtract their smallest",
            )


def complete(values: np.ndarray, where: str) -> np.ndarray:
    """``values [rows, ...]`` as float64; raises where one is missing (NaN) or infinite."""
    values = np.asarray(values, np.float64)
    lacking = np.argwhere(~np.isfinite(values))
    if len(lacking):
        row, *variable = lacking[0]
        place = f"row {row}" + (f" of variable {variable[0]}" if variable else "")
        raise UserError(
            "value-missing",
            f"{len(lacking)} values of {where} are missing or infinite, the first in {place}: fill "
            "them as you see fit, or cut the series there, before windows are made of it",
        )
    return values


def kept_levels(levels: np.ndarray, what: str) -> tuple[float, ...]:
    """The levels that were taken off as windows keep them, empty where there is none; warns of them, as
    forecasts are without them then."""
    if not levels.any():
        return ()
    warnings.warn(
        f"{np.count_nonzero(levels)} of {levels.size} {what} vary too little around a high level for "
        "float32: their windows hold the differences from the training mean. Add the windows' `level` "
        "to forecasts, and take it off what predict is given",
        stacklevel=3,
    )
    return tuple(np.atleast_1d(levels).tolist())
