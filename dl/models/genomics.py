"""Networks for sequences of bases that read both strands with one set of weights.

Bases are codes ``[batch, time]``: A 0, C 1, G 2, T 3, and others 4. In this order the other strand of a sequence
is its one-hot rows ``[time, 4]`` turned round in both axes, and so it stays in every layer here: the channels
of :class:`StrandConv` come in pairs, the last with the first.
"""

from collections.abc import Iterable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from dl.core.errors import UserError
from dl.models.convolution import convolve
from dl.models.layers import Dense, Dropout
from dl.models.transformer import Transformer

BASES = "ACGT"
OTHER = 4  # another letter, or beyond the end
_CODE = np.full(256, OTHER, np.uint8)
for _code, _letters in enumerate(("Aa", "Cc", "Gg", "TtUu")):
    _CODE[list(_letters.encode())] = _code


def base_codes(texts: Iterable[str], length: int) -> np.ndarray:
    """Sequences as codes uint8 ``[rows, length]``, cut or filled up at their ends.

    Raises:
      UserError: less than half of the letters are bases.
    """
    texts = [str(text) for text in texts]
    codes = np.full((len(texts), length), OTHER, np.uint8)
    for row, text in zip(codes, texts, strict=True):
        found = _CODE[np.frombuffer(text[:length].encode("ascii", "replace"), np.uint8)]
        row[: len(found)] = found
    letters = sum(min(len(text), length) for text in texts)
    if 2 * (codes < OTHER).sum() < letters:
        raise UserError(
            "not-bases",
            "most letters are no bases (A, C, G, T or U): `dl run sentiment` reads other texts",
        )
    return codes


def other_strand(bases):
    """The codes of the other strand, read in its own direction: ``[..., time]``."""
    xp = np if isinstance(bases, np.ndarray) else jnp
    return xp.where(bases < OTHER, 3 - bases, bases)[..., ::-1]


class StrandConv(nn.Module):
    """Filters for one strand and, with the same weights, for the other (Shrikumar, Greenside & Kundaje 2017,
    "Reverse-complement parameter sharing improves deep learning models for genomics").

    ``[batch, time, in]`` to ``[batch, time, 2 * filters]``: where the input is turned round in time and channels,
    so is the output.

    Attributes:
      window: in bases, odd; dilation: bases from one tap to the next.
    """

    filters: int
    window: int
    dilation: int = 1

    @nn.compact
    def __call__(self, x):
        if self.window % 2 == 0:
            raise UserError(
                "range", f"a window of {self.window} bases has no middle: take an odd one"
            )
        shape = (self.window, x.shape[-1], self.filters)
        kernel = self.param("kernel", nn.initializers.he_normal(), shape)
        bias = self.param("bias", nn.initializers.zeros_init(), (self.filters,))
        both = jnp.concatenate([kernel, jnp.flip(kernel)], -1)
        if self.dilation > 1:  # taps of 0 between
            both = jnp.pad(both[:, None], ((0, 0), (0, self.dilation - 1), (0, 0), (0, 0)))
            both = both.reshape(-1, *both.shape[2:])[: 1 - self.dilation]
        half = len(both) // 2
        order = ("NWC", "WIO", "NWC")
        x = x.astype(both.dtype)  # as its parameters are: a base has no precision of its own
        found = convolve(x, both, (1,), [(half, half)], dimension_numbers=order)
        return found + jnp.concatenate([bias, jnp.flip(bias)])


class Readout(nn.Module):
    """Features ``[batch, time, channels]`` to ``[batch, outputs]``.

    Dense layers that know the place, of the largest values in each of up to ``places`` pieces, which may attend to
    each other.
    """

    outputs: int
    places: int = 32
    hidden: int = 128
    attention: int = 0
    heads: int = 4
    dropout: float | jax.Array = 0.0

    @nn.compact
    def __call__(self, x, *, train: bool = False):
        batch, time, channels = x.shape
        each = -(-time // self.places)
        x = jnp.pad(x, ((0, 0), (0, -time % each), (0, 0)))  # 0 is the least after ReLU
        x = x.reshape(batch, -1, each, channels).max(2)
        if self.attention:
            start = nn.initializers.normal(0.02)
            x = x + self.param("position", start, x.shape[1:])
            body = Transformer(channels, self.attention, self.heads, dropout=self.dropout)
            x, _ = body(x, train=train)
        x = Dropout(self.dropout)(x.reshape(batch, -1), train=train)
        x = nn.relu(Dense(self.hidden)(x))
        return Dense(self.outputs)(Dropout(self.dropout)(x, train=train))


class SequenceNetwork(nn.Module):
    """Filters for motifs on both strands, residual layers of wider and wider windows, and a readout.

    ``bases [batch, time]`` (see the module) to ``[batch, outputs]``.

    Attributes:
      filters: of the two strands together; window: of the motifs, in bases; layers: after them.
      attention: layers of a Transformer over places; 0 for none.
      both: whether a sequence and its other strand are one to the network: both are read out by the same weights
        and the logits averaged. Else the strand that is given is known, as for a junction with a direction.
      places: pieces that the readout tells apart.
      direct: whether a linear map of each base at its place adds to the logits (Cheng et al. 2016, "Wide & deep
        learning"), for few sequences that lie aligned.
    """

    outputs: int
    filters: int = 64
    window: int = 11
    layers: int = 2
    attention: int = 0
    both: bool = False
    dropout: float | jax.Array = 0.0
    places: int = 32
    direct: bool = False

    @nn.compact
    def __call__(self, bases, *, train: bool = False):
        hot = jax.nn.one_hot(bases, 4, dtype=jnp.result_type(float))
        x = nn.relu(StrandConv(self.filters // 2, self.window, name="motifs")(hot))
        for layer in range(self.layers):
            more = StrandConv(self.filters // 2, 5, 2**layer)(Dropout(self.dropout)(x, train=train))
            x = nn.relu(x + more)
        deep = Readout(self.outputs, self.places, attention=self.attention, dropout=self.dropout)
        wide = Dense(self.outputs, name="direct") if self.direct else None

        def read(x, hot):
            logits = deep(x, train=train)
            return logits if wide is None else logits + wide(hot.reshape(hot.shape[0], -1))

        if not self.both:
            return read(x, hot)
        return (read(x, hot) + read(jnp.flip(x, (1, 2)), jnp.flip(hot, (1, 2)))) / 2
