"""What the framework's whole loop costs over a hand-written jitted scan of the same model.

    python tests/benchmarks/loop.py

Both train the same MLP and CNN on the same digits batches in one process, in turn, several times; the
best of each counts. The loop logs, shows nothing, evaluates never and saves once, at the end.
"""

import tempfile
import time

import jax
import jax.numpy as jnp
import optax

import dl
from dl.core.step import train_step
from dl.data import load
from dl.data.batches import train_batches
from dl.models.cnn import CNN
from dl.models.mlp import MLP
from dl.runs.folder import RunFolder
from dl.tasks.classification import classification
from dl.training.compiled import Compiled
from dl.training.console import Console
from dl.training.keeping import OwnCheckpoints
from dl.training.lane import Cadence, Lane
from dl.training.loop import Loop
from dl.training.prefetch import prefetch
from dl.training.selection import Selection
from dl.training.stepping import StepRunner


def by_hand(task, optimizer, data, steps):
    """Seconds a step of `lax.scan` over the same batches, as one would write it in a notebook."""
    step = train_step(task, optimizer)

    @jax.jit
    def run(state, data):
        return jax.lax.scan(lambda s, i: step(s, data[i]), state, jnp.arange(steps))

    data = jax.device_put(data)
    state = dl.init_state(task, optimizer, data[0], 0)
    compiled = run.lower(state, data).compile()

    def once():
        begun = time.perf_counter()
        jax.block_until_ready(compiled(state, data)[0].step)
        return (time.perf_counter() - begun) / steps

    return once


def by_loop(task, optimizer, data, steps):
    """Seconds a step of the library's loop with its log lines, compiling and the last save left out."""
    experiment = dl.Experiment(task=task, data=data, optimizer=optimizer, steps=steps)
    source = prefetch(data)
    compiled = Compiled(experiment)
    program = compiled.step(compiled.beginning().state(), source.at(0)[0], 50)

    def once():
        with tempfile.TemporaryDirectory() as place:
            lane = Lane(RunFolder(place), Selection(None))
            cadence = Cadence(steps, log_every=50, eval_every=steps, save_every=steps)
            keeping = OwnCheckpoints(compiled, lane)
            loop = Loop(compiled, [lane], keeping, cadence, Console(False))
            state, totals, step = compiled.beginning().state(), program.zeros(), 0
            jax.block_until_ready(state.step)
            runner = StepRunner(program, source, lambda steps: steps, loop._sent, lambda *_: None)
            begun = time.perf_counter()
            while step < steps:
                step, state, totals = runner.to(step, cadence.next(step), state, totals)
                loop._log(step, totals, state)
                totals = program.zeros()
            runner.drain(state)
            loop._flush()
            took = time.perf_counter() - begun
            keeping.close()
            return took / steps

    return once


def main():
    digits = load("digits")
    mlp = classification(MLP((256, 256, 10)))
    cnn = classification(CNN(10, (24, 48)))
    print("milliseconds a step, best of 12 in turn: the loop, a hand-written scan, and their ratio")
    for name, task, batch, steps in (("MLP", mlp, 128, 1000), ("CNN", cnn, 64, 400)):
        data = train_batches(digits.train, batch, 0)
        ways = [make(task, optax.adam(1e-3), data, steps) for make in (by_loop, by_hand)]
        best = [
            min(times) * 1e3
            for times in zip(*([w() for w in ways] for _ in range(12)), strict=True)
        ]
        print(f"{name}  {best[0]:.3f}  {best[1]:.3f}  {best[0] / best[1]:.3f}", flush=True)


if __name__ == "__main__":
    main()
