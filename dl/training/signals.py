"""SIGINT and SIGTERM as a request to save and stop."""

import contextlib
import os
import signal
import sys
import threading
from typing import Any

import jax

from dl.parallel import processes


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

    def _catch(self, number: int, frame: Any) -> None:
        again, self._heard = self._heard != 0, number
        if jax.process_count() == 1:
            self.caught = number
        with contextlib.suppress(RuntimeError, OSError):  # caught in the middle of a print
            if again:
                # The progress bar hid the cursor, and will not come to show it again.
                show = "\x1b[?25h" if sys.stderr.isatty() else ""
                print(f"{show}\nstopped at once; the last checkpoint is whole", file=sys.stderr)
            else:
                word = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
                print(f"{word}: saving and stopping (once more stops at once)", file=sys.stderr)
            sys.stderr.flush()
        if again:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
