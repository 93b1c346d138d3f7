"""Networks that read a story sentence by sentence, and answer a question about it."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from dl.models.layers import Dense, Dropout
from dl.models.transformer import Transformer
from dl.models.vocabulary import Embed, rows_of


class StoryReader(nn.Module):
    """One Transformer layer, applied again and again to the vectors of a story's sentences and of the question
    (Dehghani et al. 2019, "Universal transformers", without halting).

    A sentence is the sum of its words' vectors, each times a vector of its place (Henaff et al. 2017); sentences
    are counted from the story's end, so that padding changes nothing. Takes ``{"story": [batch, sentences, words],
    "question": [batch, words]}`` of token numbers, 0 for padding, and gives logits ``[batch, answers]``; with
    ``"choices": [batch, choices, words]`` too, a logit for each of those, by the product of its sentence with what
    was read.

    Attributes:
      vocabulary: tokens; answers: classes, unless there are choices.
      sentences: that a story may have; words: of a sentence.
      hops: how often the layer is applied.
    """

    vocabulary: int
    answers: int
    sentences: int
    words: int
    width: int = 64
    hops: int = 4
    heads: int = 4
    dropout: float | jax.Array = 0.0

    @nn.compact
    def __call__(self, rows, *, train: bool = False):
        table = Embed(self.vocabulary, self.width, name="embedding")
        start = nn.initializers.normal(0.02)
        place = self.param("place", nn.initializers.ones, (self.words, self.width))
        when = self.param("when", start, (self.sentences + 1, self.width))
        hop = self.param("hop", start, (self.hops, self.width))

        def sentence(tokens):
            real = (tokens != 0)[..., None]
            return jnp.sum(table(tokens) * place.astype(when.dtype) * real, axis=-2)

        story, question = rows["story"], rows["question"]
        there = (story != 0).any(-1)
        count = there.sum(-1)[:, None]
        since = jnp.clip(count - jnp.arange(story.shape[1]), 0, self.sentences)
        x = jnp.concatenate(
            [sentence(question)[:, None], sentence(story) + rows_of(when, since)], axis=1
        )
        mask = jnp.concatenate([jnp.ones((story.shape[0], 1), bool), there], axis=1)
        sizes = self.width, 1, self.heads
        layer = Transformer(*sizes, hidden=2 * self.width, dropout=self.dropout, name="layer")

        def again(layer, x, step):
            return layer(x + step, mask=mask, train=train)[0], None

        repeated = nn.scan(
            again, variable_broadcast="params", split_rngs={"params": False, "dropout": True}
        )
        x, _ = repeated(layer, x, hop)
        read = Dropout(self.dropout)(x[:, 0], train=train)
        if "choices" not in rows:
            return Dense(self.answers, name="head")(read)
        choices = Dense(self.width, name="choice")(sentence(rows["choices"]))
        return jnp.einsum("bkd,bd->bk", choices, read) / self.width**0.5
