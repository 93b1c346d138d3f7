"""How a command ends for a user: a mistake in one line, Ctrl-C cleanly, a crash with its traceback."""

import contextlib
import errno
import multiprocessing
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator
from types import FrameType
from typing import Any

from dl import interrupts, platform
from dl.core.errors import UserError
from dl.runs.files import printable

CLOSED = (errno.EACCES, errno.EPERM, errno.EROFS)
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
DISK = (*FULL, *CLOSED, errno.EIO)
REMEDIES = {
    **dict.fromkeys(CLOSED, "Make it accessible, or choose another folder"),
    **dict.fromkeys(FULL, "Free some space, or choose another folder"),
    errno.ENOENT: "Make it, or name one that is there",
    errno.EISDIR: "Name a file, not a folder",
    errno.ENOTDIR: "Name a folder, not a file",
    errno.ENAMETOOLONG: "Choose a shorter name",
    errno.ELOOP: "Its links go in a circle: name where it really lies",
    errno.EIO: "The disk cannot be read or written there",
}


def stopped_code(name: str) -> int:
    """The exit status of what the signal ``name`` has stopped, such as ``"SIGTERM"``, as shells count it."""
    return 128 + signal.Signals[name]


@contextlib.contextmanager
def plain_errors() -> Iterator[None]:
    """A user's mistake ends the process with one line on stderr and exit code 2, no traceback (but
    where ``$DL_TRACEBACK`` asks for one)."""
    platform.lenient_output()
    if os.environ.get("DL_TRACEBACK"):
        with _not_waited_for():
            yield
        return
    with _not_waited_for(), _told_in_a_line():
        yield


@contextlib.contextmanager
def _told_in_a_line() -> Iterator[None]:
    """:func:`plain_errors` where no traceback is asked for."""
    elsewhere = warnings.showwarning

    def one_line(message, category, filename, *where, **more):
        """What a reader of data skipped, filled or guessed, without the line of code that says so."""
        if category is UserWarning and "site-packages" not in filename:
            print(f"note: {printable(message)}", file=sys.stderr)
        else:
            elsewhere(message, category, filename, *where, **more)

    warnings.showwarning = one_line
    before: dict[int, Any] = {}
    at_first = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if at_first and threading.current_thread() is threading.main_thread():
        before[signal.SIGINT] = signal.signal(signal.SIGINT, _interrupt)
        if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            before[signal.SIGTERM] = signal.signal(signal.SIGTERM, _interrupt)
    try:
        try:
            yield
        except Exception as error:
            if (stop := interrupts.behind(error)) is not None:
                raise stop from None
            raise
    except UserError as error:
        # What came up inside the user's own model or script may need more than a line to be found.
        more = " [DL_TRACEBACK=1 shows all of it]" if error.__cause__ else ""
        _fail(error, more)
    except KeyboardInterrupt as stop:
        with _stopping_at_once():
            number = interrupts.number(stop)
            named = signal.Signals(number).name
            word = "interrupted" if number == signal.SIGINT else f"stopped by {named}"
            print(": ".join([word, *getattr(stop, "__notes__", ())]), file=sys.stderr)
            _leave(128 + number)
    except BrokenPipeError:  # the reader, such as head, has seen enough
        os._exit(128 + signal.SIGPIPE)
    except OSError as error:
        if error.errno == errno.ENOENT and error.filename is None and not _somewhere():
            told = "the folder that this was started in is gone: change to one that is there"
            _fail(UserError("system-refuses", told))
        if error.errno not in REMEDIES or (error.filename is None and error.errno not in DISK):
            raise
        place = error.filename or "what was being written"
        told = f"{error.strerror}: {place}. {REMEDIES[error.errno]}"
        _fail(UserError("system-refuses", told), " [DL_TRACEBACK=1 shows where]")
    except Exception as error:
        if out_of_memory(error):
            told = "out of memory: end other programs, or take a machine with more"
            _fail(UserError("out-of-memory", told))
        lacking = platform.no_backend() if type(error) in (RuntimeError, AssertionError) else ""
        if not lacking:
            raise
        _fail(UserError("device-missing", lacking))
    finally:
        warnings.showwarning = elsewhere
        for number, handler in before.items():  # what comes after is the caller's own
            if signal.getsignal(number) is _interrupt:
                signal.signal(number, handler)


@contextlib.contextmanager
def _not_waited_for() -> Iterator[None]:
    """Within, the crash of one of several processes ends it, with its traceback: as Python winds down, JAX would
    wait for the others, which wait for what this one was to compute."""
    try:
        yield
    except Exception:
        if "jax" in sys.modules:
            from dl.parallel import processes

            if processes.several():
                traceback.print_exc()
                _leave(1)
        raise


def _somewhere() -> bool:
    try:
        return bool(os.getcwd())
    except OSError:
        return False


def out_of_memory(error: Exception) -> bool:
    """Whether it is NumPy's, or XLA's, for memory that the host or the device does not have."""
    return isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Ctrl-C as Python has it, and SIGTERM likewise, but never lost: what is raised while the collector calls
    JAX back, or in a destructor, Python drops; so there it comes again a moment later."""
    if number == signal.SIGTERM and multiprocessing.parent_process():  # a forked reader just ends
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    while frame is not None:
        if frame.f_code.co_name in ("_xla_gc_callback", "__del__"):
            threading.Timer(0.01, os.kill, (os.getpid(), number)).start()
            return
        frame = frame.f_back
    raise KeyboardInterrupt(number)


@contextlib.contextmanager
def _stopping_at_once() -> Iterator[None]:
    """Within, a signal ends the process, which is about to end anyway, and no more is said."""
    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    own = [n for n, handler in before.items() if handler not in (None, signal.SIG_IGN)]
    if threading.current_thread() is not threading.main_thread():
        own = []
    for each in own:
        signal.signal(each, signal.SIG_DFL)
    try:
        yield
    finally:
        for each in own:
            signal.signal(each, before[each])


def _fail(error: UserError, more: str = "") -> None:
    with _stopping_at_once():
        print(f"error: {printable(error)}{more} [{error.code}]", file=sys.stderr, flush=True)
        _leave(2)


def _leave(code: int) -> None:
    """End the process at once. All that was to be saved is saved; a compiler at work would be waited for,
    and the checkpoint library's threads print tracebacks as Python winds down after a failed write."""
    for child in multiprocessing.active_children():
        child.terminate()
    sys.stdout.flush()
    sys.stderr.flush()
    if "jax" in sys.modules:
        from dl.parallel import processes

        processes.leave_last()
    os._exit(code)
