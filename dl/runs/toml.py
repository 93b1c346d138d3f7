"""The values of a config as TOML, and back in the types of its fields."""

import dataclasses
import enum
import json
import re
import tomllib
import types
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from dl.core.errors import UserError, unknown
from dl.platform import OBEYED
from dl.runs.files import printable
from dl.runs.folder import to_json
from dl.runs.scripts import revive

MOST = 2**24  # bytes of a file of values
NONE = "none"  # which TOML has no word for


def written(values: Mapping[str, Any], above: str = "") -> str:
    """What ``config.json`` holds of a config as TOML, nested configs as tables; None is the text ``none``."""
    tables = {name: value for name, value in values.items() if isinstance(value, dict)}
    lines = [f"{_key(n)} = {_value(v)}\n" for n, v in values.items() if n not in tables]
    for name, value in tables.items():
        lines.append(f"\n[{above}{_key(name)}]\n{written(value, f'{above}{_key(name)}.')}")
    return "".join(lines)


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _text(name)


def _text(text: str) -> str:
    """A basic string; what a terminal would obey is escaped too."""
    quoted = json.dumps(text, ensure_ascii=False)
    return OBEYED.sub(
        lambda c: f"\\U{ord(c[0]):08x}" if c[0] > "\uffff" else f"\\u{ord(c[0]):04x}", quoted
    )


def _value(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: f'"{NONE}"'}[value]
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_key(n)} = {_value(v)}' for n, v in value.items())}}}"
    return _text(value) if isinstance(value, str) else repr(value)


def read(file: str | Path) -> dict[str, Any]:
    """What a TOML file, or a pipe, holds.

    Raises:
      UserError: it is none, or cannot be read.
    """
    try:
        with open(file, "rb") as opened:
            content = opened.read(MOST + 1)
        if len(content) > MOST:
            raise ValueError(f"it has more than {MOST:,} bytes")
        return tomllib.loads(content.decode("utf-8-sig").replace("\r\n", "\n"))
    except OSError as error:
        told = f"--config {file} cannot be read ({error.strerror}): name a TOML file"
        raise UserError("file-read", told) from None
    except (ValueError, RecursionError) as error:  # a number of 5,000 digits, too
        told = (
            f"--config {file} is no TOML ({printable(error)}): `dl config RUN` writes such a file"
        )
        raise UserError("file-damaged", told) from None


def over(defaults: Mapping[str, Any], file: str | Path) -> dict[str, Any]:
    """Dataclasses with the values that a TOML file has for their fields.

    Args:
      defaults: them, by name; no two have a field of one name. Nested ones are tables.

    Raises:
      UserError: a name that none of them has, or a value of another type than its field.
    """
    found: dict[str, dict[str, Any]] = {part: {} for part in defaults}
    fields = {f.name: part for part, own in defaults.items() for f in dataclasses.fields(own)}
    for name, value in read(file).items():
        if name not in fields:
            raise unknown(f"name in --config {file},", name, fields)
        found[fields[name]][name] = value
    return {part: _over(own, found[part], "") for part, own in defaults.items()}


def _over(own: Any, values: Mapping[str, Any], above: str) -> Any:
    hints, found = typing.get_type_hints(type(own)), {}
    for name, value in values.items():
        if name not in hints:
            raise unknown(f"name in --config, [{above.rstrip('.')}],", name, hints)
        default = getattr(own, name)
        if isinstance(value, dict) and dataclasses.is_dataclass(default):
            found[name] = _over(default, value, f"{above}{name}.")
            continue
        found[name] = typed(f"{above}{name}", hints[name], value)
    return dataclasses.replace(own, **found)


def typed(name: str, hint: Any, value: Any) -> Any:
    """A value for the field ``name`` in the type that ``hint`` names.

    Raises:
      UserError: it is of another type.
    """
    if not fits(hint, value):
        kind = hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")
        kind = kind.replace("None", f'"{NONE}"')
        raise UserError("config-value", f"{name} = {_shown(value)}: the field takes {kind}")
    if dataclasses.is_dataclass(value):
        return value
    return revive(hint, _nones(hint, value))


def _nones(hint: Any, value: Any) -> Any:
    """``value``, which fits, with None for the text that stands for it."""
    if value == NONE and fits(hint, None):
        return None
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _nones(next(h for h in inner if fits(h, value)), value)
    if dataclasses.is_dataclass(hint) and isinstance(value, dict):
        fields = typing.get_type_hints(hint)
        return {name: _nones(fields[name], own) for name, own in value.items()}
    if origin in (tuple, list, set, frozenset):
        kinds = inner if origin is tuple and inner[1:] != (...,) else [inner[0]] * len(value)
        return [_nones(*pair) for pair in zip(kinds, value, strict=True)]
    return value


def _shown(value: Any) -> str:
    return printable(_value(value) if isinstance(value, bool | str | list) else repr(value))


def fits(hint: Any, value: Any) -> bool:
    """Whether ``value``, of TOML or JSON, is of the type that ``hint`` names; no text is a number."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(fits(h, value) for h in inner)
    if hint in (None, type(None)):
        return value is None or value == NONE
    if origin is Literal:
        return any(value == choice and type(value) is type(choice) for choice in inner)
    if origin in (tuple, list, set, frozenset):
        if not isinstance(value, list | tuple | set | frozenset):
            return False
        kinds = [inner[0]] * len(value) if origin is not tuple or inner[1:] == (...,) else inner
        return len(kinds) == len(value) and all(map(fits, kinds, value))
    if hint is float:
        return type(value) in (int, float) or value in ("inf", "-inf", "nan")
    if isinstance(hint, type) and issubclass(hint, Path):
        return isinstance(value, str | Path)
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return isinstance(value, hint) or value in [*hint.__members__, *map(to_json, hint)]
    if dataclasses.is_dataclass(hint) and isinstance(value, dict):
        fields = typing.get_type_hints(hint)
        return all(name in fields and fits(fields[name], own) for name, own in value.items())
    if hint is Callable or origin is Callable:
        return callable(value)
    return hint is Any or type(value) is (origin or hint)
