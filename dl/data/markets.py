"""Daily prices as cases: what the closes of some days tell, and the move from the last of them to the next close.

Rows are ``share`` and ``day`` int32 (places in ``info.details["shares"]`` and ``["days"]``) and ``prices`` float64
``[rows, 5]``: open, high, low, close, and the close adjusted for dividends and splits. The parts follow in time.
"""

import dataclasses
from typing import Any

import numpy as np

from dl.core.errors import UserError, bounded
from dl.data.splits import Columns, Splits, take

PRICES = ("open", "high", "low", "close", "adjusted")
SPANS = (5, 10, 15, 20, 25, 30)  # days of the running means
OWN = ("open", "high", "low", "close move", "move", *(f"mean of {n} days" for n in SPANS))
FEATURES = (*OWN, *(f"market's {name}" for name in OWN))


def panel(splits: Splits) -> np.ndarray:
    """The prices of all parts, ``[shares, days, 5]``, NaN where there is none."""
    rows, details = splits.joined(*splits.parts), splits.info.details
    prices = np.full((len(details["shares"]), len(details["days"]), len(PRICES)), np.nan)
    prices[rows["share"], rows["day"]] = rows["prices"]
    return prices


def features(prices: np.ndarray) -> np.ndarray:
    """What is known at each close: ``prices [shares, days, 5]`` to ``[shares, days, 22]``, NaN of too few days.

    Of the share itself, as in Feng et al. 2019 ("Enhancing stock movement prediction with adversarial training"):
    open, high and low over the close, the close and the adjusted close over the day's before, and the means of the
    last 5 to 30 adjusted closes over the last, each less 1; and of all shares of that day the means of these.
    """
    opening, high, low, close, adjusted = np.moveaxis(prices, -1, 0)
    total = np.cumsum(np.nan_to_num(adjusted), 1)
    gaps = np.cumsum(np.isnan(adjusted), 1)

    def before(values: np.ndarray, days: int) -> np.ndarray:
        lead = min(days, values.shape[1])
        return np.pad(values, ((0, 0), (lead, 0)), constant_values=np.nan)[:, : values.shape[1]]

    own = [opening / close - 1, high / close - 1, low / close - 1]
    own += [close / before(close, 1) - 1, adjusted / before(adjusted, 1) - 1]
    for span in SPANS:
        start, lacks = before(total, span), before(gaps.astype(float), span)
        start[:, span - 1 : span], lacks[:, span - 1 : span] = 0, 0
        mean = np.where(gaps - lacks == 0, (total - start) / span, np.nan)
        own.append(mean / adjusted - 1)
    alone = np.stack(own, -1)
    there = ~np.isnan(alone)
    market = np.where(there, alone, 0).sum(0) / np.maximum(there.sum(0), 1)
    return np.concatenate([alone, np.broadcast_to(market, alone.shape)], -1)


def cases(splits: Splits, look_back: int, band: tuple[float, float]) -> Splits:
    """A case for each share and day whose close comes after ``look_back`` days that are known.

    ``window [n, look_back, 22]`` float32 (:func:`features`, the last row of the close before), ``move [n]``
    float32, the adjusted close over that one less 1, ``day`` and ``share`` int32, ``label`` 1 where the move is at
    least the upper end of ``band``, and ``weight`` 1 where it is at most the lower end or at least the upper, else
    0: training has these alone. Windows are scaled by the means and deviations of the training part, cut off at
    five of these. A case is of the part that its ``day`` is in; nothing of that day or later is in its window.

    Raises:
      UserError: a part has no case.
    """
    bounded("--look-back", look_back, at_least=1, whole=True)
    prices, details = panel(splits), splits.info.details
    known, adjusted = features(prices), prices[..., -1]
    move = np.full(adjusted.shape, np.nan)
    move[:, 1:] = adjusted[:, 1:] / adjusted[:, :-1] - 1
    whole = np.cumsum(np.pad(np.isfinite(known).all(-1), ((0, 0), (1, 0))), 1)
    fits = np.zeros(move.shape, bool)
    fits[:, look_back:] = whole[:, look_back:-1] - whole[:, : -look_back - 1] == look_back
    fits &= np.isfinite(move)
    fits[:, : details.get("begin", 0)] = False
    part_of = np.full(len(details["days"]), -1)
    for place, part in enumerate(splits.parts.values()):
        part_of[part["day"]] = place
    found = []
    for place, name in enumerate(splits.parts):
        day, share = np.nonzero((fits & (part_of == place)).T)
        if not len(day):
            needs = f"{look_back} days before it, and {SPANS[-1]} before those"
            said = f"the {name} part has no case: each needs {needs}"
            raise UserError("no-window", f"{splits.info.title}: {said}")
        moves = move[share, day]
        found.append(
            {
                "window": known[share[:, None], day[:, None] + np.arange(-look_back, 0)],
                "move": moves.astype(np.float32),
                "day": day.astype(np.int32),
                "share": share.astype(np.int32),
                "label": (moves >= band[1]).astype(np.int32),
                "weight": ((moves >= band[1]) | (moves <= band[0])).astype(np.float32),
            }
        )
    found[0] = take(found[0], found[0]["weight"] > 0)
    if len(np.unique(found[0]["label"])) < 2:
        raise UserError("target-one-class", f"{splits.info.title}: no share rises, or none falls")
    flat = found[0]["window"].reshape(-1, known.shape[-1])
    mean, deviation = flat.mean(0), flat.std(0)
    deviation = np.where(deviation > 1e-9, deviation, 1)

    def scaled(part: Columns) -> Columns:
        window = np.clip((part["window"] - mean) / deviation, -5, 5).astype(np.float32)
        return dict(part, window=window)

    named: Any = dict(zip(splits.parts, map(scaled, found), strict=True))
    return dataclasses.replace(splits, **named)
