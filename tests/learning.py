"""A short training, for tests that something is learned."""

import dataclasses

import jax
import jax.numpy as jnp

import dl
from dl.core.metrics import compute


def learn(task, optimizer, batches, steps, state=None):
    """The state after ``steps`` optimiser steps, in one program; the first step's metrics, and the last's.

    ``batches`` is one batch, or ``(step) -> batch``, traced; ``state`` is where to begin.
    """
    batch = batches if callable(batches) else lambda _: batches
    step = dl.train_step(task, optimizer)

    @jax.jit
    def run(state):
        state = state or dl.init_state(task, optimizer, batch(0))
        state, metrics = jax.lax.scan(lambda s, i: step(s, batch(i)), state, jnp.arange(steps))
        return state, jax.tree.map(lambda x: x[0], metrics), jax.tree.map(lambda x: x[-1], metrics)

    state, first, last = run(state)
    return state, compute(first), compute(last)


@dataclasses.dataclass(frozen=True)
class Plain:
    """A config that says nothing."""


def as_made(experiment):
    """``(build, config)`` of an experiment that a test made by hand, for ``dl.train`` and its like."""
    return lambda _: experiment, Plain()
