"""Compile beside Python, and know a program by its digest."""

import hashlib
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any


def compiling(lowered: Any, options: dict[str, Any] | None = None) -> Callable[[], Any]:
    """Compile on a thread of its own, as XLA needs no Python for it; the result waits for the program."""
    future: Future[Any] = Future()

    def compile_it() -> None:
        try:
            future.set_result(lowered.compile(compiler_options=options or None))
        except BaseException as error:
            future.set_exception(error)

    # Not a daemon: XLA aborts the process where Python ends under it.
    threading.Thread(target=compile_it).start()
    return future.result


def program_digest(text: str) -> str | None:
    """SHA-256 (hex) of a lowered program; None where it calls back into Python, by an address that is another
    in every process."""
    return None if "callback" in text else hashlib.sha256(text.encode()).hexdigest()
