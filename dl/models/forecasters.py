"""Forecasters: ``[batch, time, variables]`` to the ``[batch, horizon, variables]`` that follow.

All but the recurrent and the convolutional one, TSMixer and iTransformer treat every variable alike and apart
("channel independence"): one window of one variable is one example.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from dl.core.errors import UserError, unknown
from dl.models.layers import Dense, Dropout, LayerNorm
from dl.models.rnn import RNN, lstm
from dl.models.transformer import Transformer

ForecasterName = Literal[
    "rlinear", "nlinear", "dlinear", "sparse", "lstm", "tcn", "patchtst", "nhits", "tsmixer", "itransformer"
]  # fmt: skip

# The spread the reference implementations start their linear maps with: uniform +-1/sqrt(inputs).
_Linear = partial(Dense, kernel_init=nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform"))


class RevIN(nn.Module):
    """Reversible instance normalisation around a forecaster (Kim et al. 2022, "Reversible instance
    normalization for accurate time-series forecasting against distribution shift").

    Each window of each variable is brought to mean 0 and standard deviation 1 over time, the
    forecast back to the window's own.

    Attributes:
      model: the forecaster inside; affine: learn a scale and shift for each variable.
    """

    model: nn.Module
    affine: bool = True

    @nn.compact
    def __call__(self, x, *, train: bool = False):
        mean = x.mean(1, keepdims=True)
        deviation = jnp.sqrt(x.var(1, keepdims=True) + 1e-5)
        x = (x - mean) / deviation
        if not self.affine:
            return self.model(x, train=train) * deviation + mean
        scale = self.param("scale", nn.initializers.ones, x.shape[-1:])
        shift = self.param("shift", nn.initializers.zeros, x.shape[-1:])
        y = self.model(x * scale + shift, train=train)
        return (y - shift) / (scale + 1e-10) * deviation + mean


def moving_average(x, window: int):
    """Centred moving average over time of ``[batch, time, variables]``, the ends repeated."""
    before = jnp.repeat(x[:, :1], (window - 1) // 2, axis=1)
    after = jnp.repeat(x[:, -1:], window // 2, axis=1)
    padded = jnp.concatenate([before, x, after], axis=1)
    # Shifted sums and not a cumulative sum, whose rounding grows along the window.
    return sum(padded[:, i : i + x.shape[1]] for i in range(window)) / window


class TimeLinear(nn.Module):
    """One linear map over time, ``[batch, time, variables]`` to ``[batch, horizon, variables]``:
    shared by all variables, or ``individual`` to each."""

    horizon: int
    individual: bool = False
    dropout: float = 0.0

    @nn.compact
    def __call__(self, x, *, train: bool = False):
        x = Dropout(self.dropout)(x, train=train)
        if not self.individual:
            return jnp.swapaxes(_Linear(self.horizon, name="linear")(jnp.swapaxes(x, 1, 2)), 1, 2)
        each = nn.vmap(
            _Linear,
            in_axes=-1,
            out_axes=-1,
            variable_axes={"params": 0},
            split_rngs={"params": True},
        )
        return each(self.horizon, name="linear")(x)


class DLinear(nn.Module):
    """A linear map of the trend (moving average) plus one of the rest (Zeng et al. 2023, "Are
    transformers effective for time series forecasting?")."""

    horizon: int
    window: int = 25
    individual: bool = False

    @nn.compact
    def __call__(self, x, *, train: bool = False):
        trend = moving_average(x, self.window)
        part = partial(TimeLinear, self.horizon, self.individual)
        return part(name="seasonal")(x - trend) + part(name="trend")(trend)


class NLinear(nn.Module):
    """A linear map of the differences from the last value (Zeng et al. 2023)."""

    horizon: int
    individual: bool = False

    @nn.compact
    def __call__(self, x, *, train: bool = False):
        last = x[:, -1:]
        return TimeLinear(self.horizon, self.individual, name="map")(x - last) + last


class SparseLinear(nn.Module):
    """One small linear map from whole periods to whole periods, shared by all phases, after smoothing
    over a period (Lin et al. 2024, "SparseTSF: modeling long-term time series forecasting with 1k
    parameters"). Windows and horizon must be multiples of ``period``."""

    horizon: int
    period: int = 24

    @nn.compact
    def __call__(self, x, *, train: bool = False):
        batch, time, variables = x.shape
        if time % self.period or self.horizon % self.period:
            raise UserError(
                "indivisible",
                f"a window of {time} steps and a horizon of {self.horizon} must both be multiples of the "
                f"period, {self.period}",
            )
        mean = x.mean(1, keepdims=True)
        x = x - mean
        half = self.period // 2
        kernel = self.param("smooth", nn.initializers.zeros, (2 * half + 1,))
        padded = jnp.pad(x, ((0, 0), (half, half), (0, 0)))
        x = x + sum(kernel[i] * padded[:, i : i + time] for i in range(2 * half + 1))
        x = x.reshape(batch, time // self.period, self.period, variables)
        y = _Linear(self.horizon // self.period, use_bias=False, name="linear")(
            jnp.moveaxis(x, 1, -1)
        )
        return jnp.moveaxis(y, -1, 1).reshape(batch, self.horizon, variables) + mean


class LSTMForecaster(nn.Module):
    """An LSTM over all variables together; its last state forecasts the whole horizon at once."""

    horizon: int
    hidden: int = 128
    layers: int = 1
    dropout: float = 0.0

    @nn.compact
    def __call__(self, x, *, train: bool = False):
        batch, _, variables = x.shape
        h, _ = RNN(self.hidden, lstm, self.layers, dropout=self.dropout)(x, train=train)
        return Dense(self.horizon * variables)(h[:, -1]).reshape(batch, self.horizon, variables)


class CausalConv(nn.Module):
    """Dilated causal convolution over time, ``[batch, time, in]`` to ``[batch, time, features]``:
    step t sees t, t - dilation, ..., t - (window - 1) * dilation, with zeros before the start."""

    features: int
    window: int = 3
    dilation: int = 1

    @nn.compact
    def __call__(self, x):
        reach = (self.window - 1) * self.dilation
        padded = jnp.pad(x, ((0, 0), (reach, 0), (0, 0)))
        # Shifted copies times one matrix: quick on every platform, compiled loops on CPU included.
        taps = [padded[:, i * self.dilation :][:, : x.shape[1]] for i in range(self.window)]
        return Dense(self.features)(jnp.concatenate(taps, axis=-1))


class TCN(nn.Module):
    """Temporal convolutional network: residual pairs of dilated causal convolutions, the dilation
    doubling from block to block (Bai et al. 2018, "An empirical evaluation of generic convolutional
    and recurrent networks for sequence modeling"; layer norm stands for weight norm). The last
    step forecasts the whole horizon."""

    horizon: int
    widths: Sequence[int] = (32, 32, 32, 32, 32, 32)
    window: int = 3
    dropout: float = 0.0
    activation: Callable = nn.relu

    @nn.compact
    def __call__(self, x, *, train: bool = False):
        batch, _, variables = x.shape
        h = x
        for block, width in enumerate(self.widths):
            residual = h if h.shape[-1] == width else Dense(width)(h)
            for _ in range(2):
                h = CausalConv(width, self.window, 2**block)(h)
                h = self.activation(LayerNorm()(h))
                h = Dropout(self.dropout)(h, train=train)
            h = h + residual
        return Dense(self.horizon * variables)(h[:, -1]).reshape(batch, self.horizon, variables)


class PatchTST(nn.Module):
    """A transformer over overlapping patches of one variable at a time (Nie et al. 2023, "A time series
    is worth 64 words"), layer norm in place of batch norm. Wrap it in :class:`RevIN`, as published.

    Attributes:
      patch, stride: steps a patch spans, and from one to the next; the window's last step is repeated
        for one more patch at its end.
      width, layers, heads, hidden, dropout: of the transformer; the defaults are the paper's for ETTh1.
      head_dropout: before the linear map of all patches to the horizon.
    """

    horizon: int
    patch: int = 16
    stride: int = 8
    width: int = 16
    layers: int = 3
    heads: int = 4
    hidden: int = 128
    dropout: float = 0.3
    head_dropout: float = 0.0

    @nn.compact
    def __call__(self, x, *, train: bool = False):
        batch, time, variables = x.shape
        x = jnp.moveaxis(x, -1, 1).reshape(batch * variables, time)
        x = jnp.concatenate([x, jnp.repeat(x[:, -1:], self.stride, axis=1)], axis=1)
        count = (x.shape[1] - self.patch) // self.stride + 1
        if count < 1:
            raise UserError(
                "window-too-short",
                f"a window of {time} steps holds no patch of {self.patch}: look back further",
            )
        patches = jnp.stack(
            [x[:, i * self.stride : i * self.stride + self.patch] for i in range(count)], axis=1
        )
        place = self.param("position", nn.initializers.normal(0.02), (count, self.width))
        x = Dense(self.width)(patches) + place
        body = Transformer(
            self.width, self.layers, self.heads, hidden=self.hidden, dropout=self.dropout
        )
        x, _ = body(x, train=train)
        x = Dropout(self.head_dropout)(x.reshape(batch * variables, -1), train=train)
        return jnp.moveaxis(Dense(self.horizon)(x).reshape(batch, variables, -1), 1, -1)


class NHiTS(nn.Module):
    """Blocks that each see what the ones before left unexplained, at another resolution (Challu et al. 2023,
    "N-HiTS: neural hierarchical interpolation for time series forecasting"): the maxima of pieces of the window
    give some points of the forecast, with straight lines between them. The last value is what they add to.

    Attributes:
      width: features of a block's two hidden layers.
      pools: steps that a maximum is taken over, ``ratios``: steps that a point of the forecast stands for, of each
        block.
    """

    horizon: int
    width: int = 256
    pools: Sequence[int] = (8, 4, 1)
    ratios: Sequence[int] = (24, 8, 1)

    @nn.compact
    def __call__(self, x, *, train: bool = False):
        batch, time, variables = x.shape
        rest = jnp.moveaxis(x, -1, 1).reshape(batch * variables, time)
        forecast = jnp.repeat(rest[:, -1:], self.horizon, axis=1)
        for pool, ratio in zip(self.pools, self.ratios, strict=True):
            padded = jnp.pad(rest, ((0, 0), (0, -time % pool)), "edge")
            h = padded.reshape(rest.shape[0], -1, pool).max(-1)
            for _ in range(2):
                h = nn.relu(Dense(self.width)(h))
            theta = Dense(time + -(-self.horizon // ratio))(h)
            points = jax.image.resize(theta[:, time:], (rest.shape[0], self.horizon), "linear")
            rest, forecast = rest - theta[:, :time], forecast + points
        return jnp.moveaxis(forecast.reshape(batch, variables, -1), 1, -1)


class TSMixer(nn.Module):
    """Perceptrons over time and over variables in turn (Chen et al. 2023, "TSMixer: an all-MLP architecture for
    time series forecasting"), layer norm over both in place of batch norm. Wrap it in :class:`RevIN`."""

    horizon: int
    width: int = 64
    layers: int = 4
    dropout: float = 0.3

    @nn.compact
    def __call__(self, x, *, train: bool = False):
        def normed(x):
            return LayerNorm()(x.reshape(x.shape[0], -1)).reshape(x.shape)

        drop = partial(Dropout(self.dropout), train=train)
        for _ in range(self.layers):
            over_time = nn.relu(Dense(x.shape[1])(jnp.swapaxes(normed(x), 1, 2)))
            x = x + drop(jnp.swapaxes(over_time, 1, 2))
            h = drop(nn.relu(Dense(self.width)(normed(x))))
            x = x + drop(Dense(x.shape[-1])(h))
        return TimeLinear(self.horizon, name="head")(x)


class ITransformer(nn.Module):
    """A transformer whose tokens are variables, each its whole window (Liu et al. 2024, "iTransformer: inverted
    transformers are effective for time series forecasting"). Wrap it in :class:`RevIN`."""

    horizon: int
    width: int = 128
    layers: int = 2
    heads: int = 4
    dropout: float = 0.1

    @nn.compact
    def __call__(self, x, *, train: bool = False):
        tokens = Dense(self.width, name="embedding")(jnp.swapaxes(x, 1, 2))
        body = Transformer(
            self.width,
            self.layers,
            self.heads,
            hidden=self.width,
            norm_first=False,
            dropout=self.dropout,
        )
        tokens, _ = body(tokens, train=train)
        return jnp.swapaxes(Dense(self.horizon, name="head")(tokens), 1, 2)


class WithKnown(nn.Module):
    """A forecaster, and what columns that are known ahead add to it: ``[batch, time, variables]`` and ``known
    [batch, horizon, columns]`` to the forecaster's output. A small network, the same at every step of the
    horizon, adds nothing at first.

    Attributes:
      model: the forecaster; hidden: features of the small network.
    """

    model: nn.Module
    hidden: int = 32

    @nn.compact
    def __call__(self, x, known, *, train: bool = False):
        y = self.model(x, train=train)
        h = nn.relu(Dense(self.hidden)(known))
        # Quantiles of one step follow each other in y.
        width = y.shape[1] // known.shape[1] * y.shape[2]
        return y + Dense(width, kernel_init=nn.initializers.zeros)(h).reshape(y.shape)


def forecaster(
    kind: str, horizon: int, period: int, width: int, dropout: float, known: bool = False
) -> nn.Module:
    """One of the networks above at a usual size, by its name in lower case.

    Args:
      horizon: steps to forecast, times the quantiles of each.
      period: steps after which a series repeats; width: features of ``lstm`` and ``tcn``, of which ``patchtst``
        and ``tsmixer`` have half, ``itransformer`` twice and ``nhits`` four times as many; dropout: rate of all
        these but ``nhits``; known: whether columns known ahead come with each window.
    """
    networks: dict[str, nn.Module] = {
        "rlinear": RevIN(TimeLinear(horizon)),
        "nlinear": NLinear(horizon),
        "dlinear": DLinear(horizon),
        "sparse": SparseLinear(horizon, period),
        "lstm": LSTMForecaster(horizon, width, dropout=dropout),
        "tcn": TCN(horizon, (width,) * 6, dropout=dropout),
        "patchtst": RevIN(PatchTST(horizon, width=width // 2, dropout=dropout)),
        "nhits": NHiTS(horizon, 4 * width),
        "tsmixer": RevIN(TSMixer(horizon, width // 2, dropout=dropout)),
        "itransformer": RevIN(ITransformer(horizon, 2 * width, dropout=dropout), affine=False),
    }
    if kind not in networks:
        raise unknown("forecaster", kind, networks)
    return WithKnown(networks[kind]) if known else networks[kind]
