"""Spectra of recordings, without a network."""

import numpy as np

import dl
from dl.baselines.recordings import spectrum_baseline, spectrum_features, transcript_baselines
from dl.data.sets.recordings import pad_waveforms


def tones(hertz, lengths, rate=8000):
    waves = [
        9000 * np.sin(2 * np.pi * h * np.arange(n) / rate)
        for h, n in zip(hertz, lengths, strict=True)
    ]
    return pad_waveforms([wave.astype(np.int16) for wave in waves])


def test_features_heed_real_frames_alone():
    short, long = tones([300], [2000]), tones([300, 300], [2000, 8000])
    alone, padded = spectrum_features(short, 8000), spectrum_features(long, 8000)
    assert alone.shape == (1, 80)
    np.testing.assert_allclose(alone[0], padded[0], atol=1e-4)


def test_low_is_told_from_high():
    def part(seed):
        label = np.arange(20, dtype=np.int32) % 2
        shift = np.random.default_rng(seed).uniform(0, 50, 20)
        return tones(300 + 1500 * label + shift, [2000] * 20) | {"label": label}

    info = dl.data.Info("tones", *5 * [""], details={"rate": 8000})
    splits = dl.data.Splits(part(0), part(1), part(2), info)
    assert spectrum_baseline(splits) == {"validation/accuracy": 1.0, "test/accuracy": 1.0}


def test_the_nearest_recording_and_the_commonest_text():
    def part(label, seed):
        draw = np.random.default_rng(seed)
        waves = [
            np.concatenate(
                [3000 * np.sin(0.15 * (1 + 2 * token) * np.arange(2400)) for token in row]
            )
            for row in label
        ]
        noisy = [(w + draw.normal(0, 30, len(w))).astype(np.int16) for w in waves]
        rows = np.full((len(label), 3), -1, np.int32)
        for row, tokens in zip(rows, label, strict=True):
            row[: len(tokens)] = tokens
        return pad_waveforms(noisy) | {"label": rows}

    strings = [[0], [1], [0, 1], [1, 0], [0, 1, 1], [1, 0]]
    details = {"rate": 8000, "tokens": ("low", "high"), "between": " "}
    info = dl.data.Info("tones", *5 * [""], details=details)
    held = [[1, 0], [0, 1], [0], [1]]
    splits = dl.data.Splits(part(strings, 0), part(held, 1), part(held, 2), info)
    found = transcript_baselines(splits)
    assert set(found["nearest"].values()) == {0.0}
    assert found["commonest"]["test/string_error"] == 0.75
    # [1, 0] said of [0, 1], [0] and [1]: two wrong, one wrong, one wrong, of six tokens in all.
    assert found["commonest"]["test/token_error"] == found["commonest"]["test/word_error"] == 4 / 6
    assert set(
        transcript_baselines(dl.data.Splits(splits.train, splits.test, {}, info))["nearest"]
    ) == {
        "validation/token_error",
        "validation/string_error",
    }
