"""A sweep carried out by several processes, on one machine or many: each takes lanes of its own.

Lanes need nothing of each other, so the processes do not either: they share the sweep's folder alone. One that is
killed costs the others nothing, and started again it goes on with its lanes.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import jax

from dl.core.errors import UserError
from dl.parallel import processes
from dl.runs import store
from dl.runs.folder import RunFolder, write_json
from dl.runs.options import Options
from dl.training.console import Console
from dl.training.signals import Signals

MARK = "processes.json"  # in the sweep's folder, once all of it is there for others to begin
LOOK = 0.5  # seconds between two looks at what others have written
PATIENCE = 10.0  # seconds, until it is said what is waited for


class Among(NamedTuple):
    """How many processes carry a sweep out, and which of them this is. The first one makes the sweep's folder, and
    ends it once all lanes have their results."""

    processes: int = 1
    process: int = 0

    @property
    def first(self) -> bool:
        return self.process == 0

    def takes(self, number: int) -> bool:
        """Whether the piece of work of that number is this process's."""
        return number % self.processes == self.process


def among(options: Options) -> Among:
    """The processes that ``options`` or a launcher tell of.

    Raises:
      UserError: they are told wrongly, share no folder or more than it (a coordinator, JAX), or JAX has no device.
    """
    if options.coordinator is not None:
        raise UserError(
            "option-misplaced",
            "the processes of a sweep find each other by the folder that they share: leave --coordinator out",
        )
    try:
        own = Among(*processes.place_among(options.processes, options.process))
    except ValueError as error:
        raise UserError(
            "processes-unnamed",
            f"this sweep cannot tell its processes apart ({error}): give --processes N and --process I, or let "
            "SLURM or mpirun start them",
        ) from None
    processes.check_devices()
    if jax.process_count() > 1:
        raise UserError(
            "option-misplaced",
            "a sweep's processes have no common JAX, and this one shares it with others: start each by itself, on "
            "a TPU slice with TPU_PROCESS_BOUNDS=1,1,1, or leave them out",
        )
    if own.processes > 1 and options.name is None:
        raise UserError(
            "option-misplaced",
            "several processes find one sweep by its name: give all of them the same --name",
        )
    if own.processes > 1 and store.url(options.runs) is not None:
        raise UserError(
            "option-misplaced",
            "the processes of a sweep write their lanes into one folder that all see: give --runs a path on a "
            "shared disk, or start one process",
        )
    return own


def may_begin(place: Path, own: Among) -> None:
    """Called by the first process when the folder of the sweep is whole."""
    if own.processes > 1:
        write_json(place / MARK, {"processes": own.processes})


def wait_to_begin(place: Path) -> None:
    """Wait until the first process has made the folder; Ctrl-C and SIGTERM end the process."""
    _wait(
        lambda: (place / MARK).exists(),
        f"waiting for the first process (--process 0), which makes {place}",
        lambda: False,
    )


def wait_for_lanes(place: Path, lanes: Sequence[str], own: Among) -> str | None:
    """Wait until every lane has its result; the name of a signal that came first, or None."""
    if own.processes == 1:
        return None
    folders = [RunFolder(place / "lanes" / name) for name in lanes]
    with Signals() as signals:
        _wait(
            lambda: all(folder.finished() for folder in folders),
            "waiting for the lanes of other processes: start those again that are gone, with --resume",
            lambda: signals.caught is not None,
        )
        return signals.name or None


def _wait(over: Callable[[], bool], told: str, asked: Callable[[], bool]) -> None:
    begun = time.monotonic()
    said = False
    while not over() and not asked():
        time.sleep(LOOK)
        if not said and time.monotonic() - begun > PATIENCE:
            Console().warn(told)
            said = True
