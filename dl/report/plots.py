"""Curves and picture grids, drawn by matplotlib from what a run left on disk."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np


def read_scalars(metrics: Path) -> dict[str, dict[str, np.ndarray]]:
    """``{metric: {set: [n, 2] of (step, value)}}`` of a run's ``metrics.jsonl``."""
    points: dict[str, dict[str, list]] = {}
    for line in metrics.read_text().splitlines():
        record = json.loads(line)
        if record["event"] not in ("train", "eval"):
            continue
        for name, value in record["metrics"].items():
            part, _, metric = name.partition("/")
            if isinstance(value, int | float):
                points.setdefault(metric, {}).setdefault(part, []).append((record["step"], value))
    return {m: {s: np.array(p) for s, p in sets.items()} for m, sets in points.items()}


def curves(folders: Sequence[Path], titles: Sequence[str] | None = None) -> Any:
    """One panel a metric, one line a set (and a run), as a matplotlib figure."""
    from matplotlib.figure import Figure

    runs = [read_scalars(Path(f) / "metrics.jsonl") for f in folders]
    titles = titles or [Path(f).name for f in folders]
    names = sorted({name for run in runs for name in run})
    figure = Figure(figsize=(4.8 * max(len(names), 1), 3.6), layout="constrained")
    for panel, name in enumerate(names, 1):
        axes = figure.add_subplot(1, len(names), panel)
        for title, run in zip(titles, runs, strict=True):
            for part, points in run.get(name, {}).items():
                label = part if len(runs) == 1 else f"{title} {part}"
                axes.plot(
                    points[:, 0], points[:, 1], label=label, marker="." if len(points) < 30 else ""
                )
        axes.set_xlabel("step")
        axes.set_title(name)
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
    return figure


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
        path.write_text(view + "\n")
    elif hasattr(view, "savefig"):
        path = path.with_suffix(".png")
        view.savefig(path, dpi=120)
    else:
        from PIL import Image

        path = path.with_suffix(".png")
        sheet = grid(view)
        scale = max(1, 480 // max(sheet.shape[:2]))
        picture = Image.fromarray(sheet)
        picture.resize((picture.width * scale, picture.height * scale), 0).save(path)
    return path
