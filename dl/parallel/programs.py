"""What a compiled program does, read from its text: kernels, bytes of memory, bytes between devices.

XLA's own analysis counts a loop's body once and no custom call. Here a layer scanned twelve times counts
twelve times; a loop of unknown length, such as that over steps, once.
"""

import functools
import itertools
import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jax.extend.core import Jaxpr
from jax.lax import Precision

SLICES = ("dynamic-slice", "slice", "gather")
COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
PRODUCTS = ("dot_general", "conv_general_dilated")
# What float32 products are called whose precision was asked for (--precision float32, tensorfloat32).
EXACT, THREE_PASSES = "exact float32", "tensorfloat32"
# Instructions that move nothing themselves.
_FREE = frozenset({
    "parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while", "conditional", "call",
    "after-all", "domain", "partition-id", "replica-id", "opt-barrier", "iota", "async-start",
})  # fmt: skip
_HEAD = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\) -> .* \{$")
_LINE = re.compile(r"^\s+(?:ROOT )?%?([\w.\-]+) = (.*?) ([a-z][\w\-]*)\((.*)$")
_SHAPE = re.compile(r"\b([a-z]+\d*(?:e\dm\d\w*)?)\[([\d,]*)\]")
_ARRAY = re.compile(_SHAPE.pattern + r"(?:\{[^{}]*\})?")
# An array that lies in memory of a TPU's own core: its layout says so behind its tiles.
_ON_CHIP = re.compile(_SHAPE.pattern + r"\{[^{}]*:T\([^{}]*S\(\d+\)[^{}]*\}")
_CALLED = re.compile(
    r"(?:calls|to_apply|body|condition|true_computation|false_computation)=%?([\w.\-]+)"
)
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
_TRIPS = re.compile(r'known_trip_count"?:\{"?n"?:"?(\d+)')


class Instruction(NamedTuple):
    """One line of a computation: ``name = shape kind(operands), rest``."""

    name: str
    shape: str
    kind: str
    operands: tuple[str, ...]
    rest: str
    root: bool


class Collective(NamedTuple):
    """What one collective sends in a step.

    Attributes:
      kind: one of :data:`COLLECTIVES`.
      result: bytes of its results on a device; wire: bytes that a device receives at least, by a ring.
      groups: numbers of the devices that take part together.
      times: how often a step does it.
    """

    kind: str
    result: float
    wire: float
    groups: list[list[int]]
    times: int

    def within(self, near: int) -> bool:
        """Whether no group reaches beyond one host, each of which has so many devices, in order."""
        return all(min(group) // near == max(group) // near for group in self.groups)


class Work(NamedTuple):
    """What a device does in one step.

    Attributes:
      kernels: how many of each kind; memory: bytes read and written by them.
      largest: the largest array that any of them makes, as HLO writes it.
      collectives: what they send.
    """

    kernels: Counter[str]
    memory: float
    largest: str
    collectives: list[Collective]


def shape_bytes(text: str) -> int:
    """Bytes of a shape as HLO writes it, of all arrays of a tuple together."""
    return sum(_bytes_of(*found) for found in _SHAPE.findall(text))


def _bytes_of(dtype: str, sizes: str) -> int:
    bits = {"pred": 8, "token": 0, "s4": 4, "u4": 4}.get(dtype)
    if bits is None:
        digits = re.search(r"\d+", dtype)
        bits = int(digits[0]) if digits else 0
    return math.prod(int(n) for n in sizes.split(",") if n) * bits // 8


class Program:
    """The text of a compiled program, by computation."""

    def __init__(self, text: str):
        self.computations: dict[str, list[Instruction]] = {}
        self.entry = ""
        current: list[Instruction] | None = None
        for line in text.splitlines():
            if current is None:
                if head := _HEAD.match(line):
                    current = self.computations.setdefault(head[2], [])
                    self.entry = head[2] if head[1] else self.entry
            elif line.startswith("}"):
                current = None
            elif found := _LINE.match(line):
                name, shape, kind, rest = found.groups()
                inside, after = _split(rest)
                operands = tuple(re.findall(r"%([\w.\-]+)", inside))
                operands = (inside,) if kind == "constant" else operands
                root = line.lstrip().startswith("ROOT")
                current.append(Instruction(name, shape, kind, operands, after, root))

    def executed(self) -> Iterable[tuple[int, str, Instruction]]:
        """``(how often in a step, its computation, an instruction)`` of all that is not inside a fusion."""
        waiting = [(1, self.entry)]
        while waiting:
            times, name = waiting.pop()
            for line in self.computations.get(name, ()):
                yield times, name, line
                if line.kind in ("while", "conditional", "call", "async-start"):
                    often = times * (self._trips(line) if line.kind == "while" else 1)
                    called = _CALLED.findall(line.rest)
                    for branches in _BRANCHES.findall(line.rest):
                        called += re.findall(r"[\w.\-]+", branches.replace("%", ""))
                    if line.kind == "conditional":  # one branch is taken: the longest, at the most
                        called = [max(called, key=lambda one: len(self.computations.get(one, ())))]
                    waiting += [(often, inner) for inner in called]

    def _trips(self, loop: Instruction) -> int:
        """How often a loop turns: as it is written beside it, or, where it counts up to a constant, that."""
        if found := _TRIPS.search(loop.rest):
            return int(found[1])
        condition = re.search(r"condition=%?([\w.\-]+)", loop.rest)
        lines = (
            {line.name: line for line in self.computations.get(condition[1], ())}
            if condition
            else {}
        )
        for line in lines.values():
            if line.root and line.kind == "compare" and "direction=LT" in line.rest:
                limit = lines.get(line.operands[-1])
                if limit is not None and limit.kind == "constant" and limit.operands[0].isdigit():
                    return int(limit.operands[0])
        return 1

    @functools.cached_property
    def work(self) -> Work:
        """All that a device does in one step."""
        kernels: Counter[str] = Counter()
        memory, sent, arrays = 0.0, [], {"": 0}
        shapes = {
            name: {line.name: line.shape for line in lines}
            for name, lines in self.computations.items()
        }
        for times, place, line in self.executed():
            base = line.kind.removesuffix("-start")
            if base in COLLECTIVES:
                sent.append(_collective(base, line, times))
            if line.kind in _FREE or line.kind.endswith(("-done", "-update")):
                continue
            kernels[self._kernel(line)] += times
            line = _without_scratch(line)
            if not _in_place(line):
                arrays |= {f"{d}[{n}]": _bytes_of(d, n) for d, n in _SHAPE.findall(line.shape)}
            memory += times * self._moved(line, shapes[place])
        return Work(kernels, memory, max(arrays, key=lambda array: arrays[array]), sent)

    def _kernel(self, line: Instruction) -> str:
        target = re.search(r'custom_call_target="([^"]+)"', line.rest)
        if target:
            return target[1].removeprefix("__")
        if line.kind != "fusion":
            kind = line.kind.removesuffix("-start")
            scalar = kind not in COLLECTIVES and re.match(r"\w+\[\]", line.shape)
            return "of single numbers" if scalar else kind
        called = _CALLED.search(line.rest)
        kinds = {inner.kind for inner in self.computations.get(called[1], ())} if called else set()
        heavy = [
            kind for kind in ("scatter", "sort", "convolution", "dot", "gather") if kind in kinds
        ]
        return f"fusion with {heavy[0]}" if heavy else "fusion"

    def _moved(self, line: Instruction, shapes: dict[str, str]) -> float:
        """Bytes that an instruction reads and writes: of a slice only the slice, of an update in place only
        the update, of what lies on a TPU's core none."""
        operands, made = [shapes.get(name, "") for name in line.operands], _result(line)
        if line.kind.removesuffix("-start") in SLICES:
            return _stored(made, "".join(operands[:1])) + _stored(made)
        if line.kind == "dynamic-update-slice":
            update = operands[1] if len(operands) > 1 else made
            return _stored(update) + _stored(update, made)
        called = _CALLED.search(line.rest) if line.kind == "fusion" else None
        if called is None or called[1] not in self.computations:
            return _stored(made) + sum(map(_stored, operands))
        inner = self.computations[called[1]]
        inside = {own.name: own for own in inner}
        total = 0.0
        for own in inner:
            if own.kind != "parameter":
                continue
            users = [user for user in inner if own.name in user.operands]
            first = all(user.operands[0] == own.name for user in users)
            if users and first and all(user.kind in SLICES for user in users):
                total += sum(_stored(user.shape, own.shape) for user in users)
            elif not (first and all(user.kind == "dynamic-update-slice" for user in users)):
                total += _stored(own.shape)
        for root in (own for own in inner if own.root):
            for name in root.operands if root.kind == "tuple" else (root.name,):
                end = out = inside.get(name)
                if end is not None and end.kind == "bitcast" and end.operands:
                    end = inside.get(end.operands[0], end)
                if end is not None and end.kind == "dynamic-update-slice" and len(end.operands) > 1:
                    end = inside.get(end.operands[1])
                total += 0 if end is None or out is None else _stored(end.shape, out.shape)
        return total


def _stored(text: str, where: str | None = None) -> int:
    """Bytes of a shape that lie in a device's memory; of one array, or a part of it, that lies as ``where``."""
    if where is None:
        return shape_bytes(_ON_CHIP.sub("", text))
    return 0 if _ON_CHIP.search(where) else shape_bytes(text)


def _result(line: Instruction) -> str:
    """The shape of what an instruction makes: the start of one that does not wait gives its operands beside it."""
    base = line.kind.removesuffix("-start")
    if base == line.kind or base == "all-reduce":
        return line.shape
    arrays, many = [found[0] for found in _ARRAY.finditer(line.shape)], len(line.operands)
    if base == "copy":
        return arrays[0]
    last = many if base in COLLECTIVES and base != "collective-permute" else 1
    return " ".join(arrays[many : many + last]) or line.shape


def _without_scratch(line: Instruction) -> Instruction:
    """A call of cuBLAS or cuDNN gives the room that it may work in, mostly unused, as a result of bytes."""
    if not re.search(r'custom_call_target="__cu(blas|dnn)', line.rest):
        return line
    return line._replace(shape=re.sub(r"\b[su]8\[\d+\]", "", line.shape))


def _in_place(line: Instruction) -> bool:
    """Whether its result is an argument of it, changed: what a loop stacks up."""
    return "dynamic-update-slice" in line.kind or "dynamic-update-slice" in line.name


def _split(rest: str) -> tuple[str, str]:
    """The operands inside the parentheses that ``rest`` begins in, and what follows."""
    depth = 1
    for place, letter in enumerate(rest):
        depth += (letter == "(") - (letter == ")")
        if depth == 0:
            return rest[:place], rest[place + 1 :]
    return rest, ""


def _collective(kind: str, line: Instruction, times: int) -> Collective:
    found = [_bytes_of(*shape) for shape in _SHAPE.findall(line.shape)]
    # The start of an asynchronous one gives its operands beside its results.
    if line.kind.endswith("-start") and len(found) > 1 and kind != "all-reduce":
        found = found[len(found) // 2 :] if kind != "collective-permute" else found[1:2]
    result = float(sum(found))
    groups = _groups(line.rest)
    count = len(groups[0]) if groups else 1
    share = (count - 1) / count if count else 0.0
    factor = {
        "all-reduce": 2 * share, "all-gather": share, "all-to-all": share,
        "reduce-scatter": count - 1, "collective-permute": 1.0,
    }[kind]  # fmt: skip
    return Collective(kind, result, factor * result, groups, times)


def _groups(rest: str) -> list[list[int]]:
    """Numbers of the devices that speak to each other, group by group."""
    if found := re.search(r"source_target_pairs=\{(.*?)\}\}", rest):
        return [list(map(int, pair)) for pair in re.findall(r"(\d+),(\d+)", found[1])]
    order = r"\[([\d,]+)\](?:T\(([\d,]+)\))?"
    if found := re.search(
        rf"replica_groups=mesh\[([^\]]*)\](?:, device_ids=\({order}\))? ?\{{([^}}]*)\}}", rest
    ):
        groups = np.array(_along(found[1], found[4]))
        return (groups if found[2] is None else _ids(found[2], found[3])[groups]).tolist()
    if found := re.search(rf"replica_groups=\[(\d+),(\d+)\]<={order}", rest):
        return _ids(found[3], found[4]).reshape(int(found[1]), int(found[2])).tolist()
    if found := re.search(r"replica_groups=\{(\{.*?\})\}", rest):
        inner = re.findall(r"\{([\d,]+)\}", found[1])
        return [[int(n) for n in group.split(",")] for group in inner]
    return []


def _ids(dims: str, axes: str | None) -> np.ndarray:
    """Devices in the order that ``[8,8]T(1,0)`` says: numbered along axes that then change places."""
    shape = [int(n) for n in dims.split(",")]
    ids = np.arange(math.prod(shape)).reshape(shape)
    return (ids if axes is None else ids.transpose([int(n) for n in axes.split(",")])).ravel()


def _along(mesh: str, axes: str) -> list[list[int]]:
    """The groups along some axes of a mesh: ``'x'=2,'y'=4`` and ``'y'``, or ``'y':(2)2`` of an axis cut anew,
    which names what stands before the part and the part."""
    dims = [(name, int(size)) for name, size in re.findall(r"'(\w+)'=(\d+)", mesh)]
    wanted = re.findall(r"'(\w+)'(?::\((\d+)\)(\d+))?", axes)
    shape: list[int] = []
    along: list[int] = []
    for name, size in dims:
        part = next((one for one in wanted if one[0] == name), None)
        before, own = (int(part[1] or 1), int(part[2] or size)) if part else (1, 1)
        if part:
            along.append(len(shape) + 1)
        shape += [before, own, size // (before * own)] if part else [1, 1, size]
    ids = np.moveaxis(np.arange(math.prod(shape)).reshape(shape), along, range(-len(along), 0))
    count = math.prod(shape[axis] for axis in along)
    return ids.reshape(-1, count).tolist()


def flops_of(equation: Any) -> float:
    """FLOPs of one equation of :data:`PRODUCTS`. A strided convolution's gradient, as a transposed one, puts
    zeros between its inputs, which no kernel multiplies; those of its padding count."""
    left, right = (v.aval.shape for v in equation.invars[:2])
    size, numbers = math.prod(equation.outvars[0].aval.shape), equation.params["dimension_numbers"]
    if equation.primitive.name == "dot_general":
        (contracted, _), _ = numbers
        return 2.0 * size * math.prod(left[axis] for axis in contracted)
    window = math.prod(right[axis] for axis in numbers.rhs_spec[1:])
    return 2.0 * size * window / math.prod(equation.params["lhs_dilation"])


def _computed_as(equation: Any) -> str:
    """The dtype of a product's operands, with the precision asked for where float32 is to be more than usual."""
    dtype, asked = str(equation.invars[0].aval.dtype), equation.params["precision"]
    asked = {asked} if not isinstance(asked, tuple) else set(asked)
    if dtype == "float32" and Precision.HIGHEST in asked:
        return EXACT
    return THREE_PASSES if dtype == "float32" and Precision.HIGH in asked else dtype


def products(jaxpr: Jaxpr, times: float = 1.0, idle: Sequence[str] = ()) -> Counter[str]:
    """FLOPs of a traced program's matrix products and convolutions, by the dtype of their operands, or as
    :data:`EXACT` and :data:`THREE_PASSES`; of a loop of unknown length those of one turn. They are the whole
    program's, of all devices together; of those along ``idle`` axes of the mesh, of one."""
    found: Counter[str] = Counter()
    for equation in jaxpr.eqns:
        name, own = equation.primitive.name, times
        shapes: list[Any] = [v.aval for v in equation.invars]
        if name in PRODUCTS:
            own_flops: Any = times * flops_of(equation)
            found[_computed_as(equation)] += own_flops
        elif "dot_product_attention" in name and "wrapper" in name:
            # q [batch, time, heads, dim] and k [batch, source, heads, dim]: two products, five in the
            # gradient; a causal mask leaves out half, but this counts, as others do, all.
            rows = shapes[0].size * shapes[1].shape[1]
            backward = 5 if "bwd" in name else 2
            found[str(shapes[0].dtype)] += times * 2 * backward * rows
            continue
        elif name == "pallas_call":
            own = times * math.prod(equation.params["grid_mapping"].grid)
        elif name == "scan":
            own = times * equation.params["length"]
        elif name == "shard_map":
            sizes = equation.params["mesh"].shape
            manual = equation.params.get("manual_axes") or sizes
            own = times * math.prod(sizes[axis] for axis in manual if axis not in idle)
        for value in itertools.chain(*map(_inner, equation.params.values())):
            found += products(value, own, idle)
    return found


def _inner(value: Any) -> list[Jaxpr]:
    """The programs that an equation's parameter holds."""
    values: Any = value if isinstance(value, tuple | list) else [value]
    inner: Any = (getattr(v, "jaxpr", v) for v in values)
    return [v for v in inner if hasattr(v, "eqns")]
