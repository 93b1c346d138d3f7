"""Kill this very process at a named moment, for `dl verify` and the tests to prove what survives.

``DL_KILL_AT`` holds ``phase:step``: ``step`` (between two dispatches), ``checkpoint`` (while the files
of the checkpoint of that step are being written) or ``evaluate`` (inside that step's evaluation). A
third part, ``step:8:SIGTERM``, is another signal than SIGKILL.
"""

import os
import signal
import threading
import time
from pathlib import Path


def next_kill(phase: str) -> int | None:
    """The step at which a kill in ``phase`` is asked for."""
    wanted, _, step = os.environ.get("DL_KILL_AT", "").partition(":")
    return int(step.partition(":")[0]) if wanted == phase and step else None


def reach(phase: str, step: int) -> None:
    """Die here, at once and without any clean-up, if this is the moment asked for."""
    at = next_kill(phase)
    if at is not None and step >= at:
        name = os.environ.pop("DL_KILL_AT").partition(":")[2].partition(":")[2]
        os.kill(os.getpid(), signal.Signals[name or "SIGKILL"])


def during_write(folder: Path, step: int) -> None:
    """Die as soon as an unfinished checkpoint is seen in ``folder``, if ``step`` is the one asked for."""
    at = next_kill("checkpoint")
    if at is None or step < at:
        return

    def watch():
        while not any(folder.glob("*tmp*")):
            time.sleep(0.0005)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()
