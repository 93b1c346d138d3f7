"""Columns of times: ISO 8601 by pyarrow's converter, a stated format, or a usual one that reads every cell."""

import re
from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np

from dl.core.errors import UserError
from dl.data.readers.frames import Frame, _absent, coded_words

_NAT = np.datetime64("NaT", "us")  # with its unit: NumPy is to drop the one without


_DATES = (
    *("%d.%m.%Y", "%Y/%m/%d", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y", "%Y-%m", "%Y/%m"),
    *("%d %b %Y", "%d-%b-%Y", "%b %d, %Y", "%b %Y"),
)


_ZONE = re.compile(r"\d[T ]\d\d(?::?\d\d){0,2}(?:\.\d+)? ?(Z|[+-]\d\d(?::?\d\d)?)$")


_NUMBER = re.compile(r"[+-]?\d*\.?\d*(?:[eE][+-]?\d+)?", re.ASCII)


_CLOCKS = ("", " %H:%M", " %H:%M:%S")


class Times(NamedTuple):
    """A column as times: ``values`` datetime64 (UTC), NaT where ``missing`` or ``bad``, all ``[rows]``.

    ``format`` says how they were read, for a note, and is "" where ISO 8601 or the type left no
    choice; ``choices`` begins with it and goes on with the usual formats that read every cell otherwise.
    """

    values: np.ndarray
    missing: np.ndarray
    bad: np.ndarray
    format: str
    choices: tuple[str, ...] = ()


def times(frame: Frame, heading: str) -> Times:
    """A column as times: ISO 8601 by pyarrow's converter, ``frame.dates``, or a usual format that reads
    every cell. Of several that differ the first is taken; ``choices`` has them all."""
    import pyarrow as pa
    import pyarrow.compute as pc

    column, types = frame.columns.column(heading), pa.types
    if types.is_date(column.type) or types.is_timestamp(column.type):
        values = column.to_numpy(zero_copy_only=False)
        if types.is_date(column.type):
            values = values.astype("datetime64[D]")
        missing = np.isnat(values)
        return Times(values, missing, np.zeros(len(values), bool), "")
    index, unique = coded_words(frame, heading)
    absent = _absent(frame, unique)
    present = unique[~absent]
    values = np.full(len(unique), _NAT)

    def result(found, read=""):
        values[~absent] = found
        bad = ~absent & np.isnat(values)
        return Times(values[index], absent[index], bad[index], read)

    if frame.dates is not None:
        return result(_strptime(present, frame.dates), frame.dates)
    text = pa.array(present, pa.string())
    for kind in (pa.timestamp("us"), pa.timestamp("us", "UTC"), pa.timestamp("ns")):
        try:
            found = pc.cast(text, kind).to_numpy(zero_copy_only=False)
        except pa.ArrowInvalid:
            continue
        values = values.astype(found.dtype)
        return result(found)
    fits = []
    several = not len(present) or not _NUMBER.fullmatch(present[0])  # a number is of no format
    for read_as in (date + clock for clock in _CLOCKS * several for date in _DATES):
        found = _strptime(present, read_as, whole=True)
        if found is not None:
            fits.append((read_as, found))
    if fits:
        found = result(fits[0][1], fits[0][0])
        others = [read_as for read_as, found_so in fits if (found_so != fits[0][1]).any()]
        return found._replace(choices=(fits[0][0], *others))
    return result([_iso(cell) if re.match(r"\d{4}-\d\d", cell) else _NAT for cell in present])


def zones(frame: Frame, heading: str) -> list[str]:
    """The different time zones that the cells of a column of times say: ``Z``, ``+02:00``, ..., or none.

    Raises:
      UserError: some cells say their zone and some do not.
    """
    index, different = coded_words(frame, heading)
    absent = _absent(frame, different)
    found: dict[str, int] = {}  # a zone, and the first row that says it
    for place, cell in enumerate(different):
        if not absent[place]:
            match = _ZONE.search(cell)
            found.setdefault(match[1] if match else "", int(np.argmax(index == place)))
    if "" in found and len(found) > 1:
        has = min(row for zone, row in found.items() if zone)
        raise UserError(
            "time-zones-mixed",
            f"{frame.name}, column {heading!r}: {frame.place(has)} says its time zone and "
            f"{frame.place(found[''])} does not: write all times in one zone",
        )
    return sorted(zone for zone in found if zone)


def _iso(cell: str) -> np.datetime64:
    """One cell that may be ISO 8601, NaT where it is not, so that the bad one of a column is named."""
    import pyarrow as pa
    import pyarrow.compute as pc

    for kind in (pa.timestamp("us"), pa.timestamp("us", "UTC")):
        try:
            return pc.cast(pa.array([cell]), kind).to_numpy(zero_copy_only=False)[0]
        except pa.ArrowInvalid:
            continue
    return _NAT


def _strptime(cells, read_as: str, whole: bool = False) -> np.ndarray | None:
    """datetime64[us] of each cell, NaT where it does not fit; None there where ``whole``."""
    values = np.full(len(cells), _NAT)
    for place, cell in enumerate(cells):
        try:
            moment = datetime.strptime(cell, read_as)
        except ValueError:
            if whole:
                return None
            continue
        if moment.tzinfo is not None:
            moment = moment.astimezone(UTC).replace(tzinfo=None)
        values[place] = np.datetime64(moment, "us")
    return values if len(cells) or not whole else None
