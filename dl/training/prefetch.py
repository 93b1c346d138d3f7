"""How batches reach the compiled step: resident on the device, or streamed ahead of it in windows."""

import dataclasses
import queue
import threading
import time
from typing import Any

import jax
import numpy as np

from dl.core.errors import UserError
from dl.core.experiment import Batches, Experiment
from dl.core.task import Batch
from dl.data.batches.resident import Window
from dl.parallel.sharding import Layout

WINDOW_BYTES = 64 * 2**20  # host memory of one window; two wait in the queue


class Resident:
    """Batches that live on the device whole and are gathered inside the compiled step.

    On a mesh every device holds the set, and gathers only the rows that it computes with.
    """

    waited = 0.0

    def __init__(self, batches: Batches, layout: Layout | None = None):
        self.batches = jax.device_put(batches) if layout is None else layout.everywhere(batches)

    def at(self, step: int) -> tuple[Any, int]:
        """The batches to pass to the step, and how many steps from ``step`` on they serve."""
        return self.batches, 2**31

    def close(self) -> None:
        pass


class Streamed:
    """Batches that a background thread reads, stacks into windows and copies to the device.

    On a mesh a process reads the rows of its own devices alone.

    Attributes:
      waited: seconds the training loop stood still for want of data.
    """

    def __init__(
        self, batches: Any, start: int = 0, stop: int | None = None, layout: Layout | None = None
    ):
        self.source, self.layout = batches, layout
        if layout is not None:
            self.source = batches = own_rows(batches, layout)
        first = batches[start]
        size = sum(np.asarray(x).nbytes for x in jax.tree.leaves(first))
        self.length = int(np.clip(WINDOW_BYTES // max(size, 1), 1, 16))
        self.waited = 0.0
        self.stop = stop
        self._window: Window | None = None
        self._start(start)

    def _start(self, start: int) -> None:
        self.begin = self.end = start
        self._queue: queue.Queue[Any] = queue.Queue(maxsize=2)
        self._closed = threading.Event()
        arguments = (start, self._queue, self._closed)
        self._thread = threading.Thread(target=self._read, args=arguments, daemon=True)
        self._thread.start()

    def _read(self, start: int, out: queue.Queue[Any], closed: threading.Event) -> None:
        try:
            stacked: list[Batch] = []
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

    def _put(
        self, out: queue.Queue[Any], closed: threading.Event, start: int, stacked: list[Batch]
    ) -> bool:
        arrays = self._place(jax.tree.map(lambda *x: np.stack(x), *stacked))
        window = Window(arrays, np.int32(start))
        while not closed.is_set():
            try:
                out.put(window, timeout=0.2)
                return True
            except queue.Full:
                continue
        return False

    def _place(self, arrays: Any) -> Any:
        if self.layout is None:
            return jax.device_put(arrays)
        rows, size = self.layout.rows(axis=1), self.source.batch_size

        def place(x: np.ndarray) -> jax.Array:
            shape = (x.shape[0], size, *x.shape[2:])
            return jax.make_array_from_process_local_data(rows, x, shape)

        return jax.tree.map(place, arrays)

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


def own_rows(batches: Any, layout: Layout) -> Any:
    """Streamed ``batches`` that read only the rows of this process's devices.

    Evaluation batches, whose size changes no metric, grow to one that the mesh divides.
    """
    size = batches.batch_size
    if hasattr(batches, "__len__"):
        size = -(-size // layout.pieces) * layout.pieces
    slices: Any = layout.rows().devices_indices_map((size,))
    spans: dict[int, set[tuple[int, int]]] = {}
    for device, rows in slices.items():
        spans.setdefault(device.process_index, set()).add(rows[0].indices(size)[:2])
    shard = own_shard(spans, jax.process_index())
    return dataclasses.replace(batches, batch_size=size, shard=shard)


def own_shard(spans: dict[int, set[tuple[int, int]]], process: int) -> tuple[int, int]:
    """Which of how many equal pieces of a batch a process reads, of the rows that the devices of each compute.

    Where another axis than the batch's cuts across processes, as ``data=8,tensor=3`` does on three hosts of eight
    devices, what they compute is not alike: then each reads all rows.
    """
    pieces = set(map(frozenset, spans.values()))
    every = sorted(span for piece in pieces for span in piece)
    if len(set(every)) < len(every) or len(set(map(len, pieces))) > 1:
        return 0, 1
    return sorted(map(sorted, pieces)).index(sorted(spans[process])), len(pieces)


def check_divisible(experiment: Experiment, layout: Layout) -> None:
    """Raises where the training batches, or the micro-batches they are computed in, cannot be cut evenly over
    the mesh."""
    rows, micro, pieces = experiment.data.batch_size, experiment.micro_batches, layout.pieces
    if rows // micro % pieces == 0 and rows % pieces == 0:
        return
    told = f"micro-batches of {rows // micro} rows" if micro > 1 else f"batches of {rows}"
    raise UserError(
        "shard-impossible",
        f"{told} cannot be cut into {pieces} equal pieces for the devices along data, fsdp and expert: "
        f"choose a batch size that is a multiple of {pieces * micro}",
    )


def prefetch(batches: Batches, start: int = 0, layout: Layout | None = None) -> Resident | Streamed:
    """``batches`` ready for the compiled step, the streamed ones read from step ``start`` on."""
    if hasattr(batches, "iterate"):
        every_lane_s = layout is not None and "lanes" in layout.mesh.shape
        return Streamed(batches, start, layout=None if every_lane_s else layout)
    return Resident(batches, layout)
