"""Several processes as one run: all go through the same steps, and one of them writes and prints.

Every process runs the same code on its own devices. What they must not each decide for themselves (the
folder's name, how many steps the next piece has, whether to stop) is agreed on here. Alone, a process
agrees with itself and nothing is sent.
"""

import contextlib
import itertools
import json
import os
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from dl import platform
from dl.core.errors import UserError, one_line

PATIENCE = 10.0  # seconds, until it is said that others are waited for
_turns = itertools.count()  # of agreeing by JAX's coordination service, the same in all processes
_said = False  # that another is waited for


def join(coordinator: str | None, processes: int | None, process: int | None) -> None:
    """Join the other processes of this run, where the arguments or the environment name some.

    Raises:
      UserError: they are incomplete, came too late, or the others cannot be reached; or JAX has no
        device to compute on.
    """
    try:
        with _waiting():
            platform.start_distributed(coordinator, processes, process)
    except ValueError as error:
        raise UserError(
            "processes-unnamed",
            f"this run cannot find its other processes ({one_line(error)}): give --coordinator host:port, "
            "--processes N and --process I, or let SLURM, Kubernetes or a TPU pod start it",
        ) from None
    except RuntimeError as error:
        if "before" in str(error):
            raise UserError(
                "jax-began-early",
                "JAX computed something before this run could join its other processes: start scripts "
                "through dl.main, or call dl.platform.start_distributed before anything else",
            ) from None
        raise UserError(
            "processes-absent",
            f"the other processes of this run did not come ({one_line(error)}): start all of them, each "
            "with the same --coordinator and --processes and its own --process",
        ) from None
    check_devices()


def check_devices() -> None:
    """Raise UserError where JAX has no device to compute on; opens them, so what they depend on comes before."""
    if lacking := platform.no_backend():
        raise UserError("device-missing", lacking)


@contextlib.contextmanager
def _waiting() -> Iterator[None]:
    """While processes are missing, JAX is silent for five minutes and then aborts in many lines; it lets Python
    hear of no signal. So within it is said what is waited for, and SIGINT and SIGTERM end the process."""
    told = threading.Timer(PATIENCE, _tell)
    told.daemon = True
    told.start()
    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) not in (signal.SIG_IGN, None):
                before[number] = signal.signal(number, signal.SIG_DFL)
    try:
        yield
    finally:
        told.cancel()
        for number, handler in before.items():
            signal.signal(number, handler)


def _tell() -> None:
    print(
        "waiting for the other processes of this run: start all of them, each with the same --coordinator and "
        "--processes and its own --process; JAX ends this one where they are not there after five minutes",
        file=sys.stderr,
        flush=True,
    )


def place_among(processes: int | None = None, process: int | None = None) -> tuple[int, int]:
    """How many processes were started together and which of them this is, from the arguments or the environment
    (JAX's variables, SLURM's, an MPI launcher's), for work that needs no common JAX; ``(1, 0)`` alone. Of the GPUs
    that SLURM shows, this process then sees its own.

    Raises:
      ValueError: one of the two is lacking or no whole number, or there is no such process.
    """
    processes = platform.whole_number(processes, "JAX_NUM_PROCESSES")
    process = platform.whole_number(process, "JAX_PROCESS_ID")
    for count, place in platform.LAUNCHERS.items():
        if processes is None and process is None and count in os.environ:
            processes = platform.whole_number(None, count)
            process = platform.whole_number(None, place)
    if processes is None and process is None:
        if platform.launched():
            raise ValueError("they were started together, and nothing says which this is")
        return 1, 0
    if processes is None or process is None:
        raise ValueError("the number of processes and this process's go together")
    if not 0 <= process < processes:
        raise ValueError(
            f"of {processes} processes there is no number {process}: they count from 0"
        )
    if own := platform.slurm_gpus():
        shown = os.environ["CUDA_VISIBLE_DEVICES"].split(",")
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(shown[place] for place in own)
    return processes, process


def first() -> bool:
    """Whether this is the process that writes and prints."""
    return jax.process_index() == 0


def on_first_process(function: Callable[[], Any]) -> Any:
    """What ``function()`` returns in process 0, in every process: JSON's types, or numbers of NumPy's.

    A UserError there is raised in all of them.
    """
    if jax.process_count() == 1:
        return function()
    answer: dict[str, Any] = {}
    if first():
        try:
            answer = {"value": function()}
        except UserError as error:
            answer = {"error": error.args}
    text = np.frombuffer(json.dumps(answer, default=float).encode(), np.uint8)
    length = int(multihost_utils.broadcast_one_to_all(np.int32(len(text))))
    text = np.resize(text, length) if first() else np.zeros(length, np.uint8)
    answer = json.loads(bytes(multihost_utils.broadcast_one_to_all(text)))
    if "error" in answer:
        raise UserError(*answer["error"])
    return answer["value"]


def smallest(*numbers: int) -> list[int]:
    """Of each of ``numbers`` the smallest of all processes.

    Accelerators take no part: a program of theirs would wait for the steps that were sent before it, and the next
    ones for it. CPUs do, over gloo, which tells at once of a process that was killed (see :func:`lost`).
    """
    if jax.process_count() == 1:
        return list(numbers)
    if by_devices():
        return multihost_utils.process_allgather(np.array(numbers, np.int32)).min(0).tolist()
    return _by_service([int(number) for number in numbers])


def by_devices() -> bool:
    """Whether processes agree by a program of their devices."""
    return jax.default_backend() == "cpu"


def _by_service(numbers: list[int]) -> list[int]:
    """:func:`smallest` by JAX's coordination service: each tells the first, which tells all."""
    from jax._src import distributed

    client: Any = distributed.global_state.client
    turn = next(_turns)
    here, place = jax.process_index(), f"dl/smallest/{turn}"
    if here:
        client.key_value_set(f"{place}/{here}", json.dumps(numbers))
        found: list[int] = json.loads(_told(client, f"{place}/all"))
        return found
    others = [f"{place}/{process}" for process in range(1, jax.process_count())]
    told = [numbers, *(json.loads(_told(client, key)) for key in others)]
    found = [min(each) for each in zip(*told, strict=True)]
    client.key_value_set(f"{place}/all", json.dumps(found))
    # Who has told of this turn has read the last one's answer.
    for key in (*others, *([f"dl/smallest/{turn - 1}/all"] if turn else [])):
        client.key_value_delete(key)
    return found


def _told(client: Any, key: str) -> str:
    """The value of a key once it is set; says once that another process is waited for."""
    global _said
    begun = time.monotonic()
    while True:
        try:
            return str(client.blocking_key_value_get(key, 1000))  # after which signals are heard
        except jax.errors.JaxRuntimeError as error:
            if "DEADLINE_EXCEEDED" not in str(error):
                raise
        if not _said and time.monotonic() - begun > 2 * PATIENCE:
            _said = True
            print(
                "dl: waiting for another process of this run; where it is gone JAX ends this one too, half a "
                "minute after: start all again with --resume",
                file=sys.stderr,
                flush=True,
            )


def all_or_none(function: Callable[[], Any]) -> Any:
    """What ``function()`` returns here, if it returns in every process; an error in one is one in all."""
    if jax.process_count() == 1:
        return function()
    value, failed = None, None
    try:
        value = function()
    except Exception as error:
        failed = error
    if smallest(failed is None) == [0]:
        raise failed or OSError("another process could not read its part")
    return value


def lost(error: Exception) -> bool:
    """Whether ``error`` tells that another process of this run is gone."""
    signs = (
        r"Gloo|NCCL|UNAVAILABLE|DEADLINE_EXCEEDED|Connection (reset|closed)|coordination service|"
        r"waiting for \S+ barrier"  # Orbax's, where one is killed while all write a checkpoint
    )
    return jax.process_count() > 1 and re.search(signs, str(error)) is not None


def several() -> bool:
    """Whether this process has joined others."""
    from jax._src import distributed

    known = distributed.global_state
    return known.client is not None and (known.num_processes or 1) > 1


def leave_last() -> None:
    """Before the process that JAX's coordination service runs in ends by an error: let the others end first, each
    in its own line. The service's end would abort them in many.

    They wait for what this process computes no more, so the connections by which it would are closed. Where the
    system does not list them (no Linux), or they do not end within ten seconds, they are aborted.
    """
    from jax._src import distributed

    known = distributed.global_state
    if known.process_id != 0 or not several():
        return
    port = int(str(known.coordinator_address).rpartition(":")[2])
    for connection in _connections():
        if port not in _ports(connection):
            with contextlib.suppress(OSError):  # it is closed already
                connection.shutdown(socket.SHUT_RDWR)
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        ends = [_ports(each) for each in _connections()]
        own = {here for here, _ in ends}
        if not any(here == port and there not in own for here, there in ends):
            return
        time.sleep(0.02)


def _ports(connection: socket.socket) -> tuple[int, int]:
    """Of this end and of the other; 0 where it has been closed since."""
    try:
        return connection.getsockname()[1], connection.getpeername()[1]
    except OSError:
        return 0, 0


def _connections() -> list[socket.socket]:
    """The connections over TCP that this process has, as copies that closing leaves the others as they are."""
    found = []
    with contextlib.suppress(OSError):
        for number in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):  # it is none, or none any more
                if os.readlink(f"/proc/self/fd/{number}").startswith("socket:"):
                    own = socket.socket(fileno=os.dup(int(number)))
                    if own.family in (socket.AF_INET, socket.AF_INET6) and own.getpeername():
                        found.append(own)
    return found
