"""From waveform to features: log-mel spectrograms and SpecAugment, as pure functions on the device."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dl.core.errors import bounded
from dl.core.random import example_keys


def mel_filters(
    bins: int, mels: int, rate: int, low: float = 20.0, high: float | None = None
) -> np.ndarray:
    """Triangular filters ``[bins, mels]`` over FFT bins from 0 to half the ``rate`` (Hz), their corners
    evenly spaced from ``low`` to ``high`` (default half the rate) on HTK's scale, ``2595 log10(1 + f / 700)``.
    """
    high = rate / 2 if high is None else high
    ends = [2595.0 * math.log10(1.0 + hertz / 700.0) for hertz in (low, high)]
    corners = 700.0 * (10.0 ** (np.linspace(ends[0], ends[1], mels + 2) / 2595.0) - 1.0)
    frequency = np.linspace(0.0, rate / 2, bins)[:, None]
    left, centre, right = corners[:-2], corners[1:-1], corners[2:]
    rising, falling = (frequency - left) / (centre - left), (right - frequency) / (right - centre)
    return np.maximum(0.0, np.minimum(rising, falling)).astype(np.float32)


def frame_count(length, window: int, hop: int):
    """Frames of ``window`` samples, ``hop`` apart, that begin and end inside ``length`` samples; at
    least 1, the signal then filled up with zeros."""
    return jnp.maximum(1 + (length - window) // hop, 1)


@functools.partial(jax.jit, static_argnames=("rate", "mels", "window", "hop", "floor"))
def log_mel(
    waveform: jax.Array,
    *,
    rate: int = 8000,
    mels: int = 40,
    window: float = 0.025,
    hop: float = 0.010,
    floor: float = 1e-6,
) -> jax.Array:
    """Log-mel spectrogram of ``waveform [batch, samples]``: ``[batch, frames, mels]`` float32.

    Power of the Hann-windowed Fourier transform (next power of two long) under :func:`mel_filters`, then
    ``log(power + floor)``. Frames are not centred: frame t is samples ``t * hop ... t * hop + window``.

    Args:
      waveform: int16, or float in [-1, 1].
      rate: samples a second; window, hop: seconds.
    """
    if jnp.issubdtype(waveform.dtype, jnp.integer):
        waveform = waveform.astype(jnp.float32) / 32768.0
    waveform = waveform.astype(jnp.float32)
    size, step = round(window * rate), round(hop * rate)
    waveform = jnp.pad(waveform, ((0, 0), (0, max(0, size - waveform.shape[1]))))
    frames = 1 + (waveform.shape[1] - size) // step
    places = np.arange(frames)[:, None] * step + np.arange(size)
    hann = (0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(size) / size)).astype(np.float32)
    length = 1 << (size - 1).bit_length()
    spectrum = jnp.fft.rfft(waveform[:, places] * hann, length)
    power = jnp.square(spectrum.real) + jnp.square(spectrum.imag)
    return jnp.log(power @ mel_filters(length // 2 + 1, mels, rate) + floor)


def frame_mask(frames: jax.Array, size: int, dtype: Any = jnp.float32) -> jax.Array:
    """1 on real frames, 0 on padding: counts ``[batch]`` to ``[batch, size]``. Give it the dtype of what
    it is multiplied with, which float32 would widen."""
    return (jnp.arange(size) < frames[:, None]).astype(dtype)


def normalize(features: jax.Array, frames: jax.Array) -> jax.Array:
    """``features [batch, time, mels]`` with mean 0 and standard deviation 1 in every channel over the
    real ``frames [batch]`` of each example; 0 on padding."""
    real = frame_mask(frames, features.shape[1])[..., None]
    count = jnp.maximum(real.sum(1, keepdims=True), 1.0)
    mean = (features * real).sum(1, keepdims=True) / count
    centred = (features - mean) * real
    deviation = jnp.sqrt(jnp.square(centred).sum(1, keepdims=True) / count)
    return centred / (deviation + 1e-2)


def speech_features(rate: int = 8000, mels: int = 40, window: float = 0.025, hop: float = 0.010):
    """``{'waveform': [batch, samples], 'length': [batch]}`` to normalised log-mel features and their
    frames, ``([batch, time, mels], [batch])``: what the models of :mod:`dl.models.speech` take."""

    def arguments(recordings):
        features = log_mel(recordings["waveform"], rate=rate, mels=mels, window=window, hop=hop)
        frames = frame_count(recordings["length"], round(window * rate), round(hop * rate))
        return normalize(features, frames), frames

    return arguments


def spec_augment(
    key: jax.Array,
    features: jax.Array,
    frames: jax.Array,
    *,
    bands: int = 2,
    band_width: int | jax.Array = 8,
    stretches: int = 2,
    stretch_width: int | jax.Array = 20,
    share: float | jax.Array = 0.3,
) -> jax.Array:
    """Mask random bands of channels and stretches of time with 0, the mean of normalised features (Park
    et al. 2019, "SpecAugment"; without time warping).

    Args:
      features: ``[batch, time, mels]``; frames: real ones, ``[batch]``.
      bands, stretches: masks an example; band_width, stretch_width: their largest width, drawn
        uniformly from 0 on.
      share: largest share of an example's frames that one stretch may take.
    """
    bounded("bands", bands, at_least=0, whole=True)
    bounded("band_width", band_width, at_least=0)
    bounded("stretches", stretches, at_least=0, whole=True)
    bounded("stretch_width", stretch_width, at_least=0)
    bounded("share", share, at_least=0, at_most=1)

    def holes(key, count, size, length, width):
        """1 where ``count`` random intervals inside ``[0, length)`` leave off, ``[size]``."""
        wide, place = jax.random.uniform(key, (2, count))
        wide = jnp.floor(wide * (width + 1))
        start = jnp.floor(place * (length - wide + 1))
        at = jnp.arange(size)[:, None]
        return 1.0 - ((start <= at) & (at < start + wide)).any(-1)

    def one(key, x, count):
        time_key, band_key = jax.random.split(key)
        longest = jnp.minimum(stretch_width, jnp.floor(share * count))
        keep_time = holes(time_key, stretches, x.shape[0], count, longest)
        keep_band = holes(band_key, bands, x.shape[1], x.shape[1], band_width)
        return x * (keep_time[:, None] * keep_band).astype(x.dtype)

    return jax.vmap(one)(example_keys(key, len(features)), features, frames)
