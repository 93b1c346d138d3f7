"""Checkpoints that several processes write together: one that cannot write its part tells the others."""

import contextlib
import itertools
import threading
from collections.abc import Callable
from typing import Any

import jax

# Where Orbax's threads wait for each other: all parts are written; the whole has its name.
BARRIERS = ("async_write_complete", "async_commit_complete")
_turns = itertools.count()  # of saving, the same in all processes


class Together:
    """The barriers of saves that several processes make at once, in the place of Orbax's own.

    Where a part cannot be written, Orbax's thread ends and comes to no barrier, at which the others then wait as
    long as they may, twenty minutes. Here the thread that comes after it, to say that the save is over, notes that
    it failed and goes through these barriers in its place, and who comes through one after that fails too: so all
    go on, and none takes the checkpoint for whole.
    """

    def __init__(self, elsewhere: Callable[..., object]) -> None:
        """``elsewhere`` waits as Orbax does, at what other barriers it has."""
        from jax._src import distributed

        self._elsewhere = elsewhere
        self._client: Any = distributed.global_state.client
        self._turn, self._left = 0, list[str]()
        self._saver: threading.Thread | None = None

    def save(self, begin: Callable[[], object]) -> None:
        """``begin()``, which starts Orbax's threads for a save; those of one before it have ended."""
        self._turn, self._left = next(_turns), [*BARRIERS]
        self._saver = threading.current_thread()
        begin()

    def sync(self, *, key: str, timeout_ms: int) -> None:
        """Wait for all others at the barrier that Orbax calls ``key``.

        Raises:
          OSError: one of them could not write its part.
        """
        name = next((name for name in BARRIERS if name in key), None)
        if name is not None:
            self._pass(name, timeout_ms)
            with contextlib.suppress(jax.errors.JaxRuntimeError):  # nobody failed
                self._client.key_value_try_get(f"dl/save/{self._turn}/failed")
                raise OSError("another process could not write its part")
            return
        if threading.current_thread() is not self._saver:  # the save is over
            self._fail(timeout_ms)
        self._elsewhere(key=key, timeout_ms=timeout_ms)

    def _pass(self, name: str, timeout_ms: int) -> None:
        self._client.wait_at_barrier(f"dl/save/{self._turn}/{name}", timeout_ms)
        self._left.remove(name)

    def _fail(self, timeout_ms: int) -> None:
        """Go through the barriers that are left, where any are."""
        for thread in threading.enumerate():
            if thread.name == "async_save":  # which may come there yet
                thread.join()
        with contextlib.suppress(jax.errors.JaxRuntimeError):  # another process is gone
            if self._left:
                where = f"dl/save/{self._turn}/failed"
                self._client.key_value_set(where, "", allow_overwrite=True)
            for name in [*self._left]:
                self._pass(name, timeout_ms)
