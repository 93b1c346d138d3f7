"""What signals to buy or to sell are worth: over days, with costs and a delay, and how far chance moves them."""

from collections.abc import Callable, Mapping

import numpy as np

from dl.core.column_checks import same_shape
from dl.core.errors import bounded

YEAR = 252  # trading days


def positions(signal: np.ndarray, day: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Shares of the capital held for each day's move, ``[days, shares]``: of ``signal [cases]`` the sign, bought
    where above 0 and sold short where below, all of a day alike and 1 together; a day without signals is out."""
    held = np.zeros((int(day.max()) - int(day.min()) + 1, int(share.max()) + 1))
    held[day - day.min(), share] = np.sign(signal)
    return held / np.maximum(np.abs(held).sum(1, keepdims=True), 1)


def net_returns(
    held: np.ndarray, moves: np.ndarray, *, cost: float = 0.001, delay: int = 1
) -> np.ndarray:
    """The return of each day ``[days]`` after costs.

    Args:
      held: ``[days, shares]``, what :func:`positions` says by signals from the close before each day's move.
      moves: ``[days, shares]``, of the day before's close.
      cost: of what is bought or sold, as a share of it: at each change of ``held``, and to be out at the end.
      delay: days by which orders come late: with 1 a signal from Monday's close is dealt with at Tuesday's, and
        earns Wednesday's move. With 0 it is dealt with at the very close that it is computed from.
    """
    bounded("the cost", cost, at_least=0, below=1)
    bounded("the delay", delay, at_least=0, whole=True)
    same_shape("positions", held, "moves", moves)
    late = np.zeros_like(held)
    late[delay:] = held[: len(held) - delay] if delay < len(held) else 0
    changed = np.abs(np.diff(late, axis=0, prepend=0)).sum(1)
    changed[-1] += np.abs(late[-1]).sum()
    return (late * moves).sum(1) - cost * changed


def back_test(
    signal: np.ndarray,
    move: np.ndarray,
    day: np.ndarray,
    share: np.ndarray,
    *,
    cost: float = 0.001,
    delay: int = 1,
) -> dict[str, float]:
    """What trading by signals would have made, all ``[cases]``: ``return``, of the whole time, ``sharpe``, mean
    over deviation of the daily returns times the root of 252, ``drawdown``, the largest loss from a height, and
    ``turnover`` a day. See :func:`net_returns`; every order is filled at the close, whatever its size, and to sell
    short costs nothing more.
    """
    same_shape("signal", signal, "move", move)
    held = positions(signal, day, share)
    moves = np.zeros_like(held)
    moves[day - day.min(), share] = move
    net = net_returns(held, moves, cost=cost, delay=delay)
    return {**earned(net), "turnover": float(np.abs(np.diff(held, axis=0)).sum(1).mean())}


def earned(net: np.ndarray) -> dict[str, float]:
    """``return``, ``sharpe`` and ``drawdown`` of daily returns ``[days]``."""
    worth = np.cumprod(1 + np.asarray(net, np.float64))
    height = np.maximum.accumulate(np.append(1.0, worth))[1:]
    spread = float(np.std(net))
    return {
        "return": float(worth[-1] - 1),
        "sharpe": float(np.mean(net) / spread * YEAR**0.5) if spread > 0 else 0.0,
        "drawdown": float((1 - worth / height).max()),
    }


def by_days(
    day: np.ndarray,
    counts: np.ndarray,
    score: Callable[[np.ndarray], np.ndarray],
    draws: int = 500,
) -> tuple[float, float]:
    """The middle 95 % of a score over resamples of whole days: shares move together, so that cases of one day are
    no independent ones (Efron 1979; the block is a day).

    Args:
      day: ``[cases]``; counts: ``[cases, kinds]``, which are added up.
      score: sums ``[draws, kinds]`` to ``[draws]``.
    """
    _, place = np.unique(day, return_inverse=True)
    total = np.zeros((int(place.max()) + 1, counts.shape[1]))
    np.add.at(total, place, counts)
    drawn = np.random.default_rng(0).integers(0, len(total), (draws, len(total)))
    low, high = np.quantile(score(total[drawn].sum(1)), (0.025, 0.975))
    return float(low), float(high)


def accuracy(cells: np.ndarray) -> np.ndarray:
    """The share right of counts ``[..., 4]``: true and false rises, true and false falls."""
    return (cells[..., 0] + cells[..., 2]) / cells.sum(-1)


def correlation(cells: np.ndarray) -> np.ndarray:
    """Matthews' correlation of counts ``[..., 4]`` as of :func:`accuracy`; 0 where one answer is never given."""
    rise, alarm, fall, miss = np.moveaxis(np.asarray(cells, np.float64), -1, 0)
    size = np.sqrt((rise + alarm) * (rise + miss) * (fall + alarm) * (fall + miss))
    return (rise * fall - alarm * miss) / np.where(size > 0, size, 1)


def signal_scores(part: Mapping[str, np.ndarray], signal: np.ndarray) -> dict[str, float]:
    """Of signals ``[cases]`` for a part of :func:`dl.data.markets.cases`: ``accuracy`` and ``mcc`` of the cases
    that have a weight, and the middle 95 % of both over resamples of days, ``accuracy_low``, ..."""
    counted = part["weight"] > 0
    label, rises = part["label"][counted] > 0, signal[counted] > 0
    cells = np.stack([label & rises, ~label & rises, ~label & ~rises, label & ~rises], 1)
    found = {}
    for name, score in (("accuracy", accuracy), ("mcc", correlation)):
        found[name] = float(score(cells.sum(0)))
        ends = by_days(part["day"][counted], cells.astype(np.float64), score)
        found[f"{name}_low"], found[f"{name}_high"] = ends
    return found


def belief(found: dict[str, float], held: float, days: int) -> str:
    """One sentence on what may be believed of signals by their ``found`` scores and returns beside ``held``, what
    holding all shares made, over so many days."""
    right = "{accuracy:.1%} of the cases right (days resampled: {accuracy_low:.1%} to {accuracy_high:.1%})"
    chance = found["accuracy_low"] <= 0.5 or found["mcc_low"] <= 0
    told = (
        "cannot be told from chance on so few days and are no ground for trading"
        if chance
        else "are better than chance on these days, by little, which is no promise for later ones"
    )
    earned = f"made {found['return']:+.1%} after costs where holding all made {held:+.1%}"
    return f"Over {days} days the signals had {right.format(**found)} and {earned}: they {told}."
