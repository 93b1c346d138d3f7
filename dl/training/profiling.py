"""A trace of some steps, for XProf and Perfetto."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from dl.core.errors import UserError


def profiled(given: str | None, steps: int) -> tuple[int, int] | None:
    """The steps before and after which a trace begins and ends, of ``--profile 50:60``.

    Raises:
      UserError: it names no such steps of the run.
    """
    if given is None:
        return None
    found = re.fullmatch(r"(\d+):(\d+)", given)
    if not found or not int(found[1]) < int(found[2]) <= steps:
        raise UserError(
            "range",
            f"--profile {given}: give two steps of the run's {steps:,}, the first before the second, as 50:60",
        )
    return int(found[1]), int(found[2])


class Profile:
    """Writes ``<run>/profile`` between two steps; outside of them it does nothing."""

    def __init__(self, steps: tuple[int, int] | None, folder: Path, say: Callable[[str], Any]):
        self._steps, self._folder, self._say, self._on = steps, folder / "profile", say, False

    def at(self, step: int) -> None:
        """Begin or end at ``step``; a run resumed between the two steps traces the rest."""
        if self._steps is None:
            return
        first, last = self._steps
        if not self._on and first <= step < last:
            jax.profiler.start_trace(str(self._folder), create_perfetto_trace=True)
            self._on = True
        elif self._on and step >= last:
            self.close()
            self._say(
                f"profile of steps {first} to {last}: {self._folder} (XProf; ui.perfetto.dev)"
            )

    def close(self) -> None:
        """End a trace that was begun."""
        if self._on:
            jax.profiler.stop_trace()
            self._on = False
