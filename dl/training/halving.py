"""Successive halving: of many lanes the best go on (Jamieson & Talwalkar 2016)."""


def rungs(steps: int, eval_every: int, halve: int) -> list[int]:
    """The evaluations at which successive halving drops lanes (Jamieson & Talwalkar 2016): those nearest
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
