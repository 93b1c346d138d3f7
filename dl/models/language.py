"""Token models made of a Transformer: GPT, BERT, encoder-decoder.

GPT is ``LanguageModel(vocabulary, Transformer(..., causal=True), positions=1024)`` (Radford et al. 2019);
LLaMA's kind has ``rope=10000.0, norm=RMSNorm, gated=True, activation=nn.silu, bias=False`` and
``kv_heads`` in the body and no positions (Touvron et al. 2023); BERT is the same with ``causal=False``
(Devlin et al. 2019), and to the letter with ``norm_first=False`` in the body, ``token_types=2,
embedding_norm=True, transform=True``.
"""

from collections.abc import Callable
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from dl.core.errors import UserError, bounded
from dl.core.target import ROWS, SEQUENCE, hold
from dl.models.attention import Cache
from dl.models.layers import Activation, Dense, Dropout, flat, held, remat_policy
from dl.models.transformer import Transformer
from dl.models.vocabulary import Embed, Unread, rows_of, worth_tiling

_TOKENS = nn.initializers.normal(0.02)


class _Transform(nn.Module):
    """Dense, activation and norm before the output, and the output's bias, as in BERT."""

    activation: Activation
    norm: Callable[..., nn.Module]

    @nn.compact
    def __call__(self, rows, vocabulary: int):
        """The rows that the output's kernel reads, and its bias."""
        rows = self.activation(Dense(rows.shape[-1], name="dense")(rows))
        bias = self.param("bias", nn.initializers.zeros, (vocabulary,))
        return self.norm(name="norm")(rows), bias


class Stack(nn.Module):
    """Layers of one's own, one after the other and a norm: a :class:`LanguageModel`'s body.

    Attributes:
      layer: makes one by its ``name``, called as ``(x, mask, cache, layer, train) -> (x, cache)``, where ``cache``
        is ``(key, value, used)`` of all layers, or None, and ``layer`` its place there.
      empty: ``(batch, length) ->`` an empty :class:`~dl.models.attention.Cache`.
    """

    layer: Callable[..., nn.Module]
    layers: int
    width: int
    empty: Callable[[int, int], Cache]
    norm: Callable[..., nn.Module]
    dropout: float | jax.Array = 0.0

    def initial_cache(self, batch: int, length: int) -> Cache:
        return self.empty(batch, length)

    @nn.compact
    def __call__(self, x, *, mask=None, cache=None, train: bool = False):
        """``[batch, time, width] -> ([batch, time, width], cache)``, as a Transformer."""
        bounded("layers", self.layers, at_least=1, whole=True)
        x, stored = Dropout(self.dropout)(x, train=train), cache and cache[:3]
        for place in range(self.layers):

            def run(layer, x, stored, place=place):
                return layer(x, mask, stored, place, train)

            if policy := remat_policy():
                run = nn.remat(run, policy=policy)
            x, stored = run(self.layer(name=f"layer_{place}"), x, stored)
        return self.norm(name="norm")(x), cache and cache.after(stored, x.shape[1])


class LanguageModel(nn.Module):
    """Token embedding, Transformer, logits over the vocabulary at every place.

    Called as every language model here: ``[batch, time]`` int tokens and a carry (a key-value cache),
    or None, to ``[batch, time, vocabulary]`` logits and the carry after them.

    Attributes:
      body: a Transformer, or a module of one's own with its ``width``, ``initial_cache`` and call.
      positions: places in the table of learned positions; 0 where the body has rotary ones.
      tied: the output's kernel is the embedding (Press & Wolf 2017).
      token_types: rows in the table of learned token types (which sentence a token is of); 0 for none.
      embedding_norm: a norm after the embeddings' sum.
      transform: a dense layer, activation and norm before the output, and a bias after it.
      scaled: the body reads the embeddings times the root of their width (Vaswani et al. 2017).
    """

    vocabulary: int
    body: Transformer | Any
    positions: int = 0
    tied: bool = True
    token_types: int = 0
    embedding_norm: bool = False
    transform: bool = False
    scaled: bool = False

    def initial_carry(self, batch: int, length: int) -> Cache:
        """An empty cache for texts of up to ``length`` tokens."""
        if self.positions and length > self.positions:
            raise UserError(
                "text-too-long",
                f"{length} tokens are more than the model's {self.positions} positions",
            )
        return self.body.initial_cache(batch, length)

    def setup(self):
        self.embedding = Embed(self.vocabulary, self.body.width, embedding_init=_TOKENS)
        if self.positions:
            shape = (self.positions, self.body.width)
            self.place = self.param("positions", _TOKENS, shape)
        if self.token_types:
            shape = (self.token_types, self.body.width)
            self.kinds = self.param("token_types", _TOKENS, shape)
        if self.embedding_norm:
            self.norm = self.body.norm()
        if self.transform:
            self.output = _Transform(self.body.activation, self.body.norm)
        if not self.tied:
            self.head = Dense(self.vocabulary, use_bias=False)

    def hidden(self, tokens, *, types=None, mask=None, carry=None, train: bool = False):
        """``[batch, time, width]`` before the output layer, and the carry.

        Args:
          types: int ``[batch, time]``, each token's type; None where all are of type 0.
        """
        x = hold(self.embedding(tokens), ROWS, SEQUENCE, None)
        if self.scaled:
            x = x * jnp.asarray(self.body.width**0.5, x.dtype)
        if self.token_types:
            x = x + (self.kinds[0] if types is None else rows_of(self.kinds, types))
        if self.positions:
            time = tokens.shape[1]
            if time > self.positions:
                raise UserError(
                    "text-too-long", f"{time} tokens are more than the {self.positions} positions"
                )
            used = 0 if carry is None else carry.used
            x = x + jax.lax.dynamic_slice_in_dim(self.place, used, time)
        if self.embedding_norm:
            x = self.norm(x)
        return self.body(x, mask=mask, cache=carry, train=train)

    def __call__(self, tokens, *, types=None, mask=None, carry=None, train: bool = False):
        x, carry = self.hidden(tokens, types=types, mask=mask, carry=carry, train=train)
        rows, bias = self._before_output(flat(x))
        rows = held(self.embedding.attend(rows) if self.tied else self.head(rows), "tensor")
        rows = rows if bias is None else rows + bias
        return rows.reshape(*tokens.shape, self.vocabulary), carry

    def scorable(self, tokens, **options):
        """As a call, with the logits left :class:`~dl.models.vocabulary.Unread` where that spares memory."""
        if not self.tied or not worth_tiling(self.vocabulary):
            return self(tokens, **options)
        x, carry = self.hidden(tokens, **options)
        rows, bias = self._before_output(flat(x))
        bias = jnp.zeros(self.vocabulary, x.dtype) if bias is None else bias
        table = self.embedding.embedding
        return Unread(rows.reshape(x.shape), table, bias), carry

    def after(self, tokens, place):
        """Logits ``[batch, vocabulary]`` of the token after each row's ``place [batch]``."""
        x, _ = self.hidden(tokens)
        rows, bias = self._before_output(x[jnp.arange(x.shape[0]), place])
        rows = self.embedding.attend(rows) if self.tied else self.head(rows)
        return rows if bias is None else rows + bias

    def _before_output(self, rows):
        return self.output(rows, self.vocabulary) if self.transform else (rows, None)


class EncoderDecoder(nn.Module):
    """Source tokens to target tokens, one vocabulary for both, its embedding tied to the output.

    Attributes:
      encoder, decoder: bodies of one width; the decoder ``causal=True, cross=True``.
      positions: places in each side's table of learned positions; 0 where the bodies have rotary ones.
      pad: the token that fills a row, hidden from attention in the source.
    """

    vocabulary: int
    encoder: Transformer
    decoder: Transformer
    positions: int = 0
    pad: int = 0

    def setup(self):
        self.embedding = Embed(self.vocabulary, self.encoder.width, embedding_init=_TOKENS)
        if self.positions:
            shape = (2, self.positions, self.encoder.width)
            self.places = self.param("positions", _TOKENS, shape)

    def _embed(self, tokens, side: int, used=0):
        x = hold(self.embedding(tokens), ROWS, SEQUENCE, None)
        if not self.positions:
            return x
        if tokens.shape[1] > self.positions:
            raise UserError(
                "text-too-long",
                f"{tokens.shape[1]} tokens are more than the {self.positions} positions",
            )
        return x + jax.lax.dynamic_slice_in_dim(self.places[side], used, tokens.shape[1])

    def _logits(self, x):
        rows = held(self.embedding.attend(flat(x)), "tensor")
        return rows.reshape(*x.shape[:-1], self.vocabulary)

    def encode(self, source, *, train: bool = False):
        """``[batch, source] -> [batch, source, width]``, and the mask of its real places."""
        mask = source != self.pad
        return self.encoder(self._embed(source, 0), mask=mask, train=train)[0], mask

    def __call__(self, source, target, *, train: bool = False):
        """Logits ``[batch, target, vocabulary]`` of the token after each of ``target [batch, target]``."""
        memory, mask = self.encode(source, train=train)
        x = self._embed(target, 1)
        x, _ = self.decoder(x, memory=memory, memory_mask=mask, train=train)
        return self._logits(x)

    def attention(self, variables, source, target) -> np.ndarray:
        """Where the decoder's last layer (of layers that are not scanned) looks in one ``source [source]`` for the
        token after each of ``target [target]``: ``[heads, target, source]``."""
        _, kept = self.apply(variables, source[None], target[None], mutable="intermediates")
        last = kept["intermediates"]["decoder"][f"layer_{self.decoder.layers - 1}"]
        return np.asarray(last["memory"]["weights"][0][0])

    def begin(self, source, tokens, length: int):
        """Read ``source``, then the first ``tokens [batch, time]``: their logits and a carry for
        :meth:`decode`, with room for ``length`` tokens."""
        memory, mask = self.encode(source)
        carry = self.decoder.initial_cache(source.shape[0], length)
        x = self._embed(tokens, 1)
        x, carry = self.decoder(x, memory=memory, memory_mask=mask, cache=carry)
        return self._logits(x), carry

    def decode(self, tokens, carry: Cache):
        """``[batch, time]`` further tokens: their logits and the carry."""
        x, carry = self.decoder(self._embed(tokens, 1, carry.used), cache=carry)
        return self._logits(x), carry


class TextClassifier(nn.Module):
    """Logits ``[batch, classes]`` of token rows, from any :class:`LanguageModel`'s hidden vectors.

    Its parameters ``encoder`` have the language model's own tree, so pre-trained ones fit there.

    Attributes:
      pool: ``'first'`` reads the first token ([CLS] in BERT), ``'mean'`` averages the real ones.
      pooler: a dense layer and tanh on what was read, as in BERT, or that and the activation given.
    """

    encoder: LanguageModel
    classes: int
    pool: Literal["first", "mean"] = "mean"
    dropout: float | jax.Array = 0.1
    pad: int = 0
    pooler: bool | Activation = False

    @nn.compact
    def __call__(self, tokens, *, types=None, train: bool = False):
        mask = (tokens != self.pad).astype(jnp.float32)
        x, _ = self.encoder.hidden(tokens, types=types, mask=mask, train=train)
        if self.pool == "first":
            x = x[:, 0]
        else:
            total = jnp.sum(x * mask[..., None].astype(x.dtype), axis=1)
            x = total / jnp.maximum(mask.sum(1), 1.0)[:, None].astype(x.dtype)
        if self.pooler:
            x = Dense(x.shape[-1], name="pooler")(x)
            x = jnp.tanh(x) if self.pooler is True else self.pooler(x)
        return Dense(self.classes, name="head")(Dropout(self.dropout)(x, train=train))
