"""Tables of the user's own that name pictures: which columns hold paths, classes and parts, and where they lie."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from dl.core.errors import UserError
from dl.data.own.classes import coded
from dl.data.own.columns import (
    Parts,
    check_classes,
    column_lines,
    column_of_paths,
    joined,
    of_cells,
    of_few_values,
    rows_of,
    split_column,
    taken,
    the_one,
    which_column,
)
from dl.data.own.found import Line, column_called, parts_called, sheet_options
from dl.data.own.paths import TABLES, Named, by_part, called_by_part, digests_under, ends, visible
from dl.data.readers.frames import WORDS_MISSING, Frame, coded_words, read_frame, words
from dl.data.readers.picture_folders import PICTURES

IMAGES = (
    *("image", "picture", "path", "file", "filename", "file_name", "filepath", "file_path"),
    *("image_path", "image_file", "image_name", "img", "img_path", "photo", "image_id", "id"),
)
_LABELS = (
    *("label", "class", "target", "category", "class_name", "label_name", "species", "diagnosis"),
    *("labels", "y", "type", "dx"),
)
GROUPS = ("group", "group_id", "patient", "patient_id", "subject", "subject_id")


@dataclasses.dataclass(frozen=True)
class Listed:
    """Pictures before they are opened: ``[pictures]`` paths, class numbers and, where told, parts, groups and rows
    of the table."""

    paths: list[str]
    labels: np.ndarray
    classes: tuple[str, ...]
    lines: tuple[Line, ...]
    part: np.ndarray | None = None
    group: np.ndarray | None = None
    place: np.ndarray | None = None


def tables_of(source: Any, own: Any) -> tuple[Parts, dict[str, str]]:
    """A table that names pictures, or those of a folder: one, or some by part; and their digests."""
    if not isinstance(source, Path) or source.is_file():
        digests = digests_under(source, [source]) if isinstance(source, Path) else {}
        return [("", of_cells(read_frame(source, **sheet_options(own))))], digests
    parts, _ = by_part(p for p in visible(source) if ends(p, TABLES) and p.is_file())
    every = ((part, path) for part, some in called_by_part(parts).items() for path in some)
    read = [(p, of_cells(read_frame(path, **sheet_options(own))), path) for p, path in every]
    naming = [each for each in read if _image_column(each[1], own)]
    if len(naming) > 1 and "" in parts:
        names = ", ".join(frame.name for _, frame, _ in naming)
        raise UserError(
            "table-unclear",
            f"{source} has several tables of pictures ({names}): give one of them as the data",
        )
    return [each[:2] for each in naming], digests_under(source, [path for *_, path in naming])


def _image_column(frame: Frame, own: Any) -> str | None:
    return column_of_paths(frame, own.image, PICTURES, IMAGES, "--image")


def listed_in(tables: Parts, given: Path | None, own: Any, inside: bool = False) -> Listed:
    """The pictures that tables name; where they are ``inside``, their cells are names already."""
    folder = Path.cwd() if given is None else given if given.is_dir() else given.parent
    first = tables[0][1]
    if (image := _image_column(first, own)) is None:
        raise UserError("column-unnamed", which_column(first, "pictures' paths", "--image"))
    group = column_called(first, own.group, GROUPS, "--group")
    split = split_column(tables, own, gaps=True)
    label = _label_column(first, {image, group, split}, own)
    if inside and not label:
        raise UserError("column-unnamed", which_column(first, "classes", "--label"))
    if label:
        check_classes(first, label, (image, split, group), 0.99)
    frame, part, lines = joined(tables, None, label, (image, split, group))
    used: dict[Any, Any] = {
        image: "the pictures" if inside else taken("the pictures' paths", "--image", own.image),
        label: taken("the classes", "--label", own.label),
    }
    used |= {split: "the parts", group: "groups"}
    lines += column_lines(first, used)
    kept = np.array([cell is not None for cell in words(frame, image)])
    if label:
        names = words(frame, label)
        kept &= np.array([name is not None and name not in WORDS_MISSING for name in names])
    if split:
        kept &= np.array([cell is not None for cell in words(frame, split)])
    rows = np.flatnonzero(kept)
    if not len(rows):
        raise UserError("table-empty", f"{frame.name} has no row with a picture and a class")
    if len(bad := np.flatnonzero(~kept)):
        places = ", ".join(map(frame.place, bad[:3])) + ", ..." * (len(bad) > 3)
        lines.append(Line("skipped", f"{len(bad):,} rows", f"no path, class or part ({places})"))
    frame, part = rows_of(frame, rows), None if part is None else part[rows]
    part = parts_called(words(frame, split), f"column {split!r}") if split else part
    paths = words(frame, image).tolist()
    if not inside:
        paths = _found(Named(folder, PICTURES), frame, image, part)
    if label:
        said = words(frame, label).tolist()
    else:
        said = [Path(path).parent.name for path in paths]
        more = f"{frame.name} has no column of it"
        lines.append(Line("label", "the folder of each picture", more))
    if again := len(paths) - len(set(paths)):
        torn = len(set(zip(paths, said, strict=True))) - len(set(paths))
        more = f"{torn:,} pictures have several classes" if torn else "each of one class"
        lines.append(Line("duplicates", f"{again:,} rows name a picture again", more))
    classes, labels = coded(said)
    groups = coded_words(frame, group)[0] if group else None
    return Listed(paths, labels, classes, tuple(lines), part, groups, rows)


def _label_column(frame: Frame, taken: set, own: Any) -> str | None:
    """The column of classes; None where every column has another use."""
    if heading := column_called(frame, own.label, _LABELS, "--label"):
        return heading
    left = [heading for heading in frame.headings if heading not in taken]
    few = left if len(left) < 2 else of_few_values(frame, left) or left
    return the_one(frame, few, "classes", "--label", "target-unnamed") if left else None


def _found(index: Named, frame: Frame, heading: str, part: np.ndarray | None) -> list[str]:
    """The path of the picture of each row; raises UserError naming those with none, or with several."""
    cells = words(frame, heading)
    parts = [None] * len(cells) if part is None else part
    found = [index.all(cell, where) for cell, where in zip(cells, parts, strict=True)]
    if missing := [row for row, paths in enumerate(found) if len(paths) != 1]:
        raise UserError(
            "file-missing",
            f"{len(missing):,} of {len(cells):,} pictures of column {heading} are not under {index.folder}, or "
            f"there several times ({frame.show(heading, missing)}): mend the paths or take the rows away",
        )
    return [str(path) for (path,) in found]
