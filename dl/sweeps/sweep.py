"""A whole sweep: lanes grouped by structure, one compiled program a group, a run folder a lane."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_origin, get_type_hints

import numpy as np

from dl.core.errors import UserError, unknown
from dl.core.experiment import Experiment, check_door, unboxed
from dl.figures.curves import shown
from dl.report.sweeps import (
    AS_GIVEN,
    figures,
    html_table,
    ranked,
    read_lanes,
    settings,
    write_report,
)
from dl.runs import store
from dl.runs.folder import RunFolder, name_taken, write_json
from dl.runs.frames import frame
from dl.runs.listing import OWN, best, list_runs
from dl.runs.options import Options, chosen_options
from dl.runs.removing import unless_begun
from dl.runs.scripts import chosen_script, leave_if_loading
from dl.runs.toml import typed
from dl.sweeps.among import among, may_begin, wait_for_lanes, wait_to_begin
from dl.sweeps.groups import (
    Group,
    Sweep,
    check_halving,
    check_options,
    folds_of,
    grouped,
    make_folders,
    structural,
    sweep_folder,
)
from dl.sweeps.running import Work, run_group, settle
from dl.sweeps.search_space import Overrides, combine, lane_overrides, parse_field
from dl.training.console import Console
from dl.training.out_of_fold import gather_predictions, read_predictions
from dl.training.starting import check_start


def run_sweep(
    build: Callable[[Any], Experiment],
    config: Any,
    sweep: Sweep,
    options: Options,
    convert: Callable[[str, str], Any],
    script: Path | None = None,
) -> "SweepRun":
    """Carry a sweep out, or go on with it.

    Args:
      build, config: as for a run; the sweep varies fields of ``config``.
      convert: ``(field, text) -> value`` in the field's type.

    Raises:
      UserError: fields that are not there, or another sweep of that name.
    """
    overrides = planned(config, sweep, convert, Console().warn)
    return carry_out(build, config, sweep, overrides, options, script)


def planned(
    config: Any, sweep: Sweep, convert: Callable[[str, str], Any], say: Callable[[str], None]
) -> list[Overrides]:
    """Every lane's overrides (see :func:`dl.sweeps.search_space.lane_overrides`)."""
    known, kinds = _names(config, sweep), get_type_hints(type(config))
    fields = [parse_field(text, known, kinds, say) for text in sweep.sweep]
    own = lane_overrides(
        fields, getattr(config, "seed", 0), sweep.seeds, sweep.trials, convert, say
    )
    return over_folds(config, own)


def over_folds(config: Any, overrides: list[Overrides]) -> list[Overrides]:
    """Every lane for every fold that the config asks for; of those that sweep folds themselves as they are."""
    if any("fold" in own for own in overrides):
        return overrides
    found = [{**own, "fold": fold} for own in overrides for fold in folds_of(config)]
    return found or overrides


class SweepRun:
    """A sweep: its ``folder``, what it found, and how it ``ended``, ``"done"`` or by the signal of that name. Of
    several processes the ``first`` knows of all lanes."""

    def __init__(self, folder: Path, ended: str = "done", first: bool = True):
        self.folder, self.ended, self.first = store.opened(folder), ended, first

    @property
    def settings(self) -> list[dict[str, Any]]:
        """Settings with their seeds together, best first (see :func:`dl.report.sweeps.settings`)."""
        return settings(read_lanes(self.folder))

    @property
    def best(self) -> Path:
        """The folder of the best setting's first run, for :func:`dl.open_run`.

        Raises:
          UserError: no run has a selected value, so none is the best.
        """
        found = self.settings
        if not ranked(found):
            raise UserError(
                "best-unselected",
                f"no run of {self.folder} has a selected value to be the best by: give the experiment "
                "select='validation/accuracy', or choose by swept.best_by('-validation/loss')",
            )
        return found[0]["lanes"][0]["path"]

    def best_by(self, metric: str) -> Path:
        """The folder of the finished lane with the highest ``metric``, or the lowest ``-metric``."""
        return Path(best(list_runs(self.folder)[0], metric).path)

    @property
    def table(self) -> Any:
        """A row a lane, as a data frame (:func:`dl.runs.frames.frame`): its name, what was swept, the seed, state,
        steps, the selected value, and every metric."""
        rows = sorted(list_runs(self.folder)[0], key=lambda row: row.name)
        lanes = read_lanes(self.folder)
        swept = dict.fromkeys(name for lane in lanes for name in lane["fields"])
        seed = {"seed": None} if any("seed" in row.run.config for row in rows) else {}
        fields = [f"config.{name}" if name in OWN else name for name in {**swept, **seed}]
        metrics = dict.fromkeys(name for row in rows for name in row.metrics)
        names = [*fields, "state", "steps", "value", *metrics]
        lane = [row.name.removeprefix("lanes/") for row in rows]
        return frame({"lane": lane, **{n: [row.get(n) for row in rows] for n in names}})

    @property
    def out_of_fold(self) -> dict[str, np.ndarray]:
        """What was predicted for each row by the runs that did not train on it, by column: ``lane``, ``fold``,
        ``row``, and what the run says of it; from ``out_of_fold.npz``.

        Raises:
          UserError: the sweep has no folds.
        """
        return read_predictions(self.folder)

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
        found = self.settings
        best = f"best {found[0]['value']:.4g} with {found[0]['fields']}"
        said = best if ranked(found) else f"{len(found)} settings, {AS_GIVEN}"
        return f"SweepRun({str(self.folder)!r}: {said})"


def sweep(
    build: Callable[[Any], Experiment],
    config: Any = None,
    over: Mapping[str, Sequence[Any]] | None = None,
    *,
    seeds: int = 1,
    lanes: Literal["auto", "map", "vmap"] = "auto",
    halve: int | None = None,
    script: str | Path | None = None,
    **options: Any,
) -> SweepRun:
    """Run every combination of the values in ``over``, times ``seeds``, in as few compiled programs as
    their structure allows; each lane is a full run folder.

    >>> dl.sweep(build, Config(), {"learning_rate": [1e-3, 1e-2]}, seeds=3)  # doctest: +SKIP

    Args:
      build, config: as for a run: ``build(config)`` is an Experiment.
      over: values by config field.
      seeds, lanes, halve: see :class:`Sweep`.
      script: the experiment's script, for the lock and for replay; found by itself if left out.
      **options: fields of :class:`~dl.runs.options.Options`.
    """
    leave_if_loading()
    check_door(build, config)
    seeds, halve = unboxed(seeds), unboxed(halve)
    if "folds" in options:
        raise UserError(
            "option-misplaced",
            "folds are a field of a config that has the fields of its data, as OwnTable: Config(folds=5) is swept "
            "over them (docs/sweeps.md)",
        )
    wish, chosen = Sweep(seeds=seeds, lanes=lanes, halve=halve), chosen_options(options)
    typed("seeds", int, seeds)
    typed("halve", int | None, halve)
    known, kinds = _names(config, wish), get_type_hints(type(config))
    axes = []
    if not isinstance(over or {}, Mapping):
        raise UserError(
            "sweep-not-list", f"over names fields, {{'seed': [0, 1]}}, unlike {over!r:.40}"
        )
    for name, values in (over or {}).items():
        if name not in known:
            raise unknown("field to sweep,", name, known)
        axes.append((name, [_plain(name, kinds[name], value) for value in _several(name, values)]))
    say = Console().warn
    overrides = over_folds(config, combine(axes, [{}], getattr(config, "seed", 0), seeds, say))
    return carry_out(build, config, wish, overrides, chosen, chosen_script(script, config, build))


def _several(name: str, values: Any) -> list[Any]:
    """The values of a field to sweep, as a list."""
    values = unboxed(values)
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise UserError(
            "sweep-not-list", f"{name} is swept over a list of values, [{values!r}], not {values!r}"
        )
    return list(values)


def _plain(name: str, hint: Any, value: Any) -> Any:
    """``value`` as a config would hold it: NumPy's as Python's, whole numbers as floats and lists as tuples
    where the field is one.

    Raises:
      UserError: a text or a truth value for a field of numbers, or NaN.
    """
    value = unboxed(value)
    if hint in (int, float) and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise UserError("sweep-value", f"{name} is swept over numbers, and {value!r} is none")
    if isinstance(value, float) and value != value:
        raise UserError("sweep-value", f"{name}: nan is no value to try")
    if isinstance(value, list) and tuple in (hint, get_origin(hint)):
        return tuple(value)
    return float(value) if hint is float and type(value) is int else value


def _names(config: Any, wish: Sweep) -> list[str]:
    """The config's fields; raises where the wish cannot be met with them."""
    known = [f.name for f in dataclasses.fields(config)]
    if wish.seeds > 1 and "seed" not in known:
        raise UserError(
            "seed-field-missing", "a sweep over seeds needs a field called seed in the Config"
        )
    seed = getattr(config, "seed", 0)
    if (wish.seeds > 1 or wish.trials) and (isinstance(seed, bool) or not isinstance(seed, int)):
        raise UserError(
            "seed-not-whole",
            f"seeds and draws begin at the config's seed, a whole number, not {seed!r}",
        )
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


@store.naming()
def carry_out(
    build: Callable[[Any], Experiment],
    config: Any,
    sweep: Sweep,
    overrides: list[Overrides],
    options: Options,
    script: Path | None,
) -> SweepRun:
    """Run every lane, or go on with those that have no end yet."""
    with options.computing():
        options.prepare(join=False)  # lanes need no other process
        own = among(options)
        if not own.first:
            wait_to_begin(options.runs / str(options.name))
            options = dataclasses.replace(options, resume=True)
        found = store.seen(options.runs, options.name, options.resume)
        looked = dataclasses.replace(options, runs=found)
        check_options(looked)
        found, described, go_on = sweep_folder(config, sweep.halve, overrides, looked, script)
        groups = grouped(build, config, overrides)
        check_halving(sweep.halve, options, groups)
        console = Console(options.progress, own.first)
        place = store.working(options.runs) / found.name
        for group in groups if not go_on else ():
            check_start(group.experiment)
        folder = RunFolder(place, writes=own.first)
        with folder.held():
            if not go_on:
                if (
                    place / "sweep.json"
                ).exists():  # another process began it since this one looked
                    raise name_taken(place)
                write_json(place / "sweep.json", described)
            with unless_begun(folder, new=not go_on):
                groups = make_folders(groups, place, options, script, go_on)
                lanes = [name for group in groups for name in group.names]
                console.say(
                    f"sweep {place}: {len(lanes)} lanes in {len(groups)} compiled program{'s' * (len(groups) > 1)}"
                )
                apart = structural(groups, overrides)
                if apart:
                    console.say(f"structural, so compiled one by one: {', '.join(apart)}")
                work = Work(sweep, options, place, console, own)
                settled = [settle(group, number, work) for number, group in enumerate(groups)]
                if own.first:
                    may_begin(place, own)
                stopped = None
                for number, (group, how) in enumerate(zip(groups, settled, strict=True)):
                    stopped = stopped or run_group(group, number, how, work)
                if own.first:
                    stopped = stopped or wait_for_lanes(place, lanes, own)
                if stopped:
                    console.say(f"stopped by {stopped}; all is saved in {place}")
                    return SweepRun(place, stopped, own.first)
                if own.first:
                    gather_predictions(place, lanes)
                    write_json(place / "result.json", {"lanes": len(lanes), "finished": True})
        return SweepRun(place, first=own.first)
