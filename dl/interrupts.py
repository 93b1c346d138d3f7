"""Ctrl-C while modules are imported: one line, and never lost. Imported before all else, so it imports next to
nothing; :func:`listen` is called as it is imported."""

import os
import sys
from typing import Any


def listen() -> None:
    """Have Ctrl-C end the program in a line while it is still importing modules; ``$DL_TRACEBACK`` shows where.
    What is raised where Python can only drop it (in a callback of the collector, or of a module's lock as it goes)
    comes again a moment later."""
    shown, dropped = sys.excepthook, sys.unraisablehook

    def show(kind: type[BaseException], error: BaseException, trace: Any) -> None:
        modules, frame = 0, trace
        while frame is not None:
            code, frame = frame.tb_frame.f_code, frame.tb_next
            modules += code.co_name == "<module>" or "importlib" in code.co_filename
        if issubclass(kind, KeyboardInterrupt) and modules > 1 and "DL_TRACEBACK" not in os.environ:
            print("interrupted", file=sys.stderr)
        else:
            shown(kind, error, trace)

    def again(unraisable: Any) -> None:
        if not issubclass(unraisable.exc_type, KeyboardInterrupt):
            dropped(unraisable)
            return
        import signal
        import threading

        number = next(iter(getattr(unraisable.exc_value, "args", ())), signal.SIGINT)
        threading.Timer(0.01, os.kill, (os.getpid(), number)).start()

    sys.excepthook, sys.unraisablehook = show, again


listen()
