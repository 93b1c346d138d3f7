"""The compiled programs of a run, made ahead of time so that their cost is known."""

import time
from typing import Any

import jax
import jax.numpy as jnp

from dl.core.experiment import Experiment
from dl.core.metrics import Metrics, merge
from dl.core.state import TrainState, init_state
from dl.core.step import eval_step, guarded, scan_evaluation, scan_steps, train_step, zero_metrics


def has_convolution(jaxpr) -> bool:
    """Whether a program holds one of XLA's convolutions, at any depth."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == "conv_general_dilated":
            return True
        for value in jax.tree.leaves(equation.params, is_leaf=_is_jaxpr):
            if _is_jaxpr(value) and has_convolution(getattr(value, "jaxpr", value)):
                return True
    return False


def _is_jaxpr(value) -> bool:
    return hasattr(value, "eqns") or hasattr(getattr(value, "jaxpr", None), "eqns")


def _must_not_loop(traced) -> bool:
    """XLA for CPU computes its convolutions some ten times slower inside a compiled loop.

    The answer hangs on the program alone, never on a measurement, so that a run's bits cannot depend
    on how busy the machine was. (`dl.models.convolution` gives models that need no such care.)
    """
    return jax.default_backend() == "cpu" and has_convolution(traced.jaxpr.jaxpr)


def step_of(experiment: Experiment):
    return train_step(
        experiment.task,
        experiment.optimizer,
        ema=experiment.ema,
        micro_batches=experiment.micro_batches,
    )


def initial_state(experiment: Experiment) -> TrainState:
    """The state before the first step, made in one compiled program."""
    data, ema = experiment.data, experiment.ema is not None

    def make(batch, seed):
        return init_state(experiment.task, experiment.optimizer, batch, seed, ema)

    if hasattr(data, "iterate"):
        return jax.jit(make)(data[0], experiment.seed)
    # Only shapes matter, so the compiler drops the gather and the data never moves.
    return jax.jit(lambda data, seed: make(data[0], seed))(data, experiment.seed)


def totals_like(experiment: Experiment, state: TrainState) -> Metrics:
    """Empty training metrics of the shape that the experiment's step returns."""
    step, data = step_of(experiment), experiment.data
    if hasattr(data, "iterate"):
        return zero_metrics(lambda s, b: step(s, b)[1], state, data[0])
    return zero_metrics(lambda s, d: step(s, d[0])[1], state, data)


class TrainProgram:
    """``(state, totals, batches, count) -> (state, totals, finite)``, compiled for these arguments.

    ``count`` steps are one dispatch of a compiled loop, unless `_must_not_loop`.
    """

    def __init__(self, experiment: Experiment, state: TrainState, batches: Any):
        begun = time.perf_counter()
        step = step_of(experiment)
        self.totals_like = totals_like(experiment, state)
        loop = jax.jit(scan_steps(step), donate_argnums=(0, 1))
        traced = loop.trace(state, self.totals_like, batches, jnp.int32(1))
        self.looped = not _must_not_loop(traced)
        if not self.looped:
            one = jax.jit(guarded(step), donate_argnums=(0, 1))
            traced = one.trace(state, self.totals_like, jnp.bool_(True), batches)
        self.compiled = traced.lower().compile()
        self.seconds = time.perf_counter() - begun

    def zeros(self):
        return jax.tree.map(jnp.zeros_like, self.totals_like)

    def __call__(self, state, totals, batches, count: int):
        if self.looped:
            return self.compiled(state, totals, batches, jnp.int32(count))
        finite = jnp.bool_(True)
        for _ in range(count):
            state, totals, finite = self.compiled(state, totals, finite, batches)
        return state, totals, finite


class EvalProgram:
    """``(state, totals, batches, start, count) -> totals`` over evaluation batches."""

    def __init__(self, experiment: Experiment, state: TrainState, batches: Any):
        begun = time.perf_counter()
        evaluate = eval_step(experiment.task)
        zero = jnp.int32(0)
        self.totals_like = zero_metrics(lambda s, b: evaluate(s, b[zero]), state, batches)
        loop = jax.jit(scan_evaluation(evaluate), donate_argnums=1)
        traced = loop.trace(state, self.totals_like, batches, zero, zero)
        self.looped = not _must_not_loop(traced)
        if not self.looped:
            one = jax.jit(lambda s, t, b, i: merge(t, evaluate(s, b[i])), donate_argnums=1)
            traced = one.trace(state, self.totals_like, batches, zero)
        self.compiled = traced.lower().compile()
        self.seconds = time.perf_counter() - begun

    def zeros(self):
        return jax.tree.map(jnp.zeros_like, self.totals_like)

    def __call__(self, state, totals, batches, start: int, count: int):
        if self.looped:
            return self.compiled(state, totals, batches, jnp.int32(start), jnp.int32(count))
        for index in range(start, start + count):
            totals = self.compiled(state, totals, batches, jnp.int32(index))
        return totals
