"""One training step, ours against torch's, each in processes of its own, in turn, the best of all.

A script gives two functions that return a step to time; run without arguments it starts itself once for
each side and round, so that neither library's threads get in the other's way.
"""

import collections
import importlib.metadata
import importlib.util
import json
import platform
import subprocess
import sys
import time
from collections.abc import Callable

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


def training(task, optimizer, batch, steps: int):
    """``steps`` optimiser steps on one batch in one dispatch, as a run takes them."""
    import jax

    import dl
    from dl.core.step import scan_steps, train_step, zero_metrics

    step = train_step(task, optimizer)
    state = dl.init_state(task, optimizer, batch)
    totals = zero_metrics(lambda s: step(s, batch)[1], state)

    def run(state, totals, batch):
        same = collections.defaultdict(lambda: batch)  # the one batch at every step
        return scan_steps(step)(state, totals, same, steps)[:2]

    run = jax.jit(run, donate_argnums=0)
    held = [state]

    def once():
        held[0], sums = run(held[0], totals, batch)
        float(sums["loss"].total)

    return once


def main(script: str, name: str, sides: dict[str, Callable[[], float]]) -> None:
    """Measure one side where the command line names it, else all, and print their ratio."""
    if len(sys.argv) > 1:
        print(json.dumps(sides[sys.argv[1]]()))
        return
    if importlib.util.find_spec("torch") is None:
        sides = {"dl": sides["dl"]}
    found: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(ROUNDS):
        for side in sides:
            command = [sys.executable, script, side]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            found[side].append(json.loads(done.stdout.splitlines()[-1]))
    packages = {"dl": "jax", "torch": "torch"}
    for side, values in found.items():
        version = importlib.metadata.version(packages[side])
        every = ", ".join(f"{value:.2f}" for value in values)
        print(f"{name:5} {side:5} ({packages[side]} {version}) {min(values):8.2f} ms  of {every}")
    if "torch" in found:
        ratio = min(found["dl"]) / min(found["torch"])
        print(f"{name:5} dl / torch = {ratio:.2f}  (below 1 is faster; {platform.machine()})")
