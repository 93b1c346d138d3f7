"""What the columns of a frame are taken for: numbers, times, categories or nothing of use."""

import dataclasses
import re
from typing import Literal

import numpy as np

from dl.core.errors import UserError, unknown
from dl.data.readers.arrow_tables import is_number
from dl.data.readers.frames import (
    WORDS_MISSING,
    Frame,
    Numbers,
    chunks,
    coded_words,
    numbers,
    to_numbers,
    words,
)
from dl.data.readers.times import times, zones

_BAD_SHARE = 0.1  # a column with up to this share of cells that are no numbers is numbers, mistyped
_EXACT = 2.0**53  # whole numbers beyond this merge in float64
_SQUARABLE = 1e150  # the variance of larger numbers overflows


@dataclasses.dataclass(frozen=True)
class Column:
    """One feature: its heading, what it was taken for, its ``categories`` by code - 1, and its
    ``missing`` cells. An ``ignored`` column is in no array; ``reason`` says why. ``note`` says what the
    user should check; ``unit`` is days or seconds (since 1970) where its cells are times."""

    name: str
    kind: Literal["numerical", "categorical", "ignored"]
    categories: tuple[str, ...] = ()
    missing: int = 0
    reason: str = ""
    note: str = ""
    unit: str = ""


def typed_column(
    frame: Frame, heading: str, as_category: bool, ignored: str
) -> tuple[Column, np.ndarray]:
    """One feature and its ``[rows]`` array, which is empty where the column is ``ignored``, for that reason or
    another."""
    nothing = np.empty(0)
    if ignored:
        absent = frame.columns.column(heading).null_count
        return Column(heading, "ignored", missing=absent, reason=ignored), nothing
    if reason := no_cells(frame, heading):
        return Column(heading, "ignored", reason=reason), nothing
    notes: list[str] = []
    if not as_category:
        found = _numeric(frame, heading)
        absent = int(found.missing.sum())
        if found.numeric:
            one = np.nanmin(found.values) == np.nanmax(found.values)
            note = "; ".join([*found.notes, *(["one value only"] if one else [])])
            column = Column(heading, "numerical", missing=absent, note=note, unit=found.unit)
            return column, found.values
        _refuse_bad(frame, heading, found, "declare the column categorical")
        notes += _looks_numeric(frame, heading, found)
    index, spelled, categories, merged = _spelled(frame, heading)
    gone = _gone(spelled)
    absent = int(gone[index].sum())
    present = frame.rows - absent
    if len(categories) < 2:
        reason = "one value only" if categories else "no value"
        return Column(heading, "ignored", missing=absent, reason=reason), nothing
    if not as_category and len(categories) > max(50, present // 2):
        reason = "; ".join(["nearly every cell differs", *notes])
        return Column(heading, "ignored", missing=absent, reason=reason), nothing
    kept = [word for word in ("NA", "None", "none", "-") if word in categories]
    if kept and frame.missing is None:
        shown = ", ".join(map(repr, kept))
        notes.append(f"{shown} counts as a category unless missing= names it")
    code = {category: place for place, category in enumerate(categories, 1)} | {None: 0}
    values = np.array([code[cell] for cell in spelled], np.int32)[index]
    note = "; ".join([*notes, *merged])
    return Column(heading, "categorical", categories, absent, note=note), values


def typed_label(frame: Frame, heading: str, task: str | None) -> tuple[np.ndarray, tuple[str, ...]]:
    """A target as ``(label [rows], classes)``: int32 and the classes' names, or float64 and none."""
    where = f"{frame.name}, column {heading!r}"
    if task not in (None, "classification", "regression"):
        raise unknown("task", task, ("classification", "regression"))
    if reason := no_cells(frame, heading):
        raise UserError("target-unusable", f"{where} cannot be a target: {reason}")
    found = None if task == "classification" else _numeric(frame, heading)
    numeric = found is not None and found.numeric
    if found is not None and not numeric:
        if task == "regression":
            bad = np.flatnonzero(found.bad)
            if len(bad):
                raise UserError(
                    "target-not-numbers", f"{where} is not all numbers ({frame.show(heading, bad)})"
                )
        _refuse_bad(frame, heading, found, "say task='classification'")
    if found is not None and numeric:
        _refuse_missing(frame, heading, found.missing, classes=False)
        values = found.values
        few = len(np.unique(values)) <= 20 and bool((values == np.trunc(values)).all())
        if task == "regression" or not few:
            return values, ()
    index, spelled, classes, _ = _spelled(frame, heading)
    absent = {None} | ({"NA", "None"} if frame.missing is None else set())
    gone = np.array([cell in absent for cell in spelled], bool)
    _refuse_missing(frame, heading, gone[index], classes=True)
    if len(classes) < 2:
        raise UserError(
            "target-one-class",
            f"{where} has one value only, {classes[0]!r}: there is nothing to tell apart, so name another "
            "target or add rows of another class",
        )
    if len(classes) > max(2, frame.rows // 2):
        raise UserError(
            "target-too-many-classes",
            f"{where} has {len(classes)} different values in {frame.rows} rows, too many for classes: name "
            "another target",
        )
    code = {value: place for place, value in enumerate(classes)}
    return np.array([code.get(cell, -1) for cell in spelled], np.int32)[index], classes


def lacking(frame: Frame, heading: str, task: str | None) -> np.ndarray:
    """The rows whose target is missing for certain, bool ``[rows]``: "NA" among words may be a class."""
    if no_cells(frame, heading):
        return np.zeros(frame.rows, bool)
    found = None if task == "classification" else _numeric(frame, heading)
    if found is not None and found.numeric:
        return found.missing
    index, spelled, *_ = _spelled(frame, heading)
    return _gone(spelled)[index]


def label_alike(frame: Frame, heading: str, classes: tuple[str, ...]) -> np.ndarray:
    """The target of another table ``[rows]``: int32 by the name of its class, or float64 where there are none.

    Raises:
      UserError: a cell is missing, of no class in training, or no number.
    """
    if not classes:
        return typed_label(frame, heading, "regression")[0]
    index, spelled, *_ = _spelled(frame, heading)
    _refuse_missing(frame, heading, _gone(spelled)[index], True)
    code = {name: place for place, name in enumerate(classes)}
    new = np.flatnonzero(np.array([cell not in code for cell in spelled], bool)[index])
    if len(new):
        raise UserError(
            "class-unseen",
            f"{frame.name}, column {heading!r} has a class that was not there in training "
            f"({frame.show(heading, new)}): known are {', '.join(map(str, classes[:8]))}",
        )
    return np.array([code.get(cell, -1) for cell in spelled], np.int32)[index]


def _numeric(frame: Frame, heading: str) -> Numbers:
    """A column as numbers or, where it is none, as times in days or seconds since 1970."""
    import pyarrow as pa

    column, types = frame.columns.column(heading), pa.types
    if types.is_duration(column.type):
        passed = column.cast(pa.duration("ns")).to_numpy()
        missing = np.isnat(passed)
        values = np.where(missing, np.nan, passed.astype(np.int64) / 1e9)
        return Numbers(values, missing, np.zeros(len(values), bool), ("in seconds",))
    if types.is_time(column.type):
        ticks = column.cast(pa.time64("ns")).cast(pa.int64())
        values = ticks.cast(pa.float64(), safe=False).to_numpy() / 1e9
        missing = np.isnan(values)
        return Numbers(values, missing, np.zeros(len(values), bool), ("in seconds since midnight",))
    if types.is_date(column.type) or types.is_timestamp(column.type):
        return _moments(frame, heading)
    if frame.lines is None and not is_number(column.type):
        none = np.zeros(frame.rows, bool)  # text and booleans of a typed table are words
        return Numbers(np.full(frame.rows, np.nan), none, ~none)
    found = numbers(frame, heading)
    if found.bad.sum() > _BAD_SHARE * (~found.missing).sum():
        moments = _moments(frame, heading)
        return moments if moments.bad.sum() < found.bad.sum() else found._replace(notes=())
    fix = "declare the column categorical, ignore it, or write smaller numbers"
    check_digits(frame, heading, found.values, fix)
    return found._replace(notes=(*found.notes, *_doubts(frame, heading, found.values)))


def _moments(frame: Frame, heading: str, unit: str = "") -> Numbers:
    """A column of times in that unit since 1970 (UTC): by default days where all are midnight, else seconds."""
    found = times(frame, heading)
    there = ~np.isnat(found.values)
    if len(found.choices) > 1 and not found.bad.any():
        cell = frame.show(heading, np.flatnonzero(there)[:1])
        raise UserError(
            "dates-ambiguous",
            f"{frame.name}, column {heading!r} holds times ({cell}) that may be "
            f"{' or '.join(found.choices[:2])}: say dates={found.choices[0]!r} or the other",
        )
    if frame.lines is not None and not found.bad.any():
        zones(frame, heading)
    days, seconds = (found.values.astype(f"datetime64[{unit}]") for unit in "Ds")
    unit = unit or ("days" if (days[there] == found.values[there]).all() else "seconds")
    values = seconds.astype(np.float64) + (found.values - seconds) / np.timedelta64(1, "s")
    values = values / 86400 if unit == "days" else values
    note = f"times in {unit} since 1970" + (f", read as {found.format}" if found.format else "")
    return Numbers(np.where(there, values, np.nan), found.missing, found.bad, (note,), unit)


def typed_alike(frame: Frame, column: Column) -> tuple[np.ndarray, tuple[str, ...]]:
    """A column of another table as ``column`` was taken, ``[rows]``; and the categories that are new, which
    count as missing.

    Raises:
      UserError: the table has no such column, or a cell that is no number in one of numbers.
    """
    heading = column.name
    if heading not in frame.headings:
        near = unknown("column", heading, frame.headings)
        raise UserError(
            "table-columns-differ",
            f"{frame.name} has no column {heading!r}, which was there in training: {near}",
        )
    if column.kind == "numerical":
        found = _moments(frame, heading, column.unit) if column.unit else _numeric(frame, heading)
        if found.bad.any():
            raise UserError(
                "cell-unreadable",
                f"{frame.name}, column {heading!r} was {column.unit or 'numbers'} in training, and here are other "
                f"cells ({frame.show(heading, np.flatnonzero(found.bad))}): mend them, or say missing=",
            )
        return found.values, ()
    code: dict[str | None, int] = {word: place for place, word in enumerate(column.categories, 1)}
    index, spelled, different, _ = _spelled(frame, heading)
    codes = np.array([code.get(cell, 0) for cell in spelled], np.int32)
    return codes[index], tuple(word for word in different if word not in code)


def check_digits(frame: Frame, heading: str, values: np.ndarray, fix: str) -> None:
    """Raises where numbers differ in the file and not in float64, or are too large to be scaled; ``fix``
    says what to do then."""
    where = f"{frame.name}, column {heading!r}"
    large = np.flatnonzero(np.abs(values) >= _EXACT)
    if len(large) == 0:
        return
    cells = set(words(frame, heading)[large])
    whole = {cell.lstrip("+") for cell in cells if re.fullmatch(r"[+-]?\d+", cell)}
    kept = {float(cell) for cell in whole}
    if len(kept) < len(whole):
        raise UserError(
            "digits-lost",
            f"{where} holds {len(whole)} whole numbers beyond 2**53 ({frame.show(heading, large[:1])}), of "
            f"which float64 keeps {len(kept)} apart: {fix}",
        )
    huge = np.flatnonzero(np.abs(values) > _SQUARABLE)
    if len(huge):
        raise UserError(
            "number-too-large",
            f"{where} holds numbers beyond 1e150 ({frame.show(heading, huge[:3])}): {fix}",
        )


def _doubts(frame: Frame, heading: str, values: np.ndarray) -> list[str]:
    """What looks like a mistake in a column of numbers."""
    import pyarrow as pa
    import pyarrow.compute as pc

    doubts = []
    if frame.lines is not None:
        coded: set[str] = set()
        for chunk in chunks(frame, heading):
            text = pa.array(coded_words(chunk, heading)[1], pa.string())
            coded.update(text.filter(pc.match_substring_regex(text, r"^[+-]?0\d")).to_pylist())
        if coded:
            doubts.append(
                f"{min(coded)!r} is read as a number: a code? Then declare it categorical"
            )
    for sentinel in (-99999.0, -9999.0, -999.0):
        count = int((values == sentinel).sum())
        if count > 1 and np.nanmin(values) == sentinel:
            doubts.append(f"holds {sentinel:g} {count} times: missing= makes it missing")
    return doubts


def no_cells(frame: Frame, heading: str) -> str:
    """Why a column of a typed table can be no feature, "" where it can."""
    import pyarrow as pa

    kind, types = frame.columns.column(heading).type, pa.types
    if types.is_nested(kind) or "binary" in str(kind) or isinstance(kind, pa.BaseExtensionType):
        return f"its cells are {kind}"
    return ""


def _refuse_bad(frame: Frame, heading: str, found: Numbers, otherwise: str) -> None:
    """Raises where nearly all cells are numbers, but for a few."""
    bad = np.flatnonzero(found.bad)
    if len(bad) and frame.lines is None and is_number(frame.columns.column(heading).type):
        raise UserError(
            "infinity",
            f"{frame.name}, column {heading!r} holds infinity in {len(bad)} cells ({frame.show(heading, bad)}): "
            "make them missing, or leave the column out",
        )
    if 0 < len(bad) <= _BAD_SHARE * found.present:
        kind = "times" if any("times" in note for note in found.notes) else "numbers"
        raise UserError(
            "cell-unreadable",
            f"{frame.name}, column {heading!r} is {kind} but for {len(bad)} bad cells "
            f"({frame.show(heading, bad)}): mend them, say missing= where they stand for no value, or "
            f"{otherwise}",
        )


def _refuse_missing(frame: Frame, heading: str, missing: np.ndarray, classes: bool) -> None:
    """Raises where the target has a missing cell."""
    for row in np.flatnonzero(missing)[:1]:
        cell = frame.columns.column(heading)[int(row)].as_py()
        word = cell in ("NA", "None") and classes
        keep = f"; or say missing=() where {cell!r} is a class" if word else ""
        raise UserError(
            "target-missing",
            f"{frame.name}, {frame.place(row)}: the target {heading!r} is missing: leave the row out{keep}",
        )


def _looks_numeric(frame: Frame, heading: str, found: Numbers) -> list[str]:
    """A note where a column of words looks like one of numbers, amounts or times."""
    index, different = coded_words(frame, heading)
    like = re.compile(r"\W{0,2}\d[\d.,'’\s_/:-]*([eE][+-]?\d+)?\W?")
    looks = np.array([bool(cell and like.fullmatch(cell)) for cell in different], bool)
    cells, looking = found.present, int(looks[index].sum())
    if 2 * looking < cells or not cells:
        return []
    if frame.lines is None:
        text = "string" in str(frame.columns.column(heading).type)
        return ["numbers as text are words: cast the column if they are none"] if text else []
    numeric = found.present - int(found.bad.sum())
    shown = frame.show(heading, np.flatnonzero(found.bad)[:1])
    if 2 * numeric >= found.present:
        return [f"words, although {numeric} of {found.present} cells are numbers: {shown} is none"]
    return [f"words, although they look like numbers or times: {shown}"]


def _gone(cells: np.ndarray) -> np.ndarray:
    return np.array([cell is None for cell in cells], bool)


def _spelled(
    frame: Frame, heading: str
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...], list[str]]:
    """A column as categories: ``index [rows]`` into the different cells; these, spelled alike where they are
    equal and None where missing; the categories in order; and a note of what was merged.

    Numbers are ordered as numbers and spelled alike, so that 1 and 1.0 are one category; the rest are
    ordered by code point. Neither depends on the order of rows or on hashing.
    """
    index, different = coded_words(frame, heading)
    absent = WORDS_MISSING if frame.missing is None else frame.missing
    found = sorted(set(different) - {None, *absent})
    values = to_numbers(found, frame.decimal, frame.thousands)
    finite = np.isfinite(values)
    plain = (
        not any(re.match(r"[+-]?0\d", cell) for cell in found)
        and not (np.abs(values[finite]) >= _EXACT).any()
    )
    ordered = plain and bool(finite.all())
    # Beside words a number may be a name of its own (version 1.10 is not 1.1), but 1.0 is 1.
    whole = re.compile(rf"[+-]?\d+{re.escape(frame.decimal)}0+|[+-]?\d+", re.ASCII)
    name: dict[str | None, str] = {cell: cell for cell in found}
    for cell, value in zip(found, values, strict=True):
        if plain and (ordered or whole.fullmatch(cell)):
            name[cell] = f"{value:.0f}" if value == np.trunc(value) else repr(float(value))
            name[cell] = "0" if name[cell] == "-0" else name[cell]
    if ordered:
        categories = sorted(set(name.values()), key=lambda cell: (float(cell), cell))
    else:
        categories = sorted(set(name.values()))
    merged = []
    if len(categories) < len(found):
        pairs = sorted(cell for cell in found if name[cell] != cell)
        merged = [f"one spelling for equal numbers, such as {name[pairs[0]]!r} for {pairs[0]!r}"]
    one = np.array([*(name.get(cell) for cell in different), None], object)[:-1]
    return index, one, tuple(categories), merged
