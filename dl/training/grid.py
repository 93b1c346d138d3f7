"""What a sweep varies: seeds, lists, ranges and random search over fields of a config, as plain configs."""

import dataclasses
import itertools
import math
import random
from collections.abc import Callable
from typing import Any

from dl.core.errors import UserError, unknown

Overrides = dict[str, Any]  # config field -> value


@dataclasses.dataclass(frozen=True)
class Field:
    """One swept field: points as text, or a random range (``low``, ``high``, ``log``)."""

    name: str
    points: tuple[str, ...] = ()
    low: float = 0.0
    high: float = 0.0
    log: bool = False


def parse_field(text: str, known: list[str]) -> Field:
    """A field from ``name=a,b,c``, ``name=low:high:count[:log]`` or, to draw at random,
    ``name=low:high[:log]``.

    Raises:
      UserError: a field that the config does not have, or a range that is none.
    """
    name, equals, spec = text.partition("=")
    name = name.replace("-", "_")
    if not equals or not spec:
        raise UserError(f"--sweep {text}: write field=value,value or field=low:high:count[:log]")
    if name not in known:
        raise unknown("field to sweep,", name, known)
    if ":" not in spec:
        return Field(name, tuple(spec.split(",")))
    parts = spec.split(":")
    log = parts[-1] == "log"
    numbers = parts[:-1] if log else parts
    try:
        low, high = float(numbers[0]), float(numbers[1])
        count = int(numbers[2]) if len(numbers) > 2 else None
    except (ValueError, IndexError):
        raise UserError(f"--sweep {text}: a range is low:high:count[:log], in numbers") from None
    if log and min(low, high) <= 0:
        raise UserError(f"--sweep {text}: a log range needs both ends above 0")
    if count is None:
        return Field(name, low=low, high=high, log=log)
    if count < 2:
        raise UserError(f"--sweep {text}: a range needs a count of 2 or more")
    return Field(name, tuple(repr(v) for v in _spaced(low, high, count, log)))


def _spaced(low: float, high: float, count: int, log: bool) -> list[float]:
    a, b = (math.log(low), math.log(high)) if log else (low, high)
    points = [a + (b - a) * i / (count - 1) for i in range(count)]
    # Rounded to what one would write: the interior points of a range carry no more meaning.
    return [float(f"{math.exp(p) if log else p:.6g}") for p in points]


def plan(
    fields: list[Field], base_seed: int, seeds: int, trials: int, convert: Callable[[str, str], Any]
) -> list[Overrides]:
    """Every lane's overrides: the grid of the fields with points, times ``trials`` draws of the
    random ones, times ``seeds``.

    Args:
      convert: ``(field, text) -> value`` in the field's own type.
    """
    listed = [f for f in fields if f.points]
    drawn = [f for f in fields if not f.points]
    if drawn and trials < 1:
        raise UserError(
            f"{drawn[0].name} is a range without a count: say how many draws with --trials"
        )
    if trials and not drawn:
        raise UserError("--trials needs a random range, such as learning_rate=1e-4:1e-2:log")
    axes = [[(f.name, convert(f.name, point)) for point in f.points] for f in listed]
    draws: list[list[tuple[str, Any]]] = []
    generator = random.Random(base_seed)
    for _ in range(max(trials, 1)):
        draw = []
        for f in drawn:
            a, b = (math.log(f.low), math.log(f.high)) if f.log else (f.low, f.high)
            value = generator.uniform(a, b)
            draw.append((f.name, convert(f.name, f"{math.exp(value) if f.log else value:.6g}")))
        draws.append(draw)
    numbers = [[("seed", base_seed + i)] for i in range(seeds)] if seeds > 1 else [[]]
    return [
        dict([*cell, *draw, *number])
        for cell, draw, number in itertools.product(itertools.product(*axes), draws, numbers)
    ]


def lane_name(number: int, overrides: Overrides) -> str:
    """A folder name that says what is special about a lane."""
    words = [f"{name}={_short(value)}" for name, value in overrides.items()]
    return "-".join([f"{number:03d}", *words])[:120]


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, tuple | list):
        return "x".join(_short(v) for v in value)
    return str(value).replace("/", "_")


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
