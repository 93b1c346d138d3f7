"""Shapes in three dimensions, as packed voxels: ``voxels`` uint8 ``[n, 4096]``, eight of 32 x 32 x 32 a byte."""

import numpy as np

from dl.data.readers.files import File
from dl.data.sets.packed_images import arrays
from dl.data.splits import DataSet, Info, Splits, hold_out, take

SIDE = 32


def surface_points(voxels: np.ndarray) -> np.ndarray:
    """Where filled cells with an empty neighbour lie, int ``[points, 3]``, of one shape's ``voxels [4096]``; the
    middle of an empty shape."""
    filled = np.unpackbits(voxels).reshape(SIDE, SIDE, SIDE) > 0
    around = np.pad(filled, 1)
    hidden = np.ones_like(filled)
    for axis in range(3):
        for step in (1, -1):
            hidden &= np.roll(around, step, axis)[1:-1, 1:-1, 1:-1]
    found = np.argwhere(filled & ~hidden)
    return found if len(found) else np.full((1, 3), SIDE // 2)


def _read_modelnet(paths, info, validation, seed) -> Splits:
    (path,) = paths.values()

    def part(name: str):
        voxels, label = arrays(path, f"{name}_voxels", f"{name}_label").values()
        return {"voxels": voxels, "label": label.astype(np.int32)}

    train = part("train")
    count = 0.1 if validation is None else validation
    kept, held = hold_out(len(train["label"]), count, seed, train["label"])
    return Splits(take(train, kept), take(train, held), part("test"), info)


SETS = (
    DataSet(
        Info(
            "modelnet10",
            "ModelNet10 from voxels of 32 x 32 x 32",
            "Wu et al. 2015; voxels by Ektagavas/3d-object-cls",
            "research use",
            "classification",
            "furniture as points on the surface of voxels, official split, a tenth of train held out by seed; 27 "
            "shapes of train and 7 of test are empty, and 69 of test are in train, too",
            (
                *("bathtub", "bed", "chair", "desk", "dresser", "monitor", "night_stand", "sofa"),
                *("table", "toilet"),
            ),
        ),
        (File("modelnet10.npz"),),
        _read_modelnet,
    ),
)
