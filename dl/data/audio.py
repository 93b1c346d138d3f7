"""Recordings: waveforms padded to one length."""

import io
import re
import wave
from pathlib import Path

import numpy as np

from dl.core.errors import UserError
from dl.data.sources import File, damaged, members
from dl.data.splits import Columns, DataSet, Info, Splits, hold_out, take

SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
_NAME = re.compile(r"(?:^|/)(\d)_([a-z]+)_(\d+)\.wav$")


def read_wav(file, name: str = "the file") -> tuple[np.ndarray, int]:
    """A 16-bit PCM wav file as mono int16 ``[samples]`` and its rate in Hz; channels are averaged.

    ``file`` is a path or an open binary file, ``name`` what to call it in an error.
    """
    try:
        with wave.open(str(file) if isinstance(file, Path) else file, "rb") as recording:
            width, rate = recording.getsampwidth(), recording.getframerate()
            channels = recording.getnchannels()
            data = recording.readframes(recording.getnframes())
    except (wave.Error, EOFError, OSError) as error:
        raise UserError(f"{name} is not a readable wav file: {error}") from None
    if width != 2:
        raise UserError(f"{name} has {8 * width}-bit samples: convert it to 16-bit PCM")
    samples = np.frombuffer(data, "<i2").reshape(-1, channels)
    return (samples[:, 0] if channels == 1 else samples.mean(1)).astype(np.int16), rate


def pad_waveforms(waveforms: list[np.ndarray], length: int | None = None) -> Columns:
    """``waveform [n, length]`` int16 padded with 0 at the end, and ``length [n]`` int32 in samples."""
    lengths = np.array([len(item) for item in waveforms], np.int32)
    padded = np.zeros((len(waveforms), length or lengths.max()), np.int16)
    for row, item in enumerate(waveforms):
        padded[row, : len(item)] = item[: padded.shape[1]]
    return {"waveform": padded, "length": np.minimum(lengths, padded.shape[1]).astype(np.int32)}


def leave_speaker_out(splits: Splits, speaker: int | str) -> Splits:
    """The leave-one-speaker-out protocol: every recording of ``speaker`` is test, all the others'
    train or validation as they were (the official test recordings of the others go to training)."""
    number = SPEAKERS.index(speaker) if isinstance(speaker, str) else speaker
    joined = {
        name: np.concatenate([splits.train[name], splits.test[name]]) for name in splits.train
    }
    held = splits.validation
    if held:
        test_too = take(held, held["speaker"] == number)
        held = take(held, held["speaker"] != number)
    test = take(joined, joined["speaker"] == number)
    if splits.validation:
        test = {name: np.concatenate([test[name], test_too[name]]) for name in test}
    return Splits(take(joined, joined["speaker"] != number), held, test, splits.info)


def _read_fsdd(paths, info, validation, seed) -> Splits:
    (path,) = paths.values()
    found = []
    for name, data in members(path, ".wav"):
        match = _NAME.search(name)
        if match is None or match[2] not in SPEAKERS:
            raise damaged(path, f"{name} is not named digit_speaker_index.wav")
        samples, rate = read_wav(io.BytesIO(data), name)
        if rate != 8000:
            raise damaged(path, f"{name} has {rate} Hz, not 8000")
        found.append((int(match[3]), SPEAKERS.index(match[2]), int(match[1]), samples))
    if not found:
        raise damaged(path, "no recordings inside")
    found.sort(key=lambda item: item[:3])
    index, speaker, label, waveforms = zip(*found, strict=True)
    columns = pad_waveforms(list(waveforms))
    for name, values in (("label", label), ("speaker", speaker), ("index", index)):
        columns[name] = np.array(values, np.int32)
    train, test = take(columns, columns["index"] > 4), take(columns, columns["index"] <= 4)
    count = 300 if validation is None else validation
    strata = train["label"] * len(SPEAKERS) + train["speaker"]
    kept, held = hold_out(len(strata), count, seed, strata)
    return Splits(take(train, kept), take(train, held) if len(held) else {}, test, info)


SETS = (
    DataSet(
        Info(
            "fsdd",
            "Free Spoken Digit Dataset",
            "Jackson et al., Jakobovski/free-spoken-digit-dataset",
            "CC BY-SA 4.0",
            "classification",
            "waveform int16 [n, samples] at 8 kHz, zero after length [n] samples; label, speaker, "
            "index [n]. Recordings 0-4 of every speaker and digit are test, as published; 300 "
            "validation rows held out of the rest by seed, digits and speakers in proportion",
            tuple("0123456789"),
            {"speakers": SPEAKERS, "rate": 8000},
        ),
        (
            File(
                "recordings.tar.gz",
                (
                    "https://codeload.github.com/Jakobovski/free-spoken-digit-dataset/tar.gz/"
                    "refs/tags/v1.0.10",
                ),
            ),
        ),
        _read_fsdd,
    ),
)
