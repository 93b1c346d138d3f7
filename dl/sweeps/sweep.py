"""A whole sweep: lanes grouped by structure, one compiled program a group, a run folder a lane."""

import dataclasses
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

import jax
import numpy as np

from dl.core.errors import NonFiniteError, UserError, unknown
from dl.core.experiment import Experiment
from dl.core.lanes import Mode, initial, shape_source
from dl.figures.curves import shown
from dl.platform import host_memory
from dl.report.sweeps import figures, html_table, read_lanes, settings, write_report
from dl.runs.folder import RunFolder, read_json, write_json
from dl.runs.options import Options, chosen_options
from dl.runs.scripts import script_of
from dl.sweeps.groups import (
    Group,
    check_halving,
    check_options,
    grouped,
    make_folders,
    structural,
    sweep_folder,
)
from dl.sweeps.search_space import Overrides, combine, parse_field, plan
from dl.training.compiled import (
    TrainProgram,
    beginning,
    empty_metrics,
    initial_state,
    lane_values,
)
from dl.training.console import Console
from dl.training.halving import kept_on_average
from dl.training.lanes import Lanes
from dl.training.loop import Cadence
from dl.training.plan import step_cost, tree_bytes
from dl.training.prefetch import prefetch
from dl.training.run import train


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

    def check(self) -> None:
        """Raise UserError for what can be no sweep, or says how to do one where none is asked for."""
        if self.seeds < 1:
            raise UserError(f"--seeds {self.seeds}: give 1 or more")
        if self.trials < 0:
            raise UserError(f"--trials {self.trials}: give 1 or more")
        if self.halve is not None and self.halve < 2:
            raise UserError(f"halving by {self.halve}: keep one lane of 2 or more")
        if self.lanes not in ("auto", *get_args(Mode)):
            raise unknown("way to compute lanes", self.lanes, ("auto", *get_args(Mode)))

    def check_unwanted(self) -> None:
        """Raise UserError where a single run is given what only a sweep heeds."""
        self.check()
        for name in ("lanes", "halve"):
            if getattr(self, name) != getattr(Sweep, name):
                raise UserError(
                    f"--{name} is for sweeps, and this is one run: leave it out, or give --seeds or --sweep"
                )


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
    overrides = planned(config, sweep, convert, Console().warn)
    return _carry_out(build, config, sweep, overrides, options, script)


def planned(
    config: Any, sweep: Sweep, convert: Callable[[str, str], Any], say: Callable[[str], None]
) -> list[Overrides]:
    """Every lane's overrides (see :func:`dl.sweeps.search_space.plan`)."""
    known, kinds = _names(config, sweep), get_type_hints(type(config))
    fields = [parse_field(text, known, kinds, say) for text in sweep.sweep]
    return plan(fields, getattr(config, "seed", 0), sweep.seeds, sweep.trials, convert, say)


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
    wish, chosen = Sweep(seeds=seeds, lanes=lanes, halve=halve), chosen_options(options)
    known, kinds = _names(config, wish), get_type_hints(type(config))
    axes = []
    for name, values in (over or {}).items():
        if name not in known:
            raise unknown("field to sweep,", name, known)
        axes.append((name, [_plain(name, kinds[name], value) for value in _several(name, values)]))
    say = Console().warn
    overrides = combine(axes, [{}], getattr(config, "seed", 0), seeds, say)
    return SweepRun(_carry_out(build, config, wish, overrides, chosen, script_of(config)))


def _several(name: str, values: Any) -> list[Any]:
    """The values of a field to sweep, as a list."""
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise UserError(f"{name} is swept over a list of values, [{values!r}], not {values!r}")
    return list(values)


def _plain(name: str, hint: Any, value: Any) -> Any:
    """``value`` as a config would hold it: NumPy's numbers as Python's, and whole ones as floats where the
    field is one.

    Raises:
      UserError: a text or a truth value for a field of numbers, or NaN.
    """
    value = value.item() if isinstance(value, np.generic) else value
    if hint in (int, float) and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise UserError(f"{name} is swept over numbers, and {value!r} is none")
    if isinstance(value, float) and value != value:
        raise UserError(f"{name}: nan is no value to try")
    return float(value) if hint is float and type(value) is int else value


def _names(config: Any, wish: Sweep) -> list[str]:
    """The config's fields; raises where the wish cannot be met with them."""
    known = [f.name for f in dataclasses.fields(config)]
    if wish.seeds > 1 and "seed" not in known:
        raise UserError("a sweep over seeds needs a field called seed in the Config")
    seed = getattr(config, "seed", 0)
    if (wish.seeds > 1 or wish.trials) and (isinstance(seed, bool) or not isinstance(seed, int)):
        raise UserError(f"seeds and draws begin at the config's seed, a whole number, not {seed!r}")
    wish.check()
    return known


def foreseen(
    build: Callable[[Any], Experiment],
    config: Any,
    sweep: Sweep,
    options: Options,
    convert: Callable[[str, str], Any],
) -> list[tuple[Group, str]]:
    """The groups that :func:`run_sweep` would carry out, each with what sets it apart, in words; nothing is
    written."""
    overrides = planned(config, sweep, convert, Console().warn)
    check_options(options)
    groups = grouped(build, config, overrides)
    check_halving(sweep.halve, options, groups)
    apart = structural(groups, overrides)
    configs = [group.experiment.config for group in groups]
    told = [", ".join(f"{name} {getattr(config, name)}" for name in apart) for config in configs]
    return [(group, f" of {t}" if t else "") for group, t in zip(groups, told, strict=True)]


def _carry_out(
    build: Callable[[Any], Experiment],
    config: Any,
    sweep: Sweep,
    overrides: list[Overrides],
    options: Options,
    script: Path | None,
) -> Path:
    check_options(options)
    groups = grouped(build, config, overrides)
    check_halving(sweep.halve, options, groups)
    console = Console(options.progress)
    place, go_on = sweep_folder(config, sweep.halve, overrides, options, script)
    with RunFolder(place).held():
        make_folders(groups, place, options, script, go_on)
        lanes = [lane for group in groups for lane in group.lanes]
        console.say(
            f"sweep {place}: {len(lanes)} lanes in {len(groups)} compiled "
            f"program{'s' if len(groups) > 1 else ''}"
        )
        apart = structural(groups, overrides)
        if apart:
            console.say(f"structural, so compiled one by one: {', '.join(apart)}")
        for number, group in enumerate(groups):
            left = [lane for lane in group.lanes if not lane.folder.finished()]
            if left and not _run_group(group, number, sweep, options, place, console):
                console.say(f"stopped; all is saved in {place}")
                return place
        write_json(place / "result.json", {"lanes": len(lanes), "finished": True})
    return place


def _run_group(
    group: Group, number: int, sweep: Sweep, options: Options, place: Path, console: Console
) -> bool:
    """Run the lanes of one group, in chunks that fit the device; False where a signal stopped it."""
    if not group.fields:
        return _run_alone(group, sweep, options, place, console)
    file = place / f"group-{number}.json"
    # Decided once and kept, so that a resumed sweep goes on with the same programs.
    if file.exists():
        settled = dict(read_json(file))
    else:
        settled = _settle(group, sweep, options, console)
        write_json(file, settled)
    size = settled["chunk"]
    if sweep.halve and size < len(group.lanes):
        console.warn(f"--halve compares the {size} lanes of a chunk with each other alone")
    cadence = Cadence(group.experiment.steps, **options.cadence(group.experiment.steps))
    for part, start in enumerate(range(0, len(group.lanes), size)):
        lanes = group.lanes[start : start + size]
        if all(lane.folder.finished() for lane in lanes):
            continue
        names = [lane.folder.name for lane in lanes]
        how = {"mode": settled["mode"], "lanes": names, "fields": group.fields}
        how["halve"] = sweep.halve
        for lane in lanes:
            write_json(lane.folder.lock, {**read_json(lane.folder.lock), "computed": how})
        program = Lanes(
            group.experiment, lanes, group.fields, settled["mode"],
            place / "checkpoints" / f"{number}-{part}", cadence, console, sweep.halve,
        )  # fmt: skip
        if program.run() != "done":
            return False
    return True


def _run_alone(group: Group, sweep: Sweep, options: Options, place: Path, console: Console) -> bool:
    """Run the one lane of a group without traced fields, of which no lanes can be made; False where a signal
    stopped it."""
    (lane,) = group.lanes
    if sweep.lanes == "vmap":
        console.warn(f"{lane.folder.name} runs alone: its config has no field that can be traced")
    how = {"mode": "map", "lanes": [lane.folder.name], "fields": [], "halve": None}
    locked = {**read_json(lane.folder.lock), "computed": how}
    write_json(lane.folder.lock, locked)
    script = locked["script"] and Path(locked["script"])
    cadence = options.cadence(group.experiment.steps)
    shown = {"progress": options.progress, "runs": place / "lanes", "name": lane.folder.name}
    try:
        run = train(group.experiment, script, resume=True, **shown, **cadence)
    except NonFiniteError as error:  # as in a program of many: the lane ends, the sweep does not
        console.warn(f"{lane.folder.name} stops: {error}")
        chosen = {"rule": group.experiment.select, "step": 0, "value": None}
        result = {"metrics": {}, "selected": chosen, "ended": "non-finite", "note": str(error)}
        write_json(lane.folder.result, {**result, "steps": 0, "seed": group.experiment.seed})
        return True
    return run.ended in ("done", "early")


def _settle(group: Group, sweep: Sweep, options: Options, console: Console) -> dict[str, Any]:
    """How to run a group: its mode, measured where that is left open, and lanes a chunk."""
    experiment, lanes = group.experiment, len(group.lanes)
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
    source = prefetch(group.experiment.data)
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
    shapes, source = beginning(experiment).shapes, prefetch(experiment.data)
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
