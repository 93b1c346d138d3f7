"""Images with boxes or masks."""

import re
import xml.etree.ElementTree as ElementTree

import numpy as np

from dl.core.errors import UserError
from dl.data.images import decode_images
from dl.data.sources import File, damaged, members
from dl.data.splits import Columns, DataSet, Info, Splits, hold_out, take

_CELLS = ("RBC", "WBC", "Platelets")


def parse_voc(data: bytes, classes: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Boxes ``[objects, 4]`` float32 and labels ``[objects]`` int32 of a Pascal VOC annotation.

    Boxes are (left, top, right, bottom) in pixels with the picture's corner at 0 and the right and
    bottom edges outside, so right - left is the width; VOC's own count from 1 and are inclusive.
    """
    if b"<!DOCTYPE" in data or b"<!ENTITY" in data:
        raise ValueError("a document type declaration has no place in an annotation")
    boxes, labels = [], []
    for item in ElementTree.fromstring(data).iter("object"):
        name = (item.findtext("name") or "").strip()
        if name not in classes:
            raise ValueError(f"unknown class {name!r}")
        edges = [
            float(item.findtext(f"bndbox/{edge}") or "")
            for edge in ("xmin", "ymin", "xmax", "ymax")
        ]
        left, top, right, bottom = edges
        if right > left and bottom > top:  # a few published boxes have no area
            boxes.append((max(left - 1, 0), max(top - 1, 0), right, bottom))
            labels.append(classes.index(name))
    return np.array(boxes, np.float32).reshape(-1, 4), np.array(labels, np.int32)


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
            small = Image.fromarray(np.squeeze(image)).resize((width, height), method)
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
    try:
        parsed = {stem: parse_voc(data, _CELLS) for stem, data in notes.items()}
        most = max(len(boxes) for boxes, _ in parsed.values())

        def part(stems: list[str]) -> Columns:
            images = decode_images([pictures[stem] for stem in stems], info.title)
            boxes, labels = zip(*(parsed[stem] for stem in stems), strict=True)
            numbers = [int(re.sub(r"\D", "", stem)) for stem in stems]
            padded = pad_boxes(list(boxes), list(labels), most)
            return {"image": images, **padded, "number": np.array(numbers, np.int32)}

        train, held, test = (part(lists[name]) for name in ("train", "val", "test"))
    except (KeyError, ValueError, TypeError, ElementTree.ParseError, OSError) as error:
        raise damaged(path, error) from None
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
        return decode_images([found[number] for number in range(30)], info.title, "L")

    mask = (stack("label")[..., 0] > 127).astype(np.uint8)
    columns = {"image": stack("image"), "segments": mask}
    count = 4 if validation is None else validation
    count = round(count * 24) if isinstance(count, float) else count
    if not 0 <= count < 24:
        raise UserError(f"cannot hold {count} of the 24 training sections out: choose 0 to 23")
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
