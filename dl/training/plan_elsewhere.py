"""What a step would take on a machine that is not here, from the program that its own compiler makes."""

import dataclasses
import math
import re
from collections import Counter
from collections.abc import Callable
from importlib import metadata
from typing import Any

import jax
from rich.table import Table

from dl.core.errors import UserError, one_line
from dl.core.experiment import Experiment
from dl.core.target import pieces
from dl.parallel.devices import Machine, answering_for
from dl.parallel.programs import Program, products, shape_bytes
from dl.platform import hushed, screen
from dl.runs.options import Options
from dl.training.checks import check
from dl.training.compiled import Compiled
from dl.training.compiling import idle_axes, idle_flags
from dl.training.placing import layout_of
from dl.training.plan import bytes_in_words, device_bytes
from dl.training.prefetch import check_divisible, prefetch

LAUNCH = 2e-6  # seconds that a GPU takes for the smallest kernel, as is usual
MOST = 0.95  # of a GPU's memory that a program can have beside what the driver keeps
# What a batch is refused by that is no multiple of the pieces it is to be cut into.
UNCUT = ("shard-impossible", "micro-batches-uneven")


@dataclasses.dataclass(frozen=True)
class Planned:
    """One device's share of a training step. Bytes and counts are read from the compiled program; the
    seconds are estimates: what the data sheet's peaks would need, each alone.

    Attributes:
      parameters: of the whole model.
      bytes_of: what lies on the device, by name; ``'activations and temporaries'`` is the program's own.
      memory: bytes that programs have of such a device.
      refused: the compiler's words, where it found by itself that there is too little memory.
      kernels: how many of each kind a step runs; largest: the largest array that one makes.
      sent: ``(times, bytes of results)`` of each kind of collective.
      flops: of products, by dtype; moved: bytes that kernels read and write.
      seconds: ``{'launches': ..., 'products': ..., 'memory': ..., 'links': ...}``; of products alone where the
        program was compiled, but is written in a way that cannot be read here.
      idle: what to say of flags that change nothing.
    """

    parameters: int
    bytes_of: dict[str, float]
    memory: float
    refused: str = ""
    kernels: Counter[str] = dataclasses.field(default_factory=Counter)
    largest: str = ""
    sent: dict[str, tuple[int, float]] = dataclasses.field(default_factory=dict)
    flops: Counter[str] = dataclasses.field(default_factory=Counter)
    moved: float = 0.0
    seconds: dict[str, float] = dataclasses.field(default_factory=dict)
    idle: list[str] = dataclasses.field(default_factory=list)

    @property
    def total(self) -> float:
        return sum(self.bytes_of.values())

    @property
    def fits(self) -> bool:
        return not self.refused and self.total <= self.memory


def planned(experiment: Experiment, machine: Machine, options: Options | None = None) -> Planned:
    """Compile a training step of ``experiment`` for ``machine``; nothing is computed.

    Args:
      options: of the run; of them its mesh counts, by default one device.

    Raises:
      UserError: no such mesh there, batches that it cannot cut, or a compiler that fails.
    """
    options = options or Options()
    check(experiment, here=False)
    mesh, same_bits = options.mesh, options.deterministic_topology
    layout = layout_of(mesh, experiment, same_bits, machine)
    if layout is not None:
        check_divisible(experiment, layout)
    with answering_for(machine.card):
        compiled = Compiled.alone(experiment, layout, machine)
        state, batches = compiled.shapes(), _batches(compiled)
        log_every = options.cadence(experiment.steps)["log_every"]
        try:
            program = compiled.step(state, batches, log_every)
        except RuntimeError as error:
            if "Unknown backend" not in str(error):
                raise
            raise UserError(
                "compiler-fails",
                "the step calls Python while it computes (jax.debug.print, jax.pure_callback and such), and JAX "
                f"compiles that only where the {machine.card.platform.upper()} is: leave it out of the plan",
            ) from error
    params = state.variables["params"]
    count = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))
    shares: dict[str, float] = {
        "parameters": device_bytes(params),
        "optimiser state": device_bytes(state.opt_state),
        "averages and statistics": device_bytes(state.ema)
        + device_bytes(state.variables)
        - device_bytes(params),
        "data": device_bytes(batches),
    }
    memory = machine.taken * machine.card.memory
    try:
        with hushed():
            compiled_step = program.compiled
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error) and "Ran out of memory" not in str(error):
            raise UserError(
                "compiler-fails",
                f"the compiler for {machine.name} cannot make this program ({one_line(error)}): that is a fault "
                "of its own, mostly of odd sizes; try a batch, a width and a length that are multiples of 8",
            ) from error
        return Planned(count, shares | _asked(str(error)), memory, _first(error))
    shares["activations and temporaries"] = compiled_step.memory_analysis().temp_size_in_bytes
    traced = program.traced.jaxpr.jaxpr
    idle = () if layout is None else idle_axes(layout.mesh, traced)
    told = idle_flags(compiled.target, traced)
    # Devices along an idle axis do not share the products: each computes them all.
    devices = 1 if layout is None else layout.mesh.size // pieces(layout.mesh, tuple(idle))
    flops = Counter({k: n / devices for k, n in products(traced, idle=idle).items()})
    card, links = machine.card, 0.0
    by_products = sum(n / card.peak(kind) for kind, n in flops.items())
    try:
        with hushed():  # of a program that cannot be read, words for the compiler's makers
            work = Program(compiled_step.as_text()).work
    except jax.errors.JaxRuntimeError:  # a compiler of another release writes what ours cannot read
        known: Any = {"flops": flops, "seconds": {"products": by_products}, "idle": told}
        return Planned(count, shares, memory, **known)
    sent: dict[str, tuple[int, float]] = {}
    for one in work.collectives:
        times, size = sent.get(one.kind, (0, 0.0))
        sent[one.kind] = times + one.times, size + one.times * one.result
        speed = machine.link if one.within(card.near) else card.network
        links += one.times * one.wire / speed
    launches = sum(work.kernels.values()) * LAUNCH if card.platform == "gpu" else 0.0
    seconds = {
        "launches": launches,
        "products": by_products,
        "memory": work.memory / card.bandwidth,
        "links": links,
    }
    own = work.kernels, work.largest, sent, flops, work.memory, seconds
    return Planned(count, shares, memory, "", *own, told)


def print_plan(
    experiment: Experiment,
    machine: Machine,
    options: Options,
    sized: Callable[[int], Experiment] | None = None,
    lanes: int | None = None,
    told: str = "",
) -> None:
    """Print what one device's share of a step takes (see :func:`planned`).

    Args:
      sized: the experiment of a batch size, to find the largest that fits, for a line of it; where the
        experiment's own cannot be cut, the plan is of that one.
      lanes: of a sweep that share the program; told: what sets it apart from the sweep's others.
    """
    own: int = experiment.data.batch_size
    largest, uncut = None, ""
    try:
        found = planned(experiment, machine, options)
    except UserError as error:
        if sized is None or error.code not in UNCUT:
            raise
        largest, uncut = largest_batch(sized, machine, options, own), str(error)
        if not largest:
            raise
        experiment = sized(largest)
        found = planned(experiment, machine, options)
    if sized is not None and largest is None:
        largest = largest_batch(sized, machine, options, own)
    batch: int = experiment.data.batch_size
    title = f"a step of {batch} on {machine.name}" + (f", {options.mesh}" if options.mesh else "")
    title += ": the share of one device, compiled for it" if options.mesh else ", compiled for it"
    devices = len(machine.devices)
    if lanes is not None and devices > 1:
        to = f"its {devices}" if lanes >= devices else f"{lanes} of its {devices}"
        title += f". Lanes are dealt to {to} devices"
    elif not options.mesh and devices > 1:
        title += f". One of its {devices} devices computes: spread it by -- --mesh data=-1"
    if lanes is not None:
        title = f"{lanes} lane{'s' if lanes > 1 else ''}{told}, each {title}"
    table = Table("what", "amount", title=title)
    table.add_row("parameters", f"{found.parameters:,}")
    for name, size in found.bytes_of.items():
        table.add_row(f"memory of {name}", bytes_in_words(size))
    card, verdict = machine.card, "fits" if found.fits else "does not fit"
    if not found.refused and found.memory < found.total < MOST * card.memory:
        verdict += f", but does with XLA_CLIENT_MEM_FRACTION={MOST}"
    table.add_row(
        "memory in all",
        f"{bytes_in_words(found.total)} of {bytes_in_words(found.memory)}: {verdict}",
    )
    if machine.taken < 1:
        taken = f"{machine.taken:g} of {bytes_in_words(card.memory)}"
        table.add_row("memory that JAX takes of the card", taken)
    if found.refused:
        table.add_row("the compiler says", found.refused)
    for dtype, flops in sorted(found.flops.items()):
        table.add_row(f"FLOPs of {dtype} products", f"{flops:.3g}")
    if found.moved:
        table.add_row("bytes that kernels read and write", bytes_in_words(found.moved))
        table.add_row(
            "largest array made", f"{found.largest}, {bytes_in_words(shape_bytes(found.largest))}"
        )
    for kind, (times, size) in sorted(found.sent.items()):
        table.add_row(f"{kind}, results", f"{bytes_in_words(size)} in {times}")
    for kind, times in found.kernels.most_common(12):
        table.add_row(f"kernels: {kind}", f"{times:,}")
    if found.seconds.keys() == {"products"}:
        table.add_row("kernels, memory's and links' traffic", _unread(machine))
    if found.seconds:
        bound = max(found.seconds, key=lambda name: found.seconds[name])
        for name, seconds in found.seconds.items():
            table.add_row(f"estimated time of {name} at peak", _in_ms(seconds))
        least = found.seconds[bound]
        told = f", bound by {bound}" if len(found.seconds) > 1 else ""
        table.add_row("estimated step, at least", _in_ms(least) + told)
        table.add_row("estimated examples a second, at most", f"{batch / least:,.0f}")
    for flag in found.idle:
        table.add_row("without effect", flag)
    if largest is not None:
        told = f"{largest:,} of {experiment.data.size:,} training examples"
        table.add_row("largest batch that fits, compiled", told)
    if uncut:
        table.add_row(f"the experiment's own batch of {own:,}", uncut)
    screen().print(table)


def largest_batch(
    build: Callable[[int], Experiment], machine: Machine, options: Options, first: int
) -> int:
    """The largest batch of the training examples that fits, to an eighth of it; 0 where none does.

    Args:
      build: the experiment of a batch size; first: the size to begin with.
    """
    begun = build(first)
    layout = layout_of(options.mesh, begun, options.deterministic_topology, machine)
    step = begun.micro_batches * (1 if layout is None else layout.pieces)

    fitting: list[tuple[int, float]] = []  # batches that fit, and the bytes that they take
    low, beyond = 0, max(1, min(2**20, begun.data.size) // step) * step + step
    high = beyond
    size = max(step, first // step * step)
    while True:
        found = planned(build(size), machine, options)
        if found.fits:
            low = size
            fitting.append((size, found.total))
        else:
            high = size
        eighth = max(step, low // 8 // step * step)
        if high - low <= (step if high == beyond else eighth):
            return low
        aim = 2.0 * low if low else high / 2
        if len(fitting) > 1:  # memory grows with the batch along a line, more or less
            (few, least), (many, most) = fitting[-2:]
            slope = (most - least) / (many - few)
            aim = many + (found.memory - most) / slope if slope > 0 else aim
        # All examples, where nothing speaks against it.
        untried = high if high == beyond else (low + high) / 2
        aim = aim if aim < high else untried
        size = min(max(int(aim) // step * step, low + eighth), high - step)


def _unread(machine: Machine) -> str:
    on_tpu = machine.card.platform == "tpu"
    package, extra = ("libtpu", "tpu") if on_tpu else ("jax_cuda12_plugin", "cuda")
    return (
        f"unknown: jax {jax.__version__} cannot read what {package} {metadata.version(package)} writes; "
        f"pip install -e '.[plan-{extra}]' brings one that fits"
    )


def _in_ms(seconds: float) -> str:
    return f"{1e3 * seconds:.{2 if seconds >= 1e-3 or not seconds else 4}f} ms"


def _batches(compiled: Compiled) -> Any:
    """Shapes of what a step takes its batch from, lying where they are to lie."""
    data = compiled.experiment.data
    if not hasattr(data, "iterate"):
        return compiled.lying(jax.eval_shape(lambda: data))
    source = prefetch(data, 0)
    window = jax.eval_shape(lambda: source.at(0)[0])
    source.close()
    whole = compiled.lying(window)
    if compiled.mesh is None:
        return whole
    return whole._replace(arrays=compiled.lying(window.arrays, compiled.mesh.rows(axis=1)))


def _asked(words: str) -> dict[str, float]:
    """What the compiler would have needed, from its refusal."""
    units = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
    found = re.search(r"Used ([\d.]+)([KMGT]?)i?B? of", words)
    return {"activations and temporaries": float(found[1]) * units[found[2]]} if found else {}


def _first(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return next((line for line in lines if "Used" in line), lines[0] if lines else "")[:200]
