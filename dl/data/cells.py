"""Rows of a table in the words and units of its file, for reports."""

from collections.abc import Callable

import numpy as np

from dl.data.splits import Splits, take

MISSING = "(missing)"


def table_cells(splits: Splits) -> Callable[[str, int], dict[str, str]]:
    """``cells(part, row) -> {heading: cell}`` of a table as it was split, before its numbers are scaled, for
    :attr:`dl.Experiment.cells`: what the network may read, in the order of the file, and the target.

    Numbers are in the file's units, times as dates, categories in its words. A category that training does not
    have counts as missing and is not told from it.
    """
    details, classes = splits.info.details, splits.info.classes
    strange = details.get("unseen", {})

    def cells(part: str, row: int) -> dict[str, str]:
        found = take(splits.parts[part], np.array([row]))
        values = {kind: iter(found[kind][0].tolist()) for kind in ("numerical", "categorical")}
        told = {}
        for column in details["columns"]:
            if column.kind == "numerical":
                told[column.name] = number(next(values["numerical"]), column.unit)
            elif column.kind == "categorical":
                code = next(values["categorical"])
                absent = "(missing, or new)" if column.name in strange else MISSING
                told[column.name] = column.categories[code - 1] if code else absent
        label = found["label"][0]
        return {**told, details["target"]: classes[label] if classes else number(label, "")}

    return cells


def number(value: float, unit: str) -> str:
    """A cell's number; one of days or seconds since 1970 as a date.

    >>> number(2.5, ""), number(365.0, "days"), number(90.0, "seconds")
    ('2.5', '1971-01-01', '1970-01-01 00:01:30')
    """
    if np.isnan(value):
        return MISSING
    if unit == "days" and value == int(value):
        return str(np.datetime64(int(value), "D"))
    if unit in ("days", "seconds"):
        seconds = value * (86400 if unit == "days" else 1)
        return str(np.datetime64(round(seconds), "s")).replace("T", " ")
    return f"{value:.10g}"
