"""Functions as values of a config: names that are the same in every process, and differ where the functions do."""

import functools
import hashlib
import types
from collections.abc import Callable
from typing import Any

import numpy as np


def called(function: Callable[..., Any]) -> str:
    """What a run's folder calls a function.

    One of a module, and a class, by its name. A lambda, a function within another and a method by its name and
    eight digits of a digest of all that it is made of: its code, its defaults and what it has taken from around
    it. One with arguments bound (``functools.partial``) by its own name and those arguments. The code is Python's
    own, so another version of Python may give another digest.
    """
    if isinstance(function, functools.partial):
        bound = [*map(_told, function.args)]
        bound += [f"{name}={_told(value)}" for name, value in function.keywords.items()]
        return f"{called(function.func)}({', '.join(bound)})"
    name = getattr(function, "__name__", None)
    if name is None:
        return repr(function)
    alone = "<" not in getattr(function, "__qualname__", "")  # <lambda>, <locals>
    if isinstance(function, type) or (alone and not isinstance(function, types.MethodType)):
        return name
    return f"{name} {hashlib.sha256(_made_of(function, set()).encode()).hexdigest()[:8]}"


def _told(value: Any) -> str:
    return called(value) if callable(value) else _made_of(value, set())


def _made_of(value: Any, above: set[int]) -> str:
    """All that ``value`` is made of, as text; ``above`` are those that it is found within."""
    if value is None or isinstance(value, bool | int | float | complex | str | bytes):
        return repr(value)
    if id(value) in above:
        return "itself"
    above = above | {id(value)}

    def of(parts: Any) -> str:
        return "(" + ", ".join(_made_of(part, above) for part in parts) + ")"

    if isinstance(value, types.CodeType):
        return of((value.co_code, value.co_names, value.co_consts))
    if isinstance(value, types.FunctionType):
        cells = value.__closure__ or ()
        # A cell is empty while what it is to hold is not defined yet.
        held = [cell.cell_contents for cell in cells if cell != types.CellType()]
        return of((value.__code__, value.__defaults__, value.__kwdefaults__, held))
    if isinstance(value, types.MethodType):
        return of((value.__func__, value.__self__))
    if isinstance(value, functools.partial):
        return of((value.func, value.args, value.keywords))
    if isinstance(value, type):
        return value.__qualname__
    if hasattr(value, "__wrapped__"):  # jitted, or with a derivative of its own
        return type(value).__name__ + of((value.__wrapped__,))
    if isinstance(value, dict):
        return of(value.items())
    if isinstance(value, set | frozenset):
        return of(sorted(value, key=repr))
    if isinstance(value, tuple | list):
        return of(value)
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        array = np.asarray(value)
        return f"{array.dtype}{array.shape}{hashlib.sha256(array.tobytes()).hexdigest()}"
    text = repr(value)
    if " at 0x" not in text.lower():
        return text
    return type(value).__qualname__ + of(getattr(value, "__dict__", {}).items())
