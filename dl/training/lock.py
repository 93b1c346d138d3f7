"""What a run's bits depend on besides its configuration: versions, compiler, devices, data, code."""

import hashlib
import os
import platform as host
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

from dl.core.experiment import Experiment
from dl.parallel.mesh import mesh_name
from dl.parallel.sharding import Layout

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
    return text[:12] + "…" if len(text) == 64 else text


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
