"""What a step of GPT says to other devices: bytes of the collectives in the compiled program of one step,
and of its arguments, on eight simulated devices, beside the rules of docs/scaling.md:
``python tests/benchmarks/scaling.py``."""

import os
import re

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"

import jax
import numpy as np

import dl
from dl.data.batches.tokens import crops
from dl.models.language import LanguageModel
from dl.models.transformer import Transformer
from dl.tasks.language_modeling import language_modeling
from dl.training.compiled import Compiled
from dl.training.placing import layout_of
from dl.training.plan import step_cost
from dl.training.prefetch import prefetch

WIDTH, LAYERS, HEADS, VOCABULARY, BATCH, TIME = 256, 4, 8, 1024, 16, 64
MESHES = ("data=8", "fsdp=8", "data=2,fsdp=4", "tensor=8", "data=2,tensor=4")
KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
BYTES = {"f32": 4, "s32": 4, "u32": 4, "bf16": 2, "pred": 1, "s8": 1, "u8": 1}


def collectives(text: str) -> dict[str, int]:
    """Bytes of the results of each kind of collective in a program's text."""
    found = dict.fromkeys(KINDS, 0)
    pattern = re.compile(rf" = (.*?) ({'|'.join(KINDS)})(?:-start)?\(")
    for line in filter(None, map(pattern.search, text.splitlines())):
        for dtype, shape in re.findall(r"(\w+)\[([\d,]*)\]", line[1]):
            count = int(np.prod([int(n) for n in shape.split(",") if n]))
            found[line[2]] += BYTES.get(dtype, 4) * count
    return found


def experiment() -> dl.Experiment:
    body = Transformer(WIDTH, LAYERS, HEADS, causal=True)
    tokens = np.arange(5000) % VOCABULARY
    return dl.Experiment(
        task=language_modeling(LanguageModel(VOCABULARY, body, positions=TIME)),
        data=crops(tokens, TIME, BATCH),
        optimizer=dl.optimizer("adamw", 1e-3),
        steps=1,
    )


if __name__ == "__main__":
    one = experiment()
    shapes = Compiled(one).beginning().shapes.variables["params"]
    count = sum(int(np.prod(x.shape)) for x in jax.tree.leaves(shapes))
    mib = 2**20
    tokens = BATCH * TIME * WIDTH * 4 / mib
    print(
        f"GPT {LAYERS} x {WIDTH}: parameters P = {count * 4 / mib:.1f} MiB in float32, state 3P; "
        f"activations of the whole batch A = {tokens:.1f} MiB a layer"
    )
    for mesh in MESHES:
        layout = layout_of(mesh, one)
        compiled = Compiled(one, layout=layout)
        state = compiled.beginning().state()
        batches = prefetch(one.data, layout=layout).at(0)[0]
        program = compiled.step(state, batches)
        found = collectives(program.compiled.as_text())
        told = "  ".join(f"{kind} {size / mib:.2f}" for kind, size in found.items() if size)
        arguments = step_cost(program)["arguments"] / mib
        print(f"{mesh:<16} arguments a device {arguments:6.2f} MiB   results, MiB: {told}")
