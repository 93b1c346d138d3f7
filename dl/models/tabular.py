"""Networks for tables: numbers, the marks of those missing, and categories, to outputs.

Every model here is called with ``numerical [batch, numbers]`` float (scaled, 0 where missing),
``missing [batch, numbers]`` float (1 where missing) and ``categorical [batch, categories]`` int (0
where missing), and gives ``[batch, outputs]``. Either kind of column may have no member.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from dl.models.layers import Dense, Dropout, symmetric_uniform
from dl.models.transformer import Transformer
from dl.models.vocabulary import rows_of

# Uniform +-1/sqrt(inputs), what the papers' own implementations start linear maps with.
_uniform = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform", in_axis=-2, out_axis=-1)


class FeatureDense(nn.Module):
    """A linear map of its own for each feature: ``[batch, numbers, in]`` to ``[batch, numbers, size]``."""

    size: int

    @nn.compact
    def __call__(self, x):
        numbers, inputs = x.shape[-2:]
        init = nn.initializers.variance_scaling(
            1 / 3, "fan_in", "uniform", in_axis=1, out_axis=2, batch_axis=0
        )
        kernel = self.param("kernel", init, (numbers, inputs, self.size))
        bias = self.param("bias", symmetric_uniform(inputs**-0.5), (numbers, self.size))
        return jnp.einsum("bni,nio->bno", x, kernel) + bias


class LinearEmbedding(nn.Module):
    """Each number times a learned vector, plus another: ``[batch, numbers]`` to ``[batch, numbers, size]``.

    With ``activation=nn.relu`` the "LR" embedding of Gorishniy et al. 2022; without, the numerical
    tokens of FT-Transformer.
    """

    size: int = 16
    activation: Callable = lambda x: x

    @nn.compact
    def __call__(self, x):
        return self.activation(FeatureDense(self.size)(x[..., None]))


class PeriodicEmbedding(nn.Module):
    """Sines and cosines of learned frequencies, then a linear map and ReLU: the "PLR" embedding of
    Gorishniy et al. 2022, "On embeddings for numerical features in tabular deep learning".

    ``[batch, numbers]`` to ``[batch, numbers, size]``.

    Attributes:
      sigma: standard deviation the frequencies start with; the embedding's one sensitive setting.
    """

    size: int = 16
    frequencies: int = 32
    sigma: float = 0.1

    @nn.compact
    def __call__(self, x):
        init = nn.initializers.normal(self.sigma)
        frequency = self.param("frequency", init, (x.shape[-1], self.frequencies))
        angle = 2.0 * jnp.pi * frequency * x[..., None]
        waves = jnp.concatenate([jnp.cos(angle), jnp.sin(angle)], axis=-1)
        return nn.relu(FeatureDense(self.size)(waves))


def quantile_edges(values: np.ndarray, bins: int = 16) -> np.ndarray:
    """Bin edges ``[numbers, bins + 1]`` at the quantiles of training ``values [rows, numbers]``.

    A feature of few values has fewer bins: its last edge is then repeated. NaN is left out.
    """
    edges = np.empty((values.shape[1], bins + 1), np.float32)
    for column, each in enumerate(edges):
        found = np.unique(np.nanquantile(values[:, column], np.linspace(0, 1, bins + 1)))
        if len(found) == 1:  # a constant still needs a bin of some width
            found = np.array([found[0], found[0] + 1])
        each[:] = np.pad(found, (0, bins + 1 - len(found)), mode="edge")
    return edges


def piecewise_linear(x, edges):
    """How far each number has come through each bin: ``[..., numbers]`` and ``edges [numbers, bins + 1]``
    to ``[..., numbers, bins]`` (Gorishniy et al. 2022, eq. 1).

    0 in bins above the number, 1 in bins below it, the covered share in its own; the first bin goes
    below 0 and the last above 1 for numbers beyond the edges. Bins of no width are 0.
    """
    low, width = edges[:, :-1], edges[:, 1:] - edges[:, :-1]
    real = width > 0
    last = real & (jnp.cumsum(real, -1) == real.sum(-1, keepdims=True))
    first = jnp.arange(edges.shape[1] - 1) == 0
    share = (x[..., None] - low) / jnp.where(real, width, 1.0)
    share = jnp.where(first, share, jnp.maximum(share, 0.0))
    share = jnp.where(last, share, jnp.minimum(share, 1.0))
    return jnp.where(real, share, 0.0)


class PiecewiseLinearEmbedding(nn.Module):
    """:func:`piecewise_linear`, then a linear map and ``activation``: "Q-LR" of Gorishniy et al. 2022.

    ``[batch, numbers]`` to ``[batch, numbers, size]``. ``edges``: of :func:`quantile_edges`.
    """

    edges: np.ndarray
    size: int = 16
    activation: Callable = nn.relu

    @nn.compact
    def __call__(self, x):
        return self.activation(
            FeatureDense(self.size)(piecewise_linear(x, jnp.asarray(self.edges)))
        )


class CategoryEmbedding(nn.Module):
    """A learned vector for each category: ``[batch, categories]`` int to ``[batch, categories, size]``.

    Attributes:
      cardinalities: codes of each column, 0 for missing included.
    """

    cardinalities: Sequence[int]
    size: int = 16

    @nn.compact
    def __call__(self, codes):
        starts = np.concatenate([[0], np.cumsum(self.cardinalities)[:-1]]).astype(np.int32)
        bound = 1.0 / np.sqrt(self.size)
        shape = (int(sum(self.cardinalities)), self.size)
        table = self.param("table", symmetric_uniform(bound), shape)
        return rows_of(table, codes + starts)


class FlatFeatures(nn.Module):
    """All columns of a row in one vector: ``[batch, features]``.

    Attributes:
      cardinalities: codes of each categorical column; embedding: of numbers, None takes them as
        they are; category_size: length of a category's vector.
    """

    cardinalities: Sequence[int] = ()
    embedding: nn.Module | None = None
    category_size: int = 8

    @nn.compact
    def __call__(self, numerical, missing, categorical):
        parts = [missing]
        if numerical.shape[-1]:
            x = numerical if self.embedding is None else self.embedding(numerical)
            parts.append(x.reshape(x.shape[0], -1))
        if self.cardinalities:
            x = CategoryEmbedding(self.cardinalities, self.category_size)(categorical)
            parts.append(x.reshape(x.shape[0], -1))
        return jnp.concatenate(parts, axis=-1)


class TabularMLP(nn.Module):
    """Dense layers with ReLU and dropout over :class:`FlatFeatures`."""

    outputs: int
    cardinalities: Sequence[int] = ()
    embedding: nn.Module | None = None
    widths: Sequence[int] = (256, 256)
    dropout: float = 0.1

    @nn.compact
    def __call__(self, numerical, missing, categorical, *, train: bool = False):
        x = FlatFeatures(self.cardinalities, self.embedding)(numerical, missing, categorical)
        for width in self.widths:
            x = nn.relu(Dense(width, kernel_init=_uniform)(x))
            x = Dropout(self.dropout)(x, train=train)
        return Dense(self.outputs, kernel_init=_uniform)(x)


class TabularResNet(nn.Module):
    """Residual blocks of (norm, wide layer, ReLU, dropout, layer, dropout) over :class:`FlatFeatures`
    (Gorishniy et al. 2021, "Revisiting deep learning models for tabular data")."""

    outputs: int
    cardinalities: Sequence[int] = ()
    embedding: nn.Module | None = None
    width: int = 128
    hidden: int = 256
    blocks: int = 3
    hidden_dropout: float = 0.2
    dropout: float = 0.0

    @nn.compact
    def __call__(self, numerical, missing, categorical, *, train: bool = False):
        def norm(x):
            return nn.BatchNorm(use_running_average=not train, momentum=0.9)(x)

        x = FlatFeatures(self.cardinalities, self.embedding)(numerical, missing, categorical)
        x = Dense(self.width, kernel_init=_uniform)(x)
        for _ in range(self.blocks):
            h = nn.relu(Dense(self.hidden, kernel_init=_uniform)(norm(x)))
            h = Dropout(self.hidden_dropout)(h, train=train)
            h = Dense(self.width, kernel_init=_uniform)(h)
            x = x + Dropout(self.dropout)(h, train=train)
        return Dense(self.outputs, kernel_init=_uniform)(nn.relu(norm(x)))


class FTTransformer(nn.Module):
    """A transformer over one token a column and one for the row, which is read out (Gorishniy et al.
    2021): pre-norm, ReGLU feed-forward.

    Attributes:
      embedding: gives the numbers' tokens, ``size`` long; None takes :class:`LinearEmbedding`.
      size, heads, layers: of the transformer; expansion: hidden size of its feed-forward by ``size``.
    """

    outputs: int
    cardinalities: Sequence[int] = ()
    embedding: nn.Module | None = None
    size: int = 64
    heads: int = 8
    layers: int = 3
    expansion: float = 4 / 3
    dropout: float = 0.1

    @nn.compact
    def __call__(self, numerical, missing, categorical, *, train: bool = False):
        batch = numerical.shape[0]
        start = nn.initializers.normal(self.size**-0.5)
        tokens = [
            jnp.broadcast_to(self.param("row", start, (1, 1, self.size)), (batch, 1, self.size))
        ]
        if numerical.shape[-1]:
            embedding = self.embedding or LinearEmbedding(self.size)
            absent = self.param("absent", start, (numerical.shape[-1], self.size))
            tokens.append(embedding(numerical) + missing[..., None] * absent)
        if self.cardinalities:
            bias = self.param("category", start, (len(self.cardinalities), self.size))
            tokens.append(CategoryEmbedding(self.cardinalities, self.size)(categorical) + bias)
        body = Transformer(
            self.size,
            self.layers,
            self.heads,
            hidden=int(self.size * self.expansion),
            activation=nn.relu,
            gated=True,
            dropout=self.dropout,
        )
        x, _ = body(jnp.concatenate(tokens, axis=1), train=train)
        return Dense(self.outputs, kernel_init=_uniform)(nn.relu(x[:, 0]))


def tabular_network(
    model: Literal["mlp", "resnet", "transformer"],
    outputs: int,
    cardinalities: Sequence[int],
    numerical: np.ndarray,
    embedding: Literal["none", "periodic", "piecewise"],
    dropout: float,
) -> nn.Module:
    """One of the networks above at a usual size.

    Args:
      cardinalities: number of categories of each categorical column, the unknown one included.
      numerical: training rows ``[rows, numbers]``, whose quantiles are the piecewise embedding's edges.
      embedding: of the numbers.
    """
    size = 32 if model == "transformer" else 16
    numbers = {
        "none": lambda: None,
        "periodic": lambda: PeriodicEmbedding(size),
        "piecewise": lambda: PiecewiseLinearEmbedding(quantile_edges(numerical), size),
    }[embedding]()
    if model == "resnet":
        return TabularResNet(outputs, cardinalities, numbers, hidden_dropout=dropout)
    if model == "transformer":
        return FTTransformer(outputs, cardinalities, numbers, size, 4, 2, dropout=dropout)
    return TabularMLP(outputs, cardinalities, numbers, dropout=dropout)
