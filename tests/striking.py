"""What a forked process does to itself, or to the drive that it writes to, at a moment that a soak has drawn."""

import ctypes
import errno
import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
CHANGES = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate"}
READ_ONLY, REMOUNT, BIND, DETACH = 1, 32, 4096, 2  # of mount.h
KILLED = {-signal.SIGKILL, -signal.SIGALRM, -signal.SIGPROF}  # how the strikes below end a process


def after_computing(seconds: float) -> None:
    """Kill this process once it has computed for so long."""
    signal.setitimer(signal.ITIMER_PROF, seconds)


def kill(delay: float) -> None:
    if delay:
        signal.setitimer(signal.ITIMER_REAL, delay)
    else:
        os.kill(os.getpid(), signal.SIGKILL)


def at_file(number: int, root: Path, mark: str, act: Callable[[], None]) -> None:
    """Call ``act()`` before the ``number``-th change from here on, or right after a sync, of a file in the folder
    ``root`` whose path holds ``mark``: in whichever thread makes it."""
    left, lock, sync = number, threading.Lock(), os.fsync

    def came(place: object) -> None:
        nonlocal left
        if isinstance(place, str | os.PathLike) and str(root) in str(place) and mark in str(place):
            with lock:
                left -= 1
                now = left == 0
            if now:
                act()

    def hook(event: str, given: tuple) -> None:
        if event in CHANGES and (event != "open" or (given[2] or 0) & WRITES):
            came(given[0])

    def synced(handle) -> None:
        sync(handle)
        came(os.readlink(f"/proc/self/fd/{handle}"))

    sys.addaudithook(hook)
    os.fsync = synced


def freeze(folder: Path) -> None:
    """Make what lies in the folder read-only, as a drive with errors becomes; what is open stays open."""
    mount, place = ctypes.CDLL(None).mount, os.fsencode(folder)
    if mount(place, place, None, BIND, None) == 0:
        mount(None, place, None, REMOUNT | BIND | READ_ONLY, None)


def thaw(folder: Path) -> bool:
    """Undo it; whether there was anything to undo."""
    return ctypes.CDLL(None).umount2(os.fsencode(folder), DETACH) == 0


def may_mount(folder: Path) -> bool:
    freeze(folder)
    return thaw(folder)


def remount(folder: Path, options: str) -> None:
    done = ["mount", "-o", f"remount,{options}", str(folder)]
    subprocess.run(done, check=True, capture_output=True)


def without_locks() -> None:
    """Have this process find a drive that knows no locks."""

    def none(*given) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    fcntl.flock = none


def move_clock(seconds: float) -> None:
    now = time.time
    time.time = lambda: now() + seconds


def at_work(child: int) -> tuple[float, bool]:
    """For how many seconds the threads of a process have computed, and whether one of them computes, waits for a
    core to do so, or for a disk."""
    ran, busy = 0.0, False
    for thread in Path(f"/proc/{child}/task").glob("*/stat"):
        try:
            words = thread.read_text().rpartition(")")[2].split()
        except OSError:  # it ended just now
            continue
        ran += (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")
        busy |= words[0] in "RD"
    return ran, busy
