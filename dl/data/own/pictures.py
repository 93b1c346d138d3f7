"""Pictures with a class each: a folder a class, also below train, val and test; or a table of path and class.

Columns: ``image`` uint8 ``[n, height, width, channels]``, one channel where all are grey, else three; ``label``
int32 ``[n]``. A part too large for memory is a :class:`dl.data.batches.streams.FileRows`.
"""

import dataclasses
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from dl.core.errors import UserError
from dl.data.batches.streams import DecodeImage, FileRows
from dl.data.own.classes import class_lines, ordered
from dl.data.own.found import (
    Found,
    Line,
    OwnSheet,
    own_info,
    part_called,
)
from dl.data.own.packed_pictures import packed_in
from dl.data.own.paths import beside_masks, files_digest, short_names, visible
from dl.data.own.picture_tables import Listed, listed_in, tables_of
from dl.data.own.pixels import headers_of, no_columns, proposed_size, rows_from, shown_sizes
from dl.data.readers.picture_folders import PICTURES, image_folder
from dl.data.readers.pictures import Fit
from dl.data.readers.random_parts import RandomPart
from dl.data.splits import Splits

ARCHIVES = (".zip", ".tar", ".tgz", ".7z", ".rar")
FLIPPED = ("cifar10", "cifar10_jpeg", "rsscn7")  # whose mirror images are as likely
NAMED = ("digits", "mnist", *FLIPPED, "orl_faces", "pneumoniamnist")
OF_NAMED = ("image", "label")


@dataclasses.dataclass(frozen=True)
class OwnPictures(OwnSheet):
    """Fields for the config of a script that takes pictures of the user's own, with a class each."""

    image: str | None = None
    """your table's column of the pictures' paths, where the proposal is wrong"""
    label: str | None = None
    """your table's column of the classes, where the proposal is wrong"""
    size: tuple[int, ...] = ()
    """height and width to bring your pictures to, or one number for both; none takes what is proposed"""
    fit: Fit = "cut"
    """how pictures of other proportions come to that size: cut to their middle, padded or stretched"""
    stream: bool = False
    """read your pictures from disk as they are needed, even if all fit into memory"""
    workers: int = 0
    """processes that decode pictures as they are needed; 0 decodes them in threads of this one"""


def named(splits: Splits) -> Splits:
    """A set that goes by a name; one of TFDS may have more columns."""
    return splits.only("image", "label")


def read(source: Any, own: OwnPictures) -> Found:
    """Pictures in a folder, or those that a table (a file, or a frame) names."""
    path = source if isinstance(source, Path) else None
    if path is not None and path.is_file() and path.suffix.lower() in (*PICTURES, *ARCHIVES):
        hint = (
            "unpack it" if path.suffix.lower() in ARCHIVES else "give the folder above its class's"
        )
        raise UserError("no-pictures", f"{path.name} is no folder or table of pictures: {hint}")
    title = "your table" if path is None else path.name or str(path)
    files: Any
    if packed := packed_in(source, own):
        listed, files, digests = packed
    else:
        tables, digests = tables_of(source, own)
        if tables:
            listed = listed_in(tables, path, own)
        else:
            no_columns(own, f"{path} has no table of pictures", "image", "label")
            assert path is not None
            listed = _of_folders(path)
        files = np.array(listed.paths, object)
        digests |= files_digest(title, digests, listed.paths)
    names = short_names(listed.paths)
    headers, labels = headers_of(files, names if packed else None), listed.labels
    height, width, how = proposed_size(headers, own.size, own.fit)
    grey = int(headers[:, 2].sum())
    channels = 1 if grey == len(headers) else 3
    decode = DecodeImage(height, width, mode="L" if channels == 1 else "RGB", how=own.fit)
    rows, memory = rows_from(
        {"file": files, "label": labels}, decode, height * width * channels, own.stream, own.workers
    )
    kind = "grey" if channels == 1 else f"colour, {grey:,} of them grey" if grey else "colour"
    about = (
        f"{len(labels):,} pictures: image uint8 [n, {height}, {width}, {channels}], label int32 [n]"
    )
    info = own_info(title, "classification", digests, description=about, classes=listed.classes)
    lines = (
        *listed.lines,
        Line("image", f"{len(labels):,} pictures, {kind}", shown_sizes(headers)),
        Line("size", f"{height} high, {width} wide", f"{how}; --size for another"),
        *class_lines(listed.classes, labels, "pictures", least=1.01),
        memory,
    )
    found = Found(rows, info, lines, listed.part, strata=labels, group=listed.group, names=names)
    return dataclasses.replace(found, place=listed.place)


def random_parts(rows: Any) -> Any:
    """Training pictures of which every step sees a random part, see :class:`RandomPart`.

    Raises:
      UserError: the pictures are in memory, where there is but one of each.
    """
    if not isinstance(rows, FileRows) or not isinstance(rows.decode, DecodeImage):
        said = "--resized-crop cuts pictures of yours out of their files at every step"
        raise UserError("option-misplaced", f"{said}: say --data PATH --stream, or leave it out")
    own = rows.decode
    draw = RandomPart(own.height, own.width, own.background, own.mode)
    return dataclasses.replace(rows, draw=draw)


# -- folders -----------------------------------------------------------------------------------------


def _of_folders(root: Path) -> Listed:
    """A folder a class, or such folders below train, val and test."""
    while len(folders := [path for path in visible(root) if path.is_dir()]) == 1 and not any(
        path.suffix.lower() in PICTURES for path in folders[0].iterdir()
    ):
        root = folders[0]  # as an unpacked archive has it
    parts = {folder: part_called(folder.name) for folder in folders}
    if not folders or None in parts.values() or "train" not in parts.values():
        parts = {root: None}
    paths, names, where, lines = [], [], [], []
    for folder, part in parts.items():
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            try:
                source, classes = image_folder(folder)
            except UserError as error:
                if part in (None, "train"):
                    raise
                lines.append(Line("left out", folder.name, str(error)))
                continue
        lines += [Line("odd", "", str(warning.message)) for warning in told]
        kept = {str(path) for path in beside_masks(map(Path, source.paths))}
        rows = [row for row, path in enumerate(source.paths) if path in kept]
        if left := len(source) - len(rows):
            lines.append(Line("left out", f"{left:,} .png files", "masks: each lies beside a .jpg"))
        paths += [source.paths[row] for row in rows]
        names += [classes[source.labels[row]] for row in rows]
        where += [part] * len(rows)
    if parts == {root: None} and len(set(classes)) < len(classes):
        more = "folders of one name, of letters composed differently (NFC, NFD): one class"
        lines.append(Line("check", f"{len(classes) - len(set(classes)) + 1}", more))
        classes = tuple(dict.fromkeys(classes))
    # A class without a picture keeps its number only where no part can have one of it.
    classes = classes if parts == {root: None} else ordered(set(names))
    lines.insert(0, Line("folder", str(root), f"a folder a class{_below(parts)}"))
    number = {name: place for place, name in enumerate(classes)}
    labels = np.array([number[name] for name in names], np.int32)
    told_parts = None if where[0] is None else np.array(where)
    return Listed(paths, labels, classes, tuple(lines), told_parts)


def _below(parts: dict[Path, str | None]) -> str:
    return "" if None in parts.values() else f" below {', '.join(p.name for p in parts)}"
