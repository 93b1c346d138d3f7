"""Sentence classifiers on token rows ``[batch, time]``, padded with 0; ``[batch, classes]`` logits.

The Transformer's is :class:`dl.models.language.TextClassifier`.
"""

from collections.abc import Sequence
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from dl.models.convolution import Conv
from dl.models.language import LanguageModel, TextClassifier
from dl.models.layers import Dense, Dropout, symmetric_uniform
from dl.models.rnn import RNN
from dl.models.transformer import Transformer
from dl.models.vocabulary import Embed


def _embedded(module, tokens, mask, train):
    table = Embed(
        module.vocabulary,
        module.embedding,
        embedding_init=symmetric_uniform(0.25),  # Kim 2014, section 3.1
        name="embedding",
    )
    x = table(tokens)
    x = x * mask[..., None].astype(x.dtype)
    return Dropout(module.embedding_dropout)(x, train=train)


class TextCNN(nn.Module):
    """Convolutions of several widths over the words, the largest value of each filter, dropout, linear
    (Kim 2014, "Convolutional neural networks for sentence classification"; its CNN-rand).

    Attributes:
      embedding: width of the word vectors; filters: for each of the ``windows``, in words.
    """

    vocabulary: int
    classes: int
    embedding: int = 300
    filters: int = 100
    windows: Sequence[int] = (3, 4, 5)
    dropout: float | jax.Array = 0.5
    embedding_dropout: float | jax.Array = 0.0

    @nn.compact
    def __call__(self, tokens, *, train: bool = False):
        mask = tokens != 0
        x = _embedded(self, tokens, mask, train)
        pooled = []
        for window in self.windows:
            edge = (window - 1, window - 1)  # so that a sentence may be shorter than the window
            h = nn.relu(Conv(self.filters, (window,), padding=(edge,), name=f"window_{window}")(x))
            # A window counts if it holds a word. ReLU leaves nothing below 0, the value of the others.
            real = jnp.pad(mask, ((0, 0), (0, window - 1)))
            real = jnp.stack([jnp.roll(real, shift, axis=1) for shift in range(window)]).any(0)
            pooled.append(jnp.max(h * real[..., None].astype(h.dtype), axis=1))
        x = Dropout(self.dropout)(jnp.concatenate(pooled, axis=-1), train=train)
        return Dense(self.classes, name="head")(x)


class TextRNN(nn.Module):
    """Recurrent layers over the words, their largest outputs over time, linear.

    Attributes:
      body: the layers, ``RNN(..., bidirectional=True)`` for a BiLSTM.
      embedding: width of the word vectors.
    """

    vocabulary: int
    classes: int
    body: RNN
    embedding: int = 300
    dropout: float | jax.Array = 0.5
    embedding_dropout: float | jax.Array = 0.0

    @nn.compact
    def __call__(self, tokens, *, train: bool = False):
        mask = tokens != 0
        x = _embedded(self, tokens, mask, train)
        x, _ = self.body(x, mask, train=train)
        x = jnp.max(jnp.where(mask[..., None], x, -jnp.inf), axis=1)
        x = jnp.where(jnp.isfinite(x), x, 0.0).astype(x.dtype)  # a row without words
        return Dense(self.classes, name="head")(Dropout(self.dropout)(x, train=train))


def text_classifier(
    model: Literal["cnn", "bilstm", "transformer"],
    vocabulary: int,
    classes: int,
    embedding: int,
    features: int,
    layers: int,
    heads: int,
    dropout: float | jax.Array,
    embedding_dropout: float | jax.Array,
) -> nn.Module:
    """One of the three: ``features`` is of the first two, ``layers`` of the last two, ``heads`` of the last."""
    if model == "transformer":
        inner: Any = {"hidden": 2 * embedding, "rope": 10000.0, "dropout": dropout}
        encoder = LanguageModel(vocabulary, Transformer(embedding, layers, heads, **inner))
        return TextClassifier(encoder, classes, dropout=dropout)
    noise: Any = {"dropout": dropout, "embedding_dropout": embedding_dropout}
    if model == "cnn":
        return TextCNN(vocabulary, classes, embedding, features, **noise)
    body = RNN(features, layers=layers, bidirectional=True, dropout=dropout)
    return TextRNN(vocabulary, classes, body, embedding, **noise)
