"""Networks for series with missing values, ``[batch, time, variables]``: what is seen, what was, and how long ago.

All are called with ``values`` (scaled; 0 where missing), ``seen`` (1 or 0), ``last`` (the value before), ``gap``
(steps since then), all ``[batch, time, variables]``, and ``fixed [batch, features]``; they give
``[batch, outputs]``.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from dl.models.layers import Dense, Dropout
from dl.models.transformer import Transformer


class GRUD(nn.Module):
    """A GRU whose inputs and state fade while nothing is seen (Che et al. 2018, "Recurrent neural networks for
    multivariate time series with missing values").

    A missing value is between the last one and the mean, which is 0 of scaled values: the longer ago, the nearer.
    """

    hidden: int = 64
    dropout: float | jax.Array = 0.0

    @nn.compact
    def __call__(self, values, seen, last, gap, *, train: bool = False):
        weight = self.param("fade", nn.initializers.constant(0.1), values.shape[-1:])
        bias = self.param("fade_bias", nn.initializers.zeros_init(), values.shape[-1:])
        left = jnp.exp(-nn.relu(gap * weight + bias))
        x = jnp.concatenate([seen * values + (1 - seen) * left * last, seen], -1)
        gates = Dense(3 * self.hidden, name="inputs")(Dropout(self.dropout)(x, train=train))
        kept = jnp.exp(-nn.relu(Dense(self.hidden, name="fade_state")(gap)))
        kernel = self.param("state", nn.initializers.orthogonal(), (self.hidden, 3 * self.hidden))

        def step(state, now):
            gates, kept = now
            state = state * kept
            turn = jax.nn.sigmoid(
                gates[:, : 2 * self.hidden] + state @ kernel[:, : 2 * self.hidden]
            )
            update, reset = jnp.split(turn, 2, -1)
            new = jnp.tanh(
                gates[:, 2 * self.hidden :] + (reset * state) @ kernel[:, 2 * self.hidden :]
            )
            state = ((1 - update) * state + update * new).astype(state.dtype)
            return state, state

        begin = jnp.zeros((values.shape[0], self.hidden), gates.dtype)
        end, states = jax.lax.scan(step, begin, (gates.swapaxes(0, 1), kept.swapaxes(0, 1)))
        return jnp.concatenate([end, states.mean(0)], -1)


class StepTransformer(nn.Module):
    """A Transformer over the steps, each of which is what is seen then, what was last seen (fading by a factor of
    e in twelve steps), and how long ago."""

    width: int = 64
    layers: int = 2
    heads: int = 4
    dropout: float | jax.Array = 0.0

    @nn.compact
    def __call__(self, values, seen, last, gap, *, train: bool = False):
        recent = jnp.where(seen > 0, values, last * jnp.exp(-gap / 12))
        x = Dense(self.width)(jnp.concatenate([recent, seen, jnp.log1p(gap) / 4], -1))
        start = nn.initializers.normal(0.02)
        x = x + self.param("position", start, (x.shape[1], self.width))
        x, _ = Transformer(self.width, self.layers, self.heads, dropout=self.dropout)(
            x, train=train
        )
        return jnp.concatenate([x[:, -1], x.mean(1)], -1)


class SeriesAndFixed(nn.Module):
    """``body`` over the series, and beside it a layer over what is fixed, to ``outputs``."""

    outputs: int
    body: nn.Module
    hidden: int = 64
    dropout: float | jax.Array = 0.0

    @nn.compact
    def __call__(self, values, seen, last, gap, fixed, *, train: bool = False):
        x = self.body(values, seen, last, gap, train=train)
        beside = Dropout(self.dropout)(nn.relu(Dense(self.hidden)(fixed)), train=train)
        x = jnp.concatenate([Dropout(self.dropout)(x, train=train), beside], -1)
        return Dense(self.outputs)(x)
