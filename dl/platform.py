"""Process-wide settings, made before JAX opens a backend.

Importing ``dl`` runs :func:`configure`; it only fills what the user left unset, through the
environment variables JAX and XLA themselves read, so every default here can be overridden from
outside and shows up in a run's lock file. Nothing in this module imports JAX by itself.
"""

import contextlib
import io
import os
import re
import socket
import sys
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module, metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

STARTED = time.perf_counter()  # the moment that a start's seconds are counted from
# How launchers tell a process how many were started, and which of them it is.
LAUNCHERS = {
    "SLURM_STEP_NUM_TASKS": "SLURM_PROCID",
    "OMPI_COMM_WORLD_SIZE": "OMPI_COMM_WORLD_RANK",
}

# Why each default stands:
#   ynn fusion   jaxlib 0.10-0.12 on CPU lowers a vmapped matrix-vector product followed by a
#                reduction to a wrong result (jax#39103) unless these two fusion kinds are off;
#                without them CNN training is also about three times faster.
XLA_DEFAULTS = {"--xla_cpu_experimental_ynn_fusion_type": "-individual_convolution,-reduce"}

# Where Linux shows an accelerator, whether or not JAX can use it, by the extra of jax that can.
CHIPS = {"cuda12": ("/dev/nvidia0", "/dev/dxg"), "tpu": ("/dev/accel0", "/dev/vfio/0")}

# XLA aborts the process on a flag it does not know, and every plugin holds an XLA of its own: so flags are
# only set where all that is installed is of releases they were tried with.
TESTED = {
    "jaxlib": ((0, 10), (0, 12)),
    "jax-cuda12-pjrt": ((0, 10), (0, 12)),
    "jax-cuda13-pjrt": ((0, 10), (0, 12)),
    "libtpu": ((0, 0, 42), (0, 0, 52)),
}


def cache_folder() -> Path:
    """Folder for what can be made again (compiled programs, decoded data): ``$DL_CACHE`` or the user's cache."""
    if "DL_CACHE" in os.environ:
        return Path(os.environ["DL_CACHE"]).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base).expanduser() / "dl"


def installed(packages: Iterable[str]) -> dict[str, str]:
    """The versions of those of the packages that are installed."""
    found = {}
    for name in packages:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def xla_flags(current: str, versions: Mapping[str, str]) -> str:
    """``current`` XLA_FLAGS with our defaults added for every flag the user did not name.

    Args:
      versions: of the packages of :data:`TESTED` that are installed.
    """
    for name, version in versions.items():
        least, most = TESTED[name]
        release = tuple(int(part) for part in re.findall(r"\d+", version)[: len(least)])
        if not least <= release <= most:
            return current
    named = {flag.split("=")[0] for flag in current.split()}
    added = [f"{flag}={value}" for flag, value in XLA_DEFAULTS.items() if flag not in named]
    return " ".join([*current.split(), *added])


def configure() -> None:
    """Set compiler flags, the persistent compile cache, the use of freed memory and how OpenMP waits,
    leaving what the user set alone."""
    keep_freed_memory()
    # scikit-learn's threads otherwise wait for each other awake: beside another job on the same cores,
    # trees that take ten seconds to fit took more than ten minutes.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    jaxlib = metadata.version("jaxlib")
    before, versions = os.environ.get("XLA_FLAGS", ""), installed(TESTED)
    os.environ["XLA_FLAGS"] = xla_flags(before, versions)
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
    if any("cuda" in name for name in versions) and not _there("cuda12"):
        with hushed():  # of the missing driver, six lines
            import_module("jax")
    for name, value in settings.items():
        if name.upper() in os.environ:
            continue
        os.environ[name.upper()] = value  # also reaches child processes, such as `dl verify` starts
        if "jax" in sys.modules:
            sys.modules["jax"].config.update(name, value if name.endswith("dir") else float(value))


def host_memory() -> int:
    """Bytes of memory that this machine has."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def keep_freed_memory() -> None:
    """Have glibc keep what is freed for the next request, where the user set no malloc option.

    XLA for CPU asks for a program's temporaries anew at every call, and glibc hands blocks above some
    megabytes back to the kernel at once. A Transformer's step then spends half its time on page faults.
    Kept blocks do not always fit the next request, so the largest, above an eighth of the machine's
    memory, still go back.
    """
    chosen = any(name.startswith("MALLOC_") for name in os.environ)
    if sys.platform != "linux" or chosen or "malloc" in os.environ.get("GLIBC_TUNABLES", ""):
        return
    import ctypes

    libc = ctypes.CDLL(None)
    if not hasattr(libc, "gnu_get_libc_version"):
        return
    trim_threshold, mmap_threshold, arenas = -1, -3, -8  # M_... of malloc.h
    libc.mallopt(mmap_threshold, min(host_memory() // 8, 2**31 - 1))
    libc.mallopt(trim_threshold, -1)  # never
    libc.mallopt(arenas, 1)  # blocks as large live in the first one alone


# What a terminal obeys: control characters, and Unicode's formats that turn, hide or end text; not the joiners, of
# which the words of Persian and Hindi and pictures of families are made.
OBEYED = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e007f\ud800-\udfff]"
)


def harmless(text: str, kept: str = "") -> str:
    """``text`` that a terminal may show: white space as spaces but for what is ``kept``, and '�' for characters
    that a terminal would obey."""

    def shown(found: re.Match) -> str:
        mark = found[0]
        return mark if mark in kept else " " if mark in "\t\n\r\u2028\u2029" else "�"

    return OBEYED.sub(shown, text)


def screen(**options: Any) -> Any:
    """A ``rich.console.Console`` that prints text as it is, but for what a terminal would obey: people's words
    hold [brackets] and :colons:."""
    from rich.console import Console

    class Screen(Console):
        def render(self, *given: Any, **more: Any) -> Iterable[Any]:
            for piece in super().render(*given, **more):
                yield piece if piece.control else piece._replace(text=harmless(piece.text, "\n\t"))

    return Screen(**{"highlight": False, "markup": False, "emoji": False, **options})


@contextlib.contextmanager
def hushed() -> Iterator[None]:
    """NVIDIA's and the TPU's packages say again and again that no device is here; within, nothing is heard."""
    try:
        before = os.dup(2)
    except OSError:  # a process without any
        yield
        return
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)


def _backend_open() -> bool:
    bridge = sys.modules.get("jax._src.xla_bridge")
    return bridge is not None and bridge.backends_are_initialized()


def stop_caching_programs() -> None:
    """Leave the persistent compile cache alone from here on, in this process.

    A program for several CPU devices that XLA reads back from disk has lost the order of its
    collectives: devices start different ones first and wait for each other for ever (jaxlib 0.10).
    """
    import jax
    from jax.experimental.compilation_cache import compilation_cache

    jax.config.update("jax_enable_compilation_cache", False)
    compilation_cache.reset_cache()  # the setting is read once, at the first compilation


def start_distributed(
    coordinator: str | None = None, processes: int | None = None, process: int | None = None
) -> None:
    """Join the multi-process JAX runtime, if arguments or the environment say that there is one.

    JAX finds the processes of TPU pods, SLURM steps, MPI launchers and Kubernetes jobs by itself;
    elsewhere give all three arguments, or set ``JAX_COORDINATOR_ADDRESS``, ``JAX_NUM_PROCESSES`` and
    ``JAX_PROCESS_ID``. Alone, nothing is started and nothing listens on any port.

    Args:
      coordinator: ``host:port`` of process 0; processes: how many; process: which of them this is.

    Raises:
      ValueError: the three are incomplete. RuntimeError: JAX has begun to compute, or the others did
        not come.
    """
    coordinator = coordinator or os.environ.get("JAX_COORDINATOR_ADDRESS")
    processes = whole_number(processes, "JAX_NUM_PROCESSES")
    process = whole_number(process, "JAX_PROCESS_ID")
    given = (coordinator, processes, process)
    explicit = coordinator is not None and None not in given
    if coordinator is not None:
        host, _, port = coordinator.rpartition(":")
        if not (host and port.isascii() and port.isdecimal() and 0 < int(port) < 2**16):
            raise ValueError(f"the coordinator is host:port, not {coordinator!r}")
    by_launcher, on_tpu_vm = launched(), _on_tpu_vm()
    if not (explicit or by_launcher or on_tpu_vm):
        if any(value is not None for value in given):
            raise ValueError(
                "a coordinator, the number of processes and this process's go together"
            )
        return
    import jax

    if jax.distributed.is_initialized():
        return
    # SIGTERM is the loop's to handle: save and stop.
    jax.config.update("jax_enable_preemption_service", False)
    options: dict = {"heartbeat_timeout_seconds": 30}
    if explicit:
        names = ("coordinator_address", "num_processes", "process_id")
        options |= dict(zip(names, given, strict=True))
        options["cluster_detection_method"] = "deactivate"
        if process == 0 and _answers(host.strip("[]"), int(port)):
            raise ValueError(f"another program has the port of {coordinator} already")
        if host in ("localhost", "127.0.0.1", "[::1]"):
            options["coordinator_bind_address"] = coordinator  # no other machine needs to reach it
    elif own := slurm_gpus():
        options["local_device_ids"] = own
    try:
        jax.distributed.initialize(**options)
    except ValueError:  # JAX knows of no others
        if explicit or by_launcher:
            raise
        # A TPU VM that is no part of a pod, or that no metadata server speaks for, is alone.


def no_backend() -> str:
    """Why JAX cannot open a device here, in a line that says what to do; empty where it can.

    This opens the backend, so call it after :func:`start_distributed`.
    """
    import jax

    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:
        # JAX has no words for a CUDA that is asked for where there is no card: a bare assertion fails.
        told = str(error) or "it finds no NVIDIA GPU that this process may see"
        told = " ".join(told.partition(" (set JAX_PLATFORMS")[0].partition(" (you may")[0].split())
        told = told[:300].rstrip(".")
        settings: Any = jax.config
        asked = settings.jax_platforms
        if asked:
            return (
                f"JAX_PLATFORMS={asked} cannot be used here: {told}. Unset it, and JAX takes what "
                "there is, or set it to cpu"
            )
        return f"JAX finds no device: {told}. Set JAX_PLATFORMS=cpu to compute on the CPU"
    return ""


def computes_on() -> str:
    """What JAX computes on here, in a line that also says where an accelerator is there and unused."""
    if told := no_backend():
        return told
    import jax

    first, *others = jax.devices()
    count = f"{1 + len(others)} x " if others else ""
    line = f"JAX {jax.__version__} computes on {count}{first.device_kind}"
    unused = next((extra for extra in CHIPS if first.platform == "cpu" and _there(extra)), None)
    if unused is None:
        return line
    settings: Any = jax.config
    remedy = f"pip install -U 'jax[{unused}]=={jax.__version__}'"
    if settings.jax_platforms:
        remedy = f"unset JAX_PLATFORMS, which is {settings.jax_platforms}"
    name = "TPU" if unused == "tpu" else "NVIDIA GPU"
    return f"{line} while the {name} of this machine is unused: {remedy}, then start Python anew"


def lenient_output() -> None:
    """Have the screen show '?' where its encoding lacks a character, in place of an error: under LC_ALL=C,
    and in a Windows console or a pipe there, a ± would end the run."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "surrogateescape"):
            stream.reconfigure(errors="replace")


def peak_memory() -> int | None:
    """The most bytes in use at any time so far: of this process's first device where it tells, as GPUs
    and TPUs do, else of the process on the host; None where neither is known."""
    import jax

    stats = jax.local_devices()[0].memory_stats() or {}
    if "peak_bytes_in_use" in stats:
        return int(stats["peak_bytes_in_use"])
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def whole_number(given: int | None, variable: str) -> int | None:
    text = os.environ.get(variable)
    if given is not None or text is None:
        return given
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{variable} is {text!r}, which is no whole number") from None


def _answers(host: str, port: int) -> bool:
    """Whether some program listens there already: JAX's coordinator, asked to, can end the process."""
    try:
        socket.create_connection((host, port), timeout=1).close()
    except (OSError, OverflowError):
        return False
    return True


def launched() -> bool:
    """Whether a launcher that JAX knows started this process beside others."""
    variables = os.environ
    hosts = variables.get("TPU_WORKER_HOSTNAMES", "")
    if "," in hosts or "MEGASCALE_COORDINATOR_ADDRESS" in variables:
        return True
    if any(int(variables.get(count, 1)) > 1 for count in LAUNCHERS):
        return True
    return "KUBERNETES_SERVICE_HOST" in variables and "JOB_COMPLETION_INDEX" in variables


def slurm_gpus() -> list[int]:
    """Which of the GPUs that SLURM shows this task are its own; none where it shows none. JAX takes the one of the
    task's number, which a task bound to its own does not see (jax#28194), and no other one (jax#16788)."""
    told = os.environ
    shown, number = told.get("CUDA_VISIBLE_DEVICES"), told.get("SLURM_LOCALID")
    if not shown or number is None or "JAX_LOCAL_DEVICE_IDS" in told:
        return []
    count = len(shown.split(","))
    tasks = int(told.get("SLURM_STEP_TASKS_PER_NODE", "1").split("(")[0])
    share = count if "SLURM_GPUS_PER_TASK" in told else max(count // tasks, 1)
    return [place % count for place in range(int(number) * share, (int(number) + 1) * share)]


def _on_tpu_vm() -> bool:
    """Whether this may be one of several hosts of a TPU: only the metadata server knows, and JAX asks it."""
    named = "TPU_WORKER_HOSTNAMES" in os.environ
    return _there("tpu") and not named and find_spec("libtpu") is not None


def _there(extra: str) -> bool:
    return any(Path(place).exists() for place in CHIPS[extra])
