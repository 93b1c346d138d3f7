"""Successive halving: of many lanes the best go on (Jamieson & Talwalkar 2016, "Non-stochastic best arm
identification and hyperparameter optimization")."""

from collections.abc import Sequence

from dl.training.lane import Cadence
from dl.training.selection import Selection


def kept_at(
    step: int, cadence: Cadence, halve: int | None, selections: Sequence[Selection]
) -> list[bool]:
    """Which of the running lanes go on after the evaluation at ``step``: at a rung the best ``1/halve``."""
    rungs_here = rungs(cadence.steps, cadence.eval_every, halve) if halve else []
    rule = selections[0].rule if selections else None
    if step not in rungs_here or len(selections) < 2 or rule is None or halve is None:
        return [True] * len(selections)
    sign = -1.0 if rule.startswith("-") else 1.0

    def rank(place: int) -> tuple[bool, float]:
        best = selections[place].best  # what could not be scored yet goes before any that could
        return (False, 0.0) if best is None else (True, sign * best)

    order = sorted(range(len(selections)), key=rank, reverse=True)
    kept = set(order[: -(-len(selections) // halve)])
    return [place in kept for place in range(len(selections))]


def rungs(steps: int, eval_every: int, halve: int) -> list[int]:
    """The evaluations at which successive halving drops lanes: those nearest
    to ``steps / halve``, ``steps / halve²``, ... , the earliest first."""
    found: set[int] = set()
    fraction = steps / halve
    while fraction >= eval_every and len(found) < 16:
        found.add(max(1, round(fraction / eval_every)) * eval_every)
        fraction /= halve
    return sorted(found)


def kept_on_average(lanes: int, steps: int, eval_every: int, halve: int | None) -> float:
    """The share of all lanes' steps that halving leaves to be taken."""
    if halve is None:
        return 1.0
    taken, left, before = 0, lanes, 0
    for step in [*rungs(steps, eval_every, halve), steps]:
        taken, before = taken + left * (step - before), step
        left = -(-left // halve)
    return taken / (lanes * steps)
