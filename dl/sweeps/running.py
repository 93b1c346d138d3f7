"""How a sweep is carried out: group by group, each in one compiled program, in chunks that fit the device."""

import dataclasses
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any, get_args

import jax
import numpy as np

from dl.core.errors import UserError
from dl.core.experiment import Experiment
from dl.core.lanes import Mode, initial, shape_source
from dl.platform import host_memory
from dl.runs import lock
from dl.runs.folder import RunFolder, newest_step, read_json, write_json
from dl.runs.options import Options
from dl.sweeps.among import Among
from dl.sweeps.groups import Group, Sweep
from dl.training.compiled import Compiled
from dl.training.console import Console
from dl.training.halving import kept_on_average
from dl.training.hooks import cadence_of
from dl.training.lane import Lane
from dl.training.loop import run_lanes
from dl.training.plan import step_cost, tree_bytes
from dl.training.prefetch import prefetch
from dl.training.selection import Selection
from dl.training.trackers import trackers


@dataclasses.dataclass(frozen=True)
class Work:
    """What all groups of a sweep have in common: what is wished, how and where it is carried out and shown, and by
    which of several processes."""

    sweep: Sweep
    options: Options
    place: Path
    console: Console
    among: Among


def settle(group: Group, number: int, work: Work) -> dict[str, Any]:
    """The ``mode`` of a group's lanes and how many a ``chunk`` has: decided once and kept, so that a resumed sweep
    goes on with the same programs, and every process with the same chunks.

    Raises:
      UserError: it was started with another mode.
    """
    file, sweep = work.place / f"group-{number}.json", work.sweep
    if not group.fields:
        if sweep.lanes == "vmap":
            work.console.warn(
                f"{group.names[0]} runs alone: its config has no field that can be traced"
            )
        return {"mode": "map", "chunk": 1}
    if not file.exists():
        write_json(file, found := _settle(group, work))
        return found
    found = read_json(file)
    if sweep.lanes not in ("auto", found["mode"]):
        raise UserError(
            "config-changed",
            f"{work.place} was started with --lanes {found['mode']}, not {sweep.lanes}: give the same, or "
            "another --name",
        )
    return found


def run_group(group: Group, number: int, settled: dict[str, Any], work: Work) -> str | None:
    """Run those lanes of one group that are this process's and not at their end, chunk by chunk; the name of a
    signal that stopped them, or None.

    Raises:
      UserError: the program is another all the same, or the lanes are computed in another way.
    """
    mode, size, options = settled["mode"], settled["chunk"], work.options
    if work.sweep.halve and 1 < size < len(group.names):
        work.console.warn(f"--halve compares the {size} lanes of a chunk with each other alone")
    cadence = cadence_of(group.experiment, options)
    for part, start in enumerate(range(0, len(group.names), size)):
        some = slice(start, start + size)
        folders = [RunFolder(work.place / "lanes" / name) for name in group.names[some]]
        mine = work.among.takes(number + part)  # groups may be of one lane each
        if not mine or all(folder.finished() for folder in folders):
            continue
        # One process alone holds the sweep's folder; of several each holds what it works on.
        with folders[0].held(new=False) if work.among.processes > 1 else nullcontext():
            how = {"mode": mode, "lanes": group.names[some], "fields": group.fields}
            for folder in folders:
                lock.add(folder, computed={**how, "halve": work.sweep.halve})
            lanes = [
                Lane(
                    folder,
                    Selection(group.experiment.select),
                    trackers(options, folder, group.experiment, config, work.console.warn),
                )
                for folder, config in zip(folders, group.configs[some], strict=True)
            ]
            compiled = group.compiled(mode, some)
            shared = work.place / "checkpoints" / f"{number}-{part}"
            for folder in folders:
                if not folder.finished():
                    lock.note_resumed(
                        folder, group.changed, max(newest_step(shared), folder.saved())
                    )
            program = None if group.changed else read_json(folders[0].lock).get("program")
            stopped = run_lanes(
                compiled, lanes, shared, cadence, work.console, work.sweep.halve, program
            )
        if stopped:
            return stopped
    return None


def _settle(group: Group, work: Work) -> dict[str, Any]:
    """How to run a group: its mode, measured where that is left open, and lanes a chunk."""
    experiment, lanes = group.experiment, len(group.names)
    sweep, console = work.sweep, work.console
    most = -(-lanes // work.among.processes)
    limit, need = _memory(), _lane_bytes(experiment)
    if need * lanes > limit // 20:  # near enough to ask the compiler
        need = _compiled_bytes(experiment)
    chunk = int(np.clip(limit // max(need, 1), 1, most))
    devices = len(jax.local_devices())
    if devices > 1 and most >= devices:
        # Lanes are dealt to the devices evenly, and what is left over makes a chunk of its own.
        chunk = min(max(chunk // devices, 1), most // devices) * devices
    mode: Mode = "map" if sweep.lanes == "auto" else sweep.lanes
    if sweep.lanes == "auto" and lanes > 1:
        every = work.options.cadence(experiment.steps)
        rates = {m: _rate(group, m, chunk, every["log_every"]) for m in get_args(Mode)}
        told = ", ".join(f"{m} {rate:,.0f}" for m, rate in rates.items())
        # Under map a lane that was dropped costs nothing any more; under vmap it goes on idling.
        share = kept_on_average(lanes, experiment.steps, every["eval_every"], sweep.halve)
        rates["map"] /= share
        mode = max(rates, key=rates.__getitem__)
        console.say(f"lanes by {mode} (steps/s over all lanes: {told})")
    if chunk < most:
        console.say(
            f"{lanes} lanes of {need / 2**20:.0f} MiB do not fit into {limit / 2**30:.1f} GiB: "
            f"run in chunks of {chunk}"
        )
    return {"mode": mode, "chunk": chunk}


def _rate(group: Group, mode: Mode, lanes: int, log_every: int) -> float:
    """Measured steps a second, all lanes together, of the program that the sweep will run."""
    compiled = group.compiled(mode, slice(0, min(lanes, 64)))
    begin, source = compiled.beginning(), prefetch(group.experiment.data)
    batches, _ = source.at(0)
    program = compiled.step(begin.shapes, batches, log_every)
    state, totals, best = begin.state(), program.zeros(), 0.0
    program.wait()
    for count in (1, 2, 4):
        begun = time.perf_counter()
        state, totals, finite = program(state, totals, batches, count)
        jax.block_until_ready(finite)
        best = max(best, count * compiled.lanes / (time.perf_counter() - begun))
    source.close()
    return best


def _lane_bytes(experiment: Experiment) -> int:
    """A guess at one lane's device memory: its state twice (now and best), and the step's temporaries,
    taken for forty inputs' worth."""
    data = shape_source(experiment)
    state = jax.eval_shape(lambda data: initial(experiment, {}, data), data)
    batch = data if isinstance(data, dict) else jax.eval_shape(lambda data: data[0], data)
    return 3 * tree_bytes(state) + 40 * tree_bytes(batch)


def _compiled_bytes(experiment: Experiment) -> int:
    """One lane's device memory, with the temporaries that its compiled step asks for."""
    compiled, source = Compiled(experiment), prefetch(experiment.data)
    shapes = compiled.beginning().shapes
    program = compiled.step(shapes, source.at(0)[0])
    source.close()
    program.wait()
    return 2 * tree_bytes(shapes) + int(step_cost(program)["temporary"])


def _memory() -> int:
    """Bytes that a sweep may take: four fifths of the device's, half of a host's."""
    stats = jax.local_devices()[0].memory_stats() or {}
    if "bytes_limit" in stats:
        return int(0.8 * (stats["bytes_limit"] - stats.get("bytes_in_use", 0)))
    return host_memory() // 2
