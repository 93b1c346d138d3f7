"""Cards and chips by name, and their compilers without them.

NVIDIA's and the TPU's compilers are ordinary packages (``pip install -e '.[plan-cuda,plan-tpu]'``) that need no
device: given what is written here of a card, they make the very program that it would run. So a plan can be
made on a laptop for a machine that one does not own.
"""

import contextlib
import math
import os
import re
from collections.abc import Iterator
from importlib import metadata
from typing import Any, NamedTuple

from dl.core.errors import UserError, need, one_line, unknown
from dl.core.target import Target
from dl.parallel.programs import EXACT, THREE_PASSES
from dl.platform import hushed


class Card(NamedTuple):
    """One accelerator, by its maker's data sheet.

    Attributes:
      kind: the words it goes by in ``jax.Device.device_kind``.
      memory: bytes; bandwidth: bytes a second of it.
      peaks: dense FLOP/s of matrix products, by the dtype of their operands; ``'float32'`` as XLA takes
        them by default, by TF32 or in bfloat16 passes where the card has such.
      link: bytes a second one way to its neighbours: by NVLink or PCIe, of a TPU by each of its links; network:
        to another host's.
      near: devices that ``link`` joins: of one host, or of the largest slice of TPUs that there is.
      cores: streaming multiprocessors, of a GPU; capability: CUDA's. shared: bytes of shared memory a
        multiprocessor has; cache: of level 2; clock: GHz; lanes: float32 units a multiprocessor.
      smallest: topology of the smallest slice there is, of a TPU; ring: chips along a side that close to a
        ring, as all do that are a multiple of it.
    """

    kind: str
    memory: float
    bandwidth: float
    peaks: dict[str, float]
    link: float
    network: float
    near: int = 8
    cores: int = 0
    capability: tuple[int, int] = (0, 0)
    shared: int = 0
    cache: int = 0
    clock: float = 0.0
    lanes: int = 128
    smallest: tuple[int, ...] = ()
    ring: int = 0

    @property
    def platform(self) -> str:
        return "tpu" if self.smallest else "gpu"

    def peak(self, kind: str) -> float:
        """FLOP/s of products that go by this name in :func:`dl.parallel.programs.products`."""
        if kind == EXACT and not self.smallest:  # a multiplication and a sum a turn in each unit
            return min(2e9 * self.cores * self.lanes * self.clock, self.peaks["float32"])
        passes = {EXACT: 6, THREE_PASSES: 3}.get(kind) if self.smallest else None
        if passes is not None:
            return self.peaks["bfloat16"] / passes
        return self.peaks.get(kind, self.peaks["float32"])


def _peaks(half: float, single: float) -> dict[str, float]:
    return {"bfloat16": half, "float16": half, "float32": single}


_HOPPER: Any = {
    "cores": 132,
    "capability": (9, 0),
    "shared": 233472,
    "cache": 52428800,
    "clock": 1.98,
}

# From NVIDIA's and Google's data sheets, dense, without sparsity. A T4 has no bfloat16: XLA computes it in
# float32. Google tells what all links of a chip carry both ways together: 400, 1200 and 800 GB/s over 4, 6 and 4.
CARDS = {
    "t4": Card(
        "T4", 15.64e9, 320e9, {"float16": 65e12, "bfloat16": 8.1e12, "float32": 8.1e12},
        15.75e9, 3.1e9, 4, 40, (7, 5), 65536, 4194304, 1.59, 64,
    ),
    "a100": Card(
        "A100", 84.97e9, 2039e9, _peaks(312e12, 156e12), 300e9, 25e9, 8,
        108, (8, 0), 167936, 41943040, 1.41, 64,
    ),
    "h100": Card("H100", 84.94e9, 3352e9, _peaks(989e12, 494e12), 450e9, 50e9, **_HOPPER),
    "h200": Card("H200", 150.7e9, 4800e9, _peaks(989e12, 494e12), 450e9, 50e9, **_HOPPER),
    "b200": Card(
        "B200", 191.5e9, 7700e9, _peaks(2250e12, 1100e12), 900e9, 50e9, 8,
        148, (10, 0), 233472, 132644864, 1.965,
    ),
    "v5e": Card(
        "TPU v5 lite", 15.75 * 2**30, 819e9, _peaks(197e12, 197e12), 50e9, 3.1e9, 256,
        smallest=(2, 2), ring=16,
    ),
    "v5p": Card(
        "TPU v5", 95.74 * 2**30, 2765e9, _peaks(459e12, 459e12), 100e9, 6.25e9, 6144,
        smallest=(2, 2, 1), ring=4,
    ),
    "v6e": Card(
        "TPU v6 lite", 31.25 * 2**30, 1638e9, _peaks(918e12, 918e12), 100e9, 12.5e9, 256,
        smallest=(2, 2), ring=16,
    ),
}  # fmt: skip


def card_of(kind: str) -> Card | None:
    """The card of a ``jax.Device.device_kind``, or None where none is on record."""
    kind = re.sub(r"TPU v(\d)e", r"TPU v\1 lite", kind)  # of other releases
    found = [card for card in CARDS.values() if card.kind in kind]
    return max(found, key=lambda card: len(card.kind)) if found else None


class Machine(NamedTuple):
    """A machine that programs are compiled for and not run on.

    Attributes:
      name: as it was asked for, such as ``'h100:8'``.
      devices: what a mesh is made of; none where programs are only to be lowered, not compiled.
      sides: of a slice of TPUs.
    """

    name: str
    card: Card
    devices: list[Any]
    sides: tuple[int, ...] = ()

    @property
    def taken(self) -> float:
        """The share of a GPU's memory that JAX takes for programs, as this process's environment says, which is
        three quarters unless told otherwise; TPUs have all of it for them.

        Raises:
          UserError: the environment says no share.
        """
        told = os.environ.get("XLA_CLIENT_MEM_FRACTION") or os.environ.get(
            "XLA_PYTHON_CLIENT_MEM_FRACTION"
        )
        if self.card.smallest:
            return 1.0
        try:
            share = float(told or 0.75)
        except ValueError:
            share = 0.0
        if not share > 0:
            raise UserError(
                "range", f"XLA_CLIENT_MEM_FRACTION={told}: a share of the memory, such as 0.75"
            )
        return min(share, 1.0)

    @property
    def link(self) -> float:
        """Bytes a second that a device sends to its neighbours; on TPUs one of a corner of the slice, where a
        side of one chip has no link and one that closes to no ring has one."""
        if not self.card.smallest:
            return self.card.link
        # A torus of three dimensions is made of whole cubes; of two, each side closes by itself.
        whole = len(self.sides) == 2 or all(n % self.card.ring == 0 for n in self.sides)
        links = sum(2 if whole and n % self.card.ring == 0 else n > 1 for n in self.sides)
        return self.card.link * max(links, 1)

    @property
    def target(self) -> Target:
        capability = self.card.capability if self.card.platform == "gpu" else None
        return Target(self.card.platform, capability=capability)

    @property
    def lowered_for(self) -> str:
        """The platform, in the word that lowering takes."""
        return "cuda" if self.card.platform == "gpu" else "tpu"


def machine(text: str) -> Machine:
    """The machine of a line such as ``h100:8``, ``a100:16`` (two hosts of eight), ``v5e:2x4``, ``v5p:4x4x4``.

    To be called before JAX opens a backend: this process then computes on the CPU.

    Raises:
      UserError: no such card or slice, or its compiler is not installed.
    """
    name, _, size = text.strip().lower().partition(":")
    if name not in CARDS:
        raise unknown("device", name, CARDS)
    card = CARDS[name]
    sizes = [int(n) for n in size.split("x")] if re.fullmatch(r"\d+(x\d+)*", size) else []
    many = math.prod(sizes) if sizes else 0 if size else 1
    if not many or len(sizes) not in (0, 1, len(card.smallest)):
        slice_of = "x".join(str(2 * n) for n in card.smallest)
        example = f"{name}:{slice_of} or {name}:1" if card.smallest else f"{name}:8"
        none = "a machine has 1 device or more; " if size and not size.strip("0") else ""
        raise UserError("device-malformed", f"--device {text}: {none}write it as {example}")
    if card.smallest and many > card.near:
        told = f"the largest slice has {card.near:,} chips"
        raise UserError("device-malformed", f"--device {text}: {told}")
    sided = len(sizes) == len(card.smallest) and many > 2  # 1x1 has no topology of its own
    shape = sizes if sided else _slice(card, many)
    if card.smallest and many > 2 and math.prod(shape) != many:  # one or two chips lie in a line
        whole, by_sides = math.prod(shape), "x".join(map(str, shape))
        told = f"no slice has {many} chips: write {name}:{whole}, or the sides of one as {name}:{by_sides}"
        raise UserError("device-malformed", f"--device {text}: {told}")
    near = min(card.near, many)
    if card.platform == "gpu" and many % near:
        raise UserError(
            "device-malformed", f"--device {text}: hosts hold {near}, so write a multiple of {near}"
        )
    settings = {
        "TPU_SKIP_MDS_QUERY": "1",  # nobody is to be asked which machine this is
        "TPU_WORKER_HOSTNAMES": "localhost",
        "TPU_WORKER_ID": "0",
        "ALLOW_MULTIPLE_LIBTPU_LOAD": "true",
        "JAX_SKIP_CUDA_CONSTRAINTS_CHECK": "1",
    }
    for variable, value in settings.items():
        os.environ.setdefault(variable, value)
    import jax
    from jax.experimental import topologies

    settings_of: Any = jax.config
    settings_of.update("jax_platforms", "cpu")
    with hushed():  # NVIDIA's package, of the missing driver
        jax.devices()
    if card.platform == "gpu":
        need("jax_cuda12_plugin", extra="plan-cuda", why=f"Compiling for {name}")
        ours, theirs = metadata.version("jaxlib"), metadata.version("jax-cuda12-plugin")
        if ours != theirs:
            words = f"'jax-cuda12-plugin=={ours}' 'jax-cuda12-pjrt=={ours}'"
            raise UserError(
                "package-missing",
                f"Compiling for {name} needs the plugin of jaxlib's own release, {ours}, and {theirs} is "
                f"installed: pip install {words}",
            )
        given = {"topology_name": "", "topology": f"1x{many // near}x{near}"}
        with hushed():
            found = topologies.get_topology_desc(
                platform="cuda", target_config=_facts(card), **given
            )
    else:
        need("libtpu", extra="plan-tpu", why=f"Compiling for {name}")
        try:
            with hushed():
                found = topologies.get_topology_desc(f"{name}:{'x'.join(map(str, shape))}", "tpu")
        except Exception as error:
            told = f"--device {text} is no slice: {one_line(error)}"
            raise UserError("device-malformed", told) from None
    return Machine(text, card, list(found.devices)[:many], tuple(shape))


def _slice(card: Card, count: int) -> list[int]:
    """The smallest slice of ``count`` chips or more, doubled along its shortest side; none of a GPU."""
    shape = list(card.smallest)
    while shape and math.prod(shape) < count:
        shape[shape.index(min(shape))] *= 2
    return shape


def _facts(card: Card) -> str:
    """The card as the CUDA compiler asks for it, a ``GpuTargetConfigProto`` in text."""
    major, minor = card.capability
    threads = 1024 if card.capability == (7, 5) else 2048
    return f"""gpu_device_info {{
  threads_per_block_limit: 1024  threads_per_warp: 32  shared_memory_per_block: 49152
  shared_memory_per_core: {card.shared}  threads_per_core_limit: {threads}
  core_count: {card.cores}  fpus_per_core: {card.lanes}
  block_dim_limit_x: 2147483647  block_dim_limit_y: 65535  block_dim_limit_z: 65535
  memory_bandwidth: {card.bandwidth:.0f}  l2_cache_size: {card.cache}  clock_rate_ghz: {card.clock}
  device_memory_size: {card.memory:.0f}  shared_memory_per_block_optin: {card.shared - 1024}
  cuda_compute_capability {{ major: {major} minor: {minor} }}
  registers_per_core_limit: 65536  registers_per_block_limit: 65536
}}
platform_name: "CUDA"  dnn_version_info {{ major: 9 minor: 10 patch: 0 }}
device_description_str: "{card.kind}"
"""


@contextlib.contextmanager
def answering_for(card: Card) -> Iterator[None]:
    """JAX's cuDNN attention asks the card that is here what it can do, while it is traced: here for ``card``."""
    from jax._src.cudnn import fused_attention_stablehlo as asked

    def at_least(capability: str) -> bool:
        return card.capability >= tuple(map(int, capability.split(".")))

    answers: dict[str, Any] = {
        "check_cudnn_version": lambda: 91000,
        "check_compute_capability": at_least,
        "is_cuda_compute_capability_equal": lambda c: c == ".".join(map(str, card.capability)),
    }
    before = {name: getattr(asked, name) for name in answers if hasattr(asked, name)}
    for name in before:
        setattr(asked, name, answers[name])
    try:
        yield
    finally:
        for name, own in before.items():
            setattr(asked, name, own)
