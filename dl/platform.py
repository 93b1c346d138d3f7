"""Process-wide settings, made before JAX opens a backend.

Importing ``dl`` runs :func:`configure`; it only fills what the user left unset, through the
environment variables JAX and XLA themselves read, so every default here can be overridden from
outside and shows up in a run's lock file. Nothing in this module imports JAX by itself.
"""

import os
import sys
import warnings
from importlib import metadata
from pathlib import Path

# Why each default stands:
#   ynn fusion   jaxlib 0.10-0.12 on CPU lowers a vmapped matrix-vector product followed by a
#                reduction to a wrong result (jax#39103) unless these two fusion kinds are off;
#                without them CNN training is also about three times faster.
#   deterministic ops   a run must replay to the same bits on a GPU too; XLA's scatter and some
#                cuDNN kernels are otherwise free to add in any order.
XLA_DEFAULTS = {
    "--xla_cpu_experimental_ynn_fusion_type": "-individual_convolution,-reduce",
    "--xla_gpu_deterministic_ops": "true",
}

# XLA aborts the process on a flag it does not know, so flags are only set for the releases they
# were tried with.
TESTED_JAXLIB = ((0, 10), (0, 12))


def cache_folder() -> Path:
    """Folder for what can be made again (compiled programs, decoded data): ``$DL_CACHE`` or the user's cache."""
    if "DL_CACHE" in os.environ:
        return Path(os.environ["DL_CACHE"]).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base).expanduser() / "dl"


def xla_flags(current: str, jaxlib: str) -> str:
    """``current`` XLA_FLAGS with our defaults added for every flag the user did not name."""
    release = tuple(int(part) for part in jaxlib.split(".")[:2])
    if not TESTED_JAXLIB[0] <= release <= TESTED_JAXLIB[1]:
        return current
    named = {flag.split("=")[0] for flag in current.split()}
    added = [f"{flag}={value}" for flag, value in XLA_DEFAULTS.items() if flag not in named]
    return " ".join([*current.split(), *added])


def configure() -> None:
    """Set compiler flags and the persistent compile cache, leaving what the user set alone."""
    jaxlib = metadata.version("jaxlib")
    before = os.environ.get("XLA_FLAGS", "")
    os.environ["XLA_FLAGS"] = xla_flags(before, jaxlib)
    if os.environ["XLA_FLAGS"] != before and _backend_open():
        warnings.warn(
            "JAX ran something before `import dl`, so dl's compiler settings come too late for this "
            "process: results on CPU may be wrong (jax#39103) and slow. Import dl first.",
            stacklevel=3,
        )
    settings = {
        "jax_compilation_cache_dir": str(cache_folder() / "xla" / f"jaxlib-{jaxlib}"),
        "jax_persistent_cache_min_compile_time_secs": "0.5",
    }
    for name, value in settings.items():
        if name.upper() in os.environ:
            continue
        os.environ[name.upper()] = value  # also reaches child processes, such as `dl verify` starts
        if "jax" in sys.modules:
            sys.modules["jax"].config.update(name, value if name.endswith("dir") else float(value))


def _backend_open() -> bool:
    bridge = sys.modules.get("jax._src.xla_bridge")
    return bridge is not None and bridge.backends_are_initialized()


def start_distributed() -> None:
    """Join the multi-process JAX runtime when the environment says there is one.

    JAX finds TPU pods, SLURM and Kubernetes jobs by itself; elsewhere set
    ``JAX_COORDINATOR_ADDRESS``, ``JAX_NUM_PROCESSES`` and ``JAX_PROCESS_ID``.
    """
    cluster = ("JAX_COORDINATOR_ADDRESS", "SLURM_STEP_NODELIST", "TPU_WORKER_HOSTNAMES")
    if any(name in os.environ for name in cluster):
        import jax

        if not jax.distributed.is_initialized():
            jax.distributed.initialize()
