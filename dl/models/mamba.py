"""Mamba: a state that forgets and takes in by what it reads (Gu & Dao 2023, "Mamba: Linear-time sequence modeling
with selective state spaces"). Time and memory grow with a text's length, and writing needs no look back."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from dl.core.errors import bounded
from dl.core.target import target
from dl.models.attention import Cache
from dl.models.layers import Dense, symmetric_uniform

CHUNK = 64  # places that an accelerator computes side by side; a CPU goes one by one, which is fewer products


def selective_scan(x, step, decay, into, out, state, fresh=None):
    """``h[t] = exp(step[t] decay) h[t-1] + step[t] x[t] into[t]`` for every channel, and ``y[t] = h[t] . out[t]``.

    Args:
      x, step: ``[batch, time, channels]``, the steps above 0; decay: ``[channels, states]``, below 0.
      into, out: ``[batch, time, states]``, the same for all channels.
      state: ``h`` before the first place, ``[batch, channels, states]``.
      fresh: ``[batch, time]``, 1 where ``h`` begins anew from 0.

    Returns:
      ``y [batch, time, channels]`` and the last ``h``, in float32. The values within a chunk are computed again in
      the backward pass, so that what is kept has no axis of states but for one place a chunk.
    """
    batch, time = x.shape[:2]
    fresh = jnp.zeros((batch, time)) if fresh is None else fresh
    chunk = 1 if target().platform == "cpu" else min(CHUNK, time)

    def cut(a):  # [chunks, chunk, batch, ...]; a step of 0 leaves the state as it is
        a = jnp.pad(a.astype(jnp.float32), ((0, 0), (0, -time % chunk), *((0, 0),) * (a.ndim - 2)))
        return a.swapaxes(0, 1).reshape(-1, chunk, batch, *a.shape[2:])

    def join(one, two):
        return one[0] * two[0], two[0] * one[1] + two[1]

    @jax.checkpoint
    def advance(h, piece):
        x, step, into, out, fresh = piece
        kept = jnp.exp(step[..., None] * decay) * (1.0 - fresh)[..., None, None]
        taken = (step * x)[..., None] * into[:, :, None]
        kept, taken = jax.lax.associative_scan(join, (kept, taken))
        h = kept * h + taken
        return h[-1], jnp.einsum("kbcs,kbs->kbc", h, out)

    pieces = tuple(map(cut, (x, step, into, out, fresh)))
    decay = decay.astype(jnp.float32)
    last, y = jax.lax.scan(advance, state.astype(jnp.float32), pieces)
    return y.reshape(-1, *y.shape[2:])[:time].swapaxes(0, 1), last


def _usual_steps(key, shape, dtype=jnp.float32):
    """What softplus makes steps between 0.001 and 0.1 of, drawn evenly in their logarithms."""
    steps = jnp.exp(jax.random.uniform(key, shape, dtype, jnp.log(1e-3), jnp.log(1e-1)))
    return steps + jnp.log(-jnp.expm1(-steps))


class Mamba(nn.Module):
    """A causal convolution of each channel, a selective scan, a gate: in the place of causal attention.

    Attributes:
      states: numbers that each channel remembers; window: places of the convolution.
      expansion: channels inside, as a multiple of the width.
    """

    states: int = 16
    window: int = 4
    expansion: int = 2
    kernel_init: Callable = nn.initializers.lecun_normal()
    out_init: Callable = nn.initializers.lecun_normal()

    def initial_cache(self, layers: int, batch: int, width: int) -> Cache:
        """Of an empty text: ``key`` holds the convolution's last inputs ``[layers, batch, window - 1, channels]``,
        ``value`` the states ``[layers, batch, channels, states]``, however long the text grows."""
        inner, rows = self.expansion * width, (layers, batch)
        inputs = jnp.zeros((*rows, self.window - 1, inner))
        return Cache(inputs, jnp.zeros((*rows, inner, self.states)), jnp.zeros((), jnp.int32))

    @nn.compact
    def __call__(self, x, *, mask=None, causal=True, cache=None, layer=0):
        """As :class:`dl.models.attention.Attention`: ``[batch, time, width]`` to the same, the cache, None.

        Args:
          mask: boolean ``[batch, 1, time, time]``, whether two places are of one document; or None.
          cache: ``(key, value, used)`` of :meth:`initial_cache`; ``layer`` is this layer's place there.
        """
        bounded("states", self.states, at_least=1, whole=True)
        bounded("window", self.window, at_least=1, whole=True)
        batch, time, width = x.shape
        inner, rank, before = self.expansion * width, -(-width // 16), self.window - 1
        x, gate = jnp.split(
            Dense(2 * inner, False, kernel_init=self.kernel_init, name="in")(x), 2, axis=-1
        )

        kernel = self.param("kernel", symmetric_uniform(self.window**-0.5), (self.window, inner))
        bias = self.param("bias", nn.initializers.zeros, (inner,)).astype(x.dtype)
        tail = jnp.zeros((batch, before, inner)) if cache is None else cache[0][layer]
        seen = jnp.concatenate([tail.astype(x.dtype), x], axis=1)

        def one_document(back):
            ends = ((0, 0), (min(back, time), 0))
            return jnp.pad(jnp.diagonal(mask[:, 0], -back, 1, 2), ends)[..., None]

        x = bias
        for back in range(self.window):
            part = kernel[before - back].astype(bias.dtype) * seen[:, before - back :][:, :time]
            x = x + (part if mask is None or back == 0 else part * one_document(back))
        x, fresh = nn.silu(x), None if mask is None else ~one_document(1)[..., 0]

        low, into, out = jnp.split(
            Dense(rank + 2 * self.states, False, name="select")(x),
            [rank, rank + self.states],
            axis=-1,
        )
        spread = symmetric_uniform(rank**-0.5)
        steps = Dense(inner, kernel_init=spread, bias_init=_usual_steps, name="step")(low)
        step = jax.nn.softplus(steps.astype(jnp.float32))

        def rates(key, shape, dtype=jnp.float32):
            return jnp.tile(jnp.log(jnp.arange(1, self.states + 1, dtype=dtype)), inner)

        # One axis, as biases have: so that no weight decay pulls at it.
        decay = -jnp.exp(self.param("decay", rates, (inner * self.states,)).astype(jnp.float32))
        state = jnp.zeros((batch, inner, self.states)) if cache is None else cache[1][layer]
        y, last = selective_scan(x, step, decay.reshape(inner, -1), into, out, state, fresh)
        y = y + self.param("skip", nn.initializers.ones, (inner,)) * x
        y = y.astype(gate.dtype) * nn.silu(gate)
        if cache is not None:
            inputs = cache[0].at[layer].set(seen[:, time:].astype(cache[0].dtype))
            cache = inputs, cache[1].at[layer].set(last), cache[2]
        return Dense(width, False, kernel_init=self.out_init, name="out")(y), cache, None
