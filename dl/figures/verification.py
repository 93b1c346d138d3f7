"""How well pairs, or what is looked for and what is not, are told apart; and where vectors lie."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from dl.figures.canvas import new_figure, no_formula
from dl.figures.codes import principal_axes
from dl.scores.tabular import auc
from dl.scores.verification import Pairs, equal_error, error_at, error_rates


def trade_off(curves: Mapping[str, Pairs], title: str = "") -> Any:
    """False rejects against false accepts at every threshold, for each name a curve (detection error trade-off,
    Martin et al. 1997, on linear axes); the dot is where both are equally frequent."""
    figure = new_figure(4.4, 4.0)
    axes = figure.add_subplot()
    for name, pairs in curves.items():
        _, accepted, rejected = error_rates(pairs)
        equal, _ = equal_error(pairs)
        (line,) = axes.plot(accepted, rejected, label=no_formula(f"{name}: {equal:.3f}"))
        axes.plot([equal], [equal], "o", ms=5, color=line.get_color())
    axes.plot([0, 1], [0, 1], color="0.8", lw=1)
    axes.set(xlim=(0, 0.5), ylim=(0, 0.5), xlabel="false accepts", ylabel="false rejects")
    axes.set_title(no_formula(title))
    axes.legend(title="equal error", fontsize="small")
    return figure


def receiver(curves: Mapping[str, Pairs], chosen: Mapping[str, float], title: str = "") -> Any:
    """What is found against what is falsely alarmed at every threshold (ROC), and what is missed against the same
    on normal deviates (DET, Martin et al. 1997), a curve for each name; the dot is at the threshold ``chosen``.

    Args:
      curves: of each name the scores, and whether a row is what is looked for (the ``same`` of :class:`Pairs`).
    """
    from scipy.special import ndtri

    figure = new_figure(8.4, 4.0)
    left, right = figure.add_subplot(1, 2, 1), figure.add_subplot(1, 2, 2)
    for name, pairs in curves.items():
        _, alarms, missed = error_rates(pairs)
        area = auc(pairs.same, pairs.score)
        few = [0.5 / max((pairs.same == kind).sum(), 1) for kind in (False, True)]  # half a row
        (line,) = left.plot(alarms, 1 - missed, label=no_formula(f"{name}: {area:.3f}"))
        point = error_at(pairs, chosen[name])
        left.plot(point[0], 1 - point[1], "o", ms=5, color=line.get_color())
        ends = [(one, 1 - one) for one in few]
        x, y = (ndtri(np.clip(v, *e)) for v, e in zip((alarms, missed), ends, strict=True))
        right.plot(x, y, color=line.get_color())
        at = [ndtri(np.clip(v, *e)) for v, e in zip(point, ends, strict=True)]
        right.plot(*at, "o", ms=5, color=line.get_color())
    left.plot([0, 1], [0, 1], color="0.8", lw=1)
    left.set(xlabel="false alarms", ylabel="found")
    left.set_title(no_formula(title))
    left.legend(title="area", fontsize="small")
    marks = np.array([0.01, 0.05, 0.2, 0.5, 0.8])
    right.set_xticks(ndtri(marks), [f"{m:g}" for m in marks])
    right.set_yticks(ndtri(marks), [f"{m:g}" for m in marks])
    right.set(xlabel="false alarms", ylabel="missed", title="on normal deviates")
    return figure


def seen_from_above(vectors: np.ndarray, label: np.ndarray, images: np.ndarray) -> Any:
    """Vectors ``[rows, width]`` on their first two principal components, drawn as their small pictures ``[rows,
    height, width, channels]`` in 0..255, one colour of frame a label."""
    from matplotlib import colormaps
    from matplotlib.offsetbox import AnnotationBbox, OffsetImage

    place, _ = principal_axes(vectors)
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
