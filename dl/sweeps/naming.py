"""What lanes are called."""

import enum
import re
from collections.abc import Mapping
from typing import Any

from dl.runs.functions import called


def lane_name(number: int, overrides: Mapping[str, Any]) -> str:
    """A folder name that says what is special about a lane, and that every file system and terminal takes."""
    name = "-".join([f"{number:03d}", *words(overrides)])[:120]
    plain = "".join(x if x.isprintable() and x not in r"[*?\/" else "_" for x in name)
    return plain.encode()[:240].decode(errors="ignore")


def words(overrides: Mapping[str, Any]) -> list[str]:
    return [f"{name}={short(value)}" for name, value in overrides.items()]


def short(value: Any) -> str:
    """A field's value in a name."""
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, tuple | list):
        return "x".join(short(v) for v in value)
    if isinstance(value, enum.Enum):
        return value.name
    if callable(value):
        return re.sub(r"[^\w.=+-]+", "_", called(value)).strip("_")
    return str(value)
