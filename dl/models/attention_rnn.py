"""Recurrent encoder and decoder with attention between them (Bahdanau et al. 2015, "Neural machine translation by
jointly learning to align and translate")."""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from dl.models.language import EncoderDecoder
from dl.models.layers import Dense, Dropout, flat
from dl.models.ring import HIDDEN
from dl.models.rnn import RNN, Cell, gru
from dl.models.transformer import Transformer
from dl.models.vocabulary import Embed


class AdditiveAttention(nn.Module):
    """``softmax(v . tanh(W query + U key))`` over the source: a feed-forward scores each pair.

    Attributes:
      width: of the feed-forward.
    """

    width: int

    @nn.compact
    def __call__(self, query, keys, values, mask):
        """Contexts ``[batch, time, features]`` and weights ``[batch, time, source]``.

        Args:
          query: ``[batch, time, inputs]``; keys: ``U key``, ``[batch, source, width]``.
          values: ``[batch, source, features]``; mask: ``[batch, source]``, 1 on real places.
        """
        query = Dense(self.width, use_bias=False, name="query")(query)
        pairs = nn.tanh(query[:, :, None] + keys[:, None])
        scores = Dense(1, use_bias=False, name="score")(pairs)[..., 0].astype(jnp.float32)
        weights = jax.nn.softmax(jnp.where(mask[:, None] > 0, scores, HIDDEN), axis=-1)
        return weights.astype(values.dtype) @ values, weights


class Carry(NamedTuple):
    """What a translation goes on from.

    Attributes:
      states: of the asking and the answering layers, each ``[layers, batch, features]``.
      keys, values, mask: of the source, as attention takes them, after an axis of one.
    """

    states: tuple[jax.Array, jax.Array]
    keys: jax.Array
    values: jax.Array
    mask: jax.Array


class AttentionRNN(nn.Module):
    """Source tokens to target tokens, one vocabulary for both, its embedding tied to the output.

    The encoder reads both ways. The decoder's first layer reads the target so far and asks; layers above it read
    its output beside the context that it gets, as in Wu et al. (2016, "Google's neural machine translation
    system"). So no step waits for another's attention, which is computed for all of them at once.

    Called, and asked by :func:`dl.models.generation.beam_search`, as a
    :class:`dl.models.language.EncoderDecoder`.

    Attributes:
      width: of the tokens' vectors, of every layer and of attention.
      layers: of the encoder (each of both directions), and of the decoder above the asking one.
      dropout: rate on tokens, between layers and before the output; may be traced.
      pad: the token that fills a row.
    """

    vocabulary: int
    width: int
    layers: int = 1
    cell: Cell = gru
    dropout: float | jax.Array = 0.0
    pad: int = 0

    def setup(self):
        start, shape = nn.initializers.normal(0.02), (self.vocabulary, self.width)
        self.embedding = Embed(*shape, embedding_init=start)
        self.encoder = RNN(self.width, self.cell, self.layers, True, self.dropout)
        self.keys = Dense(self.width)
        self.begins = Dense((1 + self.layers) * self.cell.states * self.width)
        self.asking = RNN(self.width, self.cell)
        self.attends = AdditiveAttention(self.width)
        self.answering = RNN(self.width, self.cell, self.layers, dropout=self.dropout)
        self.before_output = Dense(self.width)
        self.drop = Dropout(self.dropout)

    def encode(self, source, *, train: bool = False) -> Carry:
        """``[batch, source]`` read, and the decoder's first state made of what either direction ended with."""
        mask = source != self.pad
        x, ends = self.encoder(self.drop(self.embedding(source), train=train), mask, train=train)
        first = nn.tanh(self.begins(jnp.concatenate([ends[-2], ends[-1]], axis=-1)))
        first = first.reshape(source.shape[0], 1 + self.layers, -1).swapaxes(0, 1)
        return Carry((first[:1], first[1:]), self.keys(x)[None], x[None], mask[None])

    def _answer(self, tokens, carry: Carry, train: bool):
        """Logits, the carry after them, and where each token's layers looked."""
        x = self.drop(self.embedding(tokens), train=train)
        asked, one = self.asking(x, None, carry.states[0])
        context, weights = self.attends(asked, carry.keys[0], carry.values[0], carry.mask[0])
        x = self.drop(jnp.concatenate([asked, context], axis=-1), train=train)
        x, two = self.answering(x, None, carry.states[1], train=train)
        x = nn.tanh(self.before_output(jnp.concatenate([x, context], axis=-1)))
        rows = self.embedding.attend(flat(self.drop(x, train=train)))
        logits = rows.reshape(*tokens.shape, self.vocabulary)
        return logits, carry._replace(states=(one, two)), weights

    def __call__(self, source, target, *, train: bool = False):
        """Logits ``[batch, target, vocabulary]`` of the token after each of ``target [batch, target]``."""
        return self._answer(target, self.encode(source, train=train), train)[0]

    def begin(self, source, tokens, length: int):
        """Read ``source``, then the first ``tokens [batch, time]``: their logits and a carry for
        :meth:`decode`, which has one size whatever the ``length``."""
        return self.decode(tokens, self.encode(source))

    def decode(self, tokens, carry: Carry):
        """``[batch, time]`` further tokens: their logits and the carry."""
        return self._answer(tokens, carry, False)[:2]

    def weights(self, source, target):
        """Of attention, ``[batch, target, source]``."""
        return self._answer(target, self.encode(source), False)[2]

    def attention(self, variables: Any, source, target) -> np.ndarray:
        """Where the decoder looks in one ``source [source]`` for the token after each of ``target [target]``:
        ``[1, target, source]``, as of one head."""
        return np.asarray(self.apply(variables, source[None], target[None], method="weights"))


def translator(
    kind: str,
    vocabulary: int,
    width: int,
    layers: int,
    heads: int,
    hidden: int,
    dropout: float | jax.Array,
) -> EncoderDecoder | AttentionRNN:
    """A network from sequences to sequences: ``transformer``, with rotary positions, or ``attention-rnn``, which
    has no ``heads`` and no feed-forward of ``hidden``."""
    if kind == "attention-rnn":
        return AttentionRNN(vocabulary, width, layers, dropout=dropout)
    encoder = Transformer(width, layers, heads, hidden=hidden, rope=10000.0, dropout=dropout)
    return EncoderDecoder(vocabulary, encoder, encoder.clone(causal=True, cross=True))
