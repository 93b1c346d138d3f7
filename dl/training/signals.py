"""SIGINT, SIGTERM and SIGHUP as a request to save and stop."""

import contextlib
import os
import select
import signal
import sys
import threading
from typing import Any

import jax

from dl.parallel import processes

ASK = ("SIGINT", "SIGTERM", "SIGHUP")  # Windows lacks the last


class Signals:
    """Remembers the first SIGINT, SIGTERM or SIGHUP (unless ``nohup`` has it ignored), for the loop to save and
    stop; a second one kills.

    Attributes:
      caught: its number. Of several processes all must stop at the same step, so there it is known
        only once all have :meth:`agreed`.
    """

    def __init__(self) -> None:
        self.caught: int | None = None
        self._heard = 0
        self._before: dict[int, Any] = {}

    def agreed(self, steps: int) -> int:
        """The fewest ``steps`` that any process would take next, 0 where one is to stop. All must ask at the same
        place, for they tell each other."""
        if jax.process_count() > 1 and self.caught is None:
            steps, heard = processes.smallest(steps, -self._heard)
            self.caught = -heard or None
        return steps if self.caught is None else 0

    def while_together(self) -> contextlib.AbstractContextManager["Signals | None"]:
        """Where there are several processes, remember signals before the loop enters this as well: JAX ends the
        others where one leaves alone. One by itself just leaves, as nothing is there to be saved."""
        return self if jax.process_count() > 1 else contextlib.nullcontext()

    @property
    def name(self) -> str:
        return signal.Signals(self.caught).name if self.caught is not None else ""

    def __enter__(self) -> "Signals":
        if not self._before and threading.current_thread() is threading.main_thread():
            for number in (getattr(signal, name) for name in ASK if hasattr(signal, name)):
                before = signal.getsignal(number)
                if number == signal.SIGINT or before != signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._catch)
        return self

    def _catch(self, number: int, frame: Any) -> None:
        again, self._heard = self._heard != 0, number
        if jax.process_count() == 1:
            self.caught = number
        _leave_hung_terminal()
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

    def __exit__(self, kind: object, error: BaseException | None, where: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()
        # Ctrl-C reaches what XLA runs to compile for a GPU (ptxas), too, and so the run fails there.
        if self._heard and isinstance(error, jax.errors.JaxRuntimeError):
            raise KeyboardInterrupt(self._heard) from error


def _leave_hung_terminal() -> None:
    """Where the terminal is gone, which SIGHUP tells, have what is said go nowhere: it would fail, and the run
    with it before all is saved."""
    if not hasattr(select, "poll"):
        return
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            look = select.poll()
            look.register(stream.fileno(), select.POLLOUT)
            if any(found & select.POLLHUP for _, found in look.poll(0)):
                nowhere = os.open(os.devnull, os.O_WRONLY, 0)
                os.dup2(nowhere, stream.fileno())
                os.close(nowhere)
