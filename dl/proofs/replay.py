"""Run a finished experiment again from its lock, and compare it bit for bit."""

import contextvars
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

from dl.core.digests import KIND
from dl.core.errors import UserError
from dl.core.experiment import Experiment, built
from dl.core.lanes import Mode
from dl.data.own.found import shown_before
from dl.runs import lock, store
from dl.runs.compare import first_difference, leaves
from dl.runs.files import printable
from dl.runs.folder import RunFolder, read_json, write_json
from dl.runs.options import Options, kept_options, trained_by
from dl.runs.readers import entry
from dl.runs.scripts import from_json, load_script, trusted_script
from dl.training.compiled import Compiled
from dl.training.console import Console
from dl.training.forking import ancestor_of, plant
from dl.training.lane import Cadence, Lane
from dl.training.loop import run_lanes
from dl.training.placing import layout_of
from dl.training.run import Run
from dl.training.selection import Selection
from dl.training.train import train

ENDS = ("ended", "note", "steps", "metrics")  # what result.json says of how a lane ended


def replay_run(
    path: Path, *, script: Path | None = None, trust: bool = False, force: bool = False, say=print
) -> bool:
    """Whether the run in ``path`` comes out identical when run again here.

    Args:
      script, trust: as of :func:`dl.open_run`.

    Raises:
      UserError: versions, compiler settings, devices, data or code differ from the run's lock, and
        not ``force``; or the run has no script, or is not finished.
    """
    of_sweep = path.parent.name == "lanes"  # a lane may need the others
    path = store.opened(path.parents[1]) / "lanes" / path.name if of_sweep else store.opened(path)
    folder = RunFolder(path, writes=False)
    stored, locked = read_json(folder.config), lock.read(folder)
    if not folder.finished():
        raise UserError(
            "run-unfinished", f"{path} is not finished: go on with it by --resume first"
        )
    script = trusted_script(path, locked, script, trust)
    if script is None:
        raise UserError(
            "script-not-recorded", f"{path} was not started by a script, so it cannot be replayed"
        )
    with trained_by(stored).computing():
        alike = contextvars.copy_context()
        alike.run(KIND.set, lock.digests_of(folder))  # so that the states' digests can be compared
        return alike.run(_replay, folder, stored, locked, script, force, say)


def _replay(
    folder: RunFolder,
    stored: dict[str, Any],
    locked: dict[str, Any],
    script: Path,
    force: bool,
    say: Callable[[str], None],
) -> bool:
    path, kept = folder.path, kept_options(stored)
    kind, build = load_script(script)
    config = from_json(kind, entry(folder.config, stored, "config", dict, None))
    with lock.reopening(folder), shown_before():
        experiment = built(build, config)
    mesh = locked["environment"].get("devices", {}).get("mesh")
    topology = kept.get("deterministic_topology", False)
    try:
        layout = layout_of(mesh, experiment, topology)
    except UserError:  # the mesh is another machine's, which the differences tell
        mesh = layout = None
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
    for noted in lock.resumed(folder, locked):
        told = "; ".join(noted["changed"][:3])
        how = (
            f"under other conditions ({told}), so its bits may differ" if told else "under its own"
        )
        say(printable(f"after step {noted['step']:,} the run went on {how}"))
    options = {name: stored[name] for name in ("log_every", "eval_every", "save_every")}
    computed = _computed(folder, locked)
    with tempfile.TemporaryDirectory(prefix="dl-replay-") as name:
        place = Path(name)
        if computed is not None and _needs_others(folder, computed):
            say(
                f"a lane computed by {computed['mode']} among {len(computed['lanes'])}: all of them run "
                "again, since alone it could round or end differently"
            )
            again = _among_others(folder, computed, kind, experiment, options, place)
        else:
            options |= {"mesh": mesh, **kept}
            if locked.get("ancestor"):  # it begins where it was branched off
                run = Run(folder, experiment, None, "")  # type: ignore[arg-type]
                plant(
                    place / "again", experiment, ancestor_of(run, say), Options(**options), script
                )
                begun = read_json(place / "again" / "run.lock.json")["ancestor"]["digest"]
                if begun != locked["ancestor"]["digest"]:
                    say("different: the state that it was branched off in is another now")
                    return False
                options |= {"resume": True}
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


def _computed(folder: RunFolder, locked: dict[str, Any]) -> dict[str, Any] | None:
    """How the lock says a lane was computed; raises UserError for what no sweep writes."""
    computed = entry(folder.lock, locked, "computed", dict)
    if computed is None:
        return None
    entry(folder.lock, computed, "halve", int, None)
    for name in ("lanes", "fields"):
        for each in entry(folder.lock, computed, name, list) or [None]:
            # A lane's folder is made of its name.
            if not isinstance(each, str) or Path(each).name != each or each == "..":
                raise UserError("record-damaged", f"{folder.lock}: {name!r} cannot be {each!r:.40}")
    names = computed.get("lanes") or []
    if len(set(names)) < len(names):
        raise UserError("record-damaged", f"{folder.lock}: a lane is twice among 'lanes'")
    if computed.get("mode") not in get_args(Mode):
        raise UserError(
            "record-damaged", f"{folder.lock}: 'mode' cannot be {computed.get('mode')!r:.40}"
        )
    return computed


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
    options: dict[str, Any],
    place: Path,
) -> RunFolder:
    """Run the lane again with those it was computed with; returns its new folder, in ``place``.

    Raises:
      UserError: the others' folders are not beside it.
    """
    lanes, configs = [], []
    if folder.name not in computed["lanes"]:
        told = f"{folder.path} is called otherwise than among the lanes of {folder.lock}"
        raise UserError("lane-missing", f"{told}: give it the name that it had")
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
        write_json(own.lock, {"digests": KIND.get()})
        lanes.append(Lane(own, Selection(experiment.select)))
    compiled = Compiled.of_lanes(experiment, configs, computed["fields"], computed["mode"])
    cadence, shared = Cadence(experiment.steps, **options), place / "checkpoints"
    stopped = run_lanes(compiled, lanes, shared, cadence, Console(), computed["halve"])
    if stopped:
        raise UserError("replay-stopped", f"stopped by {stopped} before it could be compared")
    return RunFolder(place / "lanes" / folder.name)
