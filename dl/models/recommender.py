"""Networks that score items for users: ``user`` int ``[batch]`` and ``item`` int ``[batch]`` or ``[batch, n]``
to scores of the item's shape."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from dl.models.layers import Dense, Dropout
from dl.models.vocabulary import Embed

_START = nn.initializers.normal(0.05)


class MatrixFactorization(nn.Module):
    """A product of two vectors, one of the user and one of the item, plus a bias of each (Koren et al. 2009,
    "Matrix factorization techniques for recommender systems").

    Attributes:
      users, items: how many; factors: length of the vectors.
    """

    users: int
    items: int
    factors: int = 64

    def setup(self):
        # The last column of a table is the bias.
        self.user = Embed(self.users, self.factors + 1, embedding_init=_START)
        self.item = Embed(self.items, self.factors + 1, embedding_init=_START)

    def __call__(self, user, item, *, train: bool = False):
        own, other = self.user(user), self.item(item)
        own = own.reshape(*own.shape[:1], *(1,) * (other.ndim - 2), -1)
        vector = jnp.broadcast_to(own[..., :-1], other[..., :-1].shape)
        product = jnp.einsum("...f,...f->...", vector, other[..., :-1])
        return product + own[..., -1] + other[..., -1]

    def size(self, user, item):
        """The squares of all that stands for a user and an item, summed: ``[batch]``, which a loss may limit."""
        rows = jnp.concatenate([self.user(user), self.item(item)], -1)
        return jnp.square(rows.astype(jnp.float32)).sum(-1)


class NeuMF(nn.Module):
    """An elementwise product of two vectors beside an MLP of two others, read out together (He et al. 2017,
    "Neural collaborative filtering").

    Attributes:
      users, items: how many; factors: length of the product's vectors.
      widths: of the MLP's layers; each of its vectors is half as long as the first is wide.
      dropout: rate on the MLP's hidden vectors and the product; may be traced.
    """

    users: int
    items: int
    factors: int = 16
    widths: Sequence[int] = (64, 32, 16)
    dropout: float | jax.Array = 0.0

    @nn.compact
    def __call__(self, user, item, *, train: bool = False):
        half = self.widths[0] // 2
        own = Embed(self.users, self.factors + half, embedding_init=_START, name="user")(user)
        other = Embed(self.items, self.factors + half, embedding_init=_START, name="item")(item)
        own = own.reshape(*own.shape[:1], *(1,) * (other.ndim - 2), -1)
        product = own[..., : self.factors] * other[..., : self.factors]
        own = jnp.broadcast_to(own, other.shape)
        x = jnp.concatenate([own[..., self.factors :], other[..., self.factors :]], -1)
        for width in self.widths:
            x = nn.relu(Dense(width)(Dropout(self.dropout)(x, train=train)))
        x = jnp.concatenate([Dropout(self.dropout)(product, train=train), x], -1)
        return Dense(1, name="score")(x)[..., 0]
