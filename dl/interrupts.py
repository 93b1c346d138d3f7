"""Ctrl-C while modules are imported: one line, and never lost. Imported before all else, so it imports next to
nothing; :func:`listen` is called as it is imported."""

import os
import sys
from typing import Any


def number(stop: Any) -> int:
    """That of the signal that a KeyboardInterrupt came of: its argument, or SIGINT's where that is none."""
    import signal

    given = next(iter(getattr(stop, "args", ())), None)
    return given if isinstance(given, int) and given in list(signal.Signals) else signal.SIGINT


def behind(error: BaseException | None) -> KeyboardInterrupt | None:
    """The interrupt that an error comes of: modules in C say of one as they are imported that they cannot be."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__
    return error


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
        if behind(error) is not None and modules > 1 and "DL_TRACEBACK" not in os.environ:
            print("interrupted", file=sys.stderr)
        else:
            shown(kind, error, trace)

    def again(unraisable: Any) -> None:
        if not issubclass(unraisable.exc_type, KeyboardInterrupt):
            dropped(unraisable)
            return
        import threading
        import time

        def send(number: int) -> None:
            def told() -> bool:
                """Whether the main thread is still in here, where it would be dropped for good."""
                frame = sys._current_frames().get(threading.main_thread().ident or 0)
                while frame is not None and frame.f_code is not again.__code__:
                    frame = frame.f_back
                return frame is not None

            while told():
                time.sleep(0.01)
            os.kill(os.getpid(), number)

        threading.Thread(target=send, args=(number(unraisable.exc_value),)).start()

    sys.excepthook, sys.unraisablehook = show, again


listen()
