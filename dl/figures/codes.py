"""Pictures of what autoencoders and generators learn."""

from typing import Any

import numpy as np

from dl.figures.canvas import new_figure
from dl.figures.curves import grid


def strips(*rows: np.ndarray) -> np.ndarray:
    """Batches of as many pictures each ``[n, height, width, channels]`` in 0..1, one row under
    another, as one picture: a batch ``[1, height, width, 3]`` in 0..1."""
    pictures = np.concatenate([np.asarray(row, np.float32) for row in rows])
    return grid(pictures, columns=len(rows[0]))[None].astype(np.float32) / 255


def principal_axes(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Vectors ``x [n, width]`` on their first two principal axes ``[n, 2]``, and the share of the variance along
    each ``[2]``; 0 where there is no such axis."""
    x = np.asarray(x, np.float64)
    x = x - x.mean(0)
    _, size, axes = np.linalg.svd(x, full_matrices=False)
    places, shares = np.zeros((len(x), 2)), np.zeros(2)
    places[:, : len(axes)] = x @ axes[:2].T
    shares[: len(axes)] = np.square(size[:2]) / max(np.square(size).sum(), 1e-300)
    return places, shares


def code_map(codes: np.ndarray, labels: np.ndarray) -> Any:
    """Codes ``[n, code]`` as points coloured by ``labels [n]``, a matplotlib figure; other than two numbers by
    their first two principal axes."""
    points, names = np.asarray(codes, np.float64), ["code 1", "code 2"]
    if points.shape[1] != 2:
        points, shares = principal_axes(points)
        names = [f"axis {i + 1}: {s:.0%} of variance" for i, s in enumerate(shares)]
    figure = new_figure(6, 5.4)
    axes = figure.add_subplot()
    for label in np.unique(labels):
        chosen = points[labels == label]
        axes.scatter(
            chosen[:, 0], chosen[:, 1], s=3, alpha=0.6, color=f"C{label % 10}", label=label
        )
    axes.set(xlabel=names[0], ylabel=names[1])
    axes.legend(markerscale=4, fontsize="small", loc="upper right")
    return figure
