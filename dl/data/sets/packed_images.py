"""Labelled images that come as one npz file of arrays: faces, X-rays, land from above. Columns as of
:mod:`dl.data.sets.images`."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dl.core.errors import UserError
from dl.data.readers.files import File, check_unpacked, damaged
from dl.data.sets.images import jpeg_columns
from dl.data.splits import Columns, DataSet, Info, Splits, take


def arrays(path: Path, *names: str) -> Columns:
    """Arrays of an npz file by name.

    Raises:
      UserError: the file is damaged, lacks one of them, or would unfold to far more than its size.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            check_unpacked(path, sum(info.file_size for info in archive.zip.infolist()))
            return {name: archive[name] for name in names}
    except UserError:
        raise
    except Exception as error:  # NumPy raises all kinds over damaged headers
        raise damaged(path, error) from None


def _read_faces(paths, info, validation, seed) -> Splits:
    (path,) = paths.values()
    found = arrays(path, "images", "person", "shot")
    whole = {"image": found["images"][..., None], "label": found["person"].astype(np.int32)}
    shot = found["shot"]
    return _cut(whole, (shot < 4, shot == 4, shot > 4), info)


def _read_xrays(paths, info, validation, seed) -> Splits:
    (path,) = paths.values()

    def part(name: str) -> Columns:
        image, label = arrays(path, f"{name}_images", f"{name}_labels").values()
        return {"image": image[..., None], "label": label.astype(np.int32)}

    return Splits(part("train"), part("val"), part("test"), info)


def _read_land(paths, info, validation, seed) -> Splits:
    (path,) = paths.values()
    whole, number = jpeg_columns(path), arrays(path, "number")["number"]
    odd = number % 2 == 1
    order = np.cumsum(odd) % 10 == 0  # every tenth of the odd ones
    return _cut(whole, (odd & ~order, odd & order, ~odd), info)


def _cut(whole: Columns, where: Sequence[np.ndarray], info: Info) -> Splits:
    train, validation, test = (take(whole, np.flatnonzero(rows)) for rows in where)
    return Splits(train, validation, test, info)


SETS = (
    DataSet(
        Info(
            "orl_faces",
            "AT&T database of faces (ORL)",
            "Samaria & Harter 1994, AT&T Laboratories Cambridge; re-packed from public copies",
            "research use, credit AT&T Laboratories Cambridge",
            "classification",
            "112x92 grey pictures of 40 people, ten shots each; of each the last five are test, the one before "
            "them validation",
            tuple(f"s{person + 1}" for person in range(40)),
        ),
        (File("orl_faces.npz"),),
        _read_faces,
    ),
    DataSet(
        Info(
            "pneumoniamnist",
            "PneumoniaMNIST",
            "MedMNIST v2, Yang et al. 2023, after Kermany et al. 2018; re-packed from two copies",
            "CC BY 4.0",
            "classification",
            "28x28 grey X-rays of children's chests, official split; 8 pictures of validation are in train, too, "
            "and test has another share of normal ones than train and validation",
            ("normal", "pneumonia"),
        ),
        (File("pneumoniamnist.npz"),),
        _read_xrays,
    ),
    DataSet(
        Info(
            "rsscn7",
            "RSSCN7 at 64 x 64",
            "Zou et al. 2015, from Google Earth; scaled from 400 x 400",
            "none stated; research use",
            "classification",
            "2,800 colour pictures of land from above, 400 a class; odd numbers are train, but for every tenth, "
            "which is validation; even numbers are test",
            ("grass", "field", "industry", "river_lake", "forest", "resident", "parking"),
        ),
        (File("rsscn7_64.npz"),),
        _read_land,
    ),
)
