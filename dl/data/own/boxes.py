"""Pictures with boxes around objects: COCO's JSON, Pascal VOC's XML, or the text files of YOLO.

Columns: ``image`` uint8 ``[n, height, width, channels]``; ``boxes`` float32 ``[n, objects, 4]`` (left, top, right,
bottom in pixels of that size) and ``label`` int32 ``[n, objects]``, -1 where there is no object.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dl.core.errors import UserError, bounded, unknown
from dl.data.own.box_files import annotations_in
from dl.data.own.classes import counted
from dl.data.own.found import Found, Line, OwnFiles, own_info
from dl.data.own.paths import short_names
from dl.data.own.pixels import headers_of, no_columns, rows_from, shown_sizes
from dl.data.readers.files import digest_files
from dl.data.readers.pictures import read_pixels
from dl.data.sets.annotated import odd_boxes, pad_boxes, resize
from dl.data.sets.catalogue import load
from dl.data.splits import Splits

NAMED = ("bccd",)
OF_NAMED = ("image", "boxes", "label")
FOR_NAMED = ("height", "width")


@dataclasses.dataclass(frozen=True)
class OwnBoxes(OwnFiles):
    """Fields for the config of a script that takes pictures of the user's own with boxes."""

    classes: tuple[str, ...] = ()
    """classes of your files to find, in the order of their numbers; none takes all, by name"""
    height: int | None = None
    """of the pictures given to the network; None takes their own, or the median where they differ"""
    width: int | None = None
    """likewise"""
    stream: bool = False
    """read your pictures from disk as they are needed, even if all fit into memory"""


@dataclasses.dataclass(frozen=True)
class DecodeBoxed:
    """Read a row's picture, scaled to lie in the middle of ``height`` x ``width``, the rest ``fill``; its boxes
    are of that size already."""

    height: int
    width: int
    mode: str
    fill: int = 127

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        pixels = read_pixels(row["file"], mode=self.mode, upright=False)
        top, left, tall, wide = within(pixels.shape[:2], self.height, self.width)
        image = np.full((self.height, self.width, pixels.shape[-1]), self.fill, np.uint8)
        if pixels.shape[:2] != (tall, wide):
            pixels = resize({"image": pixels[None]}, tall, wide)["image"][0]
        image[top : top + tall, left : left + wide] = pixels
        return {"image": image, "boxes": row["boxes"], "label": row["label"]}


def within(size: Sequence[int], height: int, width: int) -> tuple[int, int, int, int]:
    """Top, left, height and width of a picture of that size (height, width) in the middle of a larger or smaller
    one, as large as it can be there."""
    scale = min(height / size[0], width / size[1])
    tall, wide = (max(1, round(side * scale)) for side in size)
    return (height - tall) // 2, (width - wide) // 2, tall, wide


def load_named(name: str, own: OwnBoxes) -> Splits:
    """A set that goes by a name, its pictures resized where the options say so."""
    splits = load(name).only("image", "boxes", "label")
    height, width = splits.train["image"].shape[1:3]
    asked = own.height or height, own.width or width
    return splits if asked == (height, width) else splits.map(lambda part: resize(part, *asked))


def read(source: Any, own: OwnBoxes) -> Found:
    """Pictures with boxes in a folder of COCO, VOC or YOLO, a COCO JSON file or YOLO's data.yaml."""
    no_columns(own, "boxes come in files of their own")
    for name in FOR_NAMED:
        bounded(f"--{name}", getattr(own, name), at_least=1, whole=True)
    if not isinstance(source, Path):
        raise UserError(
            "data-unknown", "boxes are read from a folder or a JSON file: give its path"
        )
    found = annotations_in(source)
    if not found.pictures:
        raise UserError("no-boxes", f"{source}: {found.what}, which name no picture")
    known = list(own.classes) or found.classes
    if len(set(own.classes)) < len(own.classes):
        said = f"--classes {' '.join(own.classes)}: name each class once"
        raise UserError("options-exclusive", said)
    for name in own.classes:
        if name not in found.classes:
            raise unknown(f"class of {source.name}", name, found.classes)
    paths = [str(picture.path) for picture in found.pictures]
    headers = headers_of(paths, upright=False)
    middle = np.median(headers[:, :2], 0)
    height, width = (int(g or m) for g, m in zip((own.height, own.width), middle, strict=True))
    every, boxes, labels = [], [], []
    place = {name: number for number, name in enumerate(known)}
    number = np.array([place.get(name, -1) for name in found.classes])
    for picture, (tall, wide, _) in zip(found.pictures, headers.tolist(), strict=True):
        objects = picture.objects((wide, tall), found.classes)
        every.append(objects)
        kept = number[objects.labels] >= 0
        top, left, inner_tall, inner_wide = within((tall, wide), height, width)
        scale = np.array((inner_wide / wide, inner_tall / tall) * 2, np.float32)
        boxes.append(objects.boxes[kept] * scale + np.array((left, top) * 2, np.float32))
        labels.append(number[objects.labels][kept].astype(np.int32))
    whole = np.concatenate(labels)
    if not len(whole):
        raise UserError("no-boxes", f"{source} has {len(paths):,} pictures and not one box")
    channels = 1 if headers[:, 2].all() else 3
    columns = pad_boxes(boxes, labels, max(map(len, labels)))
    decode = DecodeBoxed(height, width, "L" if channels == 1 else "RGB")
    files = {"file": np.array(paths, object), **columns}
    rows, memory = rows_from(files, decode, height * width * channels, own.stream)
    sides = np.concatenate([b[:, 2:] - b[:, :2] for b in boxes])
    empty = sum(not len(label) for label in labels)
    same = all(within(size, height, width)[2:] == (height, width) for size in headers[:, :2])
    how = "as they are" if (headers[:, :2] == (height, width)).all() else "scaled"
    most = f"{columns['label'].shape[1]} at most in one picture, {empty:,} pictures without any"
    lines = (
        Line("folder", str(source), found.what),
        *found.lines,
        Line("image", f"{len(paths):,} pictures", shown_sizes(headers)),
        Line(
            "size",
            f"{height} high, {width} wide",
            how if same else "scaled to lie within that, amid grey",
        ),
        Line("boxes", f"{len(whole):,}", most),
        Line(
            "sides",
            "of a box",
            f"{shown_sizes(np.rint(sides[:, ::-1]).astype(int))} pixels, at that size",
        ),
        Line("label", f"{len(known)} classes", counted(known, whole)),
        *([Line("odd", "boxes", "; ".join(odd))] if (odd := odd_boxes(every)) else ()),
        memory,
    )
    dropped = sum(len(o.labels) for o in every) - len(whole)
    if dropped:
        others = ", ".join(sorted(set(found.classes) - set(known)))
        lines = (*lines, Line("left out", f"{dropped:,} boxes", f"of other classes: {others}"))
    about = f"{len(paths):,} pictures with boxes, {found.what}"
    digests = {source.name: digest_files([*paths, *found.files])}
    info = own_info(source.name, "detection", digests, description=about, classes=tuple(known))
    parts = [picture.part for picture in found.pictures]
    part = None if None in parts else np.array(parts)
    return Found(rows, info, lines, part, names=short_names(paths))
