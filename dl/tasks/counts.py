"""How often something happens, and whether it does at all: counts of each row."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from dl.core.metrics import mean
from dl.core.task import Task
from dl.tasks.supervised import supervised


def poisson_counts(model: nn.Module, *, target: str = "later") -> Task:
    """``batch[target] [batch]``, counts, by a model whose rate is that of a known one, corrected.

    The model takes ``features [batch, features]`` and ``offset [batch]``, the logarithm of the known rate, and
    gives ``(log-rate [batch], log-odds [batch], code [batch, code])``; the log-odds are of a count above 0.
    ``predict`` gives ``rate``, ``again``, the log-odds, and ``code`` by name.

    Metrics: ``loss`` in nats, the negative log-likelihood of a Poisson distribution of that rate without the part
    that no rate changes, and that of there being any; and ``mse`` of the rate.
    """

    def log_rate(outputs):
        # No customer is held to buy more than e^8 times, so that one row cannot undo a run.
        return jnp.minimum(outputs[0].astype(jnp.float32), 8.0)

    def score(outputs, batch, train):
        log, count = log_rate(outputs), batch[target]
        rate, mask = jnp.exp(log), batch.get("mask")
        odds = outputs[1].astype(jnp.float32)
        any_ = jax.nn.softplus(jnp.where(count > 0, -odds, odds))
        return {
            "loss": mean(rate - count * log + any_, mask),
            "mse": mean(jnp.square(rate - count), mask),
        }

    def finish(outputs, x):
        return {"rate": jnp.exp(log_rate(outputs)), "again": outputs[1], "code": outputs[2]}

    columns = ("features", "offset")
    return supervised(
        model, columns, score, arguments=lambda x: tuple(x[name] for name in columns), finish=finish
    )
