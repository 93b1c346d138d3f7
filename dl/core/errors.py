"""Mistakes a user can make and mend. The command line prints these as one line, without a traceback."""

import difflib
import importlib
import numbers
from collections.abc import Iterable
from typing import Any


class UserError(Exception):
    """Says what is wrong and what to do about it, in one or two sentences.

    Attributes:
      code: the mistake's name, which stays the same whatever the sentence says; docs/errors.md lists all.
    """

    def __init__(self, code: str, message: str):
        super().__init__(code, message)
        self.code, self.message = code, message

    def __str__(self) -> str:
        return self.message


class NonFiniteError(UserError):
    """The loss became NaN or infinite; the message names the step, the leaves and the batch rows."""


def one_line(error: object, most: int = 200) -> str:
    """What an error or a text says, in one line of at most so many characters; of a wordless error its class.

    >>> one_line(ValueError("no route\\n  to host")), one_line(TimeoutError())
    ('no route to host', 'TimeoutError')
    """
    said = " ".join(str(error).split())
    return said[:most] or (type(error).__name__ if isinstance(error, Exception) else "")


def unknown(kind: str, name: object, known: Iterable[str]) -> UserError:
    """The error for a name that is not among the ``known`` ones, suggesting the nearest."""
    known, name = sorted(known), str(name)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return UserError("unknown", f"unknown {kind} {name!r}: {hint}known are {', '.join(known)}")


def need(package: str, *, extra: str, why: str) -> Any:
    """The module ``package``, which an extra of the project brings.

    What a script needs at its end it asks for at its start, so that no training ends without a score.

    Args:
      extra: the extra's name in pyproject.toml; why: what the package is for, such as ``'BLEU'``.

    Raises:
      UserError: it is not installed, or is broken.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        top = package.partition(".")[0]
        absent = isinstance(error, ModuleNotFoundError) and (error.name or "").startswith(top)
        broken = "" if absent else f", and what is installed cannot be imported ({error})"
        raise UserError(
            "package-missing",
            f"{why} needs {top}{broken}: pip install -e '.[{extra}]' in the checkout of dl (or pip install {top})",
        ) from None


def bounded(
    name: str,
    value: Any,
    *,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
    whole: bool = False,
) -> None:
    """Raise UserError where the number ``value`` lies outside its bounds, or is not ``whole`` and should be.

    None, which stands for an option left out, and arrays pass: a sweep traces its values.
    """
    if not isinstance(value, numbers.Real):
        return
    number: Any = value  # compared as it is: a fraction stays one
    low = number >= at_least if at_least is not None else above is None or number > above
    high = number <= at_most if at_most is not None else below is None or number < below
    if low and high and (not whole or isinstance(value, numbers.Integral)):
        return
    words = [f"{at_least:g} or more"] if at_least is not None else []
    words += [f"above {above:g}"] if above is not None else []
    words += [f"at most {at_most:g}"] if at_most is not None else []
    words += [f"below {below:g}"] if below is not None else []
    kinds = ["a whole number"] if whole else []
    said = ", ".join([*kinds, *([" and ".join(words)] if words else [])])
    raise UserError("range", f"{name} must be {said}, not {value}")
