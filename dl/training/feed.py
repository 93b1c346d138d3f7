"""How batches reach the compiled step: resident on the device, or streamed ahead of it in windows."""

import queue
import threading
import time
from typing import Any

import jax
import numpy as np

from dl.core.experiment import Batches
from dl.data.batches import Window

WINDOW_BYTES = 64 * 2**20  # host memory of one window; two wait in the queue


class Resident:
    """Batches that live on the device whole and are gathered inside the compiled step."""

    waited = 0.0

    def __init__(self, batches: Batches):
        self.batches = jax.device_put(batches)

    def at(self, step: int) -> tuple[Any, int]:
        """The batches to pass to the step, and how many steps from ``step`` on they serve."""
        return self.batches, 2**31

    def close(self) -> None:
        pass


class Streamed:
    """Batches that a background thread reads, stacks into windows and copies to the device.

    Attributes:
      waited: seconds the training loop stood still for want of data.
    """

    def __init__(self, batches: Any, start: int = 0, stop: int | None = None):
        self.source = batches
        first = batches[start]
        size = sum(np.asarray(x).nbytes for x in jax.tree.leaves(first))
        self.length = int(np.clip(WINDOW_BYTES // max(size, 1), 1, 16))
        self.waited = 0.0
        self.stop = stop
        self._window: Window | None = None
        self._start(start)

    def _start(self, start: int) -> None:
        self.begin = self.end = start
        self._queue: queue.Queue = queue.Queue(maxsize=2)
        self._closed = threading.Event()
        arguments = (start, self._queue, self._closed)
        self._thread = threading.Thread(target=self._read, args=arguments, daemon=True)
        self._thread.start()

    def _read(self, start, out, closed) -> None:
        try:
            stacked: list = []
            for batch in self.source.iterate(start):
                stacked.append(batch)
                if len(stacked) == self.length and not self._put(out, closed, start, stacked):
                    return
                if len(stacked) == self.length:
                    start, stacked = start + self.length, []
            if stacked:
                # A finite set's last window is filled up, so that all windows have one shape.
                padded = stacked + stacked[-1:] * (self.length - len(stacked))
                self._put(out, closed, start, padded)
        except BaseException as error:
            out.put(error)

    def _put(self, out, closed, start, stacked) -> bool:
        arrays = jax.device_put(jax.tree.map(lambda *x: np.stack(x), *stacked))
        window = Window(arrays, np.int32(start))
        while not closed.is_set():
            try:
                out.put(window, timeout=0.2)
                return True
            except queue.Full:
                continue
        return False

    def at(self, step: int) -> tuple[Window, int]:
        """The window that holds ``step``, and how many steps from ``step`` on it serves."""
        while self._window is None or not self.begin <= step < self.end:
            begun = time.perf_counter()
            window = self._queue.get()
            self.waited += time.perf_counter() - begun
            if isinstance(window, BaseException):
                raise window
            self._window = window
            self.begin = int(window.start)
            self.end = self.begin + self.length
        return self._window, self.end - step

    def close(self) -> None:
        self._closed.set()
        # Readers with processes of their own complain if Python ends under them.
        self._thread.join(timeout=5)


def feed(batches: Batches, start: int = 0) -> Resident | Streamed:
    """``batches`` ready for the compiled step, the streamed ones read from step ``start`` on."""
    return Streamed(batches, start) if hasattr(batches, "iterate") else Resident(batches)
