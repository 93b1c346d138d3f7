"""Clouds of points, and surfaces that points are drawn from, in files: text, off, ply, npy and KITTI's bin."""

import io
import os
from pathlib import Path

import numpy as np

from dl.core.errors import UserError
from dl.data.readers.files import damaged

CLOUDS = (".xyz", ".pts", ".off", ".ply", ".npy", ".bin", ".txt")
_MOST = 1 << 30  # bytes of a file
_TYPES = {
    **{"char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4"},
    **{"float": "f4", "double": "f8", "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2"},
    **{"int32": "i4", "uint32": "u4", "float32": "f4", "float64": "f8"},
}


def read_cloud(path: str | os.PathLike, drawn: int = 2048) -> np.ndarray:
    """The points of a file, float32 ``[points, 3]``: its first three columns. Of an off file's faces ``drawn``
    points are drawn evenly, always the same ones.

    Raises:
      UserError: the file is none of these, is damaged, is empty, or has more than 2^30 bytes.
    """
    path = Path(path)
    try:
        if path.stat().st_size > _MOST:
            raise UserError(
                "cloud-too-large", f"{path} has more than 2^30 bytes: cut it into smaller files"
            )
        kind = path.suffix.lower()
        if kind == ".npy":
            found = np.load(path, allow_pickle=False)
        elif kind == ".bin":
            found = np.fromfile(path, "<f4").reshape(-1, 4)
        elif kind == ".off":
            found = _of_faces(*_off(path.read_text("utf-8", "replace")), drawn)
        elif kind == ".ply":
            found = _ply(path.read_bytes())
        else:
            text = path.read_text("utf-8", "replace").replace(",", " ").replace(";", " ")
            if not text.strip():
                raise ValueError("it is empty")
            found = np.loadtxt(io.StringIO(text), np.float64, ndmin=2)
        found = np.asarray(found, np.float32)
        if found.ndim != 2 or found.shape[1] < 3 or not len(found):
            raise ValueError(f"{found.shape} is no table of points of three numbers")
        if not np.isfinite(found[:, :3]).all():
            raise ValueError("a coordinate is no finite number")
    except UserError:
        raise
    except Exception as error:  # NumPy raises all kinds over damaged files
        raise damaged(path, error) from None
    return found[:, :3]


def _off(text: str) -> tuple[np.ndarray, np.ndarray]:
    """Corners ``[n, 3]`` and triangles ``[faces, 3]`` of them; a face of more corners is a fan."""
    words = iter(text.removeprefix("OFF").split())  # some have the counts behind the word
    corners, faces, _ = (int(next(words)) for _ in range(3))
    points = np.array([float(next(words)) for _ in range(3 * corners)]).reshape(-1, 3)
    triangles = []
    for _ in range(faces):
        own = [int(next(words)) for _ in range(int(next(words)))]
        triangles += [(own[0], own[n], own[n + 1]) for n in range(1, len(own) - 1)]
    return points, np.array(triangles, int).reshape(-1, 3)


def _of_faces(corners: np.ndarray, triangles: np.ndarray, drawn: int) -> np.ndarray:
    """Points evenly on the triangles; the corners where there is no triangle with an area."""
    a, b, c = (corners[triangles[:, n]] for n in range(3))
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1)
    if not area.sum() > 0:
        return corners
    draw = np.random.default_rng(0)
    face = draw.choice(len(area), drawn, p=area / area.sum())
    u, v = draw.random((2, drawn, 1))
    u, v = np.where(u + v > 1, (1 - u, 1 - v), (u, v))
    return a[face] + u * (b - a)[face] + v * (c - a)[face]


def _ply(data: bytes) -> np.ndarray:
    """The vertices of a ply file, text or binary."""
    head, _, body = data.partition(b"end_header")
    body = body.partition(b"\n")[2]
    lines = [line.split() for line in head.decode("ascii", "replace").splitlines()]
    form = next(line[1] for line in lines if line[:1] == ["format"])
    place = next(n for n, line in enumerate(lines) if line[:1] == ["element"])
    if lines[place][1] != "vertex":
        raise ValueError("its first element is no vertex")
    count = int(lines[place][2])
    columns: list[tuple[str, str]] = []
    for line in lines[place + 1 :]:
        if line[:1] != ["property"]:
            break
        columns.append((line[2], line[1]))
    wanted = [[name for name, _ in columns].index(axis) for axis in "xyz"]
    if form == "ascii":
        text = "\n".join(body.decode("ascii", "replace").splitlines()[:count])
        return np.loadtxt(io.StringIO(text), ndmin=2)[:, wanted]
    order = "<" if form == "binary_little_endian" else ">"
    kinds = np.dtype([(name, order + _TYPES[kind]) for name, kind in columns])
    rows = np.frombuffer(body, kinds, count)
    return np.stack([rows[axis].astype(np.float64) for axis in "xyz"], 1)


def fitted(points: np.ndarray, count: int, seed: int = 0) -> np.ndarray:
    """``count`` of the points ``[points, 3]``, drawn by seed, each again where there are too few; their middle at
    0, the farthest at distance 1: float32 ``[count, 3]``."""
    order = np.random.default_rng(seed).permutation(len(points))
    chosen = points[np.resize(order, count)].astype(np.float64)
    chosen = chosen - (points.max(0) + points.min(0)) / 2
    return (chosen / max(np.linalg.norm(chosen, axis=1).max(), 1e-12)).astype(np.float32)
