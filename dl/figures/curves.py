"""Curves and picture grids, drawn by matplotlib from what a run left on disk."""

import io
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dl.figures.canvas import new_figure, no_formula
from dl.platform import screen
from dl.runs.files import printable, replace
from dl.runs.readers import Scalars, read_baselines, read_scalars
from dl.runs.records import Setting

# Told apart by most colour-blind readers, on a light ground and a dark one (after Okabe & Ito 2008).
PALETTE = (
    *("#2b7bba", "#e0791c", "#1f9d76", "#c2588f", "#7a68c9", "#b08d00"),
    *("#3fa7d6", "#d1495b", "#6b7f2a", "#8a8a8a"),
)

PANELS = (
    40  # metrics that are drawn: more, such as one a class, take minutes and nobody looks at them
)
CROWD = 4  # titles in one panel beyond which training lines only hide the others

Baselines = dict[str, dict[str, float]]
Lines = Sequence[tuple[str, Sequence[Scalars]]]  # a title and its runs, which differ by seed alone


def curves(folders: Sequence[Path], titles: Sequence[str] | None = None) -> Any:
    """One panel a metric, one line a set (and a run), as a matplotlib figure."""
    names = titles or [Path(folder).name for folder in folders]
    found = [read_scalars(Path(folder) / "metrics.jsonl") for folder in folders]
    rivals = baselines([Path(folder) for folder in folders])
    return curve_figure([(name, [one]) for name, one in zip(names, found, strict=True)], rivals)


def baselines(folders: Sequence[Path]) -> Baselines:
    """What simple rivals of these runs reach on the first set that was evaluated while training (on the
    validation part, as a rule): ``{metric: {rival: value}}``."""
    found: Baselines = {}
    for folder in folders:
        for rival, metrics in read_baselines(folder).items():
            for name, value in metrics.items():
                part, _, metric = name.partition("/")
                if part != "test":
                    found.setdefault(metric, {}).setdefault(rival, value)
    return found


def lines(settings: Sequence[Setting]) -> Lines:
    """What the runs of each setting logged."""
    return [(s.title, [read_scalars(r.path / "metrics.jsonl") for r in s.runs]) for s in settings]


def curve_figure(found: Lines, rivals: Baselines | None = None) -> Any:
    """One panel a metric, up to ``PANELS``: the mean over each title's runs, and a band of one sd on either
    side."""
    names = metric_names(found)[:PANELS]
    columns = min(max(len(names), 1), 3)
    rows = max(-(-len(names) // columns), 1)
    figure = new_figure(4.8 * columns, 3.6 * rows)
    for panel, name in enumerate(names, 1):
        axes = figure.add_subplot(rows, columns, panel)
        curve_panel(axes, name, found, (rivals or {}).get(name, {}))
        axes.legend(fontsize="small")
    return figure


def shown(figure: Any, file: Path) -> Any:
    """``figure``, saved as the PNG ``file``, which a notebook shows where this is a cell's last value
    (whatever matplotlib draws on otherwise); elsewhere the file's path is printed."""
    content = save_figure(figure, file)
    figure._repr_png_ = lambda: content
    if not screen().is_jupyter:
        print(printable(f"{'curves' if file.stem == 'curves' else 'figure'}: {file}"))
    return figure


def save_figure(figure: Any, file: Path) -> bytes:
    """Write a matplotlib figure as the PNG ``file``, whole or not at all; returns what it holds."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    replace(file, buffer.getvalue())
    return buffer.getvalue()


def metric_names(found: Lines) -> list[str]:
    """Every metric that any run logged. What no set is judged by, such as the learning rate, comes last; where
    they are more than can be drawn, those come first that training has too, such as the loss."""
    logged = [(name, sets) for _, runs in found for run in runs for name, sets in run.items()]
    trained = {name for name, sets in logged if "train" in sets}
    judged = {name for name, sets in logged if set(sets) != {"train"}} or trained
    names = {name for name, _ in logged}
    crowded = len(names) > PANELS
    return sorted(names, key=lambda n: (n not in judged, crowded and n not in trained, n))


def curve_panel(
    axes: Any, metric: str, found: Lines, rivals: Mapping[str, float] | None = None
) -> None:
    """Draw one metric of every title into ``axes``: with one title a colour is a set (train,
    validation); with several it is a title, and training is the dotted line, left out of a crowd.
    A rival is a dashed line across."""
    for place, (rival, value) in enumerate((rivals or {}).items()):
        axes.axhline(
            value, color=str(0.35 + 0.15 * (place % 3)), ls="--", lw=1.1, label=no_formula(rival)
        )
    several = len(found) > 1
    for place, (title, runs) in enumerate(found):
        sets = list(dict.fromkeys(name for run in runs for name in run.get(metric, {})))
        for number, part in enumerate(sets):
            step, values = common_steps(
                [run[metric][part] for run in runs if part in run.get(metric, {})]
            )
            quiet = several and part == "train" and len(sets) > 1
            if quiet and len(found) > CROWD:
                continue
            style = {
                "color": PALETTE[(place if several else number) % len(PALETTE)],
                "linestyle": ":" if quiet else "-",
                "linewidth": 1.1 if quiet else 1.7,
            }
            mean, sd = _over_runs(values)
            label = (title if not quiet and part == sets[-1] else None) if several else part
            named = None if label is None else no_formula(label)
            axes.plot(step, mean, label=named, marker="." if len(step) < 30 else "", **style)
            if len(values) > 1:
                band = 0.1 if quiet else 0.2
                axes.fill_between(
                    step, mean - sd, mean + sd, alpha=band, color=style["color"], lw=0
                )
    axes.set_xlabel("step")
    axes.set_title(no_formula(metric), loc="left", fontsize="medium", fontweight="bold")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def _over_runs(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and sd ``[steps]`` over ``values [runs, steps]``, NaN left out; the sd of one is 0, the mean of
    none NaN, which leaves a gap in the line."""
    known = ~np.isnan(values)
    count = known.sum(0)
    with np.errstate(invalid="ignore"):  # of infinite values
        mean = np.where(count, np.where(known, values, 0.0).sum(0) / np.maximum(count, 1), np.nan)
        squares = np.where(known, np.square(values - mean), 0.0).sum(0)
    return mean, np.sqrt(squares / np.maximum(count - 1, 1))


def common_steps(points: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Runs' points ``[n, 2]`` of (step, value) at the steps that all have: ``[m]``, ``[runs, m]``."""
    shared = sorted(set.intersection(*(set(p[:, 0]) for p in points)))
    values = [dict(p) for p in points]
    return np.array(shared), np.array([[v[step] for step in shared] for v in values])


def grid(images: np.ndarray, columns: int | None = None, gap: int = 1) -> np.ndarray:
    """A batch of pictures ``[n, height, width, channels]`` in 0..1 as one, ``[h, w, 3]`` uint8."""
    images = np.clip(np.asarray(images, np.float32), 0, 1)
    count, height, width, channels = images.shape
    columns = columns or int(np.ceil(np.sqrt(count)))
    rows = -(-count // columns)
    sheet = np.ones((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), np.float32)
    for place, image in enumerate(images):
        top, left = place // columns * (height + gap), place % columns * (width + gap)
        sheet[top : top + height, left : left + width] = (
            image if channels == 3 else np.repeat(image[..., :1], 3, -1)
        )
    return (sheet * 255).round().astype(np.uint8)


def save_view(path: Path, view: Any) -> Path:
    """Write what an experiment's ``views`` drew: text, a figure, or a batch of pictures."""
    if isinstance(view, str):
        path = path.with_suffix(".txt")
        replace(path, (view + "\n").encode())
    elif hasattr(view, "savefig"):
        path = path.with_suffix(".png")
        save_figure(view, path)
        if "matplotlib.pyplot" in sys.modules:  # which keeps every figure that it made
            sys.modules["matplotlib.pyplot"].close(view)
    else:
        from PIL import Image

        path = path.with_suffix(".png")
        sheet = grid(view)
        scale = max(1, 480 // max(sheet.shape[:2]))
        picture = Image.fromarray(sheet)
        buffer = io.BytesIO()
        picture.resize((picture.width * scale, picture.height * scale), 0).save(buffer, "png")
        replace(path, buffer.getvalue())
    return path
