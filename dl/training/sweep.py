"""A whole sweep: lanes grouped by structure, one compiled program a group, a run folder a lane."""

import dataclasses
import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import jax
import numpy as np

from dl.core.errors import UserError, unknown
from dl.core.experiment import Experiment, built
from dl.core.population import Mode, initial, liftable, shape_source
from dl.platform import host_memory
from dl.report.plots import shown
from dl.report.sweeps import figures, html_table, read_lanes, settings, write_report
from dl.training import lock
from dl.training.checks import check
from dl.training.console import Console
from dl.training.feed import feed
from dl.training.folder import RunFolder, new_name, read_json, to_json, write_json
from dl.training.grid import Overrides, kept_on_average, lane_name, parse_field, plan
from dl.training.lanes import Lane, Lanes
from dl.training.loop import Cadence
from dl.training.options import Options, describe
from dl.training.plan import step_cost, tree_bytes
from dl.training.programs import (
    TrainProgram,
    beginning,
    empty_metrics,
    initial_state,
    lane_values,
)
from dl.training.scripts import script_of
from dl.training.selection import Selection


@dataclasses.dataclass(frozen=True)
class Sweep:
    """Many runs in one compiled program, one folder each. Any of the first three starts a sweep."""

    seeds: int = 1
    """runs of each setting, with seed, seed + 1, ..."""
    sweep: tuple[str, ...] = ()
    """fields to vary: field=a,b,c or field=low:high:count[:log] or, at random, field=low:high[:log]"""
    trials: int = 0
    """draws of the random fields"""
    lanes: Literal["auto", "map", "vmap"] = "auto"
    """map: bit-equal to solo runs; vmap: side by side; auto measures which is faster"""
    halve: int | None = None
    """successive halving: at 1/H, 1/H^2, ... of the run keep the best 1/H of the lanes"""

    @property
    def wanted(self) -> bool:
        return self.seeds > 1 or bool(self.sweep) or self.trials > 0


@dataclasses.dataclass(frozen=True)
class Group:
    """Lanes of one structure: they differ in the traced ``fields`` alone."""

    experiment: Experiment
    fields: list[str]
    lanes: list[Lane]


def run_sweep(
    build: Callable[[Any], Experiment],
    config: Any,
    sweep: Sweep,
    options: Options,
    convert: Callable[[str, str], Any],
    script: Path | None = None,
) -> Path:
    """Carry a sweep out, or go on with it; returns its folder.

    Args:
      build, config: as for a run; the sweep varies fields of ``config``.
      convert: ``(field, text) -> value`` in the field's type.

    Raises:
      UserError: fields that are not there, or another sweep of that name.
    """
    fields = [parse_field(text, _names(config, sweep)) for text in sweep.sweep]
    overrides = plan(fields, getattr(config, "seed", 0), sweep.seeds, sweep.trials, convert)
    return _carry_out(build, config, sweep, overrides, options, script)


class SweepRun:
    """A finished sweep: ``folder``, and what it found."""

    def __init__(self, folder: Path):
        self.folder = folder

    @property
    def settings(self) -> list[dict[str, Any]]:
        """Settings with their seeds together, best first (see :func:`dl.report.sweeps.settings`)."""
        return settings(read_lanes(self.folder))

    def plot(self):
        """The selected value against each field, seeds as points and bands, as a matplotlib figure,
        saved as ``report.png``: a notebook shows it, and elsewhere the file's path is printed."""
        return shown(figures(self.settings), self.folder / "report.png")

    def report(self) -> Path:
        """Write the page that `dl sweep report` writes; returns its file."""
        return write_report(self.folder)[-1]

    def _repr_html_(self) -> str:
        return html_table(self.settings)

    def __repr__(self) -> str:
        best = self.settings[0]
        return f"SweepRun({str(self.folder)!r}: best {best['value']:.4g} with {best['fields']})"


def sweep(
    build: Callable[[Any], Experiment],
    config: Any,
    over: Mapping[str, Sequence[Any]] | None = None,
    *,
    seeds: int = 1,
    lanes: Literal["auto", "map", "vmap"] = "auto",
    halve: int | None = None,
    **options: Any,
) -> SweepRun:
    """Run every combination of the values in ``over``, times ``seeds``, in as few compiled programs as
    their structure allows; each lane is a full run folder.

    >>> dl.sweep(build, Config(), {"learning_rate": [1e-3, 1e-2]}, seeds=3)  # doctest: +SKIP

    Args:
      build, config: as for a run: ``build(config)`` is an Experiment.
      over: values by config field.
      seeds, lanes, halve: see :class:`Sweep`.
      **options: fields of :class:`dl.training.run.Options`.
    """
    wish = Sweep(seeds=seeds, lanes=lanes, halve=halve)
    known = _names(config, wish)
    for name in over or {}:
        if name not in known:
            raise unknown("field to sweep,", name, known)
    axes = [[(name, value) for value in values] for name, values in (over or {}).items()]
    first = getattr(config, "seed", 0)
    numbers = [[("seed", first + i)] for i in range(seeds)] if seeds > 1 else [[]]
    cells = itertools.product(itertools.product(*axes), numbers)
    overrides = [dict([*cell, *number]) for cell, number in cells]
    script = script_of(config)
    return SweepRun(_carry_out(build, config, wish, overrides, Options(**options), script))


def _names(config: Any, wish: Sweep) -> list[str]:
    """The config's fields; raises where the wish cannot be met with them."""
    known = [f.name for f in dataclasses.fields(config)]
    if wish.seeds > 1 and "seed" not in known:
        raise UserError("a sweep over seeds needs a field called seed in the Config")
    if wish.halve is not None and wish.halve < 2:
        raise UserError(f"halving by {wish.halve}: keep one lane of 2 or more")
    return known


def _carry_out(
    build: Callable[[Any], Experiment],
    config: Any,
    sweep: Sweep,
    overrides: list[Overrides],
    options: Options,
    script: Path | None,
) -> Path:
    if jax.process_count() > 1 or options.mesh or options.deterministic_topology:
        raise UserError(
            "a sweep is one process whose lanes lie over all its devices, a lane on one of them: leave "
            "--mesh, --deterministic-topology and --coordinator out"
        )
    console = Console(options.progress)
    check(built(build, dataclasses.replace(config, **overrides[0])))
    place, go_on = _folder(config, sweep, overrides, options, script)
    with RunFolder(place).held():
        groups = _groups(build, config, overrides, place, options, script, go_on)
        lanes = [lane for group in groups for lane in group.lanes]
        console.say(
            f"sweep {place}: {len(lanes)} lanes in {len(groups)} compiled "
            f"program{'s' if len(groups) > 1 else ''}"
        )
        structural = _structural(groups, overrides)
        if structural:
            console.say(f"structural, so compiled one by one: {', '.join(structural)}")
        for number, group in enumerate(groups):
            left = [lane for lane in group.lanes if not lane.folder.finished()]
            if left and not _run_group(group, number, sweep, options, place, console):
                console.say(f"stopped; all is saved in {place}")
                return place
        write_json(place / "result.json", {"lanes": len(lanes), "finished": True})
    return place


def _folder(config, sweep, overrides, options, script) -> tuple[Path, bool]:
    """The sweep's folder, and whether it is there to be continued."""
    spec = to_json(
        {"config": dataclasses.asdict(config), "overrides": overrides, "halve": sweep.halve}
    )
    if options.name is not None:
        place = options.runs / options.name
        go_on = (place / "sweep.json").exists()
        if go_on and not options.resume:
            raise UserError(
                f"{place} is there already: go on with it by --resume, or choose another --name"
            )
    else:
        place = options.runs / new_name(options.runs, f"{script.stem if script else 'run'}-sweep")
        go_on = False
        if options.resume:
            alike = [
                p.parent
                for p in options.runs.glob("*/sweep.json")
                if read_json(p)["spec"] == spec and not (p.parent / "result.json").exists()
            ]
            if not alike:
                raise UserError(f"no unfinished sweep of this kind lies in {options.runs}/")
            # All lead to the same bits: the one that has come furthest, by what is there, not by a clock.
            place = max(alike, key=lambda p: (len([*p.glob("lanes/*/result.json")]), p.name))
            go_on = True
    if go_on and read_json(place / "sweep.json")["spec"] != spec:
        raise UserError(
            f"{place} was started with other settings: give the same, or another --name"
        )
    if not go_on:
        try:
            place.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"cannot make {place} ({error.strerror})") from None
        write_json(place / "sweep.json", {"spec": spec, "script": script, "started": time.time()})
    return place, go_on


def _groups(build, config, overrides, place, options, script, go_on) -> list[Group]:
    """Lanes by structure: configs that agree in every field that cannot be traced."""
    found: dict[str, Group] = {}
    environments: dict[str, dict] = {}
    for number, own in enumerate(overrides):
        chosen = dataclasses.replace(config, **own)
        key = next((k for k, g in found.items() if _same_structure(chosen, g)), None)
        if key is None:
            experiment = built(build, chosen)
            if found:  # the first was checked before the folder was made
                check(experiment)
            key = str(number)
            found[key] = Group(experiment, list(liftable(experiment)), [])
            environments[key] = lock.environment(experiment, script)
        group = found[key]
        folder = RunFolder(place / "lanes" / lane_name(number, own))
        if not folder.exists():
            folder.path.mkdir(parents=True, exist_ok=True)
            write_json(
                folder.lock,
                {"script": script and script.absolute(), "environment": environments[key]},
            )
            described = dataclasses.replace(group.experiment, config=chosen)
            write_json(folder.config, describe(described, options))
        group.lanes.append(Lane(folder, chosen, Selection(group.experiment.select)))
    return list(found.values())


def _same_structure(config: Any, group: Group) -> bool:
    mine, theirs = dataclasses.asdict(config), dataclasses.asdict(group.experiment.config)
    return all(
        type(mine[n]) is type(theirs[n]) if n in group.fields else mine[n] == theirs[n]
        for n in mine
    )


def _structural(groups: list[Group], overrides: list[Overrides]) -> list[str]:
    swept = {name for own in overrides for name in own}
    traced = set.intersection(*(set(group.fields) for group in groups))
    return sorted(swept - traced) if len(groups) > 1 else []


def _run_group(
    group: Group, number: int, sweep: Sweep, options: Options, place: Path, console: Console
) -> bool:
    """Run the lanes of one group, in chunks that fit the device; False where a signal stopped it."""
    file = place / f"group-{number}.json"
    # Decided once and kept, so that a resumed sweep goes on with the same programs.
    if file.exists():
        settled = dict(read_json(file))
    else:
        settled = _settle(group, sweep, options, console)
        write_json(file, settled)
    size = settled["chunk"]
    cadence = Cadence(group.experiment.steps, **options.cadence(group.experiment.steps))
    for part, start in enumerate(range(0, len(group.lanes), size)):
        lanes = group.lanes[start : start + size]
        if all(lane.folder.finished() for lane in lanes):
            continue
        program = Lanes(
            group.experiment, lanes, group.fields, settled["mode"],
            place / "checkpoints" / f"{number}-{part}", cadence, console, sweep.halve,
        )  # fmt: skip
        if program.run() != "done":
            return False
    return True


def _settle(group: Group, sweep: Sweep, options: Options, console: Console) -> dict[str, Any]:
    """How to run a group: its mode, measured where that is left open, and lanes a chunk."""
    experiment, lanes = group.experiment, len(group.lanes)
    if not group.fields:
        return {"mode": "map", "chunk": 1}
    limit, need = _memory(), _lane_bytes(experiment)
    if need * lanes > limit // 20:  # near enough to ask the compiler
        need = _compiled_bytes(experiment)
    chunk = int(np.clip(limit // max(need, 1), 1, lanes))
    devices = len(jax.local_devices())
    if devices > 1 and lanes >= devices:
        # Lanes are dealt to the devices evenly, and what is left over makes a chunk of its own.
        chunk = min(max(chunk // devices, 1), lanes // devices) * devices
    mode: Mode = "map" if sweep.lanes == "auto" else sweep.lanes
    if sweep.lanes == "auto" and lanes > 1:
        rates = {m: _rate(group, m, chunk) for m in get_args(Mode)}
        told = ", ".join(f"{m} {rate:,.0f}" for m, rate in rates.items())
        # Under map a lane that was dropped costs nothing any more; under vmap it goes on idling.
        every = options.cadence(experiment.steps)["eval_every"]
        rates["map"] /= kept_on_average(lanes, experiment.steps, every, sweep.halve)
        mode = max(rates, key=rates.__getitem__)
        console.say(f"lanes by {mode} (steps/s over all lanes: {told})")
    if chunk < lanes:
        console.say(
            f"{lanes} lanes of {need / 2**20:.0f} MiB do not fit into {limit / 2**30:.1f} GiB: "
            f"run in chunks of {chunk}"
        )
    return {"mode": mode, "chunk": chunk}


def _rate(group: Group, mode: Mode, lanes: int) -> float:
    """Measured steps a second, all lanes together."""
    own = [
        {n: getattr(lane.config, n) for n in group.fields} for lane in group.lanes[: min(lanes, 64)]
    ]
    values = lane_values(own)
    state = initial_state(group.experiment, values, mode)
    source = feed(group.experiment.data)
    batches, _ = source.at(0)
    program = TrainProgram(group.experiment, state, batches, values, mode)
    totals, best = empty_metrics(group.experiment, values, mode), 0.0
    program.wait()
    for count in (1, 2, 4):
        begun = time.perf_counter()
        state, totals, finite = program(state, totals, batches, count)
        jax.block_until_ready(finite)
        best = max(best, count * len(own) / (time.perf_counter() - begun))
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
    shapes, source = beginning(experiment).shapes, feed(experiment.data)
    program = TrainProgram(experiment, shapes, source.at(0)[0])
    source.close()
    program.wait()
    return 2 * tree_bytes(shapes) + int(step_cost(program)["temporary"])


def _memory() -> int:
    """Bytes that a sweep may take: four fifths of the device's, half of a host's."""
    stats = jax.local_devices()[0].memory_stats() or {}
    if "bytes_limit" in stats:
        return int(0.8 * (stats["bytes_limit"] - stats.get("bytes_in_use", 0)))
    return host_memory() // 2
