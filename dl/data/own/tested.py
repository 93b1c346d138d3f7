"""Other data in the test part's place, to judge a model that is trained."""

import contextlib
import contextvars
import dataclasses
from collections.abc import Iterator
from typing import Any

from dl.core.errors import UserError
from dl.data.splits import Columns, Splits


@dataclasses.dataclass(eq=False)
class Tested:
    """Data that stand in for the test part of what is opened.

    Attributes:
      data, fields: as for :func:`dl.data.open_alike`; rows: what was read of them, once.
    """

    data: Any
    fields: dict[str, Any]
    rows: Columns | None = None


_tested: contextvars.ContextVar[Tested | None] = contextvars.ContextVar("tested", default=None)


def tested() -> Tested | None:
    """What stands in for the test part at this moment, or None."""
    return _tested.get()


@contextlib.contextmanager
def tested_on(data: Any, **fields: Any) -> Iterator[Tested]:
    """Within, :func:`dl.data.open` gives training and validation parts as ever, and ``data`` for the test part.

    So a script's ``build`` prepares them as it prepared its own test rows, by what it learned of the training
    rows: sizes, vocabularies, means.
    """
    own = Tested(data, fields)
    token = _tested.set(own)
    try:
        yield own
    finally:
        _tested.reset(token)


def with_tested(splits: Splits, kind: str, own: Any) -> Splits:
    """``splits``, their test part replaced where one is tested on others.

    Raises:
      UserError: the data have no such columns or classes, or nothing to compare with.
    """
    wanted = _tested.get()
    if wanted is None:
        return splits
    if wanted.rows is None:
        from dl.data.own.alike import open_alike

        details = {"kind": kind, "own": own, **splits.info.details}
        info = dataclasses.replace(splits.info, details=details)
        wanted.rows = open_alike(
            wanted.data, dataclasses.replace(splits, info=info), **wanted.fields
        )
        if "label" in splits.train and "label" not in wanted.rows:
            raise UserError(
                "target-missing",
                f"{wanted.data} has no column of what is to be predicted, so nothing can be judged by it",
            )
    return dataclasses.replace(splits, test=wanted.rows)
