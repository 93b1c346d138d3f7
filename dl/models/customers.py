"""Codes of customers, and what they say of how often each buys."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from dl.models.layers import Dense
from dl.models.mlp import MLP


class CustomerCode(nn.Module):
    """``x [batch, features]`` and ``offset [batch]``, the logarithm of a known rate, to that logarithm corrected
    ``[batch]``, by 0 when training begins; log-odds of buying at all ``[batch]``, of features and code; and the
    ``code`` numbers from -1 to 1 that both are read off, ``[batch, code]``."""

    code: int = 4
    widths: Sequence[int] = (32,)
    dropout: float | jax.Array = 0.0

    @nn.compact
    def __call__(self, x, offset, *, train: bool = False):
        code = jnp.tanh(MLP((*self.widths, self.code), dropout=self.dropout)(x, train=train))
        correction = Dense(1, kernel_init=nn.initializers.zeros_init(), name="rate")(code)[..., 0]
        again = Dense(1, name="again")(jnp.concatenate([x, code], -1))[..., 0]
        return offset + correction.astype(offset.dtype), again, code
