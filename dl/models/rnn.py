"""Recurrent networks: simple RNN, LSTM, GRU; stacked, bidirectional, masked, with carried state.

A cell is two pure elementwise functions around one recurrent product, which lets :func:`recurrence`
keep everything else out of the loop over time: inputs are projected for all steps in one product
before it, and the recurrent kernel's gradient is one product after it, as in cuDNN (Appleyard et al.
2016, "Optimizing performance of recurrent neural networks on GPUs").
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from dl.core.errors import UserError, bounded
from dl.models.layers import Dense, Dropout
from dl.models.vocabulary import Embed


class Cell(NamedTuple):
    """A recurrent cell on states ``(h, ...)``, each ``[batch, features]``.

    Attributes:
      gates: projections of the input and of ``h``, each ``gates * features`` wide.
      states: how many arrays it carries; the first is ``h``, the output.
      join: ``(projected input, projected h) -> pre-activations``; must be linear.
      step: ``(states, pre-activations) -> states``, elementwise.
      bias: constants added to the initial bias, one for each gate.
    """

    gates: int
    states: int
    join: Callable[[jax.Array, jax.Array], jax.Array]
    step: Callable[[tuple, jax.Array], tuple]
    bias: tuple[float, ...]


def _simple_step(states, a):
    return (jnp.tanh(a),)


def _lstm_step(states, a):
    # One tanh over all gates, sigmoid(x) = tanh(x / 2) / 2 + 1 / 2: half the time of four kernels.
    width = a.shape[-1] // 4
    scale = np.repeat(np.array([0.5, 0.5, 1.0, 0.5]), width)
    shift = np.repeat(np.array([0.5, 0.5, 0.0, 0.5]), width)
    gates = jnp.tanh(a * scale.astype(a.dtype)) * scale.astype(a.dtype) + shift.astype(a.dtype)
    i, f, g, o = jnp.split(gates, 4, axis=-1)
    c = f * states[1] + i * g
    return o * jnp.tanh(c), c


def _gru_join(x, z):
    # The reset gate multiplies the candidate's recurrent part alone, so that part stays apart.
    ru = 2 * x.shape[-1] // 3
    return jnp.concatenate([x[..., :ru] + z[..., :ru], x[..., ru:], z[..., ru:]], axis=-1)


def _gru_step(states, a):
    r, u, x, z = jnp.split(a, 4, axis=-1)
    r, u = (0.5 * jnp.tanh(0.5 * gate) + 0.5 for gate in (r, u))
    return ((1.0 - u) * jnp.tanh(x + r * z) + u * states[0],)


# Elman 1990. h' = tanh(x + h)
simple_rnn = Cell(1, 1, jnp.add, _simple_step, (0.0,))
# Hochreiter & Schmidhuber 1997, Gers et al. 2000: gates in, forget, candidate, out; the forget gate
# begins open (Jozefowicz et al. 2015).
lstm = Cell(4, 2, jnp.add, _lstm_step, (0.0, 1.0, 0.0, 0.0))
# Cho et al. 2014, with the reset gate after the product as in cuDNN: gates reset, update, candidate.
gru = Cell(3, 1, _gru_join, _gru_step, (0.0, 0.0, 0.0))
CELLS = {"rnn": simple_rnn, "lstm": lstm, "gru": gru}


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def recurrence(cell: Cell, kernel, bias, inputs, mask, states):
    """``cell`` run over time.

    Args:
      kernel: ``[features, gates * features]``, applied to ``h``; bias: ``[gates * features]``.
      inputs: projected inputs, ``[time, batch, gates * features]``.
      mask: ``[time, batch]``; where it is 0 the states stay as they are. Or None.
      states: initial states, each ``[batch, features]``.

    Returns:
      ``h`` after every step, ``[time, batch, features]``, and the last states.
    """
    return _forward(cell, kernel, bias, inputs, mask, states)[0]


def _advance(cell, states, a, keep):
    new = cell.step(states, a)
    if keep is None:
        return new
    return tuple(jnp.where(keep[:, None] > 0, n, s) for n, s in zip(new, states, strict=True))


def _forward(cell, kernel, bias, inputs, mask, states):
    def body(states, step):
        x, keep = step
        a = cell.join(x, states[0] @ kernel + bias)
        states = _advance(cell, states, a, keep)
        return states, (states, a)

    last, (after, a) = jax.lax.scan(body, states, (inputs, mask))
    return (after[0], last), (kernel, bias, mask, states, after, a)


def _backward(cell, saved, cotangents):
    kernel, bias, mask, states, after, a = saved
    d_outputs, d_last = cotangents
    before = jax.tree.map(lambda s, t: jnp.concatenate([s[None], t[:-1]]), states, after)
    transposed = kernel.T

    def unjoin(d_a):  # join is linear: its transpose is the same at every step
        shape = jax.ShapeDtypeStruct((*d_a.shape[:-1], kernel.shape[1]), d_a.dtype)
        return jax.linear_transpose(cell.join, shape, shape)(d_a)

    def body(d, step):
        states, a, keep, d_output = step
        d = (d[0] + d_output, *d[1:])
        _, pull = jax.vjp(lambda states, a: _advance(cell, states, a, keep), states, a)
        d, d_a = pull(d)
        # Computed once, for both of its uses below.
        d_a = jax.lax.optimization_barrier(d_a)
        return (d[0] + unjoin(d_a)[1] @ transposed, *d[1:]), d_a

    d_states, d_a = jax.lax.scan(body, d_last, (before, a, mask, d_outputs), reverse=True)
    d_inputs, d_z = unjoin(d_a)
    rows = d_z.reshape(-1, kernel.shape[1])
    d_kernel = before[0].reshape(-1, kernel.shape[0]).T @ rows
    d_mask = None if mask is None else jnp.zeros_like(mask)
    return d_kernel, rows.sum(0).astype(bias.dtype), d_inputs, d_mask, d_states


recurrence.defvjp(_forward, _backward)


class _Layer(nn.Module):
    """One direction of one layer: ``[time, batch, inputs] -> [time, batch, features]``, last states."""

    features: int
    cell: Cell

    @nn.compact
    def __call__(self, x, mask, states):
        def start(key, shape, dtype=jnp.float32):
            return jnp.repeat(jnp.array(self.cell.bias, dtype), self.features)

        width = self.cell.gates * self.features
        projected = Dense(width, bias_init=start, name="input")(x)
        kernel = self.param("kernel", nn.initializers.orthogonal(), (self.features, width))
        bias = self.param("bias", nn.initializers.zeros, (width,))
        kernel, bias, states = jax.tree.map(
            lambda p: p.astype(projected.dtype), (kernel, bias, states)
        )
        return recurrence(self.cell, kernel, bias, projected, mask, states)


class RNN(nn.Module):
    """Layers of a recurrent cell.

    Parameters are laid out as in cuDNN and PyTorch: an input kernel and bias and a recurrent kernel
    and bias for each layer and direction, gates side by side in the order named above.

    Attributes:
      features: width of every layer (of each direction).
      cell: ``simple_rnn``, ``lstm`` or ``gru``, or a :class:`Cell` of your own.
      bidirectional: a second pass from the end, its outputs beside the first's.
      dropout: rate on the input of every layer but the first (Zaremba et al. 2014).
    """

    features: int
    cell: Cell = lstm
    layers: int = 1
    bidirectional: bool = False
    dropout: float | jax.Array = 0.0

    def initial_carry(self, batch: int) -> jax.Array:
        """Zero state, ``[layers * directions, batch, states * features]``."""
        rows = self.layers * (2 if self.bidirectional else 1)
        return jnp.zeros((rows, batch, self.cell.states * self.features))

    @nn.compact
    def __call__(self, x, mask=None, carry=None, *, train: bool = False):
        """``[batch, time, inputs] -> ([batch, time, features * directions], carry)``.

        Args:
          mask: ``[batch, time]``, 1 on real steps. Others leave the state as it is and output 0.
          carry: state to begin from, as :meth:`initial_carry` gives it and as it is returned.
        """
        bounded("features", self.features, at_least=1, whole=True)
        bounded("layers", self.layers, at_least=1, whole=True)
        if carry is None:
            carry = self.initial_carry(x.shape[0])
        x = x.swapaxes(0, 1)
        time_mask = None if mask is None else mask.swapaxes(0, 1).astype(jnp.float32)
        ends: list[jax.Array] = []
        for layer in range(self.layers):
            if layer > 0:
                x = Dropout(self.dropout)(x, train=train)
            outputs = []
            for direction in ("forward", "backward")[: 1 + self.bidirectional]:
                turn = (
                    (lambda s: s) if direction == "forward" else functools.partial(jnp.flip, axis=0)
                )
                module = _Layer(self.features, self.cell, name=f"{direction}_{layer}")
                states = jnp.split(carry[len(ends)], self.cell.states, axis=-1)
                keep = None if time_mask is None else turn(time_mask)
                y, last = module(turn(x), keep, tuple(states))
                outputs.append(turn(y))
                ends.append(jnp.concatenate(last, axis=-1).astype(carry.dtype))
            x = jnp.concatenate(outputs, axis=-1) if self.bidirectional else outputs[0]
        x = x.swapaxes(0, 1)
        if mask is not None:
            x = jnp.where(mask[..., None] > 0, x, jnp.zeros((), x.dtype))
        return x, jnp.stack(ends)


class RecurrentLanguageModel(nn.Module):
    """Token embedding, :class:`RNN`, logits of the next token.

    Called as every language model here: ``[batch, time]`` int tokens and a carry, or None for a new
    text, to ``[batch, time, vocabulary]`` logits and the carry after them.

    Attributes:
      body: the recurrent layers; embedding: width of the token vectors, by default the body's.
      tied: use the embedding as the output's kernel too (Press & Wolf 2017); then the widths must agree.
      dropout: rate on the embedded tokens and on the last layer's output.
    """

    vocabulary: int
    body: RNN
    embedding: int | None = None
    tied: bool = False
    dropout: float | jax.Array = 0.0

    def initial_carry(self, batch: int, length: int = 0) -> jax.Array:
        """State before the first token; a recurrent state has one size whatever the ``length``."""
        return self.body.initial_carry(batch)

    @nn.compact
    def __call__(self, tokens, *, carry=None, train: bool = False):
        bounded("embedding", self.embedding, at_least=1, whole=True)
        width = self.body.features if self.embedding is None else self.embedding
        embed = Embed(self.vocabulary, width, name="embedding")
        x = Dropout(self.dropout)(embed(tokens), train=train)
        x, carry = self.body(x, None, carry, train=train)
        x = Dropout(self.dropout)(x, train=train)
        if not self.tied:
            return Dense(self.vocabulary, name="head")(x), carry
        if width != self.body.features:
            raise UserError(
                "tied-widths-differ",
                f"tied embeddings need one width: embedding {width}, features {self.body.features}",
            )
        rows = embed.attend(x.reshape(-1, width))
        return rows.reshape(*tokens.shape, self.vocabulary), carry
