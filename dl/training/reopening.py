"""Runs of other processes, read back from their folders: ``open_run(folder)``."""

import functools
from pathlib import Path
from typing import Any

from dl.core.errors import UserError
from dl.core.experiment import built
from dl.data.own.found import shown_before
from dl.runs import lock, store
from dl.runs.folder import RunFolder, read_json
from dl.runs.options import Options, recorded, trained_by
from dl.runs.readers import entry
from dl.runs.scripts import from_json, leave_if_loading, load_script, trusted_script
from dl.training.console import Console
from dl.training.run import Run, reopen

FORCE = "open it all the same with force (open_run(..., force=True), --force of dl evaluate, predict and export)"


@store.naming()
def open_run(
    folder: str | Path,
    build: Any = None,
    config: Any = None,
    *,
    script: str | Path | None = None,
    trust: bool = False,
    force: bool = False,
) -> Run:
    """A run from disk, ready to predict, rebuilt by its own script (or by ``build(config)``).

    The folder is only read: the run may be at work, or a stranger's. Its script runs where it is the very one
    that the run was started with. Other versions or code than the run's are told on stderr, once a process.

    Args:
      config: beside ``build``; its class for the values that the run has.
      script: the experiment's script, where it is another file or has changed.
      trust: run the script that the folder names, whatever it is now.
      force: open it on data, or with a config, that are not those it was started with; what differs is told.

    Raises:
      UserError: no run there, its script is gone or another, or its data or config are others now.
    """
    leave_if_loading(training=False)
    found, console = RunFolder(store.opened(folder), writes=False), Console(show=False)
    stored, locked = read_json(found.config), lock.read(found)
    described = dict(stored)
    if build is None:
        path = trusted_script(found.path, locked, script, trust)
        if path is None:
            raise UserError(
                "script-not-recorded",
                f"{folder} was not started by a script: pass build= and config=",
            )
        kind, build = load_script(path)
        config = from_json(kind, entry(found.config, stored, "config", dict, None))
    elif config is None:
        raise UserError(
            "config-not-given",
            "build makes the run of its config: pass config= beside build=, or its class for the run's own values",
        )
    else:
        path = locked["script"] and Path(locked["script"])
        if isinstance(config, type):
            config = from_json(config, entry(found.config, stored, "config", dict, None))
    with lock.reopening(found), shown_before():
        experiment = built(build, config)
    if stored["config"] is not None:
        described = {**stored, "config": recorded(experiment, Options())["config"]}
    described["steps"] = experiment.steps
    path = path if path is not None and path.is_file() else None
    with trained_by(stored).computing():
        changes = lock.changes(found, experiment, described, path)
    # What the experiment says beside its config concerns its training: it is told, like other code.
    own = [c for c in changes.settings if c.startswith(("config", "steps"))]
    told = [c for c in changes.settings if c not in own] + changes.others
    try:
        changes._replace(settings=own).refuse(found, "reopened", FORCE)
    except UserError:
        if not force:
            raise
        told = [*own, *changes.data, *told]
    if told:
        _tell(
            str(found.path),
            f"{'; '.join(told[:3])}{f' and {len(told) - 3} more' if len(told) > 3 else ''}",
        )
    return reopen(found, experiment, console.warn)


@functools.lru_cache(maxsize=256)  # a build that opens a run is called several times over
def _tell(path: str, differs: str) -> None:
    Console(show=False).warn(
        f"{path} is opened under other conditions, so what it gives may differ: {differs}"
    )
