"""Recordings, and who spoke them."""

import io
import tarfile
import wave

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from mistakes import raises

import dl.data
from dl.core.errors import UserError
from dl.data.sets.recordings import leave_speaker_out, pad_waveforms, read_wav

QUICK = settings(max_examples=60, deadline=None, derandomize=True)


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


def test_what_is_no_recording_is_named(tmp_path):
    with raises("recording-unreadable", "a.wav"):
        read_wav(io.BytesIO(b"RIFF"), "a.wav")
    with raises("recording-unreadable", "absent.wav", "No such file"):
        read_wav(tmp_path / "absent.wav")
    with raises("recording-empty", "empty.wav"):
        read_wav(_wav(np.zeros(0, np.int16)), "empty.wav")
    with raises("recording-rate", "b.wav has 8000 Hz", "16000 Hz"):
        read_wav(_wav(np.zeros(4, np.int16)), "b.wav", rate=16000)
    buffer = io.BytesIO()
    soundfile.write(buffer, np.array([0.0, np.nan]), 8000, "FLOAT", format="WAV")
    with raises("infinity", "c.wav"):
        read_wav(io.BytesIO(buffer.getvalue()), "c.wav")


@QUICK
@given(
    st.sampled_from([("WAV", 2), ("WAVEX", 2), ("FLAC", 2), ("AIFF", 2), ("WAV", 1), ("WAV", 3)]),
    st.integers(1, 3),
    st.integers(1, 40),
    st.integers(0, 99),
)
def test_recordings_of_whole_numbers_read_back_to_their_samples(form, channels, length, seed):
    """Against float64 by hand: full scale to full scale, the mean of the channels, rounded."""
    kind, width = form
    stored = np.random.default_rng(seed).integers(-(2**31), 2**31, (length, channels), np.int64)
    stored = stored >> (32 - 8 * width)
    stored[0] = [-(2 ** (8 * width - 1)), 2 ** (8 * width - 1) - 1, 0][:channels]
    buffer = io.BytesIO()
    subtype = {1: "PCM_U8", 2: "PCM_16", 3: "PCM_24"}[width]
    values = (stored << (32 - 8 * width)).astype(np.int32)  # the highest bits of int32 are written
    soundfile.write(buffer, values, 8000, subtype, format=kind)
    read, rate = read_wav(io.BytesIO(buffer.getvalue()))
    expected = np.rint((stored / 2.0 ** (8 * width - 16)).mean(1)).clip(-32768, 32767)
    assert rate == 8000
    assert read.dtype == np.int16
    np.testing.assert_array_equal(read, expected)


@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE", "PCM_32"])
def test_wide_samples_are_scaled_and_cut_at_full_scale(subtype):
    values = np.array([-1, -0.5, 0, 0.25, 1 - 2**-15], np.float64)
    buffer = io.BytesIO()
    soundfile.write(buffer, values, 8000, subtype, format="WAV")
    read, _ = read_wav(io.BytesIO(buffer.getvalue()))
    assert read.tolist() == [-32768, -16384, 0, 8192, 32767]
    if subtype != "PCM_32":
        buffer = io.BytesIO()
        soundfile.write(buffer, values * 4, 8000, subtype, format="WAV")
        with pytest.warns(UserWarning, match="loud: 3 samples beyond full scale"):
            read, _ = read_wav(io.BytesIO(buffer.getvalue()), "loud")
        assert read.tolist() == [-32768, -32768, 0, 32767, 32767]


def test_stereo_of_8_bits_by_the_standard_library():
    frames = np.array([[0, 255], [128, 129], [200, 100]], np.uint8)
    read, _ = read_wav(_wav(frames, width=1, channels=2))
    expected = np.rint((frames.astype(np.float64) - 128).mean(1) * 256)
    np.testing.assert_array_equal(read, expected)


@pytest.mark.parametrize(
    "kind", ["WAV", "WAVEX", "AIFF", "FLAC", "AU", "RF64", "W64", "MP3", "OGG"]
)
@pytest.mark.parametrize("channels", [1, 2])
def test_a_recording_that_is_cut_off_is_named(kind, channels):
    sound = np.sin(np.arange(8000) / 8) * 0.6
    buffer = io.BytesIO()
    soundfile.write(buffer, np.stack([sound] * channels, 1), 8000, format=kind)
    data = buffer.getvalue()
    assert abs(len(read_wav(io.BytesIO(data))[0]) - 8000) < 2000  # MP3 pads
    for end in (len(data) // 2 + 1, len(data) - 1, 30):
        with pytest.raises(UserError, match=r"^a\.wav ") as told:
            read_wav(io.BytesIO(data[:end]), "a.wav")
        assert told.value.code in ("recording-unreadable", "recording-empty")


def test_what_follows_the_samples_or_an_unknown_size_is_no_cut():
    samples = np.arange(1, 8, dtype=np.int16)
    data = _wav(samples).getvalue()
    followed = data + b"LIST\x04\0\0\0abcd"
    piped = data[:4] + b"\xff" * 4 + data[8:40] + b"\xff" * 4 + data[44:]
    container_too_long = data[:4] + (9999).to_bytes(4, "little") + data[8:]
    for made in (followed, piped, container_too_long):
        np.testing.assert_array_equal(read_wav(io.BytesIO(made))[0], samples)


def test_a_set_names_the_member_that_cannot_be_read(tmp_path):
    whole = _wav(np.arange(100, dtype=np.int16)).getvalue()
    fast = whole[:24] + (16000).to_bytes(4, "little") + whole[28:]
    for data, says in (
        (whole[:100], ("recording-unreadable", "3_theo_7.wav", "28 samples")),
        (fast, ("recording-rate", "3_theo_7.wav has 16000 Hz", "8000")),
        (b"", ("recording-unreadable", "recordings.tar.gz, r/3_theo_7.wav")),
    ):
        folder = tmp_path / str(len(data)) / "fsdd"
        folder.mkdir(parents=True)
        with tarfile.open(folder / "recordings.tar.gz", "w:gz") as archive:
            entry = tarfile.TarInfo("r/3_theo_7.wav")
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
        with raises(*says):
            dl.data.load("fsdd", folder.parent)


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
