"""Customers by what they bought until a day, and how often they did after it.

Columns ``[customers]``: ``repeat``, days with purchases after the first one's, ``recency`` and ``age``, weeks from
the first purchase to the last and to the ``cut``, all float32; ``history [customers, 18]`` (:data:`FEATURES`) and
``profile [customers, 6]`` (:data:`PROFILE`) float32; and ``later`` float32, purchases in the weeks that follow.
"""

import dataclasses
from typing import Any

import numpy as np

from dl.core.errors import UserError, bounded
from dl.data.splits import Columns, Splits

BINS = 10
PROFILE = (
    *("purchases", "days of purchases", "weeks since the first", "weeks since the last"),
    *("items a purchase", "amount a purchase"),
)
FEATURES = (
    *(f"log {name}" for name in PROFILE),
    *(
        "log weeks between the first and the last",
        "weeks since the last over those since the first",
    ),
    *(f"log purchases in tenth {n + 1} of the time, the last first" for n in range(BINS)),
)


def customers_at(
    customer: np.ndarray,
    day: np.ndarray,
    items: np.ndarray,
    amount: np.ndarray,
    cut: int,
    ahead: int,
) -> tuple[Columns, np.ndarray]:
    """The columns of the module, and which customer each row is.

    Args:
      customer: int ``[purchases]``; day: int ``[purchases]``; items, amount: float ``[purchases]``.
      cut: the first day that is not seen; whoever first bought on it or later is no row.
      ahead: days from there on whose purchases are ``later``.

    Raises:
      UserError: nobody bought before the cut, or none of those does after it, where the purchases go on so long.
    """
    bounded("the days ahead", ahead, at_least=1, whole=True)
    seen = day < cut
    if not seen.any():
        raise UserError("part-empty", "no purchase comes before the cut: give a later one")
    after = ~seen & (day < cut + ahead)
    who, row = np.unique(customer[seen], return_inverse=True)
    count = len(who)

    def total(values: np.ndarray | None = None, some: np.ndarray | slice = slice(None)):
        return np.bincount(
            row[some], None if values is None else values[seen][some], minlength=count
        )

    when = day[seen]
    first, last = np.full(count, cut), np.full(count, int(when.min()))
    np.minimum.at(first, row, when)
    np.maximum.at(last, row, when)
    days = np.bincount(np.unique(np.stack([row, when]), axis=1)[0], minlength=count)
    bought = total()
    # The last day that is seen is the one before the cut.
    age, recency = (cut - 1 - first) / 7, (last - first) / 7
    since = age - recency
    span = max(1, cut - int(when.min()))
    tenth = np.minimum((cut - 1 - when) * BINS // span, BINS - 1)
    bins = np.stack([total(some=tenth == n) for n in range(BINS)], 1)
    profile = [bought, days, age, since, total(items) / bought, total(amount) / bought]
    signed = [np.sign(x) * np.log1p(np.abs(x)) for x in profile]  # goods that came back count less
    history = [*signed, np.log1p(recency), since / np.maximum(age, 1 / 7)]
    known = np.isin(customer, who) & after
    later = np.bincount(np.searchsorted(who, customer[known]), minlength=count)
    if cut <= day.max() and not later.any():
        raise UserError(
            "part-empty", "none of the customers buys after the cut: give an earlier one"
        )
    columns = {
        "repeat": days - 1,
        "recency": recency,
        "age": age,
        "history": np.concatenate([np.stack(history, 1), np.log1p(bins)], 1),
        "profile": np.stack(profile, 1),
        "later": later,
    }
    return {name: x.astype(np.float32) for name, x in columns.items()}, who


def scaled(splits: Splits, expected: dict[str, np.ndarray]) -> Splits:
    """What a network takes: ``features [rows, 19]``, the history and the logarithm of how many purchases a model
    ``expected`` of each row, by part, less their training means and over their deviations; ``offset [rows]``, that
    logarithm, so moved that training rows have as many as they did buy; and ``later``."""
    train = splits.train
    moved = np.log(train["later"].mean() / expected["train"].mean())
    log = {name: np.log(np.maximum(x, 1e-6)) for name, x in expected.items()}
    both = {
        name: np.concatenate([part["history"], log[name][:, None]], 1).astype(np.float64)
        for name, part in splits.parts.items()
    }
    mean, deviation = both["train"].mean(0), both["train"].std(0)
    deviation = np.where(deviation > 1e-9, deviation, 1)
    parts: Any = {
        name: {
            "features": np.clip((x - mean) / deviation, -5, 5).astype(np.float32),
            "offset": (log[name] + moved).astype(np.float32),
            "later": splits.parts[name]["later"],
        }
        for name, x in both.items()
    }
    return dataclasses.replace(splits, **parts)
