"""Pictures with masks, a class for every pixel: pairs of files by name, in folders such as images and masks.

Columns: ``image`` uint8 ``[n, height, width, channels]``; ``segments`` int16 ``[n, height, width]``, -1 where a
pixel counts for nothing. Sides are multiples of 16, so that a U-Net can halve them.
"""

import dataclasses
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from dl.core.errors import UserError
from dl.data.own.boxes import within
from dl.data.own.columns import column_lines, split_column
from dl.data.own.found import (
    Found,
    Line,
    OwnSheet,
    column_called,
    own_info,
    parts_called,
    sheet_options,
)
from dl.data.own.mask_values import channels, classes_of, read_numbers, word_of
from dl.data.own.paths import (
    TABLES,
    beside_masks,
    digests_under,
    ends,
    files_under,
    part_lists,
    part_of,
    short_names,
    visible,
)
from dl.data.own.picture_tables import GROUPS
from dl.data.own.pixels import (
    OF_NO_PART,
    given_size,
    headers_of,
    no_columns,
    rows_from,
    shown_sizes,
)
from dl.data.readers.files import digest_files
from dl.data.readers.frames import coded_words, read_frame, words
from dl.data.readers.picture_folders import PICTURES
from dl.data.readers.pictures import read_pixels
from dl.data.sets.annotated import resize

NAMED = ("isbi_membrane", "camvid", "magnetic_tile")
OF_NAMED = ("image", "segments")
LONGEST = 512  # side that larger pictures are proposed to be scaled down to
_IMAGES = ("images", "image", "imgs", "img", "pictures", "jpegimages", "originals", "inputs", "rgb")
_MASKS = (
    *("masks", "mask", "labels", "label", "annotations", "annotation", "annot", "gt"),
    *(
        "segmentationclass",
        "segmentation",
        "segmentations",
        "groundtruth",
        "ground_truth",
        "targets",
    ),
)
# What stands behind a folder's or a file's name: trainannot, 7_mask.
_MARK = re.compile(
    r"(?:[-_. ]?annot|[-_. ](?:masks?|labels?|gt|seg|segmentation|groundtruth|annotations?))$", re.I
)
_PICTURE = re.compile(r"[-_. ](?:images?|img|sat|rgb)$", re.I)


@dataclasses.dataclass(frozen=True)
class OwnMasks(OwnSheet):
    """Fields for the config of a script that takes pictures of the user's own with masks."""

    classes: tuple[str, ...] = ()
    """names of your masks' classes, in the order shown"""
    void: tuple[str, ...] = ()
    """numbers or colours (#rrggbb) in your masks that count for nothing"""
    stray: Literal["refuse", "nearest", "void", "class"] = "refuse"
    """what values on a few pixels are, such as a lossy file leaves: the nearest other, nothing, or classes"""
    size: tuple[int, ...] = ()
    """height and width for your pictures to lie within, or one number for both; none takes what is proposed"""
    stream: bool = False
    """read your pictures from disk as they are needed, even if all fit into memory"""


@dataclasses.dataclass(frozen=True)
class DecodeMasked:
    """Read a row's picture and mask, both scaled (to lie within the size where ``scale`` is None) and put in its
    middle; around them the picture's edge goes on, and no pixel counts.

    ``values`` of the mask are the classes 0, 1, ..., and those of ``void`` are -1; where no mask is named, all is
    the first class.
    """

    height: int
    width: int
    scale: float | None
    mode: str
    values: tuple[int, ...]
    void: tuple[int, ...]
    stray: str = "refuse"

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        image = read_pixels(row["file"], mode=self.mode, upright=False)
        nowhere = np.full(image.shape[:2], self.values[0])
        numbers = read_numbers(row["mask"]) if row["mask"] else nowhere
        known = np.array(sorted((*self.values, *self.void)))
        classes = np.array([self.values.index(v) if v in self.values else -1 for v in known])
        place = np.minimum(np.searchsorted(known, numbers), len(known) - 1)
        odd = known[place] != numbers
        if odd.any() and self.stray in ("nearest", "void"):
            strange, code = np.unique(numbers[odd], return_inverse=True)
            near = np.abs(channels(strange)[:, None] - channels(known)).sum(-1).argmin(1)
            classes, place[odd] = np.append(classes, -1), -1 if self.stray == "void" else near[code]
        elif odd.any():
            raise UserError(
                "mask-value",
                f"{row['mask']} holds {word_of(int(numbers[odd][0]))}, which is no value of the masks looked at: "
                "mend it, name it by --void, or say --stray nearest",
            )
        segments = classes[place].astype(np.int16)
        tall, wide = self.sides(segments.shape)
        if (tall, wide) != segments.shape:
            whole = {"image": image[None], "segments": (segments[None] + 1).astype(np.uint8)}
            small = resize(whole, tall, wide)
            image, segments = small["image"][0], small["segments"][0].astype(np.int16) - 1
        lacking = self.height - tall, self.width - wide
        edges = tuple((side // 2, side - side // 2) for side in lacking)
        return {
            "image": np.pad(image, (*edges, (0, 0)), "edge"),
            "segments": np.pad(segments, edges, constant_values=-1),
        }

    def sides(self, size: Sequence[int]) -> tuple[int, int]:
        """The height and width that a picture of that size is scaled to, to lie within."""
        if self.scale is not None:
            tall, wide = (max(1, round(int(side) * self.scale)) for side in size)
            if tall <= self.height and wide <= self.width:
                return tall, wide
        return within(size, self.height, self.width)[2:]


def read(source: Any, own: OwnMasks) -> Found:
    """Pictures in a folder, each with the mask of its name."""
    if not isinstance(source, Path) or not source.is_dir():
        raise UserError("folder-missing", f"masks are read from a folder, and {source} is none")
    pairs, lines = _pairs(files_under(source, PICTURES), source)
    told = _told(source, [image for image, _ in pairs], own)
    lists = part_lists(
        source, files_under(source), [image.stem for image, _ in pairs], "Segmentation"
    )
    parts = [lists.get(i.stem) or (None if lists else part_of(i) or part_of(m)) for i, m in pairs]
    parts, group = told.part or parts, told.group
    lines += told.lines
    if any(parts) and not all(parts):
        lines.append(Line("left out", f"{parts.count(None):,} pictures", OF_NO_PART))
        kept = [row for row, part in enumerate(parts) if part]
        pairs, parts = [pairs[row] for row in kept], [parts[row] for row in kept]
        group = None if group is None else group[kept]
    paths, masks = ([str(source / path) for path in side] for side in zip(*pairs, strict=True))
    headers, sizes = headers_of(paths, upright=False), headers_of(masks, upright=False)[:, :2]
    if len(odd := np.flatnonzero((headers[:, :2] != sizes).any(1))):
        raise UserError(
            "mask-size",
            f"{len(odd):,} masks are of another size than their pictures, the first {masks[odd[0]]}: bring both "
            "to one size",
        )
    values, void, names, shown = classes_of(source, masks, own)
    height, width, scale, how = _size(sizes, own.size)
    channels = 1 if headers[:, 2].all() else 3
    decode = DecodeMasked(
        height, width, scale, "L" if channels == 1 else "RGB", values, void, own.stray
    )
    columns = {"file": np.array(paths, object), "mask": np.array(masks, object)}
    rows, memory = rows_from(columns, decode, height * width * (channels + 2), own.stream)
    about = f"{len(paths):,} pictures with a class for every pixel"
    beside = [path for path in visible(source) if path.is_file() and ends(path, (*TABLES, ".txt"))]
    digests = {source.name: digest_files([*paths, *masks])} | digests_under(source, beside)
    info = own_info(source.name, "segmentation", digests, description=about, classes=names)
    info.details.update(scale=scale, values=values)
    lines = [
        Line("folder", str(source), f"pairs such as {pairs[0][0]} and {pairs[0][1]}"),
        *lines,
        Line("image", f"{len(paths):,} pictures", shown_sizes(headers)),
        Line("size", f"{height} high, {width} wide", f"{how}; --size for another"),
        *shown,
        Line(
            "mean_iou",
            "a mean over pictures",
            "iou_0, iou_1, ... are over all pixels of all of them",
        ),
        memory,
    ]
    part, names = np.array(parts) if all(parts) else None, short_names(paths)
    return Found(rows, info, tuple(lines), part, group=group, names=names)


class _Told(NamedTuple):
    """What tables beside the pictures say of each: its part, its group."""

    part: list[str | None] | None = None
    group: np.ndarray | None = None
    lines: tuple[Line, ...] = ()


def _told(root: Path, images: list[Path], own: OwnMasks) -> _Told:
    """What a table in the folder says of the pictures that it names: those of one group stay in one part.

    Raises:
      UserError: the user names a column, and no table of the pictures is there.
    """
    names = [{str(p), str(p.with_suffix("")), p.name, p.stem} for p in images]
    lines: list[Line] = []
    for path in (path for path in visible(root) if ends(path, TABLES) and path.is_file()):
        frame = read_frame(path, **sheet_options(own))
        for heading in frame.headings:
            row = {
                cell.replace("\\", "/"): n for n, cell in enumerate(words(frame, heading)) if cell
            }
            found = [next((row[name] for name in some if name in row), -1) for some in names]
            if found.count(-1) <= len(found) / 10:
                break
        else:
            lines.append(Line("left out", path.name, "no column of it names the pictures"))
            continue
        if -1 in found:
            said = f"{path.name} does not name {images[found.index(-1)]}: add it, or take the picture away"
            raise UserError("file-missing", said)
        split = split_column([("", frame)], own)
        group = column_called(frame, own.group, GROUPS, "--group")
        used = {heading: "the pictures' names", split: "part", group: "groups"}
        part = (
            parts_called(words(frame, split)[found], f"column {split!r}").tolist()
            if split
            else None
        )
        code = coded_words(frame, group)[0][found] if group else None
        columns = [words(frame, each) for each in (split, group) if each]
        for n, cell in enumerate(words(frame, heading)):
            first = row.get((cell or "").replace("\\", "/"), n)
            if any(column[n] != column[first] for column in columns):
                raise UserError(
                    "parts-overlap",
                    f"{path.name} names {cell} twice, of different parts or groups: take one row away",
                )
        return _Told(part, code, (*lines, *column_lines(frame, used)))
    no_columns(own, f"no table in {root} names the pictures")
    return _Told(lines=tuple(lines))


def _size(sizes: np.ndarray, given: tuple[int, ...]) -> tuple[int, int, float | None, str]:
    """Height, width, scale and how, in words."""
    if given:
        height, width = (-(-side // 16) * 16 for side in given_size(given))
        return height, width, None, "scaled to lie within that"
    scale = min(1.0, LONGEST / sizes.max())
    height, width = (int(-(-max(1, round(side * scale)) // 16) * 16) for side in sizes.max(0))
    how = "as they are" if scale == 1 else f"scaled to {scale:.3g} of their sides"
    full = scale == 1 and (sizes == (height, width)).all()
    return height, width, scale, how if full else f"{how}, framed by pixels that do not count"


def _pairs(pictures: list[Path], root: Path) -> tuple[list[tuple[Path, Path]], list[Line]]:
    """Pictures with their masks, by folders and name, or by name alone where that is told apart."""
    images: dict[tuple[str, ...], Path] = {}
    masks: dict[tuple[str, ...], Path] = {}
    for path in pictures:
        words, is_mask = [], False
        for word in path.parts[:-1]:
            plain = _MARK.sub("", word).lower()
            is_mask |= word.lower() in _MASKS or plain != word.lower()
            words += [] if plain in (*_IMAGES, *_MASKS) else [plain]
        stem = _MARK.sub("", path.stem)
        is_mask |= stem != path.stem
        side = masks if is_mask else images
        side[*words, stem if is_mask else _PICTURE.sub("", stem)] = path
    if not masks:  # NAME.jpg and NAME.png side by side
        kept = set(beside_masks(pictures))
        beside = {path.with_suffix(""): path for path in pictures if path not in kept}
        found = [(p, beside[p.with_suffix("")]) for p in kept if p.with_suffix("") in beside]
    else:
        names = Counter(key[-1] for key in masks)
        by_name = {key[-1]: path for key, path in masks.items() if names[key[-1]] == 1}
        twins = ((path, masks.get(key) or by_name.get(key[-1])) for key, path in images.items())
        found = [(path, mask) for path, mask in twins if mask is not None]
    if not found:
        raise UserError(
            "no-masks",
            f"{root} has {len(images):,} pictures and {len(masks):,} masks, and none of one name: put them into "
            "folders images and masks, under the same names",
        )
    lines = []
    for what, count in (
        ("pictures without a mask", len(images) - len(found) if masks else 0),
        ("masks without a picture", len(masks) - len({mask for _, mask in found}) if masks else 0),
    ):
        if count > 0:
            lines.append(Line("left out", f"{count:,} {what}"))
    return sorted(found, key=lambda pair: pair[0].parts), lines


# -- classes -----------------------------------------------------------------------------------------
