"""Tables through one door: those that go by a name, and files and frames of the user's own."""

import dataclasses
from typing import Literal

from dl.core.errors import UserError
from dl.data.sets.catalogue import load, load_table
from dl.data.sets.tables import FOLDED
from dl.data.splits import Splits
from dl.data.tables import cross_validation, own_table, summary


@dataclasses.dataclass(frozen=True)
class OwnTable:
    """Fields for the config of a script that takes a table of the user's own."""

    csv: str | None = None
    """a csv, Parquet or Arrow file of your own instead; types, marks and headings are guessed and shown"""
    target: str = ""
    """the column of the csv to predict"""
    separator: str | None = None
    """the character between the cells of the csv, where the guess is wrong"""
    decimal: Literal[".", ","] | None = None
    """the decimal mark of its numbers"""
    encoding: str | None = None
    """of its text, where it is not UTF-8, such as cp1252"""
    dates: str | None = None
    """format of its times, such as %d.%m.%Y, where it is not ISO 8601"""
    missing: tuple[str, ...] | None = None
    """cells that stand for no value, instead of the usual ones"""
    categorical: tuple[str, ...] = ()
    """its columns of numbers that are categories"""
    ignore: tuple[str, ...] = ()
    """its columns to leave out"""


def table_splits(name: str | None, own: OwnTable, fold: int = 0) -> Splits:
    """A table as training, validation and test rows, before any scaling.

    Args:
      name: of a table with an official split, or of one without, which is cut into five stratified folds as
        the user's own is; None where ``own`` has a csv.
      own: the user's own table, or a config with its fields (read as :func:`dl.data.tables.read_table` does).
      fold: which fifth of a table without official split is test.

    Returns:
      The splits. ``info.details["told"]`` are lines for the user to check: what the columns of a table of
        their own were taken for, and what is odd.

    Raises:
      UserError: an option of the one kind is given for the other.
    """
    told: tuple[str, ...] = ()
    fields = [field.name for field in dataclasses.fields(OwnTable)][1:]
    reading = {field: getattr(own, field) for field in fields}
    if own.csv is None:
        if any(reading.values()):
            told_of = ", ".join(fields)
            raise UserError(
                "option-misplaced", f"{told_of} are for a csv of your own: leave them out"
            )
        if name not in FOLDED:
            if fold:
                raise UserError("split-fixed", f"{name} has an official split: leave fold out")
            splits = load(str(name))
        else:
            splits = cross_validation(*load_table(name), fold)
    elif name is not None:
        raise UserError(
            "options-exclusive",
            f"csv is a table of your own, and data {name} another: give one of the two",
        )
    else:
        table, info = own_table(own.csv, **reading)
        told, splits = (summary(table),), cross_validation(table, info, fold)
    details = splits.info.details | {"told": (*told, *splits.info.details["notes"])}
    return dataclasses.replace(splits, info=dataclasses.replace(splits.info, details=details))
