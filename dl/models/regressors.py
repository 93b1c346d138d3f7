"""One number from a window of many sensors: ``[batch, time, sensors]`` to ``[batch]``."""

from collections.abc import Callable, Sequence

import flax.linen as nn

from dl.models.convolution import Conv
from dl.models.layers import Dense, Dropout
from dl.models.rnn import RNN, lstm


class ConvRegressor(nn.Module):
    """Convolutions along time, then a hidden layer over the whole window.

    After Li, Ding & Sun 2018, "Remaining useful life estimation in prognostics using deep
    convolution neural networks", whose kernels see one sensor each (``mixed=False``); with
    ``mixed`` they see all sensors at once.

    Attributes:
      widths: filters of each layer; window: steps a filter sees; the last layer of ``mixed=False``
        has one filter of 3 steps.
      hidden: units of the layer before the output; dropout: rate before that layer.
    """

    widths: Sequence[int] = (10, 10, 10, 10)
    window: int = 10
    hidden: int = 100
    dropout: float = 0.5
    mixed: bool = False
    activation: Callable = nn.tanh

    @nn.compact
    def __call__(self, x, *, train: bool = False):
        layers = [(width, self.window) for width in self.widths]
        if not self.mixed:
            x = x[..., None]  # sensors become a second axis of space
            layers.append((1, 3))
        for width, window in layers:
            kernel = (window,) if self.mixed else (window, 1)
            x = self.activation(Conv(width, kernel)(x))
        x = x.reshape(x.shape[0], -1)
        x = Dropout(self.dropout)(x, train=train)
        x = self.activation(Dense(self.hidden)(x))
        return Dense(1)(x)[..., 0]


class LSTMRegressor(nn.Module):
    """LSTM layers over the window; a hidden layer reads the last state (Zheng et al. 2017, "Long
    short-term memory network for remaining useful life estimation")."""

    features: int = 64
    layers: int = 2
    hidden: int = 32
    dropout: float = 0.2
    activation: Callable = nn.relu

    @nn.compact
    def __call__(self, x, *, train: bool = False):
        x, _ = RNN(self.features, lstm, self.layers, dropout=self.dropout)(x, train=train)
        x = Dropout(self.dropout)(x[:, -1], train=train)
        x = self.activation(Dense(self.hidden)(x))
        return Dense(1)(x)[..., 0]
