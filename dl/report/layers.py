"""What a network is made of and what flows through it, found by looking on while its task runs.

A task is only functions, so the layers are seen from outside: Flax tells of every module that is called
while the task's loss is traced.
"""

import functools
import io
import math
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from dl.core.random import purpose_key
from dl.core.state import path_name
from dl.core.step import gradient
from dl.core.task import Batch, Task, Variables
from dl.parallel.programs import PRODUCTS, flops_of
from dl.platform import screen

HEAD = ("layer", "kind", "output", "parameters", "FLOPs")
OUTSIDE = "(outside any layer)"
# Flax's nn.scan takes a callback in its body for a dependency of its parameters, where jax has no token
# for it any more.
LOOKS_INTO_LOOPS = jax.__version_info__ < (0, 11)


class Layer(NamedTuple):
    """A module, or parameters that belong to none that was called.

    Attributes:
      path: its place in the parameter tree, ``encoder/Dense_0``; kind: its class.
      output: ``[32, 10]``, of the first call, the batch in front; empty where unknown.
      parameters: its own, those of layers inside it left out.
      flops: of its own matrix products and convolutions in one forward pass of the batch, all calls
        together; 2 for a multiplication and an addition. Other operations are not counted.
    """

    path: str
    kind: str
    output: str
    parameters: int
    flops: float


class Summary(NamedTuple):
    """The layers of a task's model in the order in which they are called, and their sums."""

    layers: tuple[Layer, ...]
    batch_size: int

    @property
    def parameters(self) -> int:
        return sum(layer.parameters for layer in self.layers)

    @property
    def flops(self) -> float:
        return sum(layer.flops for layer in self.layers)

    def rows(self) -> list[tuple[str, str, str, str, str]]:
        """The cells of the table, a row a layer."""
        return [
            (x.path, x.kind, x.output, f"{x.parameters:,}" if x.parameters else "",
             engineering(x.flops).strip() if x.flops else "")
            for x in self.layers
        ]  # fmt: skip

    @property
    def title(self) -> str:
        return (
            f"{self.parameters:,} parameters, {engineering(self.flops)}FLOPs forward for a batch of "
            f"{self.batch_size}"
        )

    def __repr__(self) -> str:
        from rich.table import Table

        table = Table(title=self.title)
        for name in HEAD:
            table.add_column(name, justify="right" if name in HEAD[3:] else "left")
        for row in self.rows():
            table.add_row(*row)
        text = io.StringIO()
        plain = {"force_jupyter": False, "color_system": None}
        screen(file=text, width=100, **plain).print(table)
        return text.getvalue().rstrip()

    def _repr_html_(self) -> str:
        from dl.report.page import plain_table

        return plain_table(HEAD, self.rows(), self.title)


def engineering(value: float) -> str:
    """``12.3 M`` for 12,300,000, ``12 `` for 12: a unit's name may follow at once."""
    for unit in ("", "k", "M", "G", "T"):
        if value < 1000 or unit == "T":
            return f"{value:.3g} {unit}"
        value /= 1000
    return ""


def summary(task: Task, batch: Batch) -> Summary:
    """The layer table of ``task``'s model on a training ``batch``, from shapes alone: nothing is computed."""
    key = jax.random.key(0)
    batch = jax.eval_shape(lambda x: x, batch)
    variables = jax.eval_shape(task.init, key, batch)
    calls: dict[str, tuple[str, str]] = {}

    def look(call, args, kwargs, context):
        path = path_of(context)
        calls.setdefault(path, (type(context.module).__name__, ""))  # in the order of entering
        with jax.named_scope(_TAG + path.replace("/", ":")):
            outputs = call(*args, **kwargs)
        if not calls[path][1]:
            calls[path] = (calls[path][0], _shapes(outputs))
        return outputs

    with nn.intercept_methods(_called(look)):
        traced = jax.make_jaxpr(task.loss)(variables, batch, key)
    flops: dict[str, float] = {}
    for path, count in _flops(traced.jaxpr, ""):
        flops[path] = flops.get(path, 0.0) + count
    owned: dict[str, int] = {}
    for place, leaf in jax.tree_util.tree_leaves_with_path(variables["params"]):
        path = path_name(place[:-1])
        owned[path] = owned.get(path, 0) + math.prod(leaf.shape)
    rows = [
        Layer(path, *calls.get(path, ("", "")), owned.get(path, 0), flops.get(path, 0.0))
        for path in dict.fromkeys([*calls, *owned, *flops])
    ]
    rows = [row if row.path else row._replace(path="." if row.kind else OUTSIDE) for row in rows]
    size = next(iter(jax.tree.leaves(batch))).shape[0]
    return Summary(tuple(rows), size)


_TAG = "layer:"


def path_of(context: nn.module.InterceptorContext) -> str:
    return "/".join(str(part) for part in context.module.path)


def _called(look: Callable) -> Callable:
    """An interceptor that looks at calls by which a module is used, not at its making."""

    def intercept(call, args, kwargs, context):
        if context.method_name == "setup" or context.module.scope is None:
            return call(*args, **kwargs)
        return look(call, args, kwargs, context)

    return intercept


def _shapes(outputs: Any) -> str:
    leaves = [x for x in jax.tree.leaves(outputs) if hasattr(x, "shape")]
    shown = [str(list(x.shape)) for x in leaves[:2]]
    return " ".join([*shown, "..."] if len(leaves) > 2 else shown)


def _flops(jaxpr: Any, above: str) -> Iterator[tuple[str, float]]:
    """(layer path, FLOPs) of every product and convolution, those in loops as often as they run."""
    for equation in jaxpr.eqns:
        scope = f"{above}/{equation.source_info.name_stack}"
        where = re.findall(re.escape(_TAG) + r"([^/()]*)", scope)
        path = where[-1].replace(":", "/") if where else ""
        name, params = equation.primitive.name, equation.params
        if name in PRODUCTS:
            yield path, flops_of(equation)
        times = params["length"] if name == "scan" else 1
        for inner in _inner(params, one=name == "cond"):
            for place, count in _flops(inner, scope):
                yield place, times * count


def _inner(params: dict[str, Any], one: bool) -> list[Any]:
    """Programs within an operation: of a branch, the first stands for all."""
    found = []
    for value in params.values():
        several = value if isinstance(value, tuple | list) else (value,)
        programs = [getattr(x, "jaxpr", x) for x in several]
        programs = [x for x in programs if hasattr(x, "eqns")]
        found += programs[:1] if one else programs
    return found


class Flow(NamedTuple):
    """What went through a layer on one training batch.

    Attributes:
      mean, rms: of its outputs; zeros: the share of them that is exactly 0 (a dead ReLU's are 1).
      gradient: root mean square of the loss's gradient by its own parameters; weight: of those
        parameters. None where it has none of its own, or no floating output.
    """

    mean: float | None = None
    rms: float | None = None
    zeros: float | None = None
    gradient: float | None = None
    weight: float | None = None


def flows(task: Task, variables: Variables, batch: Batch, key: jax.Array) -> dict[str, Flow]:
    """Activations and gradients of every layer in one pass of the loss and one of its gradient, by the
    paths of :func:`summary`. From jax 0.11 on, layers inside Flax's ``nn.scan`` and ``nn.remat`` have
    gradients alone."""
    sums: dict[str, np.ndarray] = {}

    def add(path, *moments):
        before = sums.get(path, np.zeros(4))
        sums[path] = before + np.array([float(m) for m in moments])

    def look(call, args, kwargs, context):
        outputs = call(*args, **kwargs)
        if (
            not LOOKS_INTO_LOOPS and context.module.scope.root.path
        ):  # a lifted transformation's scope
            return outputs
        for leaf in jax.tree.leaves(outputs):
            if hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.floating):
                x = jax.lax.stop_gradient(leaf).astype(jnp.float32)
                moments = (x.size, x.sum(), jnp.square(x).sum(), (x == 0).sum())
                jax.debug.callback(functools.partial(add, path_of(context) or "."), *moments)
        return outputs

    key = purpose_key(key, "report")
    with nn.intercept_methods(_called(look)):
        jax.block_until_ready(jax.jit(lambda *given: task.loss(*given)[0])(variables, batch, key))
        jax.effects_barrier()
    slopes, _ = jax.jit(gradient(task))(variables, batch, key)
    found = {}
    for path, (size, total, squares, zeros) in sums.items():
        found[path] = Flow(total / size, math.sqrt(max(squares / size, 0.0)), zeros / size)
    for (path, slope), (_, weight) in zip(
        _by_layer(slopes), _by_layer(variables["params"]), strict=True
    ):
        found[path] = found.get(path, Flow())._replace(gradient=_rms(slope), weight=_rms(weight))
    return found


def _by_layer(tree: Any) -> list[tuple[str, list[np.ndarray]]]:
    layers: dict[str, list[np.ndarray]] = {}
    for place, leaf in jax.tree_util.tree_leaves_with_path(jax.device_get(tree)):
        layers.setdefault(path_name(place[:-1]) or ".", []).append(np.asarray(leaf, np.float64))
    return list(layers.items())


def _rms(leaves: list[np.ndarray]) -> float:
    size = sum(leaf.size for leaf in leaves)
    return math.sqrt(sum(float(np.square(leaf).sum()) for leaf in leaves) / max(size, 1))
