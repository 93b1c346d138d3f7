"""What filters look for in sequences of bases, as sequence logos."""

from typing import Any

import numpy as np

from dl.figures.canvas import new_figure
from dl.models.genomics import BASES

_COLOURS = ("#109648", "#255c99", "#f7b32b", "#d62839")


def motifs(kernel: np.ndarray, bases: np.ndarray, least: float = 0.5) -> list[np.ndarray]:
    """What each filter fires for: the frequencies ``[window, 4]`` of the bases at the places where it reaches
    ``least`` of its largest value (as in Kelley, Snoek & Rinn 2016, "Basset"), the clearest motif first.

    Filters that fire for fewer than ten places, or are wider than the sequences, are left out; a base that is
    unknown counts as a quarter of each.

    Args:
      kernel: ``[window, 4, filters]``, of the first layer; bases: codes ``[rows, time]``.
    """
    if bases.shape[1] < kernel.shape[0]:
        return []
    hot = np.concatenate([np.eye(4), np.full((1, 4), 0.25)])[bases].astype(np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(hot, kernel.shape[0], 1)  # [.., 4, window]
    fired = np.tensordot(windows, kernel.transpose(1, 0, 2), ((2, 3), (0, 1)))
    found = []
    for one in np.moveaxis(fired, -1, 0):
        there = windows[one >= least * one.max()] if one.max() > 0 else windows[:0, 0]
        if len(there) >= 10:
            found.append(there.mean(0).T)
    return sorted(found, key=lambda frequency: -information(frequency).sum())


def information(frequency: np.ndarray) -> np.ndarray:
    """Bits that each place ``[window]`` tells of the base (Schneider & Stephens 1990)."""
    return 2 + (frequency * np.log2(np.maximum(frequency, 1e-9))).sum(-1)


def sequence_logos(found: list[np.ndarray], most: int = 8) -> Any:
    """The first motifs as a figure: at each place the letters, as high as their share of its bits."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.patches import PathPatch
    from matplotlib.textpath import TextPath
    from matplotlib.transforms import Affine2D

    found = found[:most]
    rows = -(-len(found) // 2) or 1
    figure = new_figure(8, 1.3 * rows)
    for place, frequency in enumerate(found):
        axes = figure.add_subplot(rows, 2, place + 1)
        for position, (shares, bits) in enumerate(
            zip(frequency, information(frequency), strict=True)
        ):
            bottom = 0.0
            for base in np.argsort(shares):
                height = shares[base] * bits
                letter = TextPath((0, 0), BASES[base], 1, prop=FontProperties(weight="bold"))
                box = letter.get_extents()
                if height > 0.01:
                    shape = (
                        Affine2D()
                        .translate(-box.x0, -box.y0)
                        .scale(0.9 / box.width, height / box.height)
                    )
                    shape = shape.translate(position + 0.05, bottom)
                    axes.add_patch(
                        PathPatch(shape.transform_path(letter), color=_COLOURS[base], lw=0)
                    )
                    bottom += height
        axes.set(xlim=(0, len(frequency)), ylim=(0, 2), xticks=[], yticks=[0, 2], ylabel="bits")
    return figure
