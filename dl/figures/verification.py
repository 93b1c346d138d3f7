"""How well pairs are told apart, and where vectors lie."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from dl.figures.canvas import new_figure
from dl.scores.verification import Pairs, equal_error, error_rates


def trade_off(curves: Mapping[str, Pairs], title: str = "") -> Any:
    """False rejects against false accepts at every threshold, for each name a curve (detection error trade-off,
    Martin et al. 1997, on linear axes); the dot is where both are equally frequent."""
    figure = new_figure(4.4, 4.0)
    axes = figure.add_subplot()
    for name, pairs in curves.items():
        _, accepted, rejected = error_rates(pairs)
        equal, _ = equal_error(pairs)
        (line,) = axes.plot(accepted, rejected, label=f"{name}: {equal:.3f}")
        axes.plot([equal], [equal], "o", ms=5, color=line.get_color())
    axes.plot([0, 1], [0, 1], color="0.8", lw=1)
    axes.set(
        xlim=(0, 0.5), ylim=(0, 0.5), xlabel="false accepts", ylabel="false rejects", title=title
    )
    axes.legend(title="equal error", fontsize="small")
    return figure


def seen_from_above(vectors: np.ndarray, label: np.ndarray, images: np.ndarray) -> Any:
    """Vectors ``[rows, width]`` on their first two principal components, drawn as their small pictures ``[rows,
    height, width, channels]`` in 0..255, one colour of frame a label."""
    from matplotlib import colormaps
    from matplotlib.offsetbox import AnnotationBbox, OffsetImage

    x = vectors - vectors.mean(0)
    place = x @ np.linalg.svd(x, full_matrices=False)[2][:2].T
    figure = new_figure(7.0, 6.0)
    axes = figure.add_subplot()
    axes.plot(*place.T, ".", alpha=0)  # sets the limits
    colours = colormaps["tab20"].colors  # type: ignore[attr-defined]
    step = max(1, images.shape[1] // 28)
    for row, (at, image) in enumerate(zip(place, images, strict=True)):
        small = np.repeat(image[::step, ::step], 3 if image.shape[-1] == 1 else 1, -1)
        frame = {"edgecolor": colours[int(label[row]) % 20], "lw": 2}
        axes.add_artist(
            AnnotationBbox(OffsetImage(small, zoom=0.8, cmap="gray"), at, pad=0.05, bboxprops=frame)
        )
    axes.set(xticks=[], yticks=[], title="first two principal components")
    return figure
