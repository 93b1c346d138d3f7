"""Compile beside Python, know a program by its digest, and say which flags leave it as it is."""

import hashlib
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import jax

from dl.core.target import Target
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


def idle_flags(asked: Target, jaxpr: Any) -> list[str]:
    """What to say of the flags of a run that change nothing in its program."""
    said = []
    policies = (equation.params.get("policy") for equation in equations(jaxpr))
    if asked.remat in ("products", "all") and not any(policies):
        said.append(f"--remat {asked.remat}: this model has no layer that can be computed again")
    if asked.platform == "cpu":
        precision = jax.config.jax_default_matmul_precision  # type: ignore[attr-defined]
        said += ["--deterministic: a CPU always is"] * asked.deterministic
        said += [f"--precision {precision}: a CPU's products are float32"] * bool(precision)
    return said
