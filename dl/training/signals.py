"""SIGINT and SIGTERM as a request to save and stop."""

import signal
import threading
from typing import Any


class Signals:
    """Remembers the first SIGINT or SIGTERM, for the loop to save and stop; a second one kills."""

    def __init__(self) -> None:
        self.caught: int | None = None
        self._before: dict[int, Any] = {}

    @property
    def name(self) -> str:
        return signal.Signals(self.caught).name if self.caught is not None else ""

    def __enter__(self) -> "Signals":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._catch)
        return self

    def _catch(self, number, frame) -> None:
        self.caught = number
        signal.signal(number, signal.SIG_DFL)

    def __exit__(self, *_) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
