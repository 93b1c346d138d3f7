"""Compile beside Python, know a program by its digest, and say which flags leave it as it is."""

import hashlib
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from dl.core.target import ROWS, Target
from dl.models.convolution import equations


def compiling(lowered: Any, options: dict[str, Any] | None = None) -> Callable[[], Any]:
    """Compile on a thread of its own, as XLA needs no Python for it; the result waits for the program."""
    future: Future[Any] = Future()

    def compile_it() -> None:
        try:
            future.set_result(lowered.compile(compiler_options=options or None))
        except BaseException as error:
            future.set_exception(error)

    # Not a daemon: XLA aborts the process where Python ends under it.
    threading.Thread(target=compile_it).start()
    return future.result


def program_digest(text: str) -> str | None:
    """SHA-256 (hex) of a lowered program; None where it calls back into Python, by an address that is another
    in every process."""
    return None if "callback" in text else hashlib.sha256(text.encode()).hexdigest()


def idle_axes(mesh: Mesh, jaxpr: Any) -> list[str]:
    """The axes of a mesh along which devices all compute the same: a batch is not cut over them, and neither is
    any array that the program lays out, such as its new state."""
    named = {*ROWS}
    for equation in equations(jaxpr):
        own = equation.params
        # Of a sharding_constraint, and of a shard_map.
        specs = [own.get("sharding"), *own.get("in_specs", ()), *own.get("out_specs", ())]
        for spec in (one.spec if isinstance(one, NamedSharding) else one for one in specs):
            named.update(jax.tree.leaves(tuple(spec)) if isinstance(spec, P) else ())
    return [axis for axis, size in mesh.shape.items() if size > 1 and axis not in named]


def idle_flags(asked: Target, jaxpr: Any) -> list[str]:
    """What to say of the flags of a run that change nothing in its program."""
    said = []
    if asked.mesh is not None:
        said += [
            f"--mesh {axis}={asked.mesh.shape[axis]}: this program has nothing to cut over {axis}, so devices "
            "along it compute the same; data and fsdp cut every batch"
            for axis in idle_axes(asked.mesh, jaxpr)
        ]
    policies = (equation.params.get("policy") for equation in equations(jaxpr))
    if asked.remat in ("products", "all") and not any(policies):
        said.append(f"--remat {asked.remat}: this model has no layer that can be computed again")
    if asked.platform == "cpu":
        precision = jax.config.jax_default_matmul_precision  # type: ignore[attr-defined]
        said += ["--deterministic: a CPU always is"] * asked.deterministic
        said += [f"--precision {precision}: a CPU's products are float32"] * bool(precision)
    return said
