"""SIGINT and SIGTERM as a request to save and stop."""

import signal
import threading
from typing import Any

import jax

from dl.training import processes


class Signals:
    """Remembers the first SIGINT or SIGTERM, for the loop to save and stop; a second one kills.

    Attributes:
      caught: its number. Of several processes all must stop at the same step, so there it is known
        only once all have :meth:`asked`.
    """

    def __init__(self) -> None:
        self.caught: int | None = None
        self._heard = 0
        self._before: dict[int, Any] = {}

    def asked(self) -> bool:
        """Whether to stop, of one mind with the other processes, which must ask at the same place."""
        if jax.process_count() > 1 and self.caught is None:
            self.caught = -processes.smallest(-self._heard) or None
        return self.caught is not None

    @property
    def name(self) -> str:
        return signal.Signals(self.caught).name if self.caught is not None else ""

    def __enter__(self) -> "Signals":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._catch)
        return self

    def _catch(self, number, frame) -> None:
        self._heard = number
        if jax.process_count() == 1:
            self.caught = number
        signal.signal(number, signal.SIG_DFL)

    def __exit__(self, *_) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
