"""Rows on the page: a classifier's by class, by confidence, by feature, and some of them shown; of what predicts
numbers those that it is farthest off at, and by feature."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dl.figures.canvas import new_figure, no_formula
from dl.figures.curves import PALETTE, grid
from dl.report.inspection import Inspection
from dl.report.judged import Example, Far, Judged, Names, Off
from dl.report.page import Html, amount, captioned, escape, gallery, note, picture, svg, table

SIDE = 128  # pixels of a shown picture, at the least
FEATURES = 20  # whose importance is drawn
WORDS = 60  # of a text
VARIABLES = 4  # of a series
Cells = Mapping[int, Mapping[str, str]]  # of the rows of one set, by heading


def judged(found: Inspection) -> str:
    """The sets' rows, as HTML, and the metrics by what a column holds."""
    parts = [
        (name, _set(one, found.classes, found.names, found.cells.get(name, {})))
        for name, one in found.judged.items()
    ]
    parts += [
        (name, _far(off, found.names, found.cells.get(name, {}))) for name, off in found.far.items()
    ]
    return "".join(f"<h3>{escape(name)}</h3>{shown}" for name, shown in parts) + "".join(
        _slices(column, values) for column, values in found.slices.items()
    )


def _far(off: Off, names: Names, cells: Cells) -> str:
    drawn = _shuffled(
        off.importance, "the mean absolute error", "growth of the mean absolute error"
    )
    told = "Rows whose numbers are farthest from the true ones, in the units of what the network predicts."
    return gallery(drawn) + note(told) + gallery(_off(far, names, cells) for far in off.rows)


def _off(far: Far, names: Names, cells: Cells) -> str:
    shown = "".join(_columns(far, names, cells))
    if far.truth.size == 1:
        told = f"row {far.row:,}: {far.truth.item():.4g}, said {far.said.item():.4g}"
    else:
        figure = new_figure(2.4, 1.2)
        axes = figure.subplots()
        for values, color in ((far.truth, "#808080"), (far.said, PALETTE[0])):
            axes.plot(values.reshape(len(values), -1)[:, :VARIABLES], lw=0.7, color=color)
        shown += svg(figure, f"row {far.row}: the truth in grey, and what was said")
        told = f"row {far.row:,}: off by {far.error:.4g} in the mean"
    return captioned(shown, told)


def _slices(column: str, values: Mapping[str, Mapping[str, Any]]) -> str:
    metrics = [name for name in next(iter(values.values()), {}) if name != "rows"]
    cells = [
        [
            value,
            f"{found['rows']:,}",
            *("{:.4g} ({:.4g} ... {:.4g})".format(*found[name]) for name in metrics),
        ]
        for value, found in values.items()
    ]
    told = "In brackets the middle 95 % of resamples of the rows."
    return table([column, "rows", *metrics], cells, sortable=True) + note(told)


def _set(one: Judged, classes: Sequence[str], names: Names, cells: Cells) -> str:
    known = len(classes) == len(one.counts)
    called = list(classes) if known else [str(number) for number in range(len(one.counts))]
    binary = len(called) == 2
    what = f"Chance of {called[1]} and share that are" if binary else "Confidence and share right"
    drawn = [
        captioned(
            svg(_reliability(one, called), "share right by confidence"),
            f"{what}; expected calibration error {one.calibration_error:.4f}.",
        )
    ]
    drawn += _shuffled(one.importance, "the loss, in nats a row,", "nats a row")
    rows = [
        [name, amount(count), *("" if np.isnan(x) else f"{x:.3f}" for x in rest)]
        for name, (count, *rest) in zip(called, one.by_class(), strict=True)
    ]
    return (
        gallery(drawn)
        + table(["class", "rows", "recall", "precision"], rows, sortable=True)
        + note(
            "Rows whose true class was given the smallest chance. In red: what, once hidden, takes most of the "
            "chance from the class that was said (Zeiler & Fergus 2014)."
        )
        + gallery(_shown(example, called, names, cells) for example in one.worst)
        + note("Rows whose two likeliest classes are closest.")
        + gallery(_shown(example, called, names, cells) for example in one.unsure)
    )


def _reliability(one: Judged, classes: Sequence[str]):
    figure = new_figure(4, 3)
    axes, (rows, sums, right) = figure.subplots(), one.bins.T
    used = rows > 0
    axes.plot([0, 1], [0, 1], color="#b0b0b0", lw=1)
    axes.plot(sums[used] / rows[used], right[used] / rows[used], marker="o", ms=4, color=PALETTE[0])
    binary = len(classes) == 2
    axes.set_xlabel(no_formula(f"chance of {classes[1]}") if binary else "chance of the class said")
    axes.set_ylabel("share that are" if binary else "share right")
    return figure


def _shuffled(importance: Mapping[str, tuple[float, float]], loss: str, unit: str) -> list[str]:
    """A drawing of how much a loss grows as features are shuffled; none where there are no features."""
    if not importance:
        return []
    top = list(importance.items())[:FEATURES][::-1]
    figure = new_figure(5, 0.6 + 0.24 * len(top))
    axes = figure.subplots()
    mean, spread = zip(*(pair for _, pair in top), strict=True)
    axes.barh([name for name, _ in top], mean, xerr=spread, color=PALETTE[0])
    axes.set_xlabel(unit)
    told = f"How much {loss} grows when a feature is shuffled among the rows."
    return [captioned(svg(figure, "importance of features"), told)]


def _shown(example: Example, classes: Sequence[str], names: Names, cells: Cells) -> str:
    told = (
        f"row {example.row:,}: {classes[example.truth]}, said {classes[example.said]} ({example.sure:.2f})"
        if example.said != example.truth
        else f"row {example.row:,}: {classes[example.truth]} ({example.sure:.2f})"
    )
    return captioned("".join(_columns(example, names, cells)), told)


def _columns(example: Example | Far, names: Names, cells: Cells):
    if example.row in cells:
        yield table(["", "cell"], list(cells[example.row].items()))
        return
    hangs = getattr(example, "hangs", None)
    for name, column in example.columns.items():
        own = names.get(name, ())
        if column.ndim == 3 and column.shape[-1] in (1, 3, 4):
            yield picture(_png(column, hangs), f"row {example.row}")
        elif (
            column.ndim == 1
            and own
            and np.issubdtype(column.dtype, np.integer)
            and len(own) > len(column)
        ):
            yield f"<p>{_text(column, own, hangs)}</p>"
        elif column.ndim == 1 and len(own) == len(column):
            shown = [[word, f"{value:.4g}"] for word, value in zip(own, column, strict=True)]
            yield table(["", name], shown[:FEATURES])
        elif column.ndim <= 2 and np.issubdtype(column.dtype, np.floating) and column.size > 32:
            figure = new_figure(2.4, 1.2)
            figure.subplots().plot(column, lw=0.7, color=PALETTE[0])
            yield svg(figure, f"row {example.row}")


def _heat(hangs: np.ndarray) -> np.ndarray:
    """What an answer hangs on, from nothing at 0 to most at 1."""
    return np.clip(hangs / max(hangs.max(), 1e-9), 0, 1)


def _png(image: np.ndarray, hangs: np.ndarray | None) -> bytes:
    """The picture, and beside it what its answer hangs on."""
    from PIL import Image

    pixels = image[..., :3].astype(np.float32)
    low, high = (0, 255) if image.dtype == np.uint8 else (pixels.min(), pixels.max())
    pixels = np.repeat((pixels - low) / max(high - low, 1e-9), 3 // pixels.shape[-1], -1)
    sheets = [pixels]
    if hangs is not None:
        heat = _heat(hangs)
        rows, across = (np.arange(size) * len(hangs) // size for size in pixels.shape[:2])
        heat = heat[rows][:, across, None]
        sheets.append(
            (1 - heat) * pixels.mean(-1, keepdims=True) + heat * np.array([0.9, 0.1, 0.1])
        )
    sheet = Image.fromarray(grid(np.stack(sheets), len(sheets)))
    times = max(1, -(-SIDE // pixels.shape[0]))
    sheet = sheet.resize([size * times for size in sheet.size], Image.Resampling.NEAREST)
    buffer = io.BytesIO()
    sheet.save(buffer, "png")
    return buffer.getvalue()


def _text(tokens: np.ndarray, words: Sequence[str], hangs: np.ndarray | None) -> Html:
    heat = np.zeros(len(tokens)) if hangs is None else _heat(hangs)
    parts = []
    for token, share in zip(tokens[:WORDS], heat, strict=False):
        if token == 0:  # padding
            continue
        word = escape(words[token] if 0 <= token < len(words) else str(token))
        parts.append(f'<span style="background:rgb(230 25 25 / {share:.2f})">{word}</span>')
    return Html(" ".join(parts) + (" …" if len(tokens) > WORDS else ""))
