"""One number from a window of many sensors: ``[batch, time, sensors]`` to ``[batch]``."""

from collections.abc import Callable, Sequence

import flax.linen as nn

from dl.models.convolution import Conv


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
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        x = self.activation(nn.Dense(self.hidden)(x))
        return nn.Dense(1)(x)[..., 0]


class LSTMRegressor(nn.Module):
    """LSTM layers over the window; a hidden layer reads the last state (Zheng et al. 2017, "Long
    short-term memory network for remaining useful life estimation")."""

    widths: Sequence[int] = (64, 64)
    hidden: int = 32
    dropout: float = 0.2
    activation: Callable = nn.relu

    @nn.compact
    def __call__(self, x, *, train: bool = False):
        for width in self.widths:
            x = nn.RNN(nn.OptimizedLSTMCell(width))(x)
            x = nn.Dropout(self.dropout, deterministic=not train)(x)
        x = self.activation(nn.Dense(self.hidden)(x[:, -1]))
        return nn.Dense(1)(x)[..., 0]
