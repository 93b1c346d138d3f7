"""Recordings, and who spoke them."""

import io
import wave

import numpy as np
import pytest

import dl.data
from dl.core.errors import UserError
from dl.data.audio import leave_speaker_out, pad_waveforms, read_wav


def _wav(samples: np.ndarray, width: int = 2, channels: int = 1) -> io.BytesIO:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as recording:
        recording.setnchannels(channels)
        recording.setsampwidth(width)
        recording.setframerate(8000)
        recording.writeframes(samples.tobytes())
    buffer.seek(0)
    return buffer


def test_wav_round_trip_and_stereo_mean():
    samples = np.array([0, 1, -32768, 32767], np.int16)
    read, rate = read_wav(_wav(samples))
    np.testing.assert_array_equal(read, samples)
    assert rate == 8000
    np.testing.assert_array_equal(read_wav(_wav(samples, channels=2))[0], [0, 0])


def test_what_is_no_16_bit_wav_is_named(tmp_path):
    with pytest.raises(UserError, match=r"a\.wav is not a readable wav"):
        read_wav(io.BytesIO(b"RIFF"), "a.wav")
    with pytest.raises(UserError, match="8-bit"):
        read_wav(_wav(np.zeros(4, np.uint8), width=1), "b.wav")
    with pytest.raises(UserError, match="not a readable wav"):
        read_wav(tmp_path / "absent.wav", "absent.wav")


def test_padding_keeps_lengths():
    columns = pad_waveforms([np.array([1, 2, 3], np.int16), np.array([4], np.int16)])
    np.testing.assert_array_equal(columns["waveform"], [[1, 2, 3], [4, 0, 0]])
    np.testing.assert_array_equal(columns["length"], [3, 1])
    np.testing.assert_array_equal(pad_waveforms([np.ones(5, np.int16)], 2)["length"], [2])


@pytest.mark.data
def test_the_official_split_of_spoken_digits(data_dir):
    splits = dl.data.load("fsdd", data_dir)
    assert splits.test["index"].max() == 4
    assert min(splits.train["index"].min(), splits.validation["index"].min()) == 5
    for part, each in ((splits.test, 5), (splits.validation, 5), (splits.train, 40)):
        pairs = np.bincount(part["label"] * 6 + part["speaker"])
        assert (pairs == each).all()
    waveform, length = splits.train["waveform"], splits.train["length"]
    assert all((row[n:] == 0).all() for row, n in zip(waveform, length, strict=True))


@pytest.mark.data
def test_leaving_a_speaker_out(data_dir):
    splits = leave_speaker_out(dl.data.load("fsdd", data_dir), "theo")
    assert set(splits.test["speaker"]) == {4}
    assert len(splits.test["label"]) == 500
    assert 4 not in set(splits.train["speaker"]) | set(splits.validation["speaker"])
    assert len(splits.train["label"]) + len(splits.validation["label"]) == 2500
