"""What a run's bits depend on besides its configuration: versions, compiler, devices, data, code; and how
the world now differs from it, asked at every door to a run: resume, replay, reopen, export, report."""

import contextlib
import dataclasses
import hashlib
import json
import os
import platform as host
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax

from dl.core.digests import KIND, SHA
from dl.core.errors import UserError
from dl.core.experiment import Experiment
from dl.data.readers.files import named_data_folder, reopen_data_folder
from dl.parallel import processes
from dl.parallel.mesh import mesh_name
from dl.parallel.sharding import Layout
from dl.platform import TESTED, installed
from dl.runs.folder import Document, RunFolder, read_json, to_json, write_json
from dl.runs.options import COMPUTING, Options, recorded
from dl.runs.readers import entry
from dl.runs.revisions import revision

PLUGINS = [name for name in TESTED if name != "jaxlib"]
PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "chex", "grain", "numpy")


def environment(
    experiment: Experiment, script: Path | None = None, layout: Layout | None = None
) -> dict[str, Any]:
    """The lock of a run about to start here, as JSON-ready values."""
    devices = jax.devices()
    on_cpu = devices[0].platform == "cpu"
    return {
        "packages": installed((*PACKAGES, *PLUGINS)),
        "python": host.python_version(),
        "compiler": {
            "XLA_FLAGS": sorted(os.environ.get("XLA_FLAGS", "").split()),
            "matmul_precision": jax.config.jax_default_matmul_precision,  # type: ignore[attr-defined]
            "x64": jax.config.values["jax_enable_x64"],
        },
        "devices": {
            "platform": devices[0].platform,
            "kind": devices[0].device_kind,
            "count": len(devices),
            "processes": jax.process_count(),
            "mesh": None if layout is None else mesh_name(layout.mesh),
            # Of an accelerator: its driver and libraries, as its runtime names them.
            "runtime": None if on_cpu else devices[0].client.platform_version,
            # CPU programs differ by instruction set, and their sums by the number of threads: as many as the
            # cores that the process may use.
            "cpu": f"{_cpu_model()} x{_cores()}",
        },
        "data": _data(experiment),
        "code": _code(script),
        "revision": revision(script.parent if script else Path.cwd()),
        "data_dir": named_data_folder(),
    }


def _data(experiment: Experiment) -> dict[str, str]:
    sets = {"train": experiment.data, **experiment.evals, **experiment.tests}
    return {name: batches.digest() for name, batches in sets.items()}


def _code(script: Path | None) -> dict[str, str]:
    return {"dl": package_digest(), **(script_digest(script) if script else {})}


def write(
    folder: RunFolder,
    experiment: Experiment,
    script: Path | None,
    layout: Layout | None = None,
) -> None:
    """Write the lock of a run about to start."""
    said = said_by_build(experiment)
    write_json(folder.lock, begun(script, environment(experiment, script, layout), said))


def begun(
    script: Path | None, environment: dict[str, Any], said: Mapping[str, Any]
) -> dict[str, Any]:
    """The lock of a run that begins now, in such an environment; ``said`` by :func:`said_by_build`."""
    return {
        "script": script and script.absolute(),
        "digests": KIND.get(),
        "sealed": True,  # its result will be: dl.runs.seal
        "environment": environment,
        "experiment": said,
    }


def said_by_build(experiment: Experiment) -> dict[str, Any]:
    """What ``build`` may say of a run beside its config, and neither the program nor a digest shows."""
    names = ("seed", "select", "patience", "ema", "micro_batches")
    own = {name: getattr(experiment, name) for name in names}
    data = experiment.data
    return {**own, "batch_size": data.batch_size, "data_seed": getattr(data, "seed", None)}


def read(folder: RunFolder) -> Document:
    """The lock of a run, its entries of their types."""
    locked = read_json(folder.lock)
    entry(folder.lock, locked, "script", str, None)
    entry(folder.lock, locked["environment"], "data_dir", str, None)
    for name in ("experiment", "start", "ancestor"):
        entry(folder.lock, locked, name, dict, None)
    for name in ("packages", "compiler", "devices", "data", "code"):
        entry(folder.lock, locked["environment"], name, dict)
    return locked


def digests_of(folder: RunFolder) -> str:
    """The kind of digests that a run records of its states (:mod:`dl.core.digests`)."""
    locked = read_json(folder.lock) if folder.lock.exists() else {}
    return entry(folder.lock, locked, "digests", str, None) or SHA


def check_alike(
    experiment: Experiment,
    options: Options,
    script: Path | None = None,
    layout: Layout | None = None,
) -> None:
    """Raise UserError in every process of a run where one was started otherwise than the first: they would
    compute with different values as if with the same."""
    if jax.process_count() == 1:
        return
    here = {
        **recorded(experiment, options),
        "experiment": said_by_build(experiment),
        "mesh": None if layout is None else mesh_name(layout.mesh),
        "packages": installed(PACKAGES),
        "data": _data(experiment),
        "code": _code(script),
    }
    text = json.dumps(to_json(here), default=float)
    first = processes.on_first_process(lambda: text)
    apart = [] if first == text else differences(json.loads(first), json.loads(text))
    words = (change.removesuffix(" now") + " here" for change in apart[:3])
    told = "; ".join(each.replace(" then,", " in the first,") for each in words)
    if processes.smallest(first == text) == [0]:
        raise UserError(
            "processes-differ",
            f"the processes of this run were not started alike ({told or 'another one tells how'}): give all of "
            "them the same flags, data and versions",
        )


class Changes(NamedTuple):
    """How an experiment, and the world, differ from what a run's folder holds, each in words.

    Attributes:
      settings: of the configuration and the cadence; data: by the name of the set.
      devices: what computes; others: versions, compiler settings and code.
    """

    settings: list[str]
    data: list[str]
    devices: list[str]
    others: list[str]

    @property
    def conditions(self) -> list[str]:
        """What a run may go on under all the same, though its bits may differ then."""
        return [*self.others, *self.devices]

    def refuse(self, folder: RunFolder, verb: str, remedy: str) -> None:
        """Raise UserError where the run would not be the one it was.

        Args:
          verb: what cannot be done with it; remedy: what to do instead, beside making things equal.
        """
        # How many steps there are may follow from the data, and is no mistake of its own then.
        if self.settings and not (self.data and all(c.startswith("steps:") for c in self.settings)):
            raise UserError(
                "config-changed",
                f"{folder.path} was started with another configuration ({'; '.join(self.settings[:3])}): "
                f"a {verb} run keeps its own. Give the same values, or {remedy}",
            )
        if self.data:
            raise UserError(
                "data-changed",
                f"the data of {folder.path} changed since it was started ({'; '.join(self.data[:3])}): "
                f"bring back the data as they were, or {remedy}",
            )


def changes(
    folder: RunFolder,
    experiment: Experiment,
    described: Mapping[str, Any],
    script: Path | None = None,
    layout: Layout | None = None,
) -> Changes:
    """What changed since the run in ``folder`` was started.

    Args:
      described: what its ``config.json`` would hold if it were started now (see
        :func:`dl.runs.options.recorded`).
    """
    locked, set_to = read(folder), settings_apart(folder, experiment.config, described)
    said, now = locked.get("experiment") or {}, to_json(said_by_build(experiment))
    set_to = set_to or differences(said, {n: now.get(n) for n in said}, "experiment.")
    apart = differences(locked["environment"], to_json(environment(experiment, script, layout)))
    data = [c for c in apart if c.startswith("data.")]
    devices = [c for c in apart if c.startswith("devices.")]
    others = [c for c in apart if not c.startswith(("data.", "devices."))]
    return Changes(set_to, data, devices, others)


def settings_apart(folder: RunFolder, config: Any, described: Mapping[str, Any]) -> list[str]:
    """What the configuration and the cadence of the run in ``folder`` have that is ``described`` otherwise."""
    usual = {name: getattr(Options(), name) for name in COMPUTING}
    then = usual | with_new_fields(read_json(folder.config), config)
    return differences(then, usual | to_json(described))


@contextlib.contextmanager
def other_values_first(folder: RunFolder, config: Any) -> Iterator[None]:
    """Where what is within fails, and the run in ``folder`` was started with another config, say that instead."""
    try:
        yield
    except Exception:
        if folder.exists() and dataclasses.is_dataclass(config) and not isinstance(config, type):
            then = with_new_fields(read_json(folder.config), config).get("config")
            now = to_json(dataclasses.asdict(config))
            apart = differences(then, now, "config.") if isinstance(then, dict) else []
            Changes(apart, [], [], []).refuse(folder, "resumed", "start anew under another --name")
        raise


def with_new_fields(stored: dict[str, Any], config: Any) -> dict[str, Any]:
    """What a run's ``config.json`` holds, with the defaults of fields that came after it was started."""
    own = stored.get("config")
    if not isinstance(own, dict) or not dataclasses.is_dataclass(config):
        return stored
    usual = {
        f.name: f.default
        for f in dataclasses.fields(config)
        if f.default is not dataclasses.MISSING
    }
    return {**stored, "config": {**to_json(usual), **own}}


def add(folder: RunFolder, **entries: Any) -> None:
    """Put entries into the lock, where they are not there yet."""
    if not folder.writes:
        return
    locked = read_json(folder.lock)
    if entries.keys() - locked.keys():
        write_json(folder.lock, {**entries, **locked})


def note_resumed(folder: RunFolder, changed: list[str], saved: int) -> None:
    """Note that from the step ``saved`` on a run goes on though conditions ``changed`` since it began, or, where
    none did, under its own again."""
    locked = read_json(folder.lock)
    noted = resumed(folder, locked)
    if (noted[-1]["changed"] if noted else []) != changed:
        here = {"step": max(saved, 0), "changed": changed}
        write_json(folder.lock, {**locked, "resumed": [*noted, here]})


def resumed(folder: RunFolder, locked: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What a lock tells of the steps from which on a run was made under other conditions than it began: ``step``,
    and what was ``changed``, in words."""
    noted = entry(folder.lock, dict(locked), "resumed", list) or []
    for each in noted:
        step, changed = (
            entry(folder.lock, each, "step", int),
            entry(folder.lock, each, "changed", list),
        )
        if step is None or changed is None or not all(isinstance(x, str) for x in changed):
            raise UserError("record-damaged", f"{folder.lock}: 'resumed' cannot be {each!r:.60}")
    return noted


@contextlib.contextmanager
def reopening(folder: RunFolder) -> Iterator[None]:
    """Within, the experiment of the run in ``folder`` is built again: data sets come from where its came from, if
    that was named and is still there, and what fails says so."""
    named = read(folder)["environment"].get("data_dir")
    config = read_json(folder.config)["config"]
    if named is None and isinstance(config, dict):  # where runs had it before it was an option
        named = config.get("data_dir")
    reopen_data_folder(named if isinstance(named, str) else None)
    try:
        yield
    except UserError as error:
        said = "its experiment is built again, with its own data where they lay then"
        raise UserError(error.code, f"{folder.path}: {said}, and {error}") from error.__cause__


def world_apart(folder: RunFolder, experiment: Experiment) -> list[str]:
    """The versions, settings and devices that are others here than a run's lock has, each in words."""
    now = to_json(environment(experiment))
    apart = differences(read(folder)["environment"], now)
    return [line for line in apart if not line.startswith(("data", "code"))]


def differences(then: dict[str, Any], now: dict[str, Any], at: str = "") -> list[str]:
    """Every entry that differs between two locks, as 'packages.jax: 0.10.2 then, 0.12.0 now'.

    The code revision and the data's folder are labels: the digests of code and data are compared instead.
    """
    found = []
    labels = {"revision", "data_dir"} if at in ("", "config.") else set()
    for name in sorted({*then, *now} - labels):
        path = f"{at}{name}"
        a, b = then.get(name), now.get(name)
        if isinstance(a, dict) and isinstance(b, dict):
            found += differences(a, b, path + ".")
        elif a != b:
            told = (_short(x[name]) if name in x else "not there" for x in (then, now))
            found.append("{}: {} then, {} now".format(path, *told))
    return found


def changed_fields(then: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of the config that a run's ``config.json`` has and that are others ``now``, as JSON has them."""
    old, new = (x.get("config") or {} for x in (then, now))
    return {n: new[n] for n in new if n in old and old[n] != new[n]}


def fork_command(path: Path, changed: Mapping[str, Any], at: int | None = None) -> str | None:
    """The command that branches a run off with these values; None where they cannot be typed."""
    words = [f"{name}={_word(value)}" for name, value in changed.items()]
    nested = any(isinstance(value, dict) for value in changed.values())
    if not words or nested or not " ".join(words).isprintable():
        return None
    return shlex.join(["dl", "fork", str(path), *(["--at", str(at)] if at else []), *words])


def _word(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _short(value: Any) -> str:
    text = " ".join(str(value).split())
    if len(text) == 64:
        return text[:12] + "…"
    return text if len(text) <= 80 else text[:77] + "..."


def package_digest() -> str:
    """SHA-256 of the library's source."""
    root = Path(__file__).parents[1]
    hasher = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        hasher.update(path.relative_to(root).as_posix().encode())
        hasher.update(path.read_bytes())
    return hasher.hexdigest()


def script_digest(script: Path) -> dict[str, str]:
    return {"script": hashlib.sha256(script.read_bytes()).hexdigest()}


def _cores() -> int:
    """Cores that this process may use: XLA for CPU computes in as many threads."""
    allowed = getattr(os, "sched_getaffinity", None)  # not on macOS
    return len(allowed(0)) if allowed else os.cpu_count() or 1


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return host.processor() or host.machine()
