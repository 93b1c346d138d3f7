"""Run a finished experiment again from its lock, and compare it bit for bit."""

import tempfile
from pathlib import Path

from dl.core.errors import UserError
from dl.core.experiment import built
from dl.training import lock
from dl.training.compare import first_difference
from dl.training.folder import RunFolder, read_json
from dl.training.programs import layout_of
from dl.training.run import train
from dl.training.scripts import from_json, load_script


def replay_run(path: Path, *, force: bool = False, say=print) -> bool:
    """Whether the run in ``path`` comes out identical when run again here.

    Raises:
      UserError: versions, compiler settings, devices, data or code differ from the run's lock, and
        not ``force``; or the run has no script, or is not finished.
    """
    folder = RunFolder(path)
    stored, locked = read_json(folder.config), read_json(folder.lock)
    if not folder.finished():
        raise UserError(f"{path} is not finished: go on with it by --resume first")
    if locked["script"] is None:
        raise UserError(f"{path} was not started by a script, so it cannot be replayed")
    script = Path(locked["script"])
    kind, build = load_script(script)
    experiment = built(build, from_json(kind, stored["config"]))
    mesh = locked["environment"]["devices"].get("mesh")
    topology = stored.get("deterministic_topology", False)
    try:
        layout = layout_of(mesh, experiment, topology)
    except UserError:
        if not force:
            raise
        mesh = layout = None  # which the differences will tell
    changed = lock.differences(locked["environment"], lock.environment(experiment, script, layout))
    if changed and not force:
        lines = "\n  ".join(changed)
        raise UserError(
            f"{path} was made under other conditions:\n  {lines}\nmake them equal, or replay all the "
            "same with --force"
        )
    for line in changed:
        say(f"differs: {line}")
    options = {name: stored[name] for name in ("log_every", "eval_every", "save_every")}
    options |= {"mesh": mesh, "deterministic_topology": topology}
    with tempfile.TemporaryDirectory(prefix="dl-replay-") as place:
        again = train(experiment, script, runs=Path(place), name="again", **options)
        difference = first_difference(folder, again.folder)
    say("identical" if difference is None else f"different: {difference}")
    return difference is None
