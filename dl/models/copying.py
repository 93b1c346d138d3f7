"""An encoder-decoder that may also copy from what it reads: the pointer-generator (See et al. 2017)."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dl.core.target import target
from dl.models.attention import Cache
from dl.models.generation import HIDDEN
from dl.models.language import EncoderDecoder
from dl.models.layers import Dense

_NEVER = 1e-9  # the probability that a token has at least, so that its logarithm has a gradient


class _Read(NamedTuple):
    """The decoder's cache, and what copying looks at: keys ``[1, batch, source, width]``, tokens ``[1, batch,
    source]``, whose first axis makes the batch the second one as in the cache."""

    cache: Cache
    keys: jax.Array
    source: jax.Array


class PointerGenerator(EncoderDecoder):
    """An :class:`EncoderDecoder` whose next token is written, of the vocabulary, or copied from the source.

    The distribution is ``g written + (1 - g) copied`` (See et al. 2017, "Get to the point", equation 9): ``g`` is
    a sigmoid of the decoder's vector, and ``copied`` the attention of that vector to the source's ones, by a head
    of its own, a token's places together. The logits are its logarithm.
    """

    def setup(self):
        super().setup()
        self.query, self.key = Dense(self.encoder.width), Dense(self.encoder.width)
        self.gate = Dense(1)

    def _mixed(self, x, keys, source):
        """``x [batch, target, width] -> log-probabilities [batch, target, vocabulary]``, float32."""
        looks = jnp.einsum("btw,bsw->bts", self.query(x), keys).astype(jnp.float32)
        looks = jnp.where((source != self.pad)[:, None], looks / keys.shape[-1] ** 0.5, HIDDEN)
        looks = jax.nn.softmax(looks)
        gate = self.gate(x).astype(jnp.float32)
        copies, writes = jax.nn.log_sigmoid(-gate), jax.nn.log_sigmoid(gate)
        written = writes + jax.nn.log_softmax(self._logits(x).astype(jnp.float32))
        if target().platform != "cpu":  # no scatter, which accelerators are slow at
            tokens = jax.nn.one_hot(source, self.vocabulary, dtype=jnp.float32)
            copied = jnp.einsum("bts,bsv->btv", looks, tokens)
            return jnp.logaddexp(written, copies + jnp.log(jnp.maximum(copied, _NEVER)))
        # Of the vocabulary only the source's tokens differ from what is written, each by its first place.
        same = source[:, :, None] == source[:, None]
        first = (jnp.argmax(same, 1) == jnp.arange(source.shape[1])) & (source != self.pad)
        copied = copies + jnp.log(jnp.maximum(looks @ same.astype(jnp.float32), _NEVER))
        rows = jnp.broadcast_to(source[:, None], looks.shape)
        more = jax.nn.softplus(copied - jnp.take_along_axis(written, rows, -1)) * first[:, None]
        batch, time, _ = jnp.indices(rows.shape, sparse=True)
        return written.at[batch, time, rows].add(more)

    def __call__(self, source, target, *, train: bool = False):
        """Log-probabilities ``[batch, time, vocabulary]`` of the token after each of ``target [batch, time]``."""
        memory, mask = self.encode(source, train=train)
        x = self._embed(target, 1)
        x, _ = self.decoder(x, memory=memory, memory_mask=mask, train=train)
        return self._mixed(x, self.key(memory), source)

    def begin(self, source, tokens, length: int):
        """Read ``source``, then the first ``tokens [batch, time]``: see :meth:`EncoderDecoder.begin`."""
        memory, mask = self.encode(source)
        cache = self.decoder.initial_cache(source.shape[0], length)
        x = self._embed(tokens, 1)
        x, cache = self.decoder(x, memory=memory, memory_mask=mask, cache=cache)
        keys = self.key(memory)
        return self._mixed(x, keys, source), _Read(cache, keys[None], source[None])

    def decode(self, tokens, carry: Any):
        """``[batch, time]`` further tokens: their log-probabilities and the carry."""
        x = self._embed(tokens, 1, carry.cache.used)
        x, cache = self.decoder(x, cache=carry.cache)
        return self._mixed(x, carry.keys[0], carry.source[0]), carry._replace(cache=cache)
