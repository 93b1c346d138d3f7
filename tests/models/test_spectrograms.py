"""Log-mel features against SciPy's transform and filters laid down another way; SpecAugment's promises."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dl.models import spectrograms as audio

RNG = np.random.default_rng(0)


def test_log_mel_agrees_with_scipy():
    signal = pytest.importorskip("scipy.signal")
    rate, mels, floor = 8000, 23, 1e-6
    wave = (RNG.normal(size=(2, 3000)) * 3000).astype(np.int16)
    hann = signal.get_window("hann", 200)
    frequency, _, spectrum = signal.stft(
        wave / 32768.0, rate, hann, nperseg=200, noverlap=120, nfft=256, boundary=None, padded=False
    )
    power = np.abs(spectrum * hann.sum()) ** 2  # scipy divides by the window's sum
    to_mel = lambda f: 2595 * np.log10(1 + f / 700)  # noqa: E731
    corners = np.interp(
        np.linspace(to_mel(20), to_mel(4000), mels + 2), to_mel(np.arange(4001)), np.arange(4001)
    )
    filters = np.stack([np.interp(frequency, corners[m : m + 3], [0, 1, 0]) for m in range(mels)])
    expected = np.log(np.einsum("bft,mf->btm", power, filters) + floor)
    got = audio.log_mel(wave, rate=rate, mels=mels, floor=floor)
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, atol=2e-2)
    assert np.abs(got - expected).mean() < 1e-3


def test_a_tone_lights_up_its_own_channel():
    for hertz in (300, 1000, 3000):
        wave = np.sin(2 * np.pi * hertz * np.arange(4000) / 8000).astype(np.float32)[None]
        loudest = int(audio.log_mel(wave).mean((0, 1)).argmax())
        filters = audio.mel_filters(129, 40, 8000)
        assert filters[round(hertz / 4000 * 128), loudest] > 0.3


def test_int16_and_float_are_the_same_sound():
    wave = (RNG.normal(size=(1, 400)) * 1000).astype(np.int16)
    np.testing.assert_allclose(
        audio.log_mel(wave), audio.log_mel(wave / np.float32(32768)), rtol=1e-5
    )


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 900))
def test_features_do_not_depend_on_padding(length):
    wave = (np.sin(np.arange(length) ** 1.3) * 9000).astype(np.int16)
    features = audio.speech_features()
    rows = [np.pad(wave, (0, size - length)) for size in (960, 1200)]
    (a, na), (b, nb) = (
        features({"waveform": jnp.asarray(row[None]), "length": jnp.array([length])})
        for row in rows
    )
    assert na == nb
    np.testing.assert_allclose(a, b[:, : a.shape[1]], atol=1e-4)
    assert not b[:, int(na[0]) :].any()


def test_normalised_features_have_mean_0_and_deviation_1_where_real():
    x = jnp.asarray(RNG.normal(3, 5, (2, 30, 4)).astype(np.float32))
    y = audio.normalize(x, jnp.array([30, 12]))
    assert np.abs(y[1, :12].mean(0)).max() < 1e-5
    np.testing.assert_allclose(y[1, :12].std(0), 1.0, atol=1e-2)


def test_spec_augment_masks_bands_and_stretches_within_its_limits():
    x = jnp.ones((16, 50, 20))
    y = np.asarray(
        audio.spec_augment(
            jax.random.key(0), x, jnp.full(16, 50), bands=1, band_width=5, stretches=1
        )
    )
    assert set(np.unique(y)) == {0.0, 1.0}
    bands, stretches = (y == 0).all(1).sum(-1), (y == 0).all(2).sum(-1)
    assert bands.max() == 5
    assert bands.min() == 0
    assert 0 < stretches.max() <= 15  # 0.3 of 50
    assert len({row.tobytes() for row in y}) > 12  # every example its own


def test_spec_augment_with_no_width_changes_nothing():
    x = jnp.asarray(RNG.normal(size=(3, 9, 4)).astype(np.float32))
    y = audio.spec_augment(
        jax.random.key(0), x, jnp.array([9, 5, 1]), band_width=0, stretch_width=0
    )
    np.testing.assert_array_equal(y, x)
