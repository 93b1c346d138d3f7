"""Sends steps to the device in pieces, always one piece or two ahead of the one waited for."""

import collections
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from dl.training.compiled import StepProgram
from dl.training.prefetch import Resident, Streamed

SECONDS = 0.3  # of a piece: short enough for a live bar and a quick Ctrl-C


class StepRunner:
    """Runs a train program from event to event.

    How many steps a piece holds is measured and adapts to the machine; no bit depends on it.

    Attributes:
      program: what to run; source: where its batches come from.
      agreed: asked before every piece for how many of so many steps to take, 0 to stop; of several processes all
        must get the same, since they run one program. sent: called with the step after every piece.
      settle: called with each piece's ``finite`` (of every lane) and the newest state.
    """

    def __init__(
        self,
        program: StepProgram,
        source: Resident | Streamed,
        agreed: Callable[[int], int],
        sent: Callable[[int], None],
        settle: Callable[[np.ndarray, Any], None],
    ):
        self.program, self.source = program, source
        self.agreed, self.sent, self.settle = agreed, sent, settle
        self.steps = 0  # taken so far
        self._count, self._pace = 1, float("inf")
        self._running: collections.deque[tuple[Any, int, float]] = collections.deque()

    def to(
        self, step: int, target: int, state: Any, totals: Any, active: np.ndarray | None = None
    ) -> tuple[int, Any, Any]:
        """Go from ``step`` to ``target``, or to where it is ``agreed`` to stop: (step, state, totals).

        The last piece may still be running; :meth:`drain` waits for it.
        """
        while step < target:
            batches, available = self.source.at(step)
            size = self.agreed(min(self._count, available, target - step))
            if not size:
                break
            begun = time.perf_counter()
            state, totals, finite = self.program(state, totals, batches, size, active)
            step += size
            self.steps += size
            self._running.append((finite, size, begun))
            # A step taken by itself is too short a piece to do anything else under: one more is ahead then.
            ahead = 2 if size == 1 < self._count else 1
            while len(self._running) > ahead:
                self._finish(state)
            self.sent(step)  # what it fetches is done by now, while the device works on
        return step, state, totals

    def drain(self, state: Any) -> None:
        """Wait for all that runs; before anything that believes in ``state``."""
        while self._running:
            self._finish(state)

    def _finish(self, state: Any) -> None:
        """Wait for the oldest piece that runs."""
        finite, size, begun = self._running.popleft()
        self.settle(np.asarray(finite), state)
        self._pace = min(self._pace, (time.perf_counter() - begun) / size)
        self._count = int(np.clip(SECONDS / max(self._pace, 1e-9), 1, 2**20))
