"""Prices of shares (columns as of :mod:`dl.data.markets`) and of currencies (as of :mod:`dl.data.sets.series`)."""

import dataclasses
import io

import numpy as np

from dl.core.errors import UserError
from dl.data.readers.files import File, damaged, read
from dl.data.sets.packed_images import arrays
from dl.data.splits import Columns, DataSet, Info, Splits, take

_ENDS = ("2014-01-01", "2015-08-01", "2015-10-01", "2016-01-01")


def by_day(prices: np.ndarray) -> Columns:
    """``share``, ``day`` and ``prices [rows, 5]``, by day, of ``prices [shares, days, 5]`` where all five are."""
    day, share = np.nonzero(~np.isnan(prices).any(-1).T)
    return {
        "share": share.astype(np.int32),
        "day": day.astype(np.int32),
        "prices": prices[share, day],
    }


def _read_stocknet(paths, info, validation, seed) -> Splits:
    (path,) = paths.values()
    found = arrays(path, "ticker", "date", "prices")
    date, prices = found["date"].astype("datetime64[D]"), found["prices"].astype(np.float64)
    if prices.shape != (len(found["ticker"]), len(date), 5):
        raise damaged(path, f"prices of shape {list(prices.shape)}")
    if validation is not None:
        raise UserError("split-fixed", "stocknet_prices has official dates: leave validation unset")
    begin, *ends = np.searchsorted(date, np.array(_ENDS, "datetime64[D]"))
    rows = by_day(prices)
    place = np.searchsorted(ends, rows["day"], side="right")
    details = {
        "shares": tuple(map(str, found["ticker"])),
        "days": tuple(map(str, date)),
        "begin": int(begin),
    }
    train, held, test = (take(rows, place == n) for n in range(3))
    return Splits(train, held, test, dataclasses.replace(info, details=details))


def _read_exchange(paths, info, validation, seed) -> Splits:
    (path,) = paths.values()
    try:
        values = np.loadtxt(io.BytesIO(read(path)), np.float64, delimiter=",", ndmin=2)
    except ValueError as error:
        raise damaged(path, error) from None
    if values.shape[1] != 8:
        raise damaged(path, f"{values.shape[1]} columns, not 8")
    if validation is not None:
        raise UserError("split-fixed", "exchange_rate is cut as published: leave validation unset")
    count = len(values)
    train, test = int(0.7 * count), count - int(0.2 * count)
    ends = (slice(0, train), slice(train, test), slice(test, None))
    parts = [{"values": values[some]} for some in ends]
    return Splits(parts[0], parts[1], parts[2], info)


SETS = (
    DataSet(
        Info(
            "stocknet_prices",
            "Prices of 87 US shares (StockNet)",
            "Xu & Cohen 2018; copy in fulifeng/Adv-ALSTM",
            "MIT",
            "classification",
            "Daily open, high, low, close and adjusted close of 87 shares that were large in 2017, from September "
            "2012. Does the adjusted close rise (.55 % or more) or fall (.5 % or more)? Cases from January 2014, "
            "validation August and September 2015, test October to December 2015; days before are looked back on",
            ("falls", "rises"),
        ),
        (
            File(
                "stocknet_prices.npz",
                (),
                ("10e899f4ea4f509c7b6c4264e6aec765475e29cabe8beb18d8806e38174c7017",),
            ),
        ),
        _read_stocknet,
    ),
    DataSet(
        Info(
            "exchange_rate",
            "Exchange rates of eight currencies",
            "Lai et al. 2018 (LSTNet), laiguokun/multivariate-time-series-data",
            "none stated",
            "forecasting",
            "values [rows, 8] (float64, as measured), dollars a unit each day of 1990 to 2016: 70, 10 and 20 % of "
            "the rows to train, validate and test, each part following the one before",
            details={
                "variables": tuple(f"currency {n}" for n in range(1, 9)),
                "period": 1,
                "horizon": 96,
                "look_back": 336,
            },
        ),
        (
            File(
                "exchange_rate.txt",
                (),
                ("0127465b51e3cd3c360f8eb2be30cfd294689a2a55903eb8245aafc396626c7f",),
            ),
        ),
        _read_exchange,
    ),
)
