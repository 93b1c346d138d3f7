"""Networks over a window of days, ``[batch, days, features]`` to ``[batch, outputs]``."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from dl.models.layers import Dense, Dropout
from dl.models.rnn import RNN, lstm


class AttentiveLSTM(nn.Module):
    """An LSTM whose states are weighed by attention, beside the last of them (ALSTM: Qin et al. 2017, "A
    dual-stage attention-based recurrent neural network for time series prediction", as Feng et al. 2019 have it).
    """

    outputs: int
    width: int = 16
    dropout: float | jax.Array = 0.0

    @nn.compact
    def __call__(self, x, *, train: bool = False):
        x = jnp.tanh(Dense(self.width)(Dropout(self.dropout)(x, train=train)))
        states, _ = RNN(self.width, lstm)(x, train=train)
        weight = nn.softmax(Dense(1, use_bias=False)(jnp.tanh(Dense(self.width)(states))), axis=1)
        both = jnp.concatenate([(weight * states).sum(1), states[:, -1]], -1)
        return Dense(self.outputs)(Dropout(self.dropout)(both, train=train))
