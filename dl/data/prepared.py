"""What a script prepares of its data, kept by the fields of the config that it read."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jax

from dl.core.errors import UserError
from dl.data.folded import merged, one_fold, over_folds
from dl.data.own.tested import tested
from dl.data.readers.files import data_folder, same_data_folder

Config = TypeVar("Config")
Result = TypeVar("Result")

KEPT = 4  # results of one function
_ABSENT = object()  # the value of a field that a config has not, which counts as any other


class _Kept(NamedTuple):
    folder: tuple[Path, Any]  # where sets come from, and what is tested on instead
    fields: dict[str, Any]  # in the order in which they were read
    result: Any


def prepared(function: Callable[[Config], Result]) -> Callable[[Config], Result]:
    """``function(config)`` whose last few results are kept, by the fields of the config that it read.

    An experiment is built many times: for every lane of a sweep, and inside traces. What takes long (a
    tokenizer, a judge, trees) is prepared once for all configs that agree in the fields it reads. A
    method or property of the config counts by the fields that it reads itself.

    >>> @prepared  # doctest: +SKIP
    ... def vocabulary(config):
    ...     return words(load("sst2").train["text"], min_count=config.min_count)

    Args:
      function: pure but for the data folder; it is given a copy of the config, a frozen dataclass.

    Raises:
      UserError: in a call, a field that the function reads is traced. A sweep compiles a program for
        each value of such a field.
    """

    def every(config: Any) -> Callable[[Any], Result]:
        def of(fold: int) -> Result:
            return function(_noting(config, lambda n: fold if n == "fold" else getattr(config, n)))

        with one_fold():
            return merged([of(fold) for fold in range(config.folds)])

    alone, of_folds = _keeping(function), _keeping(functools.wraps(function)(every))

    @functools.wraps(function)
    def wrapper(config: Config) -> Result:
        return chosen(of_folds, config) if over_folds(config) else alone(config)

    return wrapper


def chosen(every: Callable[[Any], Callable[[Any], Any]], config: Any) -> Any:
    """The result of the config's fold, which may be traced, of what is prepared for all of them."""
    if config.fold is None:
        raise UserError(
            "folds-not-swept",
            f"{config.folds} folds are a run each: sweep them, as a script and dl.sweep do, or name one by --fold",
        )
    if isinstance(config.fold, int) and not 0 <= config.fold < config.folds:
        raise UserError(
            "range",
            f"there is no fold {config.fold} of {config.folds}: choose 0 to {config.folds - 1}",
        )
    return every(config)(config.fold)


def _keeping(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """``function`` with its last results kept."""
    kept: list[_Kept] = []

    def plain(config: Any, name: str) -> Any:
        value = getattr(config, name, _ABSENT)
        if isinstance(value, jax.core.Tracer):
            raise UserError(
                "field-traced",
                f"{function.__name__}(config) prepares data by the field {name!r}, which is traced here: "
                "give it a plain value (a sweep compiles a program for each)",
            )
        return value

    @functools.wraps(function)
    def wrapper(config: Any) -> Any:
        folder = data_folder(), tested()
        for place, one in enumerate(kept):
            # As in the call that is kept, a field is asked for only where those before it agree.
            if one.folder == folder and all(
                _same(plain(config, name), value) for name, value in one.fields.items()
            ):
                kept.append(kept.pop(place))
                return one.result
        fields: dict[str, Any] = {}
        returned = False

        def note(name: str) -> Any:
            if returned:
                raise UserError(
                    "config-read-late",
                    f"what {function.__name__}(config) returned reads {name!r} only now: read it before",
                )
            value = fields.setdefault(name, plain(config, name))
            if value is _ABSENT:
                raise AttributeError(f"{type(config).__name__} has no field {name}")
            return value

        # Values, though the experiment be built inside a trace. What is prepared may reopen other runs.
        with jax.ensure_compile_time_eval(), same_data_folder():
            result = function(_noting(config, note))
        returned = True
        kept.append(_Kept(folder, fields, result))
        del kept[:-KEPT]
        return result

    return wrapper


def _same(a: Any, b: Any) -> bool:
    return a is b or (type(a) is type(b) and a == b)


def _noting(config: Any, note: Callable[[str], Any]) -> Any:
    """A copy of the config that asks ``note`` for every field that is read."""
    kind: Any = type(config)
    names = {field.name for field in dataclasses.fields(config)}

    def read(self, name: str) -> Any:
        # Not of what dataclasses.replace makes of the copy: that holds values of its own.
        return note(name) if self is copy and name in names else kind.__getattribute__(self, name)

    # What __post_init__ sets beside the fields is no attribute of the copy, and noted as they are.
    reading = {"__getattribute__": read, "__getattr__": lambda self, name: note(name)}
    copy: Any = object.__new__(type(kind.__name__, (kind,), reading))
    return copy
