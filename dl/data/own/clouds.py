"""Clouds of points with a class each: ``points`` float32 ``[n, points, 3]``, at most 1 from 0, and ``label``."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from dl.core.errors import UserError, bounded
from dl.data.own.classes import class_lines, coded
from dl.data.own.found import Found, Line, OwnFiles, own_info, span
from dl.data.own.paths import by_first_folder, files_digest, files_under, short_names
from dl.data.own.pixels import no_columns
from dl.data.readers.clouds import CLOUDS, fitted, read_cloud
from dl.data.sets.catalogue import load
from dl.data.sets.shapes import surface_points
from dl.data.splits import Splits

NAMED = ("modelnet10",)
OF_NAMED = ("voxels", "label")
FOR_NAMED = ("points",)


@dataclasses.dataclass(frozen=True)
class OwnClouds(OwnFiles):
    """Fields for the config of a script that takes clouds of points with a class each."""

    points: int = 512
    """points of each cloud, drawn by seed"""


def load_named(name: str, own: OwnClouds) -> Splits:
    """A set that goes by a name, with as many points a shape as asked for."""
    bounded("--points", own.points, at_least=8, whole=True)
    splits = load(name)

    def drawn(part: Any) -> Any:
        each = [
            fitted(surface_points(voxels), own.points, seed)
            for seed, voxels in enumerate(part["voxels"])
        ]
        return {"points": np.stack(each), "label": part["label"]}

    return splits.map(drawn)


def read(source: Any, own: OwnClouds) -> Found:
    """A folder with a folder a class, also below train, val and test, of files that
    :func:`dl.data.readers.clouds.read_cloud` reads.

    Raises:
      UserError: there are no such folders, or a file is damaged.
    """
    bounded("--points", own.points, at_least=8, whole=True)
    if not isinstance(source, Path) or not source.is_dir():
        raise UserError(
            "no-clouds", f"give a folder that holds a folder a class of {', '.join(CLOUDS)}"
        )
    no_columns(own, "clouds are told by their folders")
    paths = files_under(source, CLOUDS)
    part, below = by_first_folder(paths)
    inside = [row for row, names in enumerate(below) if names]
    if not inside:
        raise UserError(
            "no-clouds",
            f"{source} has no folder for each class with files of {', '.join(CLOUDS)} in it",
        )
    files = [source / paths[row] for row in inside]
    classes, label = coded([below[row][0] for row in inside])
    clouds = [read_cloud(file) for file in files]
    points = np.stack([fitted(cloud, own.points, row) for row, cloud in enumerate(clouds)])
    lines = [
        Line("folder", str(source), "a folder a class"),
        Line(
            "points",
            f"{own.points} a cloud",
            f"of {span([len(cloud) for cloud in clouds])}; --points for more",
        ),
        *class_lines(classes, label, "clouds", least=1.01),
    ]
    if left := len(paths) - len(inside):
        lines.insert(1, Line("left out", f"{left:,} files", "in no class's folder"))
    info = own_info(
        source.name, "classification", files_digest(source.name, (), files), classes=classes
    )
    rows = {"points": points, "label": label}
    part = None if part is None else part[inside]
    return Found(rows, info, tuple(lines), part, strata=label, names=short_names(files))
