"""Ratings: ``user`` and ``item`` int32 codes, ``value`` float32, and where given ``time`` float64, ``[rows]``."""

import dataclasses
import itertools
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dl.core.errors import UserError
from dl.data.own.columns import (
    OwnCells,
    Parts,
    column_lines,
    joined,
    read_cells,
    split_column,
    table_too_large,
    taken,
    the_one,
    which_column,
)
from dl.data.own.found import Found, Line, column_called, own_info, sheet_options, span
from dl.data.readers.column_types import typed_column
from dl.data.readers.files import data_folder, digest_files
from dl.data.readers.files import read as read_bytes
from dl.data.readers.frames import Frame, only_numbers, read_frame, words
from dl.data.sets.catalogue import describe, load, measured
from dl.data.sets.interactions import last_ones, movielens_fold, one_fold
from dl.data.splits import Columns, Splits, folds, shuffled, take

NAMED = ("movielens_100k",)
OF_NAMED = ("user", "item", "value")
FOR_NAMED = ("fold",)
CALLED = {
    "user": [
        "user",
        "user_id",
        "userid",
        "customer_id",
        "customer",
        "reviewerid",
        "reviewer_id",
        "u",
    ],
    "item": [
        "item",
        "item_id",
        "itemid",
        "movie_id",
        "movieid",
        "product_id",
        "asin",
        "book_id",
        "isbn",
        "i",
    ],
    "value": ["value", "rating", "score", "stars", "overall", "book-rating", "count", "plays"],
    "time": ["time", "timestamp", "date", "datetime", "unixreviewtime", "ts"],
}


@dataclasses.dataclass(frozen=True)
class OwnRatings(OwnCells):
    """Fields for the config of a script that takes ratings of the user's own."""

    user: str | None = None
    """your column of users; by default the one called so, or the first where there are no headings"""
    item: str | None = None
    """your column of items; by default the one called so, or the second"""
    value: str | None = None
    """your column of ratings; by default the one called rating, score, ..., or the third; without one all are 1"""
    time: str | None = None
    """your column of times; by default the one called so, or the fourth"""
    stream: bool = False
    """keep your cells on disk while they are read, even if all fit into memory"""
    leave_one_out: bool = True
    """each user's last rating is for test and the one before for validation, where nothing says the parts"""
    fold: int | None = None
    """which of five folds (0 to 4) is test and a tenth of the rest validation, instead"""


def load_named(name: str, own: OwnRatings) -> Splits:
    """Ratings that go by a name, with each user's last ones held out or an official fold."""
    if own.fold is None:
        return load(name)
    found = movielens_fold(data_folder() / name, own.fold, describe(name))
    return measured(found, load(name).info.digests)


def read(source: Any, own: OwnRatings) -> Found:
    """Rows of user, item, value and time. ``info.details`` has the ``users`` and ``items`` by their codes."""
    disk, memory = table_too_large(source, own.stream, numbers=True)
    frames, digests, lines = _frames(source, own, disk)
    split = split_column(frames, own)
    frame, part, more = joined(frames, split)
    found = _columns(frame, own, split)
    users, items = (words(frame, found[name]) for name in ("user", "item"))
    value = np.ones(frame.rows)
    if found["value"]:
        remedy = "mend them, or name another column of ratings by --value"
        value = only_numbers(frame, found["value"], remedy)
    kept = np.array([u is not None and i is not None for u, i in zip(users, items, strict=True)])
    kept &= ~np.isnan(value)
    if not kept.any():
        raise UserError("table-empty", f"{frame.name} has no row with a user, an item and a rating")
    names, codes = zip(_coded(users[kept]), _coded(items[kept]), strict=True)
    rows = {"user": codes[0], "item": codes[1], "value": value[kept].astype(np.float32)}
    if found["time"]:
        rows["time"] = _times(frame, found["time"])[kept]
    part = None if part is None else part[kept]
    how = "as the files say"
    if "time" in rows:
        order = np.argsort(rows["time"], kind="stable")
        rows, part = take(rows, order), None if part is None else part[order]
    drawn = own.in_order or own.group or own.hold_out != OwnRatings.hold_out
    if own.fold is not None:
        if part is not None or drawn:
            raise UserError(
                "options-exclusive",
                "--fold cuts the ratings at random: leave it out where files, --split, --group, --in-order or "
                "--hold-out say how they are cut",
            )
        part = one_fold(folds(rows["user"]), own.fold)
        how = f"fold {own.fold} of five is test, each user's ratings in proportion"
    if part is None and own.leave_one_out and not drawn:
        part, how = _last(rows)
    used = {found[name]: taken(name, f"--{name}", getattr(own, name)) for name in found}
    lines += [*more, *column_lines(frame, used | {split: "part"})]
    lines += [] if found["value"] else [Line("(no column)", "value", "1 for every row")]
    lines += [] if found["time"] else [Line("(no column)", "time", "--time names one")]
    if skipped := int((~kept).sum()):
        lines.append(Line("skipped", f"{skipped:,} rows", "without a user, an item or a rating"))
    lines += [*_counted(rows), *memory]
    details = {"users": names[0], "items": names[1]}
    info = own_info("ratings", "recommendation", digests, title=frame.name, details=details)
    if own.group not in (None, found["user"]):
        raise UserError(
            "option-misplaced",
            f"--group {own.group}: ratings keep together by {found['user']} alone",
        )
    group = rows["user"] if own.group else None
    return Found(rows, info, tuple(lines), part, how, group=group)


def read_more(
    files: Sequence[Path], own: OwnRatings, details: Mapping[str, Any]
) -> tuple[list[str], np.ndarray, Columns]:
    """The users of files and what they rated there, by the codes of what was trained on.

    Args:
      files: tables with a column of users, of items, or of both; those without one of users are a user each.
      details: of the data trained on. Users not among them get the numbers after theirs; such items are left out.

    Returns:
      The users' names and codes int32 ``[users]``, and their ratings in order of time.
    """
    users, items = ({n: code for code, n in enumerate(details[c])} for c in ("users", "items"))
    asked: dict[str, int] = {}
    added, new = [], 0
    for path in files:
        frame = read_frame(path, **sheet_options(own))
        found = {}
        for name in ("user", "item", "value", "time"):
            given = getattr(own, name)
            given = given if given in frame.headings else None
            found[name] = column_called(frame, given, CALLED[name], f"--{name}")
        if all(heading.startswith("column_") for heading in frame.headings):
            found = dict(itertools.zip_longest(CALLED, frame.headings[:4]))
        if not (found["user"] or found["item"]):
            raise UserError("column-unnamed", which_column(frame, "users or items", "--user"))
        cells = {n: words(frame, h) if h else [None] * frame.rows for n, h in found.items()}
        value = only_numbers(frame, found["value"]) if found["value"] else np.ones(frame.rows)
        time = _times(frame, found["time"]) if found["time"] else np.zeros(frame.rows)
        for row in np.argsort(time, kind="stable"):
            user, item = (
                None if cells[n][row] is None else str(cells[n][row]) for n in ("user", "item")
            )
            user = str(path) if found["user"] is None else user
            if user is None:
                continue
            asked[user] = users.setdefault(user, len(users))
            if item in items:
                added.append((asked[user], items[item], value[row]))
            new += item is not None and item not in items
    if not asked:
        raise UserError("part-empty", f"there are no users in {', '.join(map(str, files[:3]))}")
    rated = {user for user, *_ in added}
    if bare := [
        n for n, code in asked.items() if code >= len(details["users"]) and code not in rated
    ]:
        said = "was not there in training and has rated nothing here: to such goes what anyone begins with"
        warnings.warn(f"user {bare[0]} {said}", stacklevel=2)
    if new:
        said = "of items that were not there in training are left out"
        warnings.warn(f"of the ratings, {new:,} {said}", stacklevel=2)
    columns = zip(*added, strict=True) if added else ((), (), ())
    dtypes = {"user": np.int32, "item": np.int32, "value": np.float32}
    rows = {n: np.array(c, dtypes[n]) for n, c in zip(dtypes, columns, strict=True)}
    return list(asked), np.array(list(asked.values()), np.int32), rows


def _counted(rows: dict[str, np.ndarray]) -> list[Line]:
    """How many users, items and ratings there are, and of which values."""
    lines, sizes = [], []
    for name in ("user", "item"):
        count = np.bincount(rows[name])
        sizes.append(len(count))
        lines.append(Line(f"{name}s", f"{len(count):,}", f"{span(count)} ratings each"))
    values, count = np.unique(rows["value"], return_counts=True)
    spread = f"{values[0]:g} ... {values[-1]:g}"
    if len(values) <= 10:
        spread = ", ".join(f"{v:g}: {n:,}" for v, n in zip(values, count, strict=True))
    total = len(rows["user"])
    full = f"{total:,}, {total / sizes[0] / sizes[1]:.2%} of all pairs"
    lines.append(Line("ratings", full, spread))
    pairs = rows["user"].astype(np.int64) * sizes[1] + rows["item"]
    if again := total - len(np.unique(pairs)):
        lines.append(
            Line("repeated", f"{again:,} rows", "rate an item again that their user has rated")
        )
    return lines


def _frames(source: Any, own: OwnRatings, disk: bool) -> tuple[Parts, dict[str, str], list[Line]]:
    """The tables by part; ``::`` between cells, as MovieLens has it, counts as one mark."""
    if isinstance(source, Path) and source.is_file() and own.separator is None:
        data = read_bytes(source)
        if b"::" in data.partition(b"\n")[0] and b"\t" not in data:
            options = sheet_options(own) | {"separator": "\t", "quote": ""}
            frame = read_frame(data.replace(b"::", b"\t"), name=source.name, **options)
            return [("", frame)], {source.name: digest_files([source])}, []
    return read_cells(source, own, disk)


def _columns(frame: Frame, own: OwnRatings, split: str | None) -> dict[str, str]:
    """The heading of user, item, value and time, by flag, by name, by place or as the only one ("" for none)."""
    found = {
        name: column_called(frame, getattr(own, name), called, f"--{name}") or ""
        for name, called in CALLED.items()
    }
    free = [heading for heading in frame.headings if heading not in (split, *found.values())]
    bare = all(heading.startswith("column_") for heading in frame.headings)
    for name in CALLED:
        if not found[name] and free and bare:
            found[name] = free.pop(0)
    for name in ("user", "item"):
        if not found[name]:
            found[name] = the_one(frame, free, f"{name}s", f"--{name}", "column-unnamed")
            free = []
    for name, other in itertools.combinations(found, 2):
        if found[name] and found[name] == found[other]:
            said = f"--{name} and --{other} both name {found[name]}: name two columns"
            raise UserError("column-twice", said)
    return found


def _coded(cells: np.ndarray) -> tuple[tuple[str, ...], np.ndarray]:
    """The different names, numbers by size and words by code point, and each cell's place among them."""
    different, code = np.unique(cells.astype(str), return_inverse=True)
    if all(name.isdecimal() for name in different):
        order = np.argsort(different.astype(np.float64), kind="stable")
        return tuple(different[order].tolist()), np.argsort(order)[code].astype(np.int32)
    return tuple(different.tolist()), code.astype(np.int32)


def _times(frame: Frame, heading: str) -> np.ndarray:
    column, values = typed_column(frame, heading, as_category=False, ignored="")
    if column.kind != "numerical" or column.missing:
        lack = f"{column.missing} of its cells are empty" if column.missing else "it holds words"
        raise UserError(
            "times-not-dates", f"--time {heading}: {lack}: give times or numbers, or say --dates"
        )
    return values


def _last(rows: dict[str, np.ndarray]) -> tuple[np.ndarray, str]:
    """The part of every rating, each user's last ones held out."""
    timed = "time" in rows
    place = np.arange(len(rows["user"])) if timed else shuffled(len(rows["user"]), 0)
    which = "last" if timed else "one drawn by seed"
    said = f"of each user's ratings the {which} for test, another before for validation"
    return last_ones(rows["user"], place), f"{said} (--no-leave-one-out)"
