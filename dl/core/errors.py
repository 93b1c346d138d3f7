"""Mistakes a user can make and mend. The command line prints these as one line, without a traceback."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Says what is wrong and what to do about it, in one or two sentences."""


class NonFiniteError(UserError):
    """The loss became NaN or infinite; the message names the step, the leaves and the batch rows."""


def unknown(kind: str, name: str, known: Iterable[str]) -> UserError:
    """The error for a name that is not among the ``known`` ones, suggesting the nearest."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return UserError(f"unknown {kind} {name!r}: {hint}known are {', '.join(known)}")
