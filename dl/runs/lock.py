"""What a run's bits depend on besides its configuration: versions, compiler, devices, data, code; and how
the world now differs from it, asked at every door to a run: resume, replay, reopen, export, report."""

import dataclasses
import functools
import hashlib
import inspect
import os
import platform as host
import subprocess
import types
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from dl.core.errors import UserError
from dl.core.experiment import Experiment
from dl.parallel.mesh import mesh_name
from dl.parallel.sharding import Layout
from dl.runs.folder import RunFolder, read_json, to_json, write_json

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "chex", "grain", "numpy")


def environment(
    experiment: Experiment, script: Path | None = None, layout: Layout | None = None
) -> dict[str, Any]:
    """The lock of a run about to start here, as JSON-ready values."""
    devices = jax.devices()
    return {
        "packages": {name: metadata.version(name) for name in PACKAGES},
        "python": host.python_version(),
        "compiler": {
            "XLA_FLAGS": sorted(os.environ.get("XLA_FLAGS", "").split()),
            "matmul_precision": jax.config.values["jax_default_matmul_precision"],
            "x64": jax.config.values["jax_enable_x64"],
        },
        "devices": {
            "platform": devices[0].platform,
            "kind": devices[0].device_kind,
            "count": len(devices),
            "processes": jax.process_count(),
            "mesh": None if layout is None else mesh_name(layout.mesh),
            # CPU programs differ by instruction set, and their sums by the number of threads.
            "cpu": f"{_cpu_model()} x{os.cpu_count()}",
        },
        "data": {
            name: batches.digest()
            for name, batches in {
                "train": experiment.data,
                **experiment.evals,
                **experiment.tests,
            }.items()
        },
        "code": {"dl": package_digest(), **(script_digest(script) if script else {})},
        "revision": revision(script.parent if script else Path.cwd()),
    }


def write(
    folder: RunFolder,
    experiment: Experiment,
    script: Path | None,
    layout: Layout | None = None,
) -> None:
    """Write the lock of a run about to start."""
    write_json(
        folder.lock,
        {
            "script": script and script.absolute(),
            "environment": environment(experiment, script, layout),
            "settings": settings(experiment),
            "by_config": experiment.build is not None,
        },
    )


class Changes(NamedTuple):
    """How an experiment, and the world, differ from what a run's folder holds, each in words.

    Attributes:
      settings: of the configuration, the cadence, or the experiment itself; data: by the name of the set.
      devices: what computes; others: versions, compiler settings and code.
    """

    settings: list[str]
    data: list[str]
    devices: list[str]
    others: list[str]

    def refuse(self, folder: RunFolder, verb: str, remedy: str) -> None:
        """Raise UserError where the run would not be the one it was.

        Args:
          verb: what cannot be done with it; remedy: what to do instead, beside making things equal.
        """
        if self.settings:
            raise UserError(
                f"{folder.path} was started with another configuration ({'; '.join(self.settings[:3])}): "
                f"a {verb} run keeps its own. Give the same values, or {remedy}"
            )
        if self.data:
            raise UserError(
                f"the data of {folder.path} changed since it was started ({'; '.join(self.data[:3])}): "
                f"bring back the data as they were, or {remedy}"
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
        :func:`dl.runs.options.describe`).
    """
    stored, locked = read_json(folder.config), read_json(folder.lock)
    set_to = differences(stored, to_json(described))
    apart = differences(locked["environment"], to_json(environment(experiment, script, layout)))
    data = [c for c in apart if c.startswith("data.")]
    devices = [c for c in apart if c.startswith("devices.")]
    others = [c for c in apart if not c.startswith(("data.", "devices."))]
    inner = []
    if "settings" in locked:
        inner = differences(locked["settings"], to_json(settings(experiment)))
    # A config says what its build makes of it: then these follow from edited code, as after an upgrade.
    explained = locked.get("by_config") and experiment.build is not None
    if explained or any(c.startswith(("packages.", "code.dl")) for c in others):
        return Changes(set_to, data, devices, [*others, *inner])
    return Changes([*set_to, *inner], data, devices, others)


def settings(experiment: Experiment) -> dict[str, Any]:
    """What an experiment can be seen to be set to, by name: its plain fields, those of its training batches,
    and the numbers and texts that the functions of its optimiser, task and augmentation hold. It is all
    that is known of an experiment that no config describes."""
    plain = ("seed", "select", "patience", "ema", "micro_batches")
    found = {name: getattr(experiment, name) for name in plain}
    aside = ("threads", "processes", "prefetch")  # of streams: they change no batch
    for name, value in vars(experiment.data).items():
        if _is_plain(value) and name not in aside:
            found[f"data.{name}"] = value
    for name in ("optimizer", "task", "augment", "trim"):
        found |= dict(_held(getattr(experiment, name), name, {}))
    return {name: v.item() if isinstance(v, np.generic) else v for name, v in found.items()}


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, bool | int | float | str | np.generic)


def _held(value: Any, at: str, seen: dict[int, Any]) -> Iterator[tuple[str, Any]]:
    """``(path, number or text)`` of all that ``value`` holds: in closures, defaults, dataclasses and
    containers. Functions come as their names too, arrays as their digests; objects of other classes are
    passed over."""
    if _is_plain(value):
        yield at, value
        return
    if id(value) in seen:
        return
    seen[id(value)] = value  # kept, so that no other object comes by its number
    if isinstance(value, types.FunctionType):
        yield at, value.__qualname__
    if isinstance(value, np.ndarray | jax.Array):
        if not jax.dtypes.issubdtype(value.dtype, jax.dtypes.extended):
            array = np.ascontiguousarray(value)
            named = f"{array.dtype}{array.shape}".encode()
            yield at, hashlib.sha256(named + array.tobytes()).hexdigest()
        return
    for name, part in _parts(value):
        yield from _held(part, f"{at}.{name}", seen)


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, functools.partial):
        yield from (("function", value.func), ("arguments", (*value.args, value.keywords)))
    elif isinstance(value, types.MethodType):
        yield from (("self", value.__self__), ("function", value.__func__))
    elif isinstance(value, types.FunctionType):
        for name, cell in zip(value.__code__.co_freevars, value.__closure__ or (), strict=True):
            try:
                yield name, cell.cell_contents
            except ValueError:  # not yet given
                continue
        for name, parameter in inspect.signature(value, follow_wrapped=False).parameters.items():
            if parameter.default is not parameter.empty:
                yield name, parameter.default
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        # A Flax module's parent is none of its settings.
        names = [f.name for f in dataclasses.fields(value) if f.name != "parent"]
        yield from ((name, getattr(value, name)) for name in names if hasattr(value, name))
    elif isinstance(value, tuple) and hasattr(value, "_fields"):
        yield from zip(value._fields, value, strict=True)
    elif isinstance(value, tuple | list):
        yield from ((str(place), part) for place, part in enumerate(value))
    elif isinstance(value, Mapping):
        yield from sorted(((str(name), part) for name, part in value.items()), key=lambda x: x[0])
    elif callable(getattr(value, "__wrapped__", None)):  # jitted, cached
        yield "function", value.__wrapped__


def differences(then: dict, now: dict, at: str = "") -> list[str]:
    """Every entry that differs between two locks, as 'packages.jax: 0.10.2 then, 0.12.0 now'.

    The code revision is a label, not an input: the code's own digests are compared instead.
    """
    found = []
    for name in sorted({*then, *now} - ({"revision"} if not at else set())):
        path = f"{at}{name}"
        a, b = then.get(name), now.get(name)
        if isinstance(a, dict) and isinstance(b, dict):
            found += differences(a, b, path + ".")
        elif a != b:
            found.append(f"{path}: {_short(a)} then, {_short(b)} now")
    return found


def _short(value) -> str:
    text = str(value)
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


def revision(folder: Path) -> str | None:
    """The git commit that ``folder`` is at, with '+' where files were changed since; None outside git."""

    def git(*args):
        return subprocess.run(
            ["git", "-C", str(folder), *args],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=10,
            check=True,
        ).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return host.processor() or host.machine()
