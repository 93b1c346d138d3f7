"""What people look at: forecasts, drawn boxes, coloured segments, reliability, as matplotlib figures
and batches of pictures in 0..1."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from dl.figures.canvas import new_figure, no_formula
from dl.scores.tabular import reliability as curve

# Distinct for most colour-blind readers (Okabe & Ito 2008).
COLOURS = np.array(
    [(0, 114, 178), (230, 159, 0), (0, 158, 115), (204, 121, 167), (213, 94, 0), (86, 180, 233)]
)


def _panels(count: int, columns: int, size: tuple[float, float]):
    columns = min(columns, count)
    rows = -(-count // columns)
    figure = new_figure(size[0] * columns, size[1] * rows)
    return figure, [figure.add_subplot(rows, columns, place + 1) for place in range(count)]


def forecasts(
    past: np.ndarray,
    future: np.ndarray,
    forecast: np.ndarray,
    baseline: np.ndarray | None = None,
    *,
    titles: Sequence[str] = (),
    shown: int = 168,
    interval: str = "between the outer quantiles",
) -> Any:
    """Past, future and forecast of a few series, one panel each.

    Args:
      past: ``[series, time]``; future: ``[series, horizon]``.
      forecast: ``[series, horizon]``, or ``[series, horizon, quantiles]``: then the middle one is the
        line, and the band reaches from the first to the last.
      baseline: ``[series, horizon]`` of another forecast; shown: steps of the past to draw.
    """
    figure, panels = _panels(len(past), 2, (5.6, 2.6))
    now = np.arange(future.shape[1])
    for row, axes in enumerate(panels):
        before = past[row, -shown:]
        axes.plot(np.arange(-len(before), 0), before, color="0.6", lw=1)
        axes.plot(now, future[row], color="black", lw=1, label="truth")
        middle = forecast[row]
        if forecast.ndim == 3:
            axes.fill_between(now, middle[:, 0], middle[:, -1], alpha=0.25, label=interval)
            middle = middle[:, middle.shape[1] // 2]
        axes.plot(now, middle, lw=1.3, label="forecast")
        if baseline is not None:
            axes.plot(now, baseline[row], ":", lw=1, label="seasonal naive")
        axes.set_title(no_formula(titles[row]) if titles else f"series {row}", fontsize="small")
    panels[0].legend(fontsize="x-small")
    return figure


def forecast_examples(
    past: np.ndarray, future: np.ndarray, forecast: np.ndarray, baseline: np.ndarray, count: int = 4
) -> Any:
    """:func:`forecasts` of ``count`` evenly spread rows; of several variables, on the third axis, the last one."""
    rows = np.linspace(0, len(past) - 1, count).astype(int)
    drawn = [values[rows] for values in (past, future, forecast, baseline)]
    return forecasts(*[values[:, :, -1] for values in drawn] if past.ndim == 3 else drawn)


def lines(panels: dict[str, dict[str, np.ndarray]], columns: int = 3) -> Any:
    """Curves by name in panels by title, the first of each panel black (the truth, say)."""
    figure, places = _panels(len(panels), columns, (3.7, 2.5))
    for axes, (title, curves) in zip(places, panels.items(), strict=True):
        for number, (name, values) in enumerate(curves.items()):
            axes.plot(values, lw=1, color=None if number else "black", label=no_formula(name))
        axes.set_title(no_formula(title), fontsize="small")
    places[-1].legend(fontsize="x-small")
    return figure


def lines_by(groups: np.ndarray, curves: dict[str, np.ndarray], title: str, most: int = 6) -> Any:
    """:func:`lines` of the rows of each of the first ``most`` of ``groups [n]``, ``title`` before its name."""
    first = {f"{title} {group}": groups == group for group in np.unique(groups)[:most]}
    return lines({t: {name: c[own] for name, c in curves.items()} for t, own in first.items()})


def attention_maps(
    weights: np.ndarray, queries: Sequence[str], keys: Sequence[str], titles: Sequence[str] = ()
) -> Any:
    """What each query attends to, one panel a head: ``weights [heads, queries, keys]`` in 0..1, the
    tokens of either side beside their rows and columns."""
    size = 1.2 + 0.17 * len(keys), 1.0 + 0.17 * len(queries)
    figure, panels = _panels(len(weights), 2, size)
    keys, queries = list(map(no_formula, keys)), list(map(no_formula, queries))
    for head, axes in enumerate(panels):
        axes.imshow(weights[head], cmap="Greys", vmin=0.0, vmax=1.0)
        axes.set_xticks(range(len(keys)), keys, rotation=90, fontsize=6)
        axes.set_yticks(range(len(queries)), queries, fontsize=6)
        axes.set_title(no_formula(titles[head]) if titles else f"head {head}", fontsize="small")
    return figure


def detected(
    images: np.ndarray,
    found: tuple[np.ndarray, np.ndarray, np.ndarray],
    boxes: np.ndarray,
    label: np.ndarray,
    classes: Sequence[str],
    *,
    threshold: float = 0.3,
) -> Any:
    """Found boxes with their scores (left) beside the true ones (right), one row a picture.

    Args:
      images: ``[n, height, width, 3]`` in 0..255; found: boxes ``[n, k, 4]``, scores and labels ``[n,
        k]``; boxes: the true ones ``[n, objects, 4]`` with label ``[n, objects]``, -1 for none.
      threshold: score from which a found box is drawn.
    """
    from matplotlib.patches import Rectangle

    figure, panels = _panels(2 * len(images), 2, (5.2, 3.9))
    for row, image in enumerate(images):
        kept = (found[2][row] >= 0) & (found[1][row] >= threshold)
        sides = (
            ("found", found[0][row][kept], found[2][row][kept], found[1][row][kept]),
            ("truth", boxes[row][label[row] >= 0], label[row][label[row] >= 0], None),
        )
        for axes, (title, corners, kinds, scores) in zip(panels[2 * row :], sides, strict=False):
            axes.imshow(np.asarray(image).astype(np.uint8))
            axes.set_axis_off()
            axes.set_title(title, fontsize="small")
            for place, (corner, kind) in enumerate(zip(corners, kinds, strict=True)):
                colour = COLOURS[int(kind) % len(COLOURS)] / 255
                left, top, right, bottom = corner
                axes.add_patch(
                    Rectangle(
                        (left, top), right - left, bottom - top, fill=False, ec=colour, lw=1.2
                    )
                )
                text = classes[int(kind)] + ("" if scores is None else f" {scores[place]:.2f}")
                axes.text(left, top - 1, no_formula(text), color=colour, fontsize=6, va="bottom")
    return figure


def overlay(images: np.ndarray, guess: np.ndarray, truth: np.ndarray, shown: int = 1) -> np.ndarray:
    """Pictures with one class ``shown`` as guessed and as it is: green where both agree on it, red where
    only guessed, blue where missed.

    ``[n, height, width, channels]`` in 0..255 and class maps ``[n, height, width]`` to ``[n, height,
    width, 3]`` in 0..1.
    """
    pixels = np.asarray(images, np.float32) / 255
    pixels = np.repeat(pixels, 3, -1) if pixels.shape[-1] == 1 else pixels.copy()
    said, true = np.asarray(guess) == shown, np.asarray(truth) == shown
    for where, colour in ((said & true, 2), (said & ~true, 4), (~said & true, 0)):
        pixels[where] = 0.45 * pixels[where] + 0.55 * COLOURS[colour] / 255
    return pixels


def painted(images: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Pictures ``[n, height, width, channels]`` in 0..255 under a colour for each class of ``label [n, height,
    width]``, none where it is -1: ``[n, height, width, 3]`` in 0..1."""
    from matplotlib import colormaps

    grey = np.asarray(images, np.float32).mean(-1, keepdims=True) / 255
    label = np.asarray(label)
    colours = np.array(colormaps["tab20"].colors)[label % 20]  # type: ignore[attr-defined]
    share = np.where(label >= 0, 0.6, 0.0)[..., None]
    return ((1 - share) * grey + share * colours).astype(np.float32)


def segmented(
    images: np.ndarray, guess: np.ndarray, truth: np.ndarray, shown: int | None = None
) -> np.ndarray:
    """Pictures, and after them what is found in them: of one class ``shown`` what is found (green), missed (blue)
    and made up (red), by :func:`overlay`; without it all classes as they are, and then as they are found.

    ``[n, height, width, channels]`` in 0..255 and class maps ``[n, height, width]`` to ``[2n or 3n, height, width,
    3]`` in 0..1.
    """
    plain = np.broadcast_to(images / 255.0, (*images.shape[:-1], 3))
    if shown is not None:
        return np.concatenate([plain, overlay(images, guess, truth, shown)])
    return np.concatenate([plain, painted(images, truth), painted(images, guess)])


def heat(images: np.ndarray, chance: np.ndarray) -> np.ndarray:
    """Pictures ``[n, height, width, channels]`` in 0..255 that glow where ``chance [n, height, width]`` in 0..1 is
    high: ``[n, height, width, 3]`` in 0..1."""
    from matplotlib import colormaps

    grey = np.asarray(images, np.float32).mean(-1, keepdims=True) / 255
    share = 0.7 * np.clip(np.asarray(chance, np.float32), 0, 1)[..., None]
    colours = colormaps["inferno"](0.35 + 0.6 * share[..., 0])[..., :3]
    return ((1 - share) * grey + share * colours).astype(np.float32)


def calibration(said: dict[str, np.ndarray], outcome: np.ndarray, title: str = "") -> Any:
    """:func:`reliability` of probabilities ``[rows]`` by name, for an outcome that is 1 or 0."""
    return reliability({name: curve(p, outcome) for name, p in said.items()}, title)


def reliability(
    curves: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]], title: str = ""
) -> Any:
    """A reliability diagram: share that came true against the probability said, for each name the
    three arrays of :func:`dl.scores.tabular.reliability`."""
    figure, (axes,) = _panels(1, 1, (4.2, 4.0))
    axes.plot([0, 1], [0, 1], color="0.7", lw=1)
    for name, (said, came, count) in curves.items():
        used = count > 0
        axes.plot(said[used], came[used], marker="o", ms=4, label=no_formula(name))
    axes.set_xlabel("probability said")
    axes.set_ylabel("share that came true")
    axes.set_title(no_formula(title))
    axes.legend(fontsize="small")
    return figure
