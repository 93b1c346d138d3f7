"""The most memory that training takes on the host, against what its compiled step says it needs (Linux):
``python tests/benchmarks/memory.py``, or, without `dl.platform.keep_freed_memory`,
``MALLOC_ARENA_MAX=8 python tests/benchmarks/memory.py``."""

import ctypes
import gc
import re
from pathlib import Path

import jax
import numpy as np
import optax

import dl
from dl.data.batches import train_batches
from dl.data.batches.tokens import crops
from dl.models.cnn import CNN
from dl.models.language import LanguageModel
from dl.models.transformer import Transformer
from dl.tasks.classification import classification
from dl.tasks.language_modeling import language_modeling
from dl.training.compiled import Compiled
from dl.training.plan import step_cost, tree_bytes
from dl.training.prefetch import prefetch

STEPS = 5


def gpt() -> dl.Experiment:
    """24 M parameters: the state and the activations weigh about as much."""
    body = Transformer(512, 6, 8, causal=True)
    task = language_modeling(LanguageModel(8192, body, positions=128))
    data = crops(np.arange(100_000) % 8192, 128, 8)
    return dl.Experiment(task=task, data=data, optimizer=optax.adam(1e-3), steps=STEPS)


def cnn() -> dl.Experiment:
    """Nearly all of it activations."""
    rng = np.random.default_rng(0)
    columns = {
        "image": rng.integers(0, 256, (512, 64, 64, 3), np.uint8),
        "label": rng.integers(0, 10, 512),
    }
    task = classification(CNN(10, (32, 64, 128)))
    data = train_batches(columns, 256)
    return dl.Experiment(task=task, data=data, optimizer=optax.adam(1e-3), steps=STEPS)


def resident(field: str) -> int:
    """Bytes of this process in memory: now (VmRSS), or at most (VmHWM)."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return 1024 * int(re.search(rf"{field}:\s+(\d+)", status)[1])


def measure(experiment: dl.Experiment) -> tuple[int, int]:
    """(bytes that training added to the process at most, bytes that the step's program asks for)."""
    compiled = Compiled(experiment)
    begin = compiled.beginning()
    source = prefetch(experiment.data)
    batches, _ = source.at(0)
    program = compiled.step(begin.shapes, batches)
    program.wait()
    cost = step_cost(program)  # what it returns lies where its arguments lay
    state, totals = jax.block_until_ready(begin.state()), program.zeros()
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # what compiling took and glibc has kept
    before = resident("VmRSS") - tree_bytes((state.variables, state.opt_state, batches))
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # the most so far begins anew
    for _ in range(STEPS):
        state, totals, _ = jax.block_until_ready(program(state, totals, batches, 1))
    return resident("VmHWM") - before, int(cost["arguments"] + cost["temporary"])


def main():
    print("       MB taken at most, MB the program asks for, their ratio")
    for make in (gpt, cnn):
        taken, asked = measure(make())
        print(
            f"{make.__name__:5}  {taken / 1e6:8.0f}  {asked / 1e6:8.0f}  {taken / asked:.3f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
