"""Images with boxes or masks."""

import math
import re
import warnings
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from dl.core.errors import UserError
from dl.data.readers.files import File, damaged, members
from dl.data.readers.pictures import decode_images
from dl.data.splits import Columns, DataSet, Info, Splits, hold_out, take

_CELLS = ("RBC", "WBC", "Platelets")


class Objects(NamedTuple):
    """The objects of one picture.

    Attributes:
      boxes: (left, top, right, bottom) in pixels, float32 ``[objects, 4]``, with the picture's corner
        at 0 and the right and bottom edges outside, so right - left is the width.
      labels: int32 ``[objects]``.
      difficult: whether the annotator marked them so, bool ``[objects]``.
      cut: number of boxes that reached over the picture's edge and were cut to it.
      outside: number of boxes left out, as no pixel of theirs is in the picture.
      reversed: number of boxes left out, as they end before they begin.
    """

    boxes: np.ndarray
    labels: np.ndarray
    difficult: np.ndarray
    cut: int = 0
    outside: int = 0
    reversed: int = 0


_EDGES = ("xmin", "ymin", "xmax", "ymax")


def read_voc(data: bytes, classes: tuple[str, ...], size: tuple[int, int] | None = None) -> Objects:
    """The objects of a Pascal VOC annotation.

    VOC's edges count pixels from 1 and belong to the box, so one with xmin = xmax is one pixel wide.
    They lie on the pixels as they are stored, not as EXIF would turn them.

    Args:
      data: the XML file.
      classes: their names; the label is the place among them.
      size: (width, height) of the picture; by default what the annotation says of it. Where neither
        is known, boxes are cut at the left and the top alone.

    Raises:
      ValueError: it is no annotation, speaks of a picture of another size, or has an unknown class or
        an edge that is no number.
    """
    root = _voc_root(data)
    said = [float(root.findtext(f"size/{side}") or 0) for side in ("width", "height")]
    if size is not None and min(said) > 0 and said != list(size):
        raise ValueError(
            f"it speaks of a picture of {said[0]:g} x {said[1]:g} pixels, where there are "
            f"{size[0]} x {size[1]}"
        )
    width, height = (side if side > 0 else math.inf for side in size or said)
    whole, labels, difficult = [], [], []
    number = {name: place for place, name in enumerate(classes)}
    for item in root.iter("object"):
        name = (item.findtext("name") or "").strip()
        if name not in number:
            raise ValueError(f"unknown class {name!r}")
        left, top, right, bottom = (_edge(item, edge) for edge in _EDGES)
        backwards = left > right or top > bottom
        whole.append((0, 0, 0, 0) if backwards else (left - 1, top - 1, right, bottom))
        labels.append(number[name])
        difficult.append((item.findtext("difficult") or "").strip() == "1")
    return objects(whole, labels, width, height, difficult)


def _voc_root(data: bytes) -> ElementTree.Element:
    if any(word in data.replace(b"\0", b"") for word in (b"<!DOCTYPE", b"<!ENTITY")):
        raise ValueError("a document type declaration has no place in an annotation")
    try:
        return ElementTree.fromstring(data)
    except (ElementTree.ParseError, LookupError, ValueError) as error:  # also of its encoding
        raise ValueError(f"not an XML file: {error}") from None


def voc_names(data: bytes) -> list[str]:
    """The classes of an annotation's objects; raises ValueError as :func:`read_voc` does."""
    return [(item.findtext("name") or "").strip() for item in _voc_root(data).iter("object")]


def objects(
    boxes: Sequence[Sequence[float]],
    labels: Sequence[int],
    width: float,
    height: float,
    difficult: Sequence[bool] = (),
) -> Objects:
    """The objects of a picture of that size, of boxes (left, top, right, bottom) that may reach beyond it."""
    kept, places = [], []
    cut = outside = backwards = 0
    for place, whole in enumerate(boxes):
        left, top, right, bottom = whole
        inside = max(left, 0), max(top, 0), min(right, width), min(bottom, height)
        if left >= right or top >= bottom:
            backwards += 1
        elif inside[0] >= inside[2] or inside[1] >= inside[3]:
            outside += 1
        else:
            cut += inside != tuple(whole)
            kept.append(inside)
            places.append(place)
    marks = np.array(difficult or [False] * len(boxes), bool)
    return Objects(
        np.array(kept, np.float32).reshape(-1, 4),
        np.array(labels, np.int32)[places],
        marks[places],
        cut,
        outside,
        backwards,
    )


def _edge(item: ElementTree.Element, edge: str) -> float:
    word = (item.findtext(f"bndbox/{edge}") or "").strip()
    try:
        value = float(word)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"a box has {edge} = {word!r}, which is no number")
    return value


def parse_voc(data: bytes, classes: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The boxes ``[objects, 4]`` and labels ``[objects]`` of :func:`read_voc`, with a warning where
    boxes are cut or left out."""
    objects = read_voc(data, classes)
    warn_of_odd([objects], "an annotation")
    return objects.boxes, objects.labels


def warn_of_odd(annotations: Sequence[Objects], what: str) -> None:
    """Warn once of what is unusual in a set's annotations, with its number."""
    if odd := odd_boxes(annotations):
        warnings.warn(f"boxes of {what} {'; '.join(odd)}", stacklevel=3)


def odd_boxes(annotations: Sequence[Objects]) -> list[str]:
    """What is unusual in a set's annotations, with its number."""
    counts = {
        "cut to the picture's edge": sum(found.cut for found in annotations),
        "left out, outside the picture": sum(found.outside for found in annotations),
        "left out, ending before they begin": sum(found.reversed for found in annotations),
        "marked difficult, taken as any other": sum(found.difficult.sum() for found in annotations),
    }
    return [f"{words}: {count}" for words, count in counts.items() if count]


def pad_boxes(
    boxes: list[np.ndarray], labels: list[np.ndarray], size: int | None = None
) -> Columns:
    """``boxes [n, size, 4]`` float32 padded with 0 and ``label [n, size]`` int32 padded with -1."""
    size = size or max(len(item) for item in boxes)
    padded = np.zeros((len(boxes), size, 4), np.float32)
    classes = np.full((len(boxes), size), -1, np.int32)
    for row, (box, label) in enumerate(zip(boxes, labels, strict=True)):
        padded[row, : len(box)], classes[row, : len(label)] = box, label
    return {"boxes": padded, "label": classes}


def resize(columns: Columns, height: int, width: int) -> Columns:
    """Images (area-averaged), masks (nearest) and boxes brought to ``height`` x ``width`` on the host."""
    from PIL import Image

    old_height, old_width = columns["image"].shape[1:3]

    def resized(images, method):
        shape = (len(images), height, width, *images.shape[3:])
        out = np.empty(shape, images.dtype)
        for row, image in enumerate(images):
            plane = image[..., 0] if image.ndim == 3 and image.shape[-1] == 1 else image
            small = Image.fromarray(plane).resize((width, height), method)
            out[row] = np.asarray(small).reshape(shape[1:])
        return out

    result = dict(columns, image=resized(columns["image"], Image.Resampling.BOX))
    if "segments" in columns:
        result["segments"] = resized(columns["segments"], Image.Resampling.NEAREST)
    if "boxes" in columns:
        scale = (width / old_width, height / old_height) * 2
        result["boxes"] = columns["boxes"] * np.array(scale, np.float32)
    return result


def _read_bccd(paths, info, validation, seed) -> Splits:
    (path,) = paths.values()
    pictures, notes, lists = {}, {}, {}
    for name, data in members(path, ".jpg", ".xml", ".txt"):
        stem = name.rsplit("/", 1)[-1].rsplit(".", 1)[0]
        if name.endswith(".jpg"):
            pictures[stem] = data
        elif name.endswith(".xml"):
            notes[stem] = data
        elif "ImageSets/Main/" in name:
            lists[stem] = data.decode().split()

    def part(stems: list[str]) -> tuple[list[Objects], Columns]:
        encoded = [pictures[stem] for stem in stems]
        names = [f"{stem}.jpg" for stem in stems]
        # Boxes lie on the pixels as stored.
        images = decode_images(encoded, str(path), names=names, upright=False)
        size = images.shape[2], images.shape[1]
        found = []
        for stem in stems:
            try:
                found.append(read_voc(notes[stem], _CELLS, size))
            except ValueError as error:
                raise UserError(
                    "file-damaged", f"{path}: {stem}.xml: {error}: mend it or take it away"
                ) from None
        numbers = [int(re.sub(r"\D", "", stem)) for stem in stems]
        return found, {"image": images, "number": np.array(numbers, np.int32)}

    try:
        parts = [part(lists[name]) for name in ("train", "val", "test")]
    except (KeyError, ValueError) as error:
        raise damaged(path, error) from None
    every = [objects for found, _ in parts for objects in found]
    warn_of_odd(every, info.title)
    most = max(len(objects.boxes) for objects in every)
    train, held, test = (
        columns | pad_boxes([o.boxes for o in found], [o.labels for o in found], most)
        for found, columns in parts
    )
    if validation is not None:  # the official parts together, then cut by seed
        both = {name: np.concatenate([train[name], held[name]]) for name in train}
        kept, out = hold_out(len(both["label"]), validation, seed)
        train, held = take(both, kept), take(both, out) if len(out) else {}
    return Splits(train, held, test, info)


def _read_isbi(paths, info, validation, seed) -> Splits:
    (path,) = paths.values()
    files = dict(members(path, ".png"))

    def stack(kind: str) -> np.ndarray:
        found = {
            int(match[1]): data
            for name, data in files.items()
            if (match := re.search(rf"(?:^|/){kind}/(\d+)\.png$", name))
            and (name.startswith(kind) or "membrane/train" in name)
        }
        if sorted(found) != list(range(30)):
            raise damaged(path, f"{len(found)} of 30 files {kind}/0.png ... {kind}/29.png")
        encoded = [found[number] for number in range(30)]
        names = [f"{kind}/{number}.png" for number in range(30)]
        # Labels are pictures in black and white here; they and the images lie as they are stored.
        return decode_images(encoded, str(path), "L", names=names, upright=False)

    mask = (stack("label")[..., 0] > 127).astype(np.uint8)
    columns = {"image": stack("image"), "segments": mask}
    count = 4 if validation is None else validation
    count = round(count * 24) if isinstance(count, float) else count
    if not 0 <= count < 24:
        raise UserError(
            "hold-out-impossible",
            f"cannot hold {count} of the 24 training sections out: choose 0 to 23",
        )
    held = take(columns, slice(24 - count, 24)) if count else {}
    return Splits(take(columns, slice(0, 24 - count)), held, take(columns, slice(24, 30)), info)


SETS = (
    DataSet(
        Info(
            "bccd",
            "BCCD blood cells",
            "Shenggan/BCCD_Dataset (cosmicad, akshaylamba)",
            "MIT",
            "detection",
            "640x480 RGB micrographs: image uint8 [n, 480, 640, 3], boxes [n, objects, 4] (left, top, "
            "right, bottom in pixels), label [n, objects] with -1 where there is no object; the "
            "official train, val and test lists",
            _CELLS,
        ),
        (
            File(
                "bccd.tar.gz",
                ("https://codeload.github.com/Shenggan/BCCD_Dataset/tar.gz/refs/heads/master",),
            ),
        ),
        _read_bccd,
    ),
    DataSet(
        Info(
            "isbi_membrane",
            "ISBI 2012 electron-microscopy membranes",
            "Cardona et al. 2010; copy in zhixuhao/unet",
            "research use",
            "segmentation",
            "30 serial sections of a fly's nerve cord: image uint8 [n, 512, 512, 1], segments [n, 512, "
            "512] of 1 inside cells and 0 on membranes. Sections 24-29 are test (the challenge's own "
            "labels are hidden) and 20-23 validation: neighbouring sections look alike, so parts are "
            "blocks of the stack and not drawn by seed",
            ("membrane", "inside"),
            {"fixed": True},
        ),
        (
            File(
                "membrane_train.tar.gz",
                ("https://codeload.github.com/zhixuhao/unet/tar.gz/refs/heads/master",),
            ),
        ),
        _read_isbi,
    ),
)
