"""What was found in files of the user's own, how it is shown, and how it is cut into parts."""

import contextlib
import contextvars
import dataclasses
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

import numpy as np

from dl.core.errors import UserError, unknown
from dl.data.folded import parts_by_fold
from dl.data.readers.csv_text import plain
from dl.data.readers.frames import Frame
from dl.data.splits import Info, Splits, hold_out, known, row_count, shuffled, take
from dl.platform import harmless, screen

# What people call the parts, by what they are called here.
PARTS = {
    "train": ("train", "training", "trn", "fit"),
    "validation": ("validation", "val", "valid", "dev", "development", "eval"),
    "test": ("test", "testing", "tst", "holdout"),
}


@dataclasses.dataclass(frozen=True)
class OwnFiles:
    """Fields for the config of a script that takes files of the user's own, of whatever kind."""

    split: str | None = None
    """your column that says of each row whether it is train, validation or test"""
    group: str | None = None
    """your column whose equal values stay in one part, such as a patient's number"""
    in_order: bool = False
    """cut the parts in the order of the rows, the last ones for test, instead of at random"""
    hold_out: tuple[float, float] = (0.1, 0.1)
    """shares of the rows held out for validation and for test, where your files have no such parts"""
    folds: int | None = None
    """cross-validate: a run for each of so many folds, which is its test part; the next one chooses its step"""
    fold: int | None = None
    """which fold alone (0, 1, ...) is test; of five, where --folds gives no other number"""


@dataclasses.dataclass(frozen=True)
class OwnSheet(OwnFiles):
    """Fields for the config of a script whose files may be a table: how that is written."""

    separator: str | None = None
    """the character between the cells of your csv"""
    encoding: str | None = None
    """of your text or csv, where it is not UTF-8, such as cp1252"""
    headings: tuple[str, ...] = ()
    """names of your columns, in order, where the first line has none"""


def sheet_options(own: OwnSheet) -> dict[str, Any]:
    """Those fields, and more that the kind has, as :func:`dl.data.readers.frames.read_frame` calls them."""
    names = ("separator", "encoding", "decimal", "dates", "missing")
    given = {name: getattr(own, name) for name in names if hasattr(own, name)}
    given["separator"] = {"\\t": "\t", "tab": "\t"}.get(own.separator or "", own.separator)
    return {"header": own.headings or None, **given}


# What readers call an option, as they say it: encoding='cp1252', header=False, missing=(),
# task='classification'.
_OPTION = re.compile(
    r"\b(separator|encoding|headings|header|decimal|dates|missing|task)=('([^']*)'|\(\)|False)?"
)


def in_fields(said: str, form: Literal["flags", "fields", "reading"] = "flags") -> str:
    """What a reader says of its options as a script has them (``--encoding cp1252``), as Python has them
    (``encoding='cp1252'``), or as `dl predict` and `dl evaluate` do (``--reading encoding='cp1252'``)."""

    def field(match: re.Match) -> str:
        name = "headings" if match[1] == "header" else match[1]
        if form != "flags":
            value = "(...)" if match[2] == "False" else match[2] or ""
            return f"{'--reading ' * (form == 'reading')}{name}={value}"
        value = "NAME ..." if match[2] == "False" else match[3]
        return f"--{name} {value}" if value else f"--{name}"

    return _OPTION.sub(field, said)


@dataclasses.dataclass(frozen=True)
class Line:
    """A line of the table that shows what files were taken for: a column or a fact, what it is, and more."""

    name: str
    taken_for: str
    more: str = ""

    def __post_init__(self):
        for field in ("name", "taken_for", "more"):
            object.__setattr__(self, field, harmless(singular(getattr(self, field))))


_PLURALS = (
    *("row", "column", "file", "text file", "picture", "recording", "mask", "pair", "box", "class"),
    *("step", "document", "character", "word", "second", "longer one", "object", "channel"),
)
_ONE = re.compile(rf"(?<![\d.,])1 ({'|'.join(_PLURALS)})e?s\b")


def singular(said: str) -> str:
    """``1 row`` for ``1 rows``."""
    return _ONE.sub(r"1 \1", said)


def span(values: Sequence[Any] | np.ndarray, form: str = ",") -> str:
    """``3 to 52, median 17``, or the one number there is."""
    low, high = np.min(values).item(), np.max(values).item()
    middle = type(low)(np.median(values))  # of whole numbers a whole one
    return (
        f"{low:{form}}" if low == high else f"{low:{form}} to {high:{form}}, median {middle:{form}}"
    )


@dataclasses.dataclass(frozen=True)
class Found:
    """Rows of the user's own before they are cut into parts.

    Attributes:
      rows: named columns ``[rows, ...]``, or rows to be read one by one (:class:`dl.data.batches.streams.Source`).
      info: what to know of them; its digests are of the files read.
      lines: what was taken for what, counted and skipped.
      part: ``[rows]`` strings, keys of :data:`PARTS`, where the files say so.
      how: who says so, where it is not the files.
      strata: ``[rows]`` whole numbers whose shares every part keeps, such as labels.
      group: ``[rows]`` values; equal ones stay in one part.
      names: ``[rows]`` what a row is called, such as its file.
      place: ``[rows]`` which row of its table it is, or of its tables one after the other; None without one.
    """

    rows: Any
    info: Info
    lines: tuple[Line, ...] = ()
    part: np.ndarray | None = None
    how: str = "as the files say"
    strata: np.ndarray | None = None
    group: np.ndarray | None = None
    names: Sequence[str] | None = None
    place: np.ndarray | None = None


def own_info(name: str, task: str, digests: dict[str, str], **more: Any) -> Info:
    """What to know of files of the user's own."""
    fields = {"title": name, "source": "the user's", "licence": "", "description": ""} | more
    return Info(name, task=task, digests=digests, **fields)


def part_called(word: str) -> str | None:
    """The part that people call so: ``'train'`` for ``'Training'``; None for another word."""
    word = word.strip().lower()
    return next((part for part, words in PARTS.items() if word in words), None)


def part_in(name: str) -> str | None:
    """The part that a name tells of, as ``test_2016.en`` and ``train-clean-100`` do; None for none or several."""
    found = {part_called(word) for word in re.split(r"[^a-z]+", name.lower())} - {None}
    return found.pop() if len(found) == 1 else None


def parts_called(words: Iterable[Any], where: str) -> np.ndarray:
    """The part of every row, by a column's words.

    Raises:
      UserError: a word is none that a part is called.
    """
    words = np.asarray(["" if word is None else str(word) for word in words])
    names, code = np.unique(words, return_inverse=True)
    parts = [part_called(name) for name in names]
    for name, part in zip(names, parts, strict=True):
        if part is None:
            known = ", ".join(PARTS)
            held = "has empty cells" if name == "" else f"holds {str(name)!r}, which is no part"
            raise UserError("split-word", f"{where} {held}: use {known} in every row")
    return np.array(parts)[code]


def column_called(frame: Frame, given: str | None, guesses: Sequence[str], flag: str) -> str | None:
    """The heading that the user ``given`` by ``flag``, else the first of ``guesses`` that the file has, in
    whichever case; None where it has none.

    Raises:
      UserError: the file has no column ``given``.
    """
    if given:
        if given not in frame.headings:
            if left := [n for n in frame.notes if n.startswith(f"column {given} is left out")]:
                raise UserError("cell-unreadable", f"{frame.name}: {left[0]}: {flag} another")
            error = unknown(f"column of {frame.name}", given, map(str, frame.headings))
            raise UserError("column-unknown", f"{flag}: {error}")
        return given
    by_name = {str(heading).strip().lower(): heading for heading in reversed(frame.headings)}
    return next((by_name[guess] for guess in guesses if guess in by_name), None)


def check_shares(shares: Sequence[Any]) -> None:
    """Raise UserError where these are not two shares, for validation and for test."""
    plain = len(shares) == 2 and all(isinstance(s, int | float) and 0 <= s < 1 for s in shares)
    if not plain or sum(shares) >= 1:
        said = " ".join(f"{s:g}" if isinstance(s, int | float) else repr(s) for s in shares)
        raise UserError(
            "hold-out-impossible",
            f"--hold-out {said}: give two shares of 0 or more, below 1 together",
        )


def assign(found: Found, own: OwnFiles, seed: int = 0) -> tuple[np.ndarray, str]:
    """``(part [rows], how)``: train, validation or test for every row, as the files say, else held out by seed,
    labels in proportion, whole groups, or in order. Where the files have no validation part, it comes out of
    the training part.

    Raises:
      UserError: a share is none, or nothing would be left to train on.
    """
    size = row_count(found.rows)
    check_shares(own.hold_out)
    shares = dict(zip(("validation", "test"), own.hold_out, strict=True))
    how = found.how
    if own.folds is not None or (own.fold is not None and found.part is None):
        part, how = parts_by_fold(found, own, seed)
    elif found.part is not None:
        part = found.part
        if "validation" not in part and shares["validation"]:
            part = part.astype("<U10")
            train = np.flatnonzero(part == "train")
            part[_held(train, shares["validation"], found, own, seed)[1]] = "validation"
            how += f", {shares['validation']:.0%} of train for validation"
    else:
        part = np.empty(size, object)
        part.fill("train")  # one word, not one a row
        for name in ("test", "validation"):  # as shares of all rows
            train = np.flatnonzero(part == "train")
            if share := shares[name] * size / max(1, len(train)):
                part[_held(train, share, found, own, seed)[1]] = name
        how = f"{_way(found, own)}: {held_said(own.hold_out)}"
        if own.in_order and found.group is not None:
            late = int((np.flatnonzero(part == "train") > np.argmax(part != "train")).sum())
            how += f"; {late:,} training rows come after the first held out" * (late > 0)
    if "train" not in part:
        raise UserError("part-empty", f"{found.info.title} has no training rows")
    return part, how


def check_trained(found: Found, part: np.ndarray) -> None:
    """Raise UserError where a class has rows, and none of them is to train on."""
    label = found.strata
    if label is None or not found.info.classes:
        return
    if (strange := np.setdiff1d(label, label[part == "train"])).size:
        more = f" ({len(strange)} classes are so)" if len(strange) > 1 else ""
        raise UserError(
            "class-untrained",
            f"class {found.info.classes[strange[0]]!r} has {(label == strange[0]).sum():,} rows, none of them to "
            f"train on{more}: merge it with another, leave its rows out, or have the parts drawn anew",
        )


def held_said(shares: tuple[float, float]) -> str:
    """How much is held out, and the flag that says so."""
    return "--hold-out {:.3g} {:.3g} for validation and test".format(*shares)


def divide(found: Found, own: OwnFiles, seed: int = 0) -> Splits:
    """``found`` as train, validation and test, by :func:`assign`."""
    part, how = assign(found, own, seed)
    check_trained(found, part)
    rows = {name: np.flatnonzero(part == name) for name in PARTS}
    counts = ", ".join(f"{len(part):,} {name}" for name, part in rows.items() if len(part))
    if not len(rows["test"]):
        chosen = "the part that chose the step" if len(rows["validation"]) else "training alone"
        how += f"; no test part: figures are of {chosen}"
    lines = (*found.lines, *_torn(found, rows), *_strange(found, rows), Line("parts", counts, how))
    details = {**found.info.details, "lines": lines}
    if own.folds is not None:
        details["fold_rows"] = rows
    if found.names is not None:
        names = np.asarray(found.names, object)
        details["row_names"] = {name: names[chosen] for name, chosen in rows.items()}
    if found.place is not None:
        details["place"] = {name: found.place[chosen] for name, chosen in rows.items()}
    info = dataclasses.replace(
        found.info,
        details=details,
        sizes={name: len(part) for name, part in rows.items() if len(part)},
    )
    train, validation, test = (_part(found.rows, rows[name]) for name in PARTS)
    return Splits(train, validation, test, info)


_silent = contextvars.ContextVar("silent", default=False)


@contextlib.contextmanager
def shown_before() -> Iterator[None]:
    """Within, files that a run was trained on are opened again without their table."""
    token = _silent.set(True)
    try:
        yield
    finally:
        _silent.reset(token)


def show(info: Info) -> None:
    """Print what the user's files were taken for, as a table on standard error."""
    if _silent.get() or not info.details["lines"]:
        return
    from rich.table import Table

    table = Table(title=harmless(info.title), title_justify="left", show_header=False, box=None)
    for line in info.details["lines"]:
        table.add_row(line.name, line.taken_for, in_fields(line.more))
    screen(stderr=True).print(table)


def _part(rows: Any, chosen: np.ndarray) -> Any:
    if not len(chosen):
        return {}
    return rows.part(chosen) if hasattr(rows, "part") else take(rows, chosen)


def _torn(found: Found, rows: dict[str, np.ndarray]) -> list[Line]:
    """What to show where rows of one group, or of one file, are in several parts: the files' own parts may say so,
    and rows that name a file again."""
    lines = []
    for what, values in (("groups", found.group), ("files", found.names)):
        if values is None or (what == "files" and found.info.task == "table"):  # lines of files
            continue
        values = np.asarray(values, object if what == "files" else None)
        parts = [np.unique(values[part]) for part in rows.values()]
        names, count = np.unique(np.concatenate(parts), return_counts=True)
        if torn := int((count > 1).sum()):
            more = "rows of one are in several parts, and make figures too good: mend the files, or cut by --group"
            lines.append(Line("check", f"{torn:,} of {len(names):,} {what} are torn", more))
        elif what == "groups":
            lines.append(Line("groups", f"{len(names):,}", "each in one part, whole"))
    return lines


def _strange(found: Found, rows: dict[str, np.ndarray]) -> list[Line]:
    """What to show of classes of objects that no training row has: a picture has several, so none is refused."""
    label = known(found.rows).get("label")
    if label is None or label.ndim < 2:
        return []
    names = [found.info.classes[n] for n in np.setdiff1d(label, [-1, *label[rows["train"]].flat])]
    more = f"{', '.join(map(plain, names[:6]))}: none is learned; --classes leaves them out"
    return [Line("check", f"{len(names)} classes only outside train", more)] if names else []


def _way(found: Found, own: OwnFiles) -> str:
    if own.in_order:
        whole = " in which groups begin, each whole" if found.group is not None else " of the rows"
        return f"in the order{whole}"
    if found.group is not None:
        return "drawn by seed, whole groups"
    return f"drawn by seed{', each label in proportion' * (found.strata is not None)}"


def _held(rows: np.ndarray, share: float, found: Found, own: OwnFiles, seed: int) -> tuple:
    """``(kept, held)`` of ``rows``, of which ``share`` is to be held; one at least where there are two."""
    count = min(max(1, round(share * len(rows))), len(rows) - 1)
    if count < 1:
        return rows, rows[:0]
    if own.in_order and found.group is None:
        return rows[:-count], rows[-count:]
    if found.group is not None:
        names, begins, group = np.unique(found.group[rows], return_index=True, return_inverse=True)
        order = np.argsort(-begins) if own.in_order else shuffled(len(names), seed)
        sizes = np.bincount(group)[order]
        # Groups in that order, as many as come nearest to the share, and never all.
        reached = np.abs(np.cumsum(sizes) - count)[: len(names) - 1]
        if not len(reached):
            raise UserError(
                "hold-out-impossible",
                f"--group {own.group}: {len(np.unique(found.group))} different values are too few to hold "
                "whole ones out for validation and for test: name another column, or hold one part out "
                "(--hold-out 0.2 0)",
            )
        held = np.isin(group, order[: reached.argmin() + 1])
        return rows[~held], rows[held]
    if found.strata is None:
        kept, held = hold_out(len(rows), count, seed)
        return rows[kept], rows[held]
    strata = found.strata[rows]
    # What there is one of stays in training, where else nothing would be learned of it.
    names, counts = np.unique(strata, return_counts=True)
    several = np.flatnonzero(np.isin(strata, names[counts > 1]))
    if len(several) <= count:
        several = np.arange(len(rows))
    _, held = hold_out(len(several), count, seed, strata[several])
    chosen = np.zeros(len(rows), bool)
    chosen[several[held]] = True
    return rows[~chosen], rows[chosen]
