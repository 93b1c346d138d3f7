"""Batches of the same files read by ``dl`` and by torch's DataLoader, each in processes of its own, in turn: how
many a second, how long until the first, and the memory that reading takes.

A script gives three functions and starts itself once for each side and round. Where torch is installed elsewhere,
name the Python that has it: ``python tests/benchmarks/rows.py /path/to/python``.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROUNDS = 3
WORKERS = (0, 2)  # of torch's loader; its best counts


def loader(dataset: Any, batch: int, workers: str, drop_last: bool = True) -> Iterator[Any]:
    """Shuffled batches of torch's DataLoader, without end."""
    import torch

    workers = int(workers)
    batches = torch.utils.data.DataLoader(
        dataset,
        batch,
        shuffle=True,
        num_workers=workers,
        drop_last=drop_last,
        persistent_workers=workers > 0,
    )
    while True:
        yield from batches


def on_device(batches: Any) -> Iterator[Any]:
    """Batches that live on the device, each gathered by its step as a compiled step gathers it."""
    import itertools

    import jax

    gather, batches = jax.jit(lambda batches, step: batches[step]), jax.device_put(batches)
    return (jax.block_until_ready(gather(batches, step)) for step in itertools.count())


def most_memory() -> float:
    """The most MiB that this process has held."""
    found = re.search(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text())
    return int(found[1]) / 1024 if found else float("nan")


def core_seconds() -> float:
    """Seconds that cores have computed for this process and those it has started."""
    found, processes = 0.0, ["self"]
    while processes:
        place = Path("/proc") / processes.pop()
        fields = (place / "stat").read_text().rpartition(")")[2].split()
        found += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        for task in (place / "task").iterdir():
            processes += (task / "children").read_text().split()
    return found


def measure(batches: Callable[[], Iterator[Any]], batch: int, steps: int) -> None:
    """Print examples a second over two times ``steps``, after one; seconds to the first; MiB and their growth;
    examples a second and core."""
    begun = time.perf_counter()
    iterator = batches()
    next(iterator)
    first = time.perf_counter() - begun
    for _ in range(steps):
        next(iterator)
    held = []
    begun, computed = time.perf_counter(), core_seconds()
    for _ in range(2):
        for _ in range(steps):
            next(iterator)
        held.append(most_memory())
    rate = 2 * steps * batch / (time.perf_counter() - begun)
    a_core = 2 * steps * batch / (core_seconds() - computed)
    print(json.dumps([rate, first, held[-1], held[-1] - held[0], a_core]), flush=True)


def compare(script: str, make: Callable, ours: Callable, torchs: Callable, **size: Any) -> None:
    """``make(folder)`` writes the files; ``ours(folder, way)`` and ``torchs(folder, workers)`` give batches;
    ``size`` is ``batch``, ``steps``, ``what`` is counted and ``ways`` that ours are read."""
    batch, steps, what, ways = (size[name] for name in ("batch", "steps", "what", "ways"))
    if sys.argv[1:2] and sys.argv[1] in ("dl", "torch"):
        side, way, folder = sys.argv[1:4]
        measure(lambda: {"dl": ours, "torch": torchs}[side](folder, way), batch, steps)
        return
    other = (sys.argv[1:] or [sys.executable])[0]
    sides = [("dl", way, sys.executable) for way in ways]
    if subprocess.run([other, "-c", "import torch"], capture_output=True).returncode:
        print("torch is not installed here: name a Python that has it, as the first argument")
    else:
        sides += [("torch", str(workers), other) for workers in WORKERS]
    found: dict[tuple[str, str], list] = {side[:2]: [] for side in sides}
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder))
        for _ in range(ROUNDS):
            for side, way, python in sides:
                command = [python, script, side, way, folder]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                found[side, way].append(json.loads(done.stdout.splitlines()[-1]))
    middle = {key: sorted(rounds)[len(rounds) // 2] for key, rounds in found.items()}
    for (side, way), (rate, first, _, _, a_core) in middle.items():
        rounds = found[side, way]
        rates = ", ".join(f"{each[0]:,.0f}" for each in rounds)
        most, growth = max(r[2] for r in rounds), max(r[3] for r in rounds)
        called = f"{side} {way}" if side == "dl" else f"torch, {way} workers"
        print(
            f"{called:18} {rate:12,.0f} {what}/s, the middle of {rates}; {first:.1f} s to the first"
        )
        print(f"{'':18} {most:,.0f} MiB, grown by {growth:.1f}; {a_core:,.0f} {what}/s a core")
    rivals = [each[0] for (side, _), each in middle.items() if side == "torch"]
    for (side, way), each in middle.items():
        if side == "dl" and rivals:
            print(f"dl {way} / torch's best = {each[0] / max(rivals):.2f}  (above 1 is faster)")
