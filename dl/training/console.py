"""What a run shows while it works: a progress bar with ETA, and one line an evaluation."""

import html
import re
import sys
import time
from typing import Any

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from dl import platform
from dl.runs.files import printable


class Console:
    """The screen of one run; ``show=False`` keeps it silent but for warnings, and a process that is not
    the run's ``first`` says nothing at all."""

    def __init__(self, show: bool = True, first: bool = True):
        self.show, self.first = show and first, first
        platform.lenient_output()
        self.rich = platform.screen(soft_wrap=True)
        self._bar: Progress | NotebookBar | None = None
        self._task = TaskID(0)
        self._note, self._told = "", time.monotonic()
        self._started, self._first, self._steps = self._told, 0, 0
        self._live = self.rich.is_terminal or self.rich.is_jupyter

    def say(self, text: str) -> None:
        if not self.show:
            return
        if (
            self.rich.is_jupyter
        ):  # as plain text, of which a cell keeps one piece and not one a line
            print(printable(text))
        else:
            self.rich.print(printable(text))

    def warn(self, text: str) -> None:
        if not self.first:
            return
        platform.screen(stderr=True, soft_wrap=True).print(f"dl: {printable(text)}")

    def start(self, step: int, steps: int) -> None:
        """Show the bar; outside a terminal, a line every ten seconds does its work."""
        self._started, self._first, self._steps = time.monotonic(), step, steps
        self._told, self._note = self._started, ""
        if self.show and self.rich.is_jupyter:
            self._bar = NotebookBar(step, steps)
        elif self.show and self._live:
            self._bar = Progress(
                SpinnerColumn(),
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[note]}"),
                TimeElapsedColumn(),
                TextColumn("eta"),
                TimeRemainingColumn(),
                console=self.rich,
                transient=True,
            )
            self._task = self._bar.add_task("training", total=steps, completed=step, note="")
            self._bar.start()

    def update(self, step: int, note: str = "", doing: str = "training") -> None:
        if isinstance(self._bar, NotebookBar):
            self._bar.update(step, note, doing)
            return
        if self._bar is not None:
            if note:
                self._bar.update(self._task, note=note)
            self._bar.update(self._task, completed=step, description=doing)
            return
        self._note = note or self._note
        now = time.monotonic()
        if self.show and now - self._told > 10:
            self._told = now
            done = max(step - self._first, 1)
            left = (now - self._started) / done * (self._steps - step)
            self.say(f"step {step}/{self._steps}  {self._note}  about {_duration(left)} to go")
            sys.stdout.flush()

    def stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


class NotebookBar:
    """A bar in a cell's output: one display changed in place, which needs no widgets, and of which a
    saved notebook keeps nothing once the run has ended."""

    def __init__(self, step: int, steps: int):
        from IPython.display import display

        self._first, self._steps, self._begun = step, steps, time.monotonic()
        self._note, self._shown = "", 0.0
        self._display: Any = display({"text/plain": ""}, raw=True, display_id=True)
        self.update(step)

    def update(self, step: int, note: str = "", doing: str = "training") -> None:
        self._note = note or self._note
        now = time.monotonic()
        if now - self._shown < 0.25:
            return
        self._shown = now
        share = (now - self._begun) / max(step - self._first, 1)
        left = _duration(share * (self._steps - step)) if step > self._first else "?"
        words = f"{doing} {step:,}/{self._steps:,}  {self._note}  eta {left}"
        bar = f'<progress value="{step}" max="{self._steps}"></progress> {html.escape(words)}'
        self._display.update({"text/html": bar, "text/plain": words}, raw=True)

    def stop(self) -> None:
        self._display.update({"text/plain": ""}, raw=True)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def by_number(name: str) -> list[Any]:
    """The order of metrics: by name, ``iou_2`` before ``iou_11``."""
    return [int(word) if word.isdecimal() else word for word in re.split(r"(\d+)", name)]


def format_metrics(metrics: dict[str, Any]) -> str:
    """Metrics as one short line, scalars only."""
    return "  ".join(f"{k} {v:.4g}" for k, v in metrics.items() if isinstance(v, float | int))
