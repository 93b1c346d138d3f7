"""Clouds of points, seen from two sides."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dl.figures.canvas import new_figure, no_formula


def from_two_sides(points: np.ndarray, titles: Sequence[str]) -> Any:
    """Each of ``points [clouds, points, 3]`` from the front (first and third axis) and from above (first and
    second), one above the other; what is nearer is darker."""
    count = len(points)
    figure = new_figure(1.7 * count, 3.6)
    for place, (cloud, title) in enumerate(zip(points, titles, strict=True)):
        for row, (across, up, depth) in enumerate(((0, 2, 1), (0, 1, 2))):
            axes = figure.add_subplot(2, count, 1 + place + row * count)
            axes.scatter(cloud[:, across], cloud[:, up], c=cloud[:, depth], s=2, cmap="viridis")
            axes.set(xlim=(-1, 1), ylim=(-1, 1), xticks=[], yticks=[], aspect="equal")
            if row == 0:
                axes.set_title(no_formula(title), fontsize="x-small")
    return figure


def taken_for(
    columns: Mapping[str, np.ndarray], said: np.ndarray, classes: Sequence[str], most: int = 8
) -> Any:
    """:func:`from_two_sides` of the first clouds whose class is another than ``said [clouds]``, then of others.

    Args:
      columns: ``points [clouds, points, 3]`` and ``label [clouds]``; most: clouds that are drawn.
    """
    points, label = columns["points"], columns["label"]
    some = np.argsort(said == label, kind="stable")[:most]
    return from_two_sides(
        points[some], [f"{classes[said[n]]}, is {classes[label[n]]}" for n in some]
    )
