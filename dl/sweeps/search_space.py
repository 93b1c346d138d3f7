"""What a sweep varies: seeds, lists, ranges and random search over fields of a config, as plain configs."""

import dataclasses
import enum
import itertools
import math
import random
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

from dl.core.errors import UserError, unknown
from dl.sweeps.naming import short

Overrides = dict[str, Any]  # config field -> value
Axis = tuple[str, Sequence[Any]]  # a field and its values

TRUTH = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


@dataclasses.dataclass(frozen=True)
class SweptField:
    """One swept field: points as text, or a random range (``low``, ``high``, ``log``) of the ``kind``,
    float, int (both ends included) or bool."""

    name: str
    points: tuple[str, ...] = ()
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    kind: type = float


def parse_field(
    text: str,
    known: Sequence[str],
    kinds: Mapping[str, Any] | None = None,
    say: Callable[[str], None] = print,
) -> SweptField:
    """A field from ``name=a,b,c``, ``name=low:high:count[:log]`` or, to draw at random,
    ``name=low:high[:log]``. A value that holds commas stands in quotes or brackets.

    Args:
      known: the fields there are; kinds: their type hints, without which a range whose ends and points
        are whole numbers is taken for one of whole numbers.
      say: told what is not taken as it was typed.

    Raises:
      UserError: a field that the config does not have, a range that is none, or a value left out.
    """
    name, equals, spec = text.partition("=")
    name, spec = name.strip().replace("-", "_"), spec.strip()
    if not equals or not spec:
        raise UserError(
            "sweep-malformed",
            f"--sweep {text}: write field=value,value or field=low:high:count[:log]",
        )
    if name not in known:
        raise unknown("field to sweep,", name, known)
    items = _items(spec, ",", f"--sweep {text}")
    kind = _kind(kinds[name]) if kinds and name in kinds else None
    if ":" in spec and len(items) == 1 and kind in (None, bool, int, float):
        return _range(text, name, spec, kind, say)
    return SweptField(name, tuple(_unquoted(item) for item in items))


def _kind(hint: Any) -> Any:
    """The type that ``hint`` names beside None."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        inner = [h for h in typing.get_args(hint) if h is not type(None)]
        numbers = [h for h in (float, int) if h in inner]
        return inner[0] if len(inner) == 1 else numbers[0] if numbers else hint
    return hint


def _items(text: str, separator: str, what: str) -> list[str]:
    """``text`` cut at every ``separator`` (a character class) that no quotes or brackets enclose."""
    quoted, round_, square = r""""[^"]*"|'[^']*'""", r"\((?:[^()]|\([^()]*\))*\)", r"\[[^\[\]]*\]"
    piece = rf"""(?:[^{separator}"'()\[\]]|{quoted}|{round_}|{square})*"""
    if not re.fullmatch(rf"{piece}(?:[{separator}]{piece})*", text):
        raise UserError(
            "sweep-malformed",
            f"{what}: a quote or bracket is open: close it, or quote the whole value",
        )
    ends = [-1]
    while ends[-1] < len(text):
        found = re.compile(piece).match(text, ends[-1] + 1)
        ends.append(found.end() if found else len(text))
    items = [text[a + 1 : b].strip() for a, b in itertools.pairwise(ends)]
    if "" in items:
        raise UserError(
            "sweep-malformed",
            f"{what}: a value is missing beside a comma (write '' for an empty text)",
        )
    return items


def _unquoted(item: str) -> str:
    return item[1:-1] if item[0] == item[-1] and item[0] in "\"'" and len(item) > 1 else item


def _range(text: str, name: str, spec: str, kind: Any, say: Callable[[str], None]) -> SweptField:
    log = spec.split(":")[-1].strip() == "log"
    numbers = [part.strip() for part in spec.split(":")][: -1 if log else None]
    wrong = f"--sweep {text}: "
    if kind is bool:
        if log or [TRUTH.get(n.lower()) for n in numbers] != [False, True]:
            raise UserError(
                "sweep-range", f"{wrong}write {name}=true,false, or {name}=false:true to draw one"
            )
        return SweptField(name, low=0, high=1, kind=bool)
    whole = kind is not float and all(re.fullmatch(r"[+-]?\d+", n) for n in numbers[:2])
    if kind is int and not whole:
        raise UserError(
            "sweep-range", f"{wrong}{name} takes whole numbers: write the ends of the range as such"
        )
    try:
        if not 2 <= len(numbers) <= 3:
            raise ValueError
        low, high = ((int if whole else float)(n) for n in numbers[:2])
        count = int(numbers[2]) if len(numbers) > 2 else None
        if not (math.isfinite(low) and math.isfinite(high)):
            raise ValueError
    except ValueError:
        raise UserError(
            "sweep-range", f"{wrong}a range is low:high:count[:log], in numbers"
        ) from None
    if low >= high:
        raise UserError(
            "sweep-range", f"{wrong}the range is empty, as {low:g} is not below {high:g}"
        )
    if log and low <= 0:
        raise UserError("sweep-range", f"{wrong}a log range needs both ends above 0")
    if count is None:
        return SweptField(name, low=low, high=high, log=log, kind=int if whole else float)
    if count < 2:
        raise UserError("sweep-range", f"{wrong}a range needs a count of 2 or more")
    points = _whole(int(low), int(high), count, log) if whole else []
    if whole and kind is None and any(p.denominator > 1 for p in points) and not log:
        return SweptField(name, tuple(map(repr, _spaced(float(low), float(high), count, log))))
    if whole:
        rounded = list(dict.fromkeys(round(p) for p in points))
        if len(rounded) < count:
            told = ", ".join(map(str, rounded))
            say(f"{name}: {count} points are {len(rounded)} whole numbers: {told}")
        return SweptField(name, tuple(map(str, rounded)))
    return SweptField(name, tuple(map(repr, _spaced(low, high, count, log))))


def _whole(low: int, high: int, count: int, log: bool) -> list[Fraction]:
    """Points between whole numbers, the ends exact however large."""
    if log:
        inner = [Fraction(v) for v in _interior(low, high, count, log)]
    else:
        inner = [low + Fraction((high - low) * i, count - 1) for i in range(1, count - 1)]
    return [Fraction(low), *inner, Fraction(high)]


def _interior(low: float, high: float, count: int, log: bool) -> list[float]:
    a, b = (math.log(low), math.log(high)) if log else (low, high)
    points = [a + (b - a) * i / (count - 1) for i in range(1, count - 1)]
    return [min(max(math.exp(p) if log else p, low), high) for p in points]


def _spaced(low: float, high: float, count: int, log: bool) -> list[float]:
    inner = _interior(low, high, count, log)
    # The ends are what was typed. What lies between is rounded to what one would write, for it carries no
    # more meaning, as long as that keeps the points apart.
    for digits in (6, 9, 12, 15):
        points = [low, *(float(f"{p:.{digits}g}") for p in inner), high]
        if all(a < b for a, b in itertools.pairwise(points)):
            return points
    return [low, *inner, high]


def converter(
    kinds: Mapping[str, Any], other: Callable[[str, str], Any] | None = None
) -> Callable[[str, str], Any]:
    """``(field, text) -> value`` in the field's own type, for whoever has only type hints.

    Args:
      kinds: type hints by field.
      other: reads the fields of other types than numbers, truth values, None, choices, text, paths,
        and tuples or lists of these (``(16, 32)``, or ``16 32``).

    Raises:
      UserError (the result): the text is none of the field's type.
    """

    def convert(name: str, text: str) -> Any:
        try:
            return _value(kinds[name], text.strip())
        except ValueError as error:
            raise UserError("sweep-value", f"--sweep {name}: {error}") from None
        except TypeError:
            if other is None:
                raise UserError(
                    "sweep-type", f"--sweep {name}: a field of this type cannot be swept"
                ) from None
            return other(name, text)

    return convert


def _value(hint: Any, text: str) -> Any:
    """``text`` in the type that ``hint`` names; ValueError where it is none, TypeError where the type is
    not known here."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if type(None) in inner and text.lower() == "none":
            return None
        rest = [h for h in inner if h is not type(None)]
        for h in sorted(rest, key=lambda h: h is str):  # text takes anything, so it comes last
            try:
                return _value(h, text)
            except ValueError as error:
                failed = error
        raise failed
    if origin is Literal:
        found = {str(choice): choice for choice in inner}
        if text not in found:
            raise unknown("choice", text, found)
        return found[text]
    if hint in (tuple, list) or origin in (tuple, list):
        return _many(origin or hint, inner, text)
    if hint is bool:
        if text.lower() not in TRUTH:
            raise ValueError(f"{text!r} is no truth value: write true or false")
        return TRUTH[text.lower()]
    if hint in (int, float):
        try:
            number = hint(text)
        except ValueError:
            raise ValueError(f"{text!r} is no {hint.__name__}") from None
        if number != number:
            raise ValueError("nan is no value to try")
        return number
    if hint is str:
        return text
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        if text not in hint.__members__:
            raise unknown("choice", text, hint.__members__)
        return hint[text]
    if isinstance(hint, type) and issubclass(hint, Path):
        return hint(text)
    raise TypeError


def _many(kind: Any, inner: tuple, text: str) -> Any:
    bare = text[1:-1].strip() if text[:1] + text[-1:] in ("()", "[]") else text
    bare = re.sub(r"\s*,\s*", ",", re.sub(r"\s+", " ", bare)).rstrip(",")
    items = [_unquoted(item) for item in _items(bare, r",\s", "--sweep")] if bare else []
    if kind is tuple and inner[1:] != (...,) and inner:
        if len(items) != len(inner):
            raise ValueError(f"{text!r} has {len(items)} values instead of {len(inner)}")
        return tuple(_value(h, item) for h, item in zip(inner, items, strict=True))
    return kind(_value(inner[0] if inner else str, item) for item in items)


def lane_overrides(
    fields: list[SweptField],
    base_seed: int,
    seeds: int,
    trials: int,
    convert: Callable[[str, str], Any],
    say: Callable[[str], None] = print,
) -> list[Overrides]:
    """Every lane's overrides, no two of them equal: the grid of the fields with points, times ``trials``
    draws of the random ones, times ``seeds``.

    Args:
      convert: ``(field, text) -> value`` in the field's own type.
      say: told what is not taken as it was typed.

    Raises:
      UserError: a field given twice, seeds swept beside ``seeds``, or draws of nothing.
    """
    listed = [f for f in fields if f.points]
    drawn = [f for f in fields if not f.points]
    if drawn and trials < 1:
        raise UserError(
            "trials-missing",
            f"{drawn[0].name} is a range without a count: say how many draws with --trials",
        )
    if trials and not drawn:
        raise UserError(
            "trials-without-range",
            "--trials needs a random range, such as learning_rate=1e-4:1e-2:log",
        )
    axes = [(f.name, [convert(f.name, point) for point in f.points]) for f in listed]
    draws: dict[Any, Overrides] = {}
    generator = random.Random(base_seed)
    for _ in range(100 * trials):
        if len(draws) == trials:
            break
        draw = {f.name: convert(f.name, _drawn(f, generator)) for f in drawn}
        draws.setdefault(_key(list(draw.values())), draw)
    if len(draws) < trials:
        names = " and ".join(f.name for f in drawn)
        say(f"{trials} draws of {names} gave {len(draws)} different settings: each is run once")
    given = [f.name for f in fields]
    return combine(axes, list(draws.values()) or [{}], base_seed, seeds, say, given)


def _drawn(field: SweptField, generator: random.Random) -> str:
    if field.kind is bool:
        return str(generator.random() < 0.5).lower()
    if field.kind is int and not field.log:
        return str(generator.randint(int(field.low), int(field.high)))
    # Whole numbers: half a step on either side, so that the ends come as often as their neighbours.
    half = 0.5 if field.kind is int else 0.0
    low, high = field.low - half, field.high + half
    a, b = (math.log(low), math.log(high)) if field.log else (low, high)
    value = generator.uniform(a, b)
    value = math.exp(value) if field.log else value
    value = float(round(value)) if field.kind is int else float(f"{value:.6g}")
    value = min(max(value, field.low), field.high)
    return str(int(value)) if field.kind is int else repr(value)


def combine(
    axes: Sequence[Axis],
    draws: Sequence[Overrides],
    base_seed: int,
    seeds: int,
    say: Callable[[str], None] = print,
    given: Sequence[str] = (),
) -> list[Overrides]:
    """Every combination of the axes' values, of the ``draws`` and of ``seeds`` seeds from ``base_seed`` on;
    values that are equal are one.

    Args:
      given: names of all swept fields as they were given.

    Raises:
      UserError: as :func:`lane_overrides`; or a field without values.
    """
    names = list(given or [name for name, _ in axes])
    for name in names:
        if names.count(name) > 1:
            raise UserError(
                "swept-twice", f"{name} is swept twice: give all its values at once, {name}=a,b,c"
            )
    if "seed" in names and seeds > 1:
        raise UserError(
            "swept-twice",
            f"seed is swept, and --seeds {seeds} would vary it too: leave one of the two out",
        )
    apart = []
    for name, values in axes:
        different: dict[Any, tuple[str, Any]] = {}
        for value in values:
            different.setdefault(_key(value), (name, value))
        if not different:
            raise UserError(
                "sweep-empty", f"{name} is swept over no values: give some, or leave it out"
            )
        if len(different) < len(values):
            told = ", ".join(short(value) for _, value in different.values())
            say(f"{name}: of {len(values)} values some are equal, and each is run once: {told}")
        apart.append(list(different.values()))
    numbers = [[("seed", base_seed + i)] for i in range(seeds)] if seeds > 1 else [[]]
    return [
        dict([*cell, *draw.items(), *number])
        for cell, draw, number in itertools.product(itertools.product(*apart), draws, numbers)
    ]


def _key(value: Any) -> Any:
    """What equal values of a config have in common: 1 and 1.0 are, 1 and True are not."""
    if isinstance(value, tuple | list):
        return tuple(_key(v) for v in value)
    if isinstance(value, bool | int | float):
        return isinstance(value, bool), value
    return type(value), repr(value)
