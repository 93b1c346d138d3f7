"""Speech encoders and their heads.

An encoder turns features ``[batch, time, mels]`` and real frames ``[batch]`` into ``[batch, time',
size]`` and the real frames among ``time'``; what padding holds never reaches a real frame.
"""

from collections.abc import Sequence
from typing import Literal

import flax.linen as nn
import jax.numpy as jnp

from dl.core.errors import UserError
from dl.models.attention import Attention
from dl.models.convolution import Conv, max_pool
from dl.models.layers import Dense, Dropout, LayerNorm
from dl.models.rnn import RNN, lstm
from dl.models.spectrograms import frame_mask, spec_augment
from dl.models.transformer import Transformer


def _halved(frames):
    return (frames + 1) // 2


class ConvEncoder(nn.Module):
    """Stages of 3x3 convolution, batch norm and ReLU over time and frequency; every stage halves the
    frequencies, the first ``halvings`` also the time."""

    widths: Sequence[int] = (32, 64, 128)
    halvings: int = 2
    dropout: float = 0.1

    @nn.compact
    def __call__(self, x, frames, *, train: bool = False):
        x = (x * frame_mask(frames, x.shape[1], x.dtype)[..., None])[..., None]
        for stage, width in enumerate(self.widths):
            strides = (2, 2) if stage < self.halvings else (1, 2)
            x = Conv(width, (3, 3), padding=((1, 1), (1, 1)), use_bias=False)(x)
            real = frame_mask(frames, x.shape[1], x.dtype)[..., None, None]
            norm = nn.BatchNorm(use_running_average=not train, momentum=0.9)
            x = nn.relu(norm(x, mask=real > 0)) * real
            # ReLU leaves nothing below 0, so padding's 0 never wins over a real value.
            x = max_pool(x, strides, strides=strides, padding="SAME")
            frames = _halved(frames) if strides[0] == 2 else frames
        x = x.reshape(*x.shape[:2], -1)
        return Dropout(self.dropout)(x, train=train), frames


class BiLSTMEncoder(nn.Module):
    """Bidirectional LSTM layers over ``stack`` neighbouring frames at a time (Graves & Schmidhuber 2005)."""

    features: int = 96
    layers: int = 2
    stack: int = 2
    dropout: float = 0.2

    @nn.compact
    def __call__(self, x, frames, *, train: bool = False):
        x = x * frame_mask(frames, x.shape[1], x.dtype)[..., None]
        x = jnp.pad(x, ((0, 0), (0, -x.shape[1] % self.stack), (0, 0)))
        x = x.reshape(x.shape[0], -1, x.shape[2] * self.stack)
        frames = -(-frames // self.stack)
        body = RNN(self.features, lstm, self.layers, bidirectional=True, dropout=self.dropout)
        x, _ = body(x, frame_mask(frames, x.shape[1], x.dtype), train=train)
        return Dropout(self.dropout)(x, train=train), frames


class DepthwiseConv(nn.Module):
    """One filter a channel along time, ``[batch, time, channels]`` to the same, zeros beyond the ends."""

    window: int = 15

    @nn.compact
    def __call__(self, x):
        init = nn.initializers.variance_scaling(1.0, "fan_in", "normal", in_axis=0, out_axis=1)
        kernel = self.param("kernel", init, (self.window, x.shape[-1]))
        before = (self.window - 1) // 2
        padded = jnp.pad(x, ((0, 0), (before, self.window - 1 - before), (0, 0)))
        # Shifted products, since XLA's grouped convolution is slow in compiled loops on CPU.
        return sum(kernel[i] * padded[:, i : i + x.shape[1]] for i in range(self.window))


class ConformerBlock(nn.Module):
    """Half a feed-forward, attention, convolution, half a feed-forward (Gulati et al. 2020, "Conformer:
    convolution-augmented transformer for speech recognition").

    ``[batch, time, size]`` and ``mask [batch, time]`` to the same. Rotary positions stand for the paper's
    Transformer-XL ones: both tell attention how far apart two frames are.
    """

    heads: int = 4
    expansion: int = 4
    window: int = 15
    dropout: float = 0.1

    @nn.compact
    def __call__(self, x, mask, *, train: bool = False):
        size, real = x.shape[-1], mask[..., None]

        def drop(h):
            return Dropout(self.dropout)(h, train=train)

        def feed_forward(h):
            h = nn.swish(Dense(self.expansion * size)(LayerNorm()(h)))
            return drop(Dense(size)(drop(h)))

        x = x + 0.5 * feed_forward(x)
        attention = Attention(self.heads, rope=10_000.0)
        x = x + drop(attention(LayerNorm()(x), mask=mask[:, None, None, :] > 0)[0])
        h = Dense(2 * size)(LayerNorm()(x))
        h = DepthwiseConv(self.window)(nn.glu(h) * real)
        h = nn.BatchNorm(use_running_average=not train, momentum=0.9)(h, mask=real > 0)
        x = x + drop(Dense(size)(nn.swish(h)))
        x = x + 0.5 * feed_forward(x)
        return LayerNorm()(x) * real


class ConformerEncoder(nn.Module):
    """Two convolutions that quarter the time, then :class:`ConformerBlock` layers. The small setting of
    the paper is size 144, 16 layers, 4 heads, window 31."""

    size: int = 96
    layers: int = 4
    heads: int = 4
    window: int = 15
    dropout: float = 0.1

    @nn.compact
    def __call__(self, x, frames, *, train: bool = False):
        x = (x * frame_mask(frames, x.shape[1], x.dtype)[..., None])[..., None]
        for _ in range(2):
            x = nn.relu(Conv(self.size // 2, (3, 3), (2, 2), padding=((1, 1), (1, 1)))(x))
            frames = _halved(frames)
            x = x * frame_mask(frames, x.shape[1], x.dtype)[..., None, None]
        x = Dense(self.size)(x.reshape(*x.shape[:2], -1))
        x = Dropout(self.dropout)(x, train=train)
        mask = frame_mask(frames, x.shape[1], x.dtype)
        for _ in range(self.layers):
            block = ConformerBlock(self.heads, window=self.window, dropout=self.dropout)
            x = block(x, mask, train=train)
        return x, frames


class WhisperEncoder(nn.Module):
    """Whisper's encoder (Radford et al. 2022, "Robust speech recognition via large-scale weak supervision"): two
    convolutions, of which the second halves the time, positions, and a Transformer.

    Takes features ``[batch, frames, bins]`` and how many frames are real, int ``[batch]``; returns
    ``[batch, frames / 2, width]`` and how many of these are.

    Attributes:
      body: of exact GELU; positions: the most frames after halving.
    """

    body: Transformer
    positions: int = 1500

    @nn.compact
    def __call__(self, x, frames, *, train: bool = False):
        x = x * frame_mask(frames, x.shape[1], x.dtype)[..., None]
        for place, stride in enumerate((1, 2)):
            layer = Conv(self.body.width, (3,), (stride,), padding=((1, 1),), name=f"conv_{place}")
            x = nn.gelu(layer(x), approximate=False)
            frames = _halved(frames) if place else frames
            real = frame_mask(frames, x.shape[1], x.dtype)
            x = x * real[..., None]
        if x.shape[1] > self.positions:
            raise UserError(
                "recording-too-long",
                f"{x.shape[1]} frames after halving are more than the {self.positions} positions",
            )

        def waves(key, shape):
            """Sines, then cosines, of wave lengths from 2 pi to 10,000 times that."""
            rate = 10_000.0 ** (-jnp.linspace(0.0, 1.0, shape[1] // 2))
            angle = jnp.arange(shape[0])[:, None] * rate
            return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=1)

        places = self.param("positions", waves, (self.positions, self.body.width))
        x = x + places[: x.shape[1]].astype(x.dtype)
        return self.body(x, mask=real, train=train)[0], frames


class StackedEncoders(nn.Module):
    """Encoders one after the other, such as a :class:`ConvEncoder` and a :class:`BiLSTMEncoder`."""

    encoders: Sequence[nn.Module]

    @nn.compact
    def __call__(self, x, frames, *, train: bool = False):
        for encoder in self.encoders:
            x, frames = encoder(x, frames, train=train)
        return x, frames


def speech_encoder(
    kind: Literal["cnn", "cnn_lstm", "bilstm", "conformer"], width: int, dropout: float
) -> nn.Module:
    """An encoder of small size; ``width`` is the channels of the cnn's first stage, which the others'
    sizes follow."""
    return {
        "cnn": lambda: ConvEncoder((width, 2 * width, 4 * width), dropout=dropout),
        "bilstm": lambda: BiLSTMEncoder(3 * width, 2, stack=4, dropout=dropout),
        "cnn_lstm": lambda: StackedEncoders(
            (
                ConvEncoder((width // 2, width, width), dropout=dropout),
                BiLSTMEncoder(2 * width, 1, stack=1, dropout=dropout),
            )
        ),
        "conformer": lambda: ConformerEncoder(3 * width, 3, dropout=dropout),
    }[kind]()


class SpeechClassifier(nn.Module):
    """One label a recording: the encoder's output, averaged over real frames. ``[batch, classes]`` logits.

    Attributes:
      band_width, stretch_width: of :func:`dl.models.spectrograms.spec_augment` in training.
    """

    encoder: nn.Module
    classes: int
    band_width: float = 8
    stretch_width: float = 10

    @nn.compact
    def __call__(self, x, frames, *, train: bool = False):
        x = _augmented(self, x, frames, train)
        x, frames = self.encoder(x, frames, train=train)
        real = frame_mask(frames, x.shape[1], x.dtype)[..., None]
        return Dense(self.classes)((x * real).sum(1) / jnp.maximum(real.sum(1), 1.0))


class SpeechRecognizer(nn.Module):
    """Tokens as they are spoken: ``([batch, time', 1 + tokens] logits, [batch] frames)`` for CTC, the
    blank first; attributes as in :class:`SpeechClassifier`."""

    encoder: nn.Module
    tokens: int
    band_width: float = 8
    stretch_width: float = 20

    @nn.compact
    def __call__(self, x, frames, *, train: bool = False):
        x = _augmented(self, x, frames, train)
        x, frames = self.encoder(x, frames, train=train)
        return Dense(1 + self.tokens)(x), frames


def _augmented(module, x, frames, train):
    if not train:
        return x
    widths = {"band_width": module.band_width, "stretch_width": module.stretch_width}
    return spec_augment(module.make_rng("dropout"), x, frames, **widths)
