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


def code_map(codes: np.ndarray, labels: np.ndarray) -> Any:
    """Codes ``[n, code]`` as points coloured by ``labels [n]``, a matplotlib figure; longer codes by
    their first two principal axes."""
    points = np.asarray(codes, np.float64)
    names = ["code 1", "code 2"]
    if points.shape[1] > 2:
        points = points - points.mean(0)
        spread, directions = np.linalg.eigh(np.cov(points, rowvar=False))
        points = points @ directions[:, :-3:-1]
        names = [
            f"axis {i + 1}: {s:.0%} of variance"
            for i, s in enumerate(spread[:-3:-1] / spread.sum())
        ]
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
