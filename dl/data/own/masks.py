"""Pictures with masks, a class for every pixel: pairs of files by name, in folders such as images and masks.

Columns: ``image`` uint8 ``[n, height, width, channels]``; ``segments`` int16 ``[n, height, width]``, -1 where a
pixel counts for nothing. Sides are multiples of 16, so that a U-Net can halve them.
"""

import collections
import csv
import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dl.core.errors import UserError
from dl.data.own.boxes import within
from dl.data.own.found import Found, Line, OwnFiles, own_info
from dl.data.own.paths import (
    TABLES,
    beside_masks,
    ends,
    files_under,
    filled_lines,
    part_lists,
    part_of,
    visible,
)
from dl.data.own.pixels import (
    OF_NO_PART,
    given_size,
    headers_of,
    no_columns,
    rows_from,
    shown_sizes,
)
from dl.data.readers.files import digest_files, for_each
from dl.data.readers.picture_folders import PICTURES
from dl.data.readers.pictures import read_classes, read_pixels
from dl.data.sets.annotated import resize

NAMED = ("isbi_membrane",)
LONGEST = 512  # side that larger pictures are proposed to be scaled down to
MOST = 255  # classes; more are instances, or the blur of a lossy file
SEEN = 400  # masks that are looked at for their values
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
class OwnMasks(OwnFiles):
    """Fields for the config of a script that takes pictures of the user's own with masks."""

    classes: tuple[str, ...] = ()
    """names of your masks' classes, in the order shown"""
    void: tuple[str, ...] = ()
    """numbers or colours (#rrggbb) in your masks that count for nothing"""
    size: tuple[int, ...] = ()
    """height and width for your pictures to lie within, or one number for both; none takes what is proposed"""
    stream: bool = False
    """read your pictures from disk as they are needed, even if all fit into memory"""


@dataclasses.dataclass(frozen=True)
class DecodeMasked:
    """Read a row's picture and mask, both scaled (to lie within the size where ``scale`` is None) and put in its
    middle; around them the picture's edge goes on, and no pixel counts.

    ``values`` of the mask are the classes 0, 1, ..., and those of ``void`` are -1.
    """

    height: int
    width: int
    scale: float | None
    mode: str
    values: tuple[int, ...]
    void: tuple[int, ...]

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        image = read_pixels(row["file"], mode=self.mode, upright=False)
        numbers = read_numbers(row["mask"])
        known = np.array(sorted((*self.values, *self.void)))
        classes = np.array([self.values.index(v) if v in self.values else -1 for v in known])
        place = np.minimum(np.searchsorted(known, numbers), len(known) - 1)
        if (odd := known[place] != numbers).any():
            raise UserError(
                "mask-value",
                f"{row['mask']} holds {_word(int(numbers[odd][0]))}, which is no value of the masks looked at: "
                "mend it, or name it by --void",
            )
        segments = classes[place].astype(np.int16)
        if self.scale is None:
            _, _, tall, wide = within(segments.shape, self.height, self.width)
        else:
            tall, wide = (max(1, round(side * self.scale)) for side in segments.shape)
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


def read_numbers(path: str) -> np.ndarray:
    """A mask's values ``[height, width]``: numbers as stored, or colours as ``red << 16 | green << 8 | blue``;
    of a JPEG, which blurs them, 0 for dark and 255 for bright."""
    if Path(path).suffix.lower() in (".jpg", ".jpeg"):
        return np.where(read_pixels(path, mode="L", upright=False)[..., 0] > 127, 255, 0)
    try:
        return read_classes(path).astype(np.int64)
    except UserError as error:
        if error.code != "label-image-mode":
            raise
    colours = read_pixels(path, upright=False).astype(np.int64)
    grey = (colours == colours[..., :1]).all()
    return colours[..., 0] if grey else (colours << np.array([16, 8, 0])).sum(-1)


def read(source: Any, own: OwnMasks) -> Found:
    """Pictures in a folder, each with the mask of its name."""
    no_columns(own, "masks are files of their own")
    if not isinstance(source, Path) or not source.is_dir():
        raise UserError("folder-missing", f"masks are read from a folder, and {source} is none")
    pairs, lines = _pairs(files_under(source, PICTURES), source)
    tables = [path.name for path in visible(source) if ends(path, TABLES)]
    lines += [Line("left out", ", ".join(tables), "masks heed no table")] if tables else []
    lists = part_lists(
        source, files_under(source), [image.stem for image, _ in pairs], "Segmentation"
    )
    parts = [lists.get(i.stem) or (None if lists else part_of(i) or part_of(m)) for i, m in pairs]
    if any(parts) and not all(parts):
        lines.append(Line("left out", f"{parts.count(None):,} pictures", OF_NO_PART))
        pairs = [pair for pair, part in zip(pairs, parts, strict=True) if part]
        parts = list(filter(None, parts))
    paths, masks = ([str(source / path) for path in side] for side in zip(*pairs, strict=True))
    headers, sizes = headers_of(paths, upright=False), headers_of(masks, upright=False)[:, :2]
    if len(odd := np.flatnonzero((headers[:, :2] != sizes).any(1))):
        raise UserError(
            "mask-size",
            f"{len(odd):,} masks are of another size than their pictures, the first {masks[odd[0]]}: bring both "
            "to one size",
        )
    values, void, names, told = _classes(source, masks, own)
    height, width, scale, how = _size(sizes, own.size)
    channels = 1 if headers[:, 2].all() else 3
    decode = DecodeMasked(height, width, scale, "L" if channels == 1 else "RGB", values, void)
    columns = {"file": np.array(paths, object), "mask": np.array(masks, object)}
    rows, memory = rows_from(columns, decode, height * width * (channels + 2), own.stream)
    about = f"{len(paths):,} pictures with a class for every pixel"
    digests = {source.name: digest_files([*paths, *masks])}
    info = own_info(source.name, "segmentation", digests, description=about, classes=names)
    lines = [
        Line("folder", str(source), f"pairs such as {pairs[0][0]} and {pairs[0][1]}"),
        *lines,
        Line("image", f"{len(paths):,} pictures", shown_sizes(headers)),
        Line("size", f"{height} x {width}", f"{how}; --size for another"),
        *told,
        memory,
    ]
    return Found(rows, info, tuple(lines), part=np.array(parts) if all(parts) else None)


def _size(sizes: np.ndarray, given: tuple[int, ...]) -> tuple[int, int, float | None, str]:
    """Height, width, scale and how, in words."""
    if given:
        height, width = (-(-side // 16) * 16 for side in given_size(given))
        return height, width, None, "scaled to lie within that"
    scale = min(1.0, LONGEST / sizes.max())
    height, width = (int(-(-round(side * scale) // 16) * 16) for side in sizes.max(0))
    how = "as they are" if scale == 1 else f"scaled to {scale:.3g} of their sides"
    full = scale == 1 and (sizes == (height, width)).all()
    return height, width, scale, how if full else f"{how}, amid pixels that do not count"


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
        names = collections.Counter(key[-1] for key in masks)
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


def _classes(root: Path, masks: Sequence[str], own: OwnMasks) -> tuple:
    """The masks' values by class, those that are void, the classes' names, and lines that show them."""
    some = [masks[place] for place in np.unique(np.linspace(0, len(masks) - 1, SEEN).astype(int))]
    counts: collections.Counter = collections.Counter()
    for _, found in for_each(_counts, some, "looking at the masks"):
        counts.update(found)
        if len(counts) > MOST + 1:
            raise UserError(
                "mask-classes",
                f"the masks of {root} hold more than {MOST} values: they number single objects, or a lossy file "
                "blurred them; give one value a class",
            )
    colours, palette = max(counts) > 0xFFFF or any(v > 255 for v in counts), _palette(root)
    word = {value: _word(value, colours) for value in counts}
    void = {value for value in counts if word[value] in own.void}
    if len(void) < len(own.void):
        raise UserError(
            "mask-value",
            f"--void {' '.join(own.void)}: the masks hold {', '.join(word[v] for v in sorted(counts))}",
        )
    plain = sorted(set(counts) - {255})
    numbered = not colours and len(counts) > 2 and plain[-1] < 4 * len(counts)
    if numbered and 255 in counts:
        void.add(255)  # as Pascal VOC and Cityscapes have it
    order = {name: place for place, name in enumerate(palette)} if colours else {}
    values = sorted(set(counts) - void, key=lambda v: (order.get(v, len(order)), v))
    if len(values) < 2:
        raise UserError(
            "target-one-class", f"the masks of {root} hold one value, {word[values[0]]}"
        )
    listed = list(own.classes) or _listed(root)
    if colours and palette and not own.classes:
        names = [palette.get(value, word[value]) for value in values]
    elif len(listed) == len(values):
        names = listed
    elif not colours and len(listed) > values[-1]:
        names = [listed[value] for value in values]
    elif own.classes:
        raise UserError(
            "classes-differ",
            f"--classes names {len(listed)}, and the masks hold {len(values)} values: "
            + ", ".join(word[value] for value in values),
        )
    else:
        names = [word[value] for value in values]
    total = sum(counts[value] for value in values)
    shown = (f"{n} ({word[v]}) {counts[v] / total:.1%}" for n, v in zip(names, values, strict=True))
    what = "colours" if colours else "two grey values" if len(values) == 2 else "numbers"
    lines = [Line("segments", f"{len(values)} classes, {what}", ", ".join(shown))]
    if len(some) < len(masks):
        lines.append(Line("looked at", f"{len(some)} masks", "for their values"))
    if void:
        share = sum(counts[value] for value in void) / sum(counts.values())
        said = ", ".join(word[value] for value in sorted(void))
        lines.append(Line("void", said, f"{share:.1%} of the pixels count for nothing (--void)"))
    return tuple(values), tuple(sorted(void)), tuple(names), lines


def _counts(path: str) -> dict[int, int]:
    numbers = read_numbers(path)
    if numbers.max() > 0xFFFF:
        values, counts = np.unique(numbers, return_counts=True)
    else:
        counts = np.bincount(numbers.ravel())
        values = np.flatnonzero(counts)
        counts = counts[values]
    return dict(zip(values.tolist(), counts.tolist(), strict=True))


def _word(value: int, colours: bool = False) -> str:
    return f"#{value:06x}" if colours or value > 0xFFFF else str(value)


def _palette(root: Path) -> dict[int, str]:
    """Classes by colour, of a csv file of name, r, g and b, as CamVid's class_dict.csv is."""
    for path in sorted(root.glob("*.csv")):
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = [[cell.strip() for cell in row] for row in csv.reader(file) if row]
        if rows and [cell.lower() for cell in rows[0][1:4]] == ["r", "g", "b"]:
            return {int(r) << 16 | int(g) << 8 | int(b): name for name, r, g, b, *_ in rows[1:]}
    return {}


def _listed(root: Path) -> list[str]:
    """The lines of a file that lists the classes."""
    for name in ("classes.txt", "class_names.txt", "labels.txt", "codes.txt"):
        if (root / name).is_file():
            return filled_lines(root / name)
    return []
