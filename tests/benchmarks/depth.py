"""Seconds to compile a Transformer's training step by depth, layers in a row against scanned ones, and what
computing layers again (remat) saves of memory.

    python tests/benchmarks/depth.py [--depths 2 12 48]
"""

import argparse
import os
import time

os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"  # set before JAX reads it

import jax
import numpy as np
import optax

import dl
from dl.models.language import LanguageModel
from dl.models.transformer import Transformer
from dl.tasks.language_modeling import language_modeling

WIDTH, HEADS, VOCABULARY, BATCH, TIME = 64, 4, 64, 8, 128


def compiled(layers: int, scan: bool, remat: bool):
    """``(seconds of tracing and compiling, bytes of temporaries)`` of one training step."""
    body = Transformer(WIDTH, layers, HEADS, causal=True, scan=scan, remat=remat)
    task = language_modeling(LanguageModel(VOCABULARY, body, positions=TIME))
    tokens = np.zeros((BATCH, TIME), np.int32)
    batch, optimizer = {"inputs": tokens, "targets": tokens}, optax.adam(1e-3)
    state = jax.eval_shape(lambda: dl.init_state(task, optimizer, batch))
    begun = time.perf_counter()
    program = (
        jax.jit(dl.train_step(task, optimizer), donate_argnums=0).lower(state, batch).compile()
    )
    return time.perf_counter() - begun, program.memory_analysis().temp_size_in_bytes


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--depths", type=int, nargs="+", default=[2, 12, 48])
    print("depth  in a row: s, MB   scanned: s, MB   scanned with remat: s, MB")
    for depth in parser.parse_args().depths:
        ways = [(False, False), (True, False), (True, True)]
        found = [compiled(depth, *way) for way in ways]
        row = "   ".join(f"{seconds:6.1f} {size / 1e6:7.1f}" for seconds, size in found)
        print(f"{depth:5}  {row}", flush=True)


if __name__ == "__main__":
    main()
