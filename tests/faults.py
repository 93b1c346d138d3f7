"""Exact moments for a run to die at, injected from outside: the library knows nothing of them."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from unittest import mock

import jax
import numpy as np

from dl.training.checkpoints import Checkpoints
from dl.training.evaluation import EvalProgram
from dl.training.stepping import StepRunner


class Crash(BaseException):
    """Stands for SIGKILL: nothing catches it, nothing is tidied up."""


def crash() -> None:
    raise Crash


@contextlib.contextmanager
def at(phase: str, step: int, die: Callable[[], None] = crash) -> Iterator[None]:
    """Runs within it call ``die`` at that moment: ``'step'``, once ``step`` is taken and before the next;
    ``'evaluate'``, after the first batch of the evaluation at ``step``; ``'checkpoint'``, while that of
    ``step``, or of the first after it, is being written."""
    owner, name, make = PHASES[phase]
    with mock.patch.object(owner, name, make(getattr(owner, name), step, die)):
        yield


def _stepping(to, at, die):
    def until(runner, step, target, state, totals, active=None):
        if step < at <= target:
            step, state, totals = to(runner, step, at, state, totals, active)
            if step == at:
                runner.drain(state)
                die()
        return to(runner, step, target, state, totals, active)

    return until


def _evaluating(call, at, die):
    def one(program, state, totals, batches, start, count):
        if int(np.max(state.step)) == at:
            totals = jax.block_until_ready(call(program, state, totals, batches, start, 1))
            die()
            start, count = start + 1, count - 1
        return call(program, state, totals, batches, start, count)

    return one


def _saving(save, at, die):
    def watched(checkpoints, step, *arguments):
        if step < at:
            return save(checkpoints, step, *arguments)

        def watch():
            while not any(checkpoints.folder.glob("*tmp*")):
                time.sleep(0.0005)
            die()

        checkpoints.wait()  # so that the first seen is this one
        threading.Thread(target=watch, daemon=True).start()
        save(checkpoints, step, *arguments)
        checkpoints.wait()
        die()  # the write was over before it was seen

    return watched


PHASES = {
    "step": (StepRunner, "to", _stepping),
    "evaluate": (EvalProgram, "__call__", _evaluating),
    "checkpoint": (Checkpoints, "save", _saving),
}
