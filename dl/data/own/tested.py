"""Other data in the test part's place, to judge a model that is trained or to have it predict."""

import contextlib
import contextvars
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from dl.core.errors import UserError, unknown
from dl.data.own.found import OwnFiles
from dl.data.splits import Columns, Info, Splits


@dataclasses.dataclass(eq=False)
class Tested:
    """Data that stand in for the test part of what is opened.

    Attributes:
      data, fields: as for :func:`dl.data.open_alike`, or None for the test part as it is; where not ``alike``, the
        files to predict for.
      ordered: rows stay in their order.
      rows: what was read of them, once; info: of the data trained on.
      names: ``{column: [rows]}``, what a row is called by: its file, its place in a table.
      back: ``(row, array)`` to the array in the user's terms: pixels of the picture before it was scaled, units
        of the series.
      before: rows that join the validation part: of series what a forecast sees.
      source: the data that the rows are of; place: their rows in its tables, where these are known.
    """

    data: Any
    fields: dict[str, Any]
    alike: bool
    ordered: bool = False
    rows: Any = None
    info: Info | None = None
    names: Columns = dataclasses.field(default_factory=dict)
    back: Callable[[int, Any], Any] | None = None
    before: Columns | None = None
    source: Any = None
    place: np.ndarray | None = None


_tested: contextvars.ContextVar[Tested | None] = contextvars.ContextVar("tested", default=None)


def tested() -> Tested | None:
    """What stands in for the test part at this moment, or None."""
    return _tested.get()


def in_order() -> bool:
    """Whether the rows of the test part must stay in their order, all of them: they are predicted for, or told
    apart."""
    now = _tested.get()
    return now is not None and now.ordered


@contextlib.contextmanager
def tested_on(
    data: Any, *, alike: bool, ordered: bool, fields: Mapping[str, Any]
) -> Iterator[Tested]:
    """Within, :func:`dl.data.open` gives training and validation parts as ever, and ``data`` for the test part.

    So a script's ``build`` prepares them as it prepared its own test rows, by what it learned of the training
    rows: sizes, vocabularies, means. Files that are not labelled ``alike`` get labels that say nothing.

    Raises:
      UserError: there are ``fields``, and no ``data`` that would be written so.
    """
    if fields and data is None:
        raise UserError(
            "option-misplaced",
            f"{', '.join(fields)}: these say how other data are written, so give such, or leave them out",
        )
    own = Tested(data, dict(fields), alike, ordered)
    token = _tested.set(own)
    try:
        yield own
    finally:
        _tested.reset(token)


@contextlib.contextmanager
def on_own_data() -> Iterator[None]:
    """Within, every test part is its own again: a ``build`` opens another run, such as a teacher."""
    token = _tested.set(None)
    try:
        yield
    finally:
        _tested.reset(token)


def with_tested(splits: Splits, kind: str, own: Any, source: Any = None) -> Splits:
    """``splits``, their test part replaced where one is tested on others.

    Raises:
      UserError: the data have no such columns or classes, or nothing to compare with.
    """
    wanted = _tested.get()
    if wanted is None:
        return splits
    if wanted.rows is None:
        details = {"kind": kind, "own": own, **splits.info.details}
        wanted.info = dataclasses.replace(splits.info, details=details)
        alike = dataclasses.replace(splits, info=wanted.info)
        wanted.source = source if wanted.data is None else wanted.data
        if wanted.data is None:
            wanted.rows = splits.test
            wanted.place = details.get("place", {}).get("test")
        elif wanted.alike:
            from dl.data.own.alike import read_like

            wanted.rows, wanted.place = read_like(wanted.data, alike, **wanted.fields)
        else:
            from dl.data.own.unlabelled import read_unlabelled

            wanted.rows, wanted.names, wanted.back, wanted.before = read_unlabelled(
                wanted.data, alike, **wanted.fields
            )
        judged = wanted.alike and wanted.data is not None
        if judged and "label" in splits.train and "label" not in wanted.rows:
            raise UserError(
                "target-missing",
                f"{wanted.data} has no column of what is to be predicted, so nothing can be judged by it",
            )
    if wanted.before is not None:
        held = splits.validation or {name: x[:0] for name, x in splits.train.items()}
        joined = {name: np.concatenate([held[name], x]) for name, x in wanted.before.items()}
        splits = dataclasses.replace(splits, validation=joined)
    return dataclasses.replace(splits, test=wanted.rows)


def with_fields(own: Any, fields: Mapping[str, Any]) -> Any:
    """The options of a kind with other values.

    Raises:
      UserError: the kind has no such option.
    """
    known_fields(own, fields)
    return dataclasses.replace(own, **fields)


def known_fields(own: Any, asked: Iterable[str] = ()) -> list[str]:
    """The names of the options of a kind, a dataclass or one of its objects.

    Raises:
      UserError: one that is ``asked`` for is none of them.
    """
    known = [field.name for field in dataclasses.fields(own)]
    for name in asked:
        if name not in known:
            raise unknown("option of data", name, known)
    return known


def reading_options(config: type) -> set[str]:
    """The fields of a config that say how files of its kind are written, and are not of the script's own."""
    kinds = [
        base
        for base in config.__mro__
        if issubclass(base, OwnFiles) and base.__module__.startswith(__package__)
    ]
    return {field.name for base in kinds for field in dataclasses.fields(base)}
