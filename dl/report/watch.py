"""Learning curves in the terminal, as text, from the ``metrics.jsonl`` that a run is writing."""

import contextlib
import itertools
import math
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Group
from rich.live import Live
from rich.text import Text

from dl.core.errors import UserError
from dl.platform import screen
from dl.runs import store
from dl.runs.files import printable
from dl.runs.readers import Scalars, read_scalars
from dl.runs.records import read_run

DRAWN = 300  # metrics
COLOURS = ("blue", "dark_orange", "green", "magenta", "cyan", "yellow")
DOTS = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]])  # of a Braille character


def text_curve(sets: dict[str, np.ndarray], width: int, height: int) -> Text:
    """Curves in one frame of ``width`` by ``height`` characters, each of 2 by 4 dots.

    Args:
      sets: ``[n, 2]`` of (step, value) by name; a colour each.
    """
    frame = max(width - 10, 8)  # ten characters for the scale
    points = np.concatenate(list(sets.values()))
    points = points[np.isfinite(points).all(1)]
    if not len(points):
        return Text("nothing but nan and inf so far", "dim")
    low, high = points.min(0), points.max(0)
    span = np.where(high > low, high - low, 1.0)
    cells = np.zeros((height, frame), np.int64)
    owner = np.zeros((height, frame), np.int64)
    for place, values in enumerate(sets.values()):
        known = values[np.isfinite(values).all(1)]
        if not len(known):
            continue
        across = (known[:, 0] - low[0]) / span[0] * (2 * frame - 1)
        up = (known[:, 1] - low[1]) / span[1] * (4 * height - 1)
        columns = np.arange(math.ceil(across.min()), math.floor(across.max()) + 1)
        columns = np.unique(np.concatenate([columns, across.round()]).astype(int))
        rows = 4 * height - 1 - np.interp(columns, across, up).round().astype(int)
        for column, row, before in zip(columns, rows, [rows[0], *rows[:-1]], strict=True):
            for dot in range(min(row, before + 1), max(row, before - 1) + 1):  # no gaps where steep
                cells[dot // 4, column // 2] |= DOTS[dot % 4, column % 2]
                owner[dot // 4, column // 2] = place
    text = Text(no_wrap=True)
    for row in range(height):
        value = {0: f"{high[1]:.4g}", height - 1: f"{low[1]:.4g}"}.get(row, "")
        text.append(f"{value:>8} ▏", style="dim")
        for cell, place in zip(cells[row], owner[row], strict=True):
            text.append(chr(0x2800 + cell) if cell else " ", COLOURS[place % len(COLOURS)])
        text.append("\n")
    text.append(f"{'':>9} {int(low[0]):<{frame // 2}}{int(high[0]):>{frame - frame // 2}}", "dim")
    return text


def board(scalars: Scalars, width: int, height: int = 8) -> Group:
    """Every metric's curves, one under another, each with its latest values."""
    parts = []
    for metric, sets in itertools.islice(scalars.items(), DRAWN):
        title = Text(metric, "bold")
        for place, (name, points) in enumerate(sets.items()):
            title.append(f"   {name} {points[-1, 1]:.4g}", COLOURS[place % len(COLOURS)])
        parts += [title, text_curve(sets, width, height), Text()]
    if len(scalars) > DRAWN:
        told = f"The first {DRAWN} of {len(scalars)} metrics are drawn: --only NAME for others."
        parts.append(Text(told, "dim"))
    return Group(*parts)


def watch_run(path: Path, once: bool = False, only: Sequence[str] = (), every: float = 1.0) -> None:
    """Draw the curves of the run at ``path`` until it ends, or once.

    Args:
      only: metrics to draw, such as ``loss``; all by default.
      every: seconds between looks.

    Raises:
      UserError: no run there, or no such metric.
    """
    place = store.opened(path)
    run, metrics = read_run(place), place / "metrics.jsonl"
    every = max(every, 5.0) if store.url(place) else every
    console = screen()

    def look() -> Group:
        store.refresh(place)
        scalars = read_scalars(metrics)
        for name in only:
            if scalars and name not in scalars:
                raise UserError("unknown", f"{path} logs no {name}: it has {', '.join(scalars)}")
        scalars = {name: x for name, x in scalars.items() if not only or name in only}
        done = max((int(p[-1, 0]) for sets in scalars.values() for p in sets.values()), default=0)
        ended = read_run(place).ended
        words = printable(f"{path.name}  step {done:,}/{run.steps:,}  {ended}")
        if ended == "unfinished" and metrics.exists():
            words += f"  written {time.time() - metrics.stat().st_mtime:.0f} s ago"
        room = (console.height - 2) // max(len(scalars), 1) - 3
        height = 8 if once or not console.is_terminal else min(max(room, 3), 12)
        return Group(Text(words, "bold"), Text(), board(scalars, min(console.width, 100), height))

    if once or run.result:
        console.print(look())
        return
    live = Live(look(), console=console, auto_refresh=False)
    with contextlib.suppress(KeyboardInterrupt), live:
        while not read_run(place).result:
            time.sleep(every)
            live.update(look(), refresh=True)
