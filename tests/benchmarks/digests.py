"""What the digests of a state cost beside a training step: by lanes (dl.core.digests) and by SHA-256.

    python tests/benchmarks/digests.py
    python tests/benchmarks/digests.py --device h100:8      # nothing is run: what the program reads and needs

A GPT of 4 layers and width 256, batches of 8 texts of 128 tokens, AdamW; digests are made once a checkpoint.
"""

import argparse
import time

import jax
import jax.numpy as jnp
import numpy as np

import dl
from dl.core import digests
from dl.models.language import LanguageModel
from dl.models.transformer import Transformer
from dl.parallel.devices import machine
from dl.parallel.mesh import make_mesh
from dl.tasks.language_modeling import language_modeling
from dl.training.checkpoints import digests as by_kind
from dl.training.checkpoints import flatten
from dl.training.compiled import Compiled
from dl.training.prefetch import prefetch


def elsewhere(name: str) -> None:
    """Compile the digest of a GiB of float32, cut over all devices, for a machine that is not here."""
    devices = machine(name).devices
    mesh = make_mesh(f"fsdp={len(devices)}", devices)
    lies = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("fsdp"))
    leaf = jax.ShapeDtypeStruct((2**14, 2**14), jnp.float32, sharding=lies)
    platform = "tpu" if devices[0].platform == "tpu" else "cuda"
    traced = digests._program(mesh).trace(leaf)
    memory = traced.lower(lowering_platforms=(platform,)).compile().memory_analysis()
    print(f"{name}: of {memory.argument_size_in_bytes / 2**20:.0f} MiB a device, "
          f"temporaries {memory.temp_size_in_bytes / 2**10:.0f} KiB")  # fmt: skip


def fastest(function, times: int = 5) -> float:
    return min(_seconds(function) for _ in range(times))


def _seconds(function) -> float:
    begun = time.perf_counter()
    function()
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", help="such as h100:8: compile for it only")
    given = parser.parse_args()
    if given.device:
        return elsewhere(given.device)
    rows = np.random.default_rng(0).integers(0, 4096, (64, 129), np.int32)
    data = dl.train_batches({"inputs": rows[:, :-1], "targets": rows[:, 1:]}, 8)
    task = language_modeling(LanguageModel(4096, Transformer(256, 4, 4, causal=True)))
    compiled = Compiled(dl.Experiment(task, data, dl.optimizer("adamw", 1e-3), 10))
    state = compiled.beginning().state()
    batches = prefetch(data).at(0)[0]
    program = compiled.step(state, batches)
    program.wait()
    step = 1e9
    for _ in range(5):
        begun = time.perf_counter()
        state, _, _ = jax.block_until_ready(program(state, program.zeros(), batches, 10))
        step = min(step, (time.perf_counter() - begun) / 10)
    flat = flatten({"state": state})
    size = sum(leaf.nbytes for leaf in flat.values())
    host = {name: np.asarray(leaf) for name, leaf in flat.items()}
    there = jax.jit(lambda flat: {n: digests.words_on_devices(x) for n, x in flat.items()})
    jax.block_until_ready(there(flat))
    print(
        f"a state of {size / 2**20:.0f} MiB on {jax.devices()[0].device_kind}, a step {step * 1e3:.1f} ms"
    )
    for name, function in (
        ("lanes, as a checkpoint takes them", lambda: by_kind(flat, digests.LANES)),
        ("lanes, by the device", lambda: jax.block_until_ready(there(flat))),
        ("SHA-256 on the host", lambda: by_kind(host, digests.SHA)),
    ):
        took = fastest(function)
        print(
            f"{name}: {took * 1e3:.1f} ms, {took / step:.2f} of a step, {size / took / 1e9:.2f} GB/s"
        )


if __name__ == "__main__":
    main()
