"""Training speed of GPT-2 by the program of a run: tokens a second and model FLOPs utilisation (MFU).

    python tests/benchmarks/gpt2.py --size 124M --batch 32
    python tests/benchmarks/gpt2.py --size 1.5B --batch 16 --mesh fsdp=-1
    python tests/benchmarks/gpt2.py --size 6.7B --batch 128 --mesh fsdp=64 --device v5p:4x4x4

With --device nothing is run: the step is compiled for that machine, as by dl plan.
Context 1,024, bfloat16 compute on float32 parameters, AdamW; random tokens, for speed does not hang on them.
On a GPU, attention is cuDNN's. From 1.5B on each layer is computed again in the backward pass (remat), and
the layers are scanned; others are scanned with --scan.

FLOPs are counted as in PaLM (Chowdhery et al. 2022, appendix B): a token costs 6 N + 12 L W T, with N the
parameters without positions (the tied embedding counts once, as the output layer), L layers of width W,
context T. The causal mask is not taken off, nor is what remat computes again added. MFU divides by the
device's dense bfloat16 peak.
"""

import argparse
import time

import jax
import numpy as np

import dl
from dl.data.batches import train_batches
from dl.models.language import LanguageModel
from dl.models.transformer import Transformer
from dl.parallel.devices import card_of, machine
from dl.runs.options import Options
from dl.tasks.language_modeling import language_modeling
from dl.training.compiled import Compiled
from dl.training.placing import layout_of
from dl.training.plan_elsewhere import print_plan
from dl.training.prefetch import prefetch

# layers, width, heads, vocabulary (rounded up to a multiple of 128), context
SIZES = {
    "tiny": (2, 32, 2, 128, 32),
    "124M": (12, 768, 12, 50304, 1024),
    "350M": (24, 1024, 16, 50304, 1024),
    "1.5B": (48, 1600, 25, 50304, 1024),
    "6.7B": (32, 4096, 32, 50304, 2048),
}


def flops_a_token(parameters: int, layers: int, width: int, context: int) -> float:
    """Forward and backward, as the module's text counts them; ``parameters`` without positions."""
    return 6.0 * parameters + 12.0 * layers * width * context


def experiment(size: str, batch: int, steps: int, scan: bool = False) -> dl.Experiment:
    layers, width, heads, vocabulary, context = SIZES[size]
    large = size in ("1.5B", "6.7B")
    body = Transformer(width, layers, heads, causal=True, remat=large, scan=large or scan)
    task = language_modeling(LanguageModel(vocabulary, body, positions=context))
    rows = np.random.default_rng(0).integers(0, vocabulary, (batch * 4, context + 1), np.int32)
    data = train_batches({"inputs": rows[:, :-1], "targets": rows[:, 1:]}, batch)
    rate = dl.schedule("cosine", 6e-4, max(steps * 10, 10), warmup=steps)
    optimizer = dl.optimizer("adamw", rate, weight_decay=0.1, clip=1.0)
    return dl.Experiment(dl.mixed_precision(task), data, optimizer, steps)


def main(argv: list[str] | None = None) -> dict[str, float]:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", choices=SIZES, default="124M")
    parser.add_argument("--batch", type=int, default=32, help="rows of the context's length a step")
    parser.add_argument(
        "--steps", type=int, default=20, help="steps of a timing; the best of three"
    )
    parser.add_argument("--mesh", help="such as fsdp=-1; by default one device")
    parser.add_argument("--scan", action="store_true", help="scan the layers")
    parser.add_argument("--device", help="such as h100:8: compile for it only")
    given = parser.parse_args(argv)
    if given.device:
        elsewhere = machine(given.device)  # before JAX looks for devices
        described = experiment(given.size, given.batch, given.steps, given.scan)
        print_plan(described, elsewhere, Options(mesh=given.mesh))
        return {}
    layers, width, _, _, context = SIZES[given.size]
    kind = jax.devices()[0].device_kind
    if jax.default_backend() == "cpu":
        print("no accelerator is here: this runs, and says nothing of a GPU's speed")

    described = experiment(given.size, given.batch, given.steps, given.scan)
    layout = layout_of(given.mesh, described)
    compiled = Compiled(described, layout=layout)
    state = compiled.beginning().state()
    parameters = sum(x.size for x in jax.tree.leaves(state.variables["params"])) - context * width
    source = prefetch(described.data, 0, layout)
    batches = source.at(0)[0]
    program = compiled.step(state, batches)
    compiled = program.wait()
    best = float("inf")
    for _ in range(3):
        begun = time.perf_counter()
        state, totals, finite = program(state, program.zeros(), batches, given.steps)
        if not finite:
            raise SystemExit("the loss is not finite")
        best = min(best, (time.perf_counter() - begun) / given.steps)

    devices = 1 if layout is None else layout.mesh.size
    tokens = given.batch * context / best
    flops = tokens * flops_a_token(parameters, layers, width, context) / devices
    card = card_of(kind)
    peak = card and card.peaks["bfloat16"]
    memory = program.compiled.memory_analysis()
    estimate = memory.temp_size_in_bytes + memory.argument_size_in_bytes
    used = (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    print(f"GPT-2 {given.size} on {devices} x {kind}, jax {jax.__version__}, batch {given.batch}")
    print(f"{parameters:,} parameters (positions left out), compiled in {compiled:.1f} s")
    print(
        f"{best * 1e3:.1f} ms a step, {tokens:,.0f} tokens/s, {flops / 1e12:.2f} TFLOP/s a device"
    )
    print(f"MFU {flops / peak:.1%}" if peak else f"MFU unknown: no peak is on record for {kind}")
    print(f"memory by the compiler {estimate / 1e9:.2f} GB, peak measured "
          f"{f'{used / 1e9:.2f} GB' if used else 'not on this device'}")  # fmt: skip
    loss = totals["loss"]
    return {"tokens_per_second": tokens, "loss": float(loss.total / loss.weight)}


if __name__ == "__main__":
    main()
