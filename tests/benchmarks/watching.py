"""What logging costs a step: learning rate, norms, times and memory.

    python tests/benchmarks/watching.py

Both ways run the library's loop on the same batches in one process, in turn; the median of the ratios counts.
"""

import contextlib
import statistics
import tempfile
import time
from unittest import mock

import jax
import jax.numpy as jnp

import dl
import dl.core.lanes
import dl.core.step
import dl.training.compiled
from dl.data import load
from dl.models.cnn import CNN
from dl.models.mlp import MLP
from dl.runs.folder import RunFolder
from dl.tasks.classification import classification
from dl.training import lane as lanes
from dl.training.compiled import Compiled
from dl.training.console import Console
from dl.training.keeping import OwnCheckpoints
from dl.training.lane import Cadence, Lane
from dl.training.loop import Loop
from dl.training.prefetch import prefetch
from dl.training.selection import Selection
from dl.training.stepping import StepRunner


@contextlib.contextmanager
def silent():
    """Within, nothing is logged but the task's own metrics."""
    with contextlib.ExitStack() as stack:
        for module in (dl.training.compiled, dl.core.lanes):
            stack.enter_context(
                mock.patch.object(module, "logged", return_value=dl.core.step.unlogged)
            )
        stack.enter_context(mock.patch.object(lanes, "LOOK", 10**9))
        yield


def timed(task, optimizer, data, steps, told):
    """A function that trains and returns the seconds of a step, compiling and saving left out."""
    rate = dl.schedule("cosine", 1e-3, steps, warmup=steps // 20)
    scalars = (
        (lambda state: {"learning_rate": rate(jnp.maximum(state.step - 1, 0))}) if told else None
    )
    experiment = dl.Experiment(task, data, optimizer, steps, scalars=scalars)
    around = contextlib.nullcontext if told else silent
    with around():
        source, compiled = prefetch(data), Compiled(experiment)
        program = compiled.step(compiled.beginning().state(), source.at(0)[0], 50)

    def once():
        with tempfile.TemporaryDirectory() as place, around():
            lane = Lane(RunFolder(place), Selection(None))
            cadence = Cadence(steps, log_every=50, eval_every=steps, save_every=steps)
            keeping = OwnCheckpoints(compiled, lane)
            loop = Loop(compiled, [lane], keeping, cadence, Console(False))
            loop.watch = watch
            state, totals, step = compiled.beginning().state(), program.zeros(), 0
            jax.block_until_ready(state.step)
            runner = StepRunner(program, source, lambda steps: steps, loop._sent, lambda *_: None)
            begun = time.perf_counter()
            while step < steps:
                target, before = watch.ahead(cadence, step, state)
                step, state, totals = runner.to(step, target, state, totals)
                if cadence.due(step, 50):
                    loop._log(step, totals, state, before)
                    totals = program.zeros()
            runner.drain(state)
            loop._flush()
            took = time.perf_counter() - begun
            keeping.close()
            return took / steps

    from dl.training.watching import Watch

    watch = Watch(compiled)
    once()  # compiles what is compiled at the first line
    return once


def main():
    digits = load("digits")
    cases = (
        ("MLP, clipped", classification(MLP((256, 256, 10))), 128, 1.0, 2000),
        ("MLP, not clipped", classification(MLP((256, 256, 10))), 128, None, 2000),
        ("wide MLP", classification(MLP((1024, 1024, 10))), 256, 1.0, 200),
        ("CNN", classification(CNN(10, (24, 48))), 64, 1.0, 400),
    )
    print("milliseconds a step with all logged, without, and the median ratio of 15 pairs in turn")
    for name, task, batch, clip, steps in cases:
        data = dl.train_batches(digits.train, batch, 0)
        optimizer = dl.optimizer("adamw", 1e-3, weight_decay=1e-2, clip=clip)
        ways = [timed(task, optimizer, data, steps, told) for told in (True, False)]
        pairs = [[way() for way in ways] for _ in range(15)]
        best = [min(times) * 1e3 for times in zip(*pairs, strict=True)]
        ratio = statistics.median(one / other for one, other in pairs)
        print(
            f"{name:<18} {best[0]:.4f}  {best[1]:.4f}  {ratio:.4f}  (of the best {best[0] / best[1]:.4f})",
            flush=True,
        )


if __name__ == "__main__":
    main()
