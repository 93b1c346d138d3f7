"""A sweep's lanes by structure, and what can be known to be wrong with a sweep before it leaves a trace."""

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_args

from dl.core.errors import UserError, unknown
from dl.core.experiment import Experiment, built
from dl.core.lanes import Mode, Traceable, traceable_fields
from dl.runs import lock
from dl.runs.files import sync
from dl.runs.folder import (
    RunFolder,
    called_after,
    check_name,
    new_name,
    read_json,
    to_json,
    write_json,
)
from dl.runs.options import Options, recorded
from dl.runs.seal import check_seal
from dl.sweeps.naming import lane_name
from dl.sweeps.search_space import Overrides
from dl.training.checks import check
from dl.training.compiled import Compiled
from dl.training.console import Console
from dl.training.halving import rungs

# Of what build says, that which lanes of one program may differ in.
OF_A_LANE = ("seed", "data_seed", "ema")


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

    def wanted(self, config: Any = None) -> bool:
        """Whether these, or the ``config``'s folds, are several runs."""
        return self.seeds > 1 or bool(self.sweep) or self.trials > 0 or bool(folds_of(config))

    def check(self) -> None:
        """Raise UserError for what can be no sweep, or says how to do one where none is asked for."""
        if self.seeds < 1:
            raise UserError("range", f"--seeds {self.seeds}: give 1 or more")
        if self.trials < 0:
            raise UserError("range", f"--trials {self.trials}: give 1 or more")
        if self.halve is not None and self.halve < 2:
            raise UserError("range", f"halving by {self.halve}: keep one lane of 2 or more")
        if self.lanes not in ("auto", *get_args(Mode)):
            raise unknown("way to compute lanes", self.lanes, ("auto", *get_args(Mode)))

    def check_unwanted(self) -> None:
        """Raise UserError where a single run is given what only a sweep heeds."""
        self.check()
        for name in ("lanes", "halve"):
            if getattr(self, name) != getattr(Sweep, name):
                raise UserError(
                    "option-misplaced",
                    f"--{name} is for sweeps, and this is one run: leave it out, or give --seeds or --sweep",
                )


def folds_of(config: Any) -> range:
    """The folds that a config asks to run, each by itself; none where it names one of them."""
    count = getattr(config, "folds", None)
    return range(count) if count is not None and config.fold is None else range(0)


@dataclasses.dataclass(frozen=True)
class Group:
    """Lanes of one structure: their configs differ in traced fields alone.

    Attributes:
      experiment: of the first; traceable: its traced fields.
      configs: a lane each; names: those of their folders.
      changed: the conditions that did since they were started, in words.
    """

    experiment: Experiment
    traceable: Traceable
    configs: list[Any] = dataclasses.field(default_factory=list)
    names: list[str] = dataclasses.field(default_factory=list)
    changed: list[str] = dataclasses.field(default_factory=list)

    @property
    def fields(self) -> list[str]:
        return list(self.traceable.values)

    def compiled(self, mode: Mode, some: slice = slice(None)) -> Compiled:
        """The programs of ``some`` of the lanes."""
        metrics = self.traceable.metrics
        return Compiled.of_lanes(self.experiment, self.configs[some], self.fields, mode, metrics)


def grouped(
    build: Callable[[Any], Experiment], config: Any, overrides: list[Overrides]
) -> list[Group]:
    """Lanes by structure: configs that agree in every field that cannot be traced. Nothing is written.

    Raises:
      UserError: an experiment that would fail (see :func:`dl.training.checks.check`).
    """
    found: list[Group] = []
    for number, own in enumerate(overrides):
        chosen = dataclasses.replace(config, **own)
        group = next((g for g in found if _same_structure(chosen, g)), None)
        if group is None:
            experiment = built(build, chosen)
            check(experiment)
            group = Group(experiment, traceable_fields(experiment))
            found.append(group)
        group.configs.append(chosen)
        group.names.append(lane_name(number, own))
    return found


def sweep_folder(
    config: Any,
    halve: int | None,
    overrides: list[Overrides],
    options: Options,
    script: Path | None,
) -> tuple[Path, dict[str, Any], bool]:
    """The sweep's folder, what ``sweep.json`` says it is, and whether it is there to be continued."""
    spec = to_json({"config": dataclasses.asdict(config), "overrides": overrides, "halve": halve})
    if options.name is not None:
        place = options.runs / options.name
        go_on = (place / "sweep.json").exists()
    else:
        place = options.runs / new_name(options.runs, f"{called_after(script, config)}-sweep")
        go_on = False
        if options.resume:
            alike = [p.parent for p in options.runs.glob("*/sweep.json") if _goes_on(p, spec)]
            if not alike:
                raise UserError(
                    "nothing-to-resume", f"no unfinished sweep of this kind lies in {options.runs}/"
                )
            # All lead to the same bits: the one that has come furthest, by what is there, not by a clock.
            place = max(alike, key=lambda p: (len([*p.glob("lanes/*/result.json")]), p.name))
            go_on = True
    then = read_json(place / "sweep.json")["spec"] if go_on else spec
    then = lock.with_new_fields(then, config)
    if then != spec:
        apart = lock.differences(_by_field(then, spec), _by_field(spec, then))
        changed = apart or lock.differences(then, spec)
        raise UserError(
            "config-changed",
            f"{place} was started with other settings ({'; '.join(changed[:3])}): give the same, or another "
            "--name",
        )
    return place, {"spec": spec, "script": script, "started": time.time()}, go_on


def _by_field(spec: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """What a sweep is, its values by field in place of lane by lane; of many those that ``other`` has not."""

    def values(of: dict[str, Any], name: str) -> list[str]:
        return list(dict.fromkeys(str(own[name]) for own in of["overrides"] if name in own))

    found = {name: value for name, value in spec.items() if name != "overrides"}
    for name in dict.fromkeys(name for own in spec["overrides"] for name in own):
        own, others = values(spec, name), values(other, name)
        shown = own if len(own) + len(others) <= 12 else [v for v in own if v not in others]
        found[f"swept {name}"] = ", ".join(shown) or "fewer values"
    return found


def _goes_on(file: Path, spec: dict[str, Any]) -> bool:
    """Whether that ``sweep.json`` is of this sweep, unfinished; a damaged one is of none."""
    try:
        return read_json(file).get("spec") == spec and not (file.parent / "result.json").exists()
    except UserError:
        return False


def make_folders(
    groups: list[Group], place: Path, options: Options, script: Path | None, go_on: bool
) -> list[Group]:
    """Make every lane's folder with its config and lock; of a sweep that goes on, compare them with the
    experiment and the world as they are now: the groups say what changed."""
    made = []
    for group in groups:
        environment = lock.environment(group.experiment, script)
        said = lock.said_by_build(group.experiment)
        changed: list[str] | None = None
        for name, config in zip(group.names, group.configs, strict=True):
            folder = RunFolder(place / "lanes" / name)
            described = recorded(group.experiment, options, config)
            if folder.finished():
                check_seal(folder)
            if not folder.exists():
                folder.path.mkdir(parents=True, exist_ok=True)
                sync(folder.path.parent)
                write_json(folder.lock, lock.begun(script, environment, said))
                write_json(folder.config, described)
            elif go_on and changed is not None:  # like the first of its program but for its values
                apart = lock.settings_apart(folder, config, described)
                own = lock.Changes(apart, [], [], [])
                own.refuse(folder, "resumed", "start anew under another --name")
            elif go_on:
                changes = lock.changes(folder, group.experiment, described, script)
                changes.refuse(folder, "resumed", "start anew under another --name")
                changed = changes.conditions
                if changed:
                    Console().warn(
                        f"resumed under other conditions, so bits may differ: {'; '.join(changed[:3])}"
                    )
            said = {n: x for n, x in said.items() if n not in OF_A_LANE}
        made.append(dataclasses.replace(group, changed=changed or []))
    return made


def _same_structure(config: Any, group: Group) -> bool:
    mine, theirs = dataclasses.asdict(config), dataclasses.asdict(group.experiment.config)
    return all(
        type(mine[n]) is type(theirs[n]) if n in group.fields else mine[n] == theirs[n]
        for n in mine
    )


def structural(groups: list[Group], overrides: list[Overrides]) -> list[str]:
    """The swept fields that set the groups apart."""
    swept = {name for own in overrides for name in own}
    traced = set.intersection(*(set(group.fields) for group in groups))
    return sorted(swept - traced) if len(groups) > 1 else []


def check_options(options: Options) -> None:
    """Raise UserError for what a single run heeds and a sweep does not."""
    if options.mesh or options.deterministic_topology:
        raise UserError(
            "option-misplaced",
            "a sweep's lanes lie over all devices, a lane on one of them: leave --mesh and "
            "--deterministic-topology out",
        )
    if options.name is not None:
        check_name(options.runs, options.name, "sweep", options.resume)


def check_halving(halve: int | None, options: Options, groups: list[Group]) -> None:
    """Raise UserError where nothing could be halved."""
    if halve is None:
        return
    experiment = groups[0].experiment
    if experiment.select is None:
        raise UserError(
            "halve-without-select",
            "--halve ranks lanes by the experiment's select, and it has none: give "
            "select='validation/accuracy', or leave --halve out",
        )
    every = options.cadence(experiment.steps)["eval_every"]
    if not rungs(experiment.steps, every, halve):
        raise UserError(
            "halve-too-early",
            f"--halve {halve} looks at 1/{halve} of {experiment.steps} steps, and the first "
            f"evaluation is at step {every}: evaluate more often with --eval-every",
        )
    if all(len(group.names) < 2 for group in groups):
        raise UserError(
            "halve-lanes-apart",
            "--halve compares the lanes of one compiled program, and here every lane has its own: leave "
            "it out, or sweep seeds or learning rates too",
        )
