"""One training step, ours against torch's, each in processes of its own, in turn, the best of all.

A script gives two functions that return a step to time; it starts itself once for each side and round, so
that neither library's threads get in the other's way. Where torch is installed elsewhere, name the Python
that has it: ``python tests/benchmarks/mlp.py /path/to/python``.
"""

import importlib.metadata
import json
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

ROUNDS = 3


def best(step: Callable[[], None], count: int, steps: int = 1) -> float:
    """Milliseconds a step: the best of ``count`` calls that take ``steps`` steps each."""
    for _ in range(2):
        step()
    times = []
    for _ in range(count):
        begun = time.perf_counter()
        step()
        times.append(time.perf_counter() - begun)
    return min(times) * 1e3 / steps


class Same(NamedTuple):
    """Batches that are one and the same at every step."""

    batch: Any

    def __getitem__(self, step: Any) -> Any:
        return self.batch


def training(task, optimizer, batch, steps: int):
    """``steps`` optimiser steps on one batch in one dispatch, as a run takes them."""
    import jax

    import dl
    from dl.core.step import scan_steps, train_step, zero_metrics

    step = train_step(task, optimizer)
    state = dl.init_state(task, optimizer, batch)
    totals = zero_metrics(lambda s: step(s, batch)[1], state)

    def run(state, totals, batch):
        return scan_steps(step)(state, totals, Same(batch), steps)[:2]

    run = jax.jit(run, donate_argnums=0)
    held = [state]

    def once():
        held[0], sums = run(held[0], totals, batch)
        float(sums["loss"].total)

    return once


def main(script: str, name: str, sides: dict[str, Callable[[], float]]) -> None:
    """Measure one side where the command line names it, else all in turn, and print their ratio."""
    if sys.argv[1:] and sys.argv[1] in sides:
        print(json.dumps([sides[sys.argv[1]](), _version(sys.argv[1])]))
        return
    pythons = {"dl": sys.executable, "torch": (sys.argv[1:] or [sys.executable])[0]}
    if subprocess.run([pythons["torch"], "-c", "import torch"], capture_output=True).returncode:
        print("torch is not installed here: name a Python that has it, as the first argument")
        del sides["torch"]
    found: dict[str, list[float]] = {side: [] for side in sides}
    versions: dict[str, str] = {}
    for _ in range(ROUNDS):
        for side in sides:
            command = [pythons[side], script, side]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            value, versions[side] = json.loads(done.stdout.splitlines()[-1])
            found[side].append(value)
    for side, values in found.items():
        every = ", ".join(f"{value:.2f}" for value in values)
        print(f"{name:5} {side:5} ({versions[side]}) {min(values):8.2f} ms  of {every}")
    if "torch" in found:
        ratio = min(found["dl"]) / min(found["torch"])
        print(f"{name:5} dl / torch = {ratio:.2f}  (below 1 is faster; {platform.machine()})")


def _version(side: str) -> str:
    package = {"dl": "jax", "torch": "torch"}[side]
    return f"{package} {importlib.metadata.version(package)}"
