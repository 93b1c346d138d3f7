"""Run a finished experiment again from its lock, and compare it bit for bit."""

import tempfile
from pathlib import Path
from typing import Any

from dl.core.errors import UserError
from dl.core.experiment import Experiment, built
from dl.runs import lock
from dl.runs.compare import first_difference, leaves
from dl.runs.folder import RunFolder, read_json, write_json
from dl.runs.scripts import from_json, load_script
from dl.training.compiled import Compiled, layout_of
from dl.training.console import Console
from dl.training.lane import Cadence, Lane
from dl.training.loop import run_lanes
from dl.training.selection import Selection
from dl.training.train import train

ENDS = ("ended", "note", "steps", "metrics")  # what result.json says of how a lane ended


def replay_run(path: Path, *, force: bool = False, say=print) -> bool:
    """Whether the run in ``path`` comes out identical when run again here.

    Raises:
      UserError: versions, compiler settings, devices, data or code differ from the run's lock, and
        not ``force``; or the run has no script, or is not finished.
    """
    folder = RunFolder(path)
    stored, locked = read_json(folder.config), read_json(folder.lock)
    if not folder.finished():
        raise UserError(
            "run-unfinished", f"{path} is not finished: go on with it by --resume first"
        )
    if locked["script"] is None:
        raise UserError(
            "script-not-recorded", f"{path} was not started by a script, so it cannot be replayed"
        )
    script = Path(locked["script"])
    lock.reopen_data(folder)
    kind, build = load_script(script)
    config = from_json(kind, stored["config"])
    experiment = built(build, config)
    mesh = locked["environment"]["devices"].get("mesh")
    topology = stored.get("deterministic_topology", False)
    try:
        layout = layout_of(mesh, experiment, topology)
    except UserError:
        if not force:
            raise
        mesh = layout = None  # which the differences will tell
    described = {**stored, "steps": experiment.steps}
    changes = lock.changes(folder, experiment, described, script, layout)
    changed = [line for lines in changes for line in lines]
    if changed and not force:
        raise UserError(
            "conditions-changed",
            f"{path} was made under other conditions ({'; '.join(changed)}): make them equal, or replay all "
            "the same with --force",
        )
    for line in changed:
        say(f"differs: {line}")
    options = {name: stored[name] for name in ("log_every", "eval_every", "save_every")}
    computed = locked.get("computed")
    with tempfile.TemporaryDirectory(prefix="dl-replay-") as name:
        place = Path(name)
        if computed is not None and _needs_others(folder, computed):
            say(
                f"a lane computed by {computed['mode']} among {len(computed['lanes'])}: all of them run "
                "again, since alone it could round or end differently"
            )
            again = _among_others(folder, computed, kind, experiment, options, place)
        else:
            options |= {"mesh": mesh, "deterministic_topology": topology}
            again = train(build, config, script=script, runs=place, name="again", **options).folder
        difference = _difference(folder, again)
    say("identical" if difference is None else f"different: {difference}")
    return difference is None


def _difference(folder: RunFolder, again: RunFolder) -> str | None:
    """Where the run and its replay part, in words; None where they do not."""
    if not leaves(folder) and not leaves(
        again
    ):  # a lane whose loss was not finite before any checkpoint
        then, now = ({n: read_json(f.result).get(n) for n in ENDS} for f in (folder, again))
        return None if then == now else "; ".join(lock.differences(then, now))
    return first_difference(folder, again)


def _needs_others(folder: RunFolder, computed: dict[str, Any]) -> bool:
    """Whether a lane's run hangs on the other lanes of its program: by rounding, side by side under vmap, or
    by when it ended. A lane under map has the bits of the run alone, up to where it stopped."""
    ended = read_json(folder.result)["ended"]
    return computed["mode"] == "vmap" or ended not in ("done", "early")


def _among_others(
    folder: RunFolder,
    computed: dict[str, Any],
    kind: type,
    experiment: Experiment,
    options: dict[str, int],
    place: Path,
) -> RunFolder:
    """Run the lane again with those it was computed with; returns its new folder, in ``place``.

    Raises:
      UserError: the others' folders are not beside it.
    """
    lanes, configs = [], []
    for name in computed["lanes"]:
        beside = RunFolder(folder.path.parent / name)
        if not beside.exists():
            raise UserError(
                "lane-missing",
                f"{folder.path} was computed by {computed['mode']} together with {name}, which is not "
                "beside it, so no bits can be promised: put it back among the sweep's lanes",
            )
        configs.append(from_json(kind, read_json(beside.config)["config"]))
        own = RunFolder(place / "lanes" / name)
        own.path.mkdir(parents=True)
        write_json(own.lock, {})
        lanes.append(Lane(own, Selection(experiment.select)))
    compiled = Compiled.of_lanes(experiment, configs, computed["fields"], computed["mode"])
    cadence, shared = Cadence(experiment.steps, **options), place / "checkpoints"
    stopped = run_lanes(compiled, lanes, shared, cadence, Console(), computed["halve"])
    if stopped:
        raise UserError("replay-stopped", f"stopped by {stopped} before it could be compared")
    return RunFolder(place / "lanes" / folder.name)
