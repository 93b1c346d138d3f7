"""Recordings with a class each: ``waveform`` int16 ``[n, samples]``, ``length [n]`` in samples, ``label [n]``."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from dl.data.own.classes import class_lines, coded
from dl.data.own.found import Found, Line
from dl.data.own.paths import (
    SOUNDS,
    TABLES,
    by_first_folder,
    check_lists,
    ends,
    files_under,
    short_names,
    visible,
)
from dl.data.own.pixels import no_columns
from dl.data.own.sounds import Listed, OwnSounds, listed_in, no_sounds, read_sounds

NAMED = ("fsdd",)
OF_NAMED = ("waveform", "length", "label")
_LABELS = ("label", "class", "category", "target", "word", "genre", "emotion", "species", "y")
# Lists of files by part, as the Speech Commands have them.
_LISTS = {"validation": "validation_list.txt", "test": "testing_list.txt"}


@dataclasses.dataclass(frozen=True)
class OwnRecordings(OwnSounds):
    """Fields for the config of a script that takes recordings with a class each."""

    label: str | None = None
    """your table's column of classes; by default the one called label, class, category, ..."""


def read(source: Any, own: OwnRecordings) -> Found:
    """A folder with one folder a class, also below train, val and test; or a table of path and label.

    ``info.details`` has the ``rate`` in Hz.
    """
    listed = _by_class(source) if isinstance(source, Path) and source.is_dir() else None
    if listed is not None:
        no_columns(own, f"{source} has a folder for each class", "label", "path")
    else:
        listed = listed_in(source, own, own.label, _LABELS, "--label")
    title = getattr(source, "name", "the table")
    rows, listed, info = read_sounds(listed, own, title, cut=True)
    classes, label = coded(listed.said)
    lines = (*listed.lines, *class_lines(classes, label, f"recordings of {title}"))
    info = dataclasses.replace(info, classes=classes)
    names, label_rows = short_names(listed.paths), rows | {"label": label}
    return Found(
        label_rows, info, lines, listed.part, strata=label, group=listed.group, names=names
    )


def _by_class(folder: Path) -> Listed | None:
    """A folder a class; None where a table tells of the files instead."""
    paths = files_under(folder, SOUNDS)
    part, below = by_first_folder(paths)
    classes = {names[0] for names in below if names}
    if len(classes) < 2 and any(ends(path, TABLES) for path in visible(folder)):
        return None
    if not classes:
        above = "the folder above where this one is a class's, or in it " * bool(paths)
        raise no_sounds(folder, f"{above}a folder for each class, or a table of path and label")
    inside = np.flatnonzero([bool(names) for names in below])
    lists = {name: folder / file for name, file in _LISTS.items() if (folder / file).is_file()}
    if lists:
        part = np.full(len(paths), "train", "<U10")
        of = {path.as_posix(): row for row, path in enumerate(paths)}
        known: dict[str, str] = {}
        for name, file in lists.items():
            listing = [each for each in file.read_text("utf-8", "replace").split() if each in of]
            check_lists(known, told := dict.fromkeys(listing, name), file.name)
            known |= told
            part[[of[each] for each in listing]] = name
    listed = Listed(
        [folder / path for path in paths], [names[0] if names else "" for names in below], part
    )
    if len(inside) == len(paths):
        return listed
    return listed.only(
        inside, Line("left out", f"{len(paths) - len(inside):,} files", "in no class's folder")
    )
