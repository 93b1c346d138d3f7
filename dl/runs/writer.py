"""Who writes a run in an object store: one process, which holds the object ``.writer`` there.

It makes that object on condition that there is none, and rewrites it every 15 s. Who finds one that does not
change for a minute, or whose process is gone from this very machine, takes its place; who finds that another
has taken its own place writes no more.
"""

import contextlib
import json
import os
import platform as host
import secrets
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from dl.core.errors import UserError
from dl.runs.store import STEP, WRITER, at, fetch, guards, push, told, url

BEAT, PATIENCE, SETTLE, CHECKED = 15.0, 60.0, 2.0, 1.0  # seconds


@contextlib.contextmanager
def written(place: Path) -> Iterator[None]:
    """Within, this process alone writes the run or sweep in the working folder ``place``, which begins with what
    the store has. Of another folder it does nothing.

    Raises:
      UserError: another process writes there; or the store cannot be reached, or refuses.
    """
    address = url(place)
    if address is None:
        yield
        return
    hold = _Writer(place, address)
    hold.take()
    guards[place] = hold.check
    try:
        for child in place.iterdir():
            if child.name != WRITER:  # which is locked
                shutil.rmtree(child) if child.is_dir() else child.unlink()
        fetch(place)
        _sweep_up(address)
        yield
        push(place)
    finally:
        del guards[place]
        hold.release()


def _sweep_up(address: str) -> None:
    """Take out of the store what checkpoints left that a kill kept from being whole."""
    store, key = at(address)
    with told(address):
        found = [name for name in store.find(key) if STEP.fullmatch(name[len(key) + 1 :])]
        whole = {name.removesuffix(".whole") for name in found if name.endswith(".whole")}
        odd = [
            name
            for name in found
            if not name.endswith(".whole")
            and not whole & set(map(str, PurePosixPath(name).parents))
        ]
        if odd:
            store.rm(odd)


class _Writer:
    """The object ``.writer`` of a run, while this process is its writer."""

    def __init__(self, place: Path, address: str):
        self.place, self.address = place, address
        self.store, self.key = at(f"{address}/{WRITER}")
        self.own = {"token": secrets.token_hex(8), "machine": _machine(), "process": os.getpid()}
        self.beats = 0
        self.lost = False
        self._checked = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def take(self) -> None:
        with told(self.address):
            while not self._made():
                seen = self._seen()
                if seen is None:  # deleted since
                    continue
                if not self._left_alone(seen):
                    raise self.taken()
                self._write()
                time.sleep(SETTLE)  # for another that would do the same
                if (self._seen() or {}).get("token") != self.own["token"]:
                    raise self.taken()
                break
        self._thread.start()

    def taken(self) -> UserError:
        return UserError(
            "run-in-use",
            f"{self.address} is being written by another process: wait for it, or choose another --name",
        )

    def check(self) -> None:
        """Raise UserError where another process has taken the run over."""
        if not self.lost and time.monotonic() - self._checked < CHECKED:
            return
        with told(self.address):
            self.lost = self.lost or (self._seen() or {}).get("token") != self.own["token"]
        self._checked = time.monotonic()
        if self.lost:
            raise UserError(
                "run-in-use",
                f"{self.address} was taken over by another process, or deleted, while this one could not be "
                "heard: this one stops",
            )

    def release(self) -> None:
        self._over.set()
        self._thread.join()
        with contextlib.suppress(Exception):
            self.check()
            self.store.rm(self.key)

    def _made(self) -> bool:
        """Whether there was no such object, and now is."""
        try:
            with self.store.open(self.key, "xb") as file:
                file.write(self._words())
        except OSError:  # FileExistsError, or what a service calls it
            if self._seen() is None:
                raise
            return False
        return True

    def _left_alone(self, seen: dict[str, Any]) -> bool:
        """Whether the process that wrote ``seen`` writes no more."""
        if seen.get("machine") == self.own["machine"] and not _alive(seen.get("process")):
            return True
        print(
            f"dl: {self.address} has a writer, {seen.get('machine')}: waiting {PATIENCE:.0f} s for a sign of "
            "it, to go on where there is none",
            file=sys.stderr,
            flush=True,
        )
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            time.sleep(1)
            if self._seen() != seen:
                return self._seen() is None
        return True

    def _seen(self) -> dict[str, Any] | None:
        try:
            found = json.loads(self.store.cat_file(self.key))
        except FileNotFoundError:
            return None
        except (ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}

    def _words(self) -> bytes:
        self.beats += 1
        return json.dumps({**self.own, "beats": self.beats}).encode()

    def _write(self) -> None:
        self.store.pipe_file(self.key, self._words())

    def _beat(self) -> None:
        while not self._over.wait(BEAT):
            with contextlib.suppress(Exception):  # the store may be out of reach for a while
                if (self._seen() or {}).get("token") != self.own["token"]:
                    self.lost = True
                    return
                self._write()


def _machine() -> str:
    """This machine, as it was started; and of it the container, whose processes have numbers of their own."""
    found = [host.node()]
    with contextlib.suppress(OSError):
        found.append(Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip())
        found.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(found)


def _alive(process: Any) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, TypeError, OverflowError):
        return True
    return True
