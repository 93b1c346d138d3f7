"""Recordings: waveforms padded to one length."""

import io
import os
import re
import warnings
from pathlib import Path
from typing import BinaryIO

import numpy as np

from dl.core.errors import UserError
from dl.data.readers.files import File, damaged, members
from dl.data.splits import Columns, DataSet, Info, Splits, hold_out, take

SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
LONGEST = 2**30  # samples of one file: 18 hours at 16,000 Hz, 2 GiB in memory
_BLOCK = 2**20
_NAME = re.compile(r"(?:^|/)(\d)_([a-z]+)_(\d+)\.wav$")


def read_wav(
    file: str | os.PathLike | BinaryIO,
    name: str | None = None,
    rate: int | None = None,
    warn: bool = True,
) -> tuple[np.ndarray, int]:
    """A recording as mono int16 ``[samples]`` and its rate in Hz.

    Whatever libsndfile reads: wav (the extensible header too; 8 to 32 bits, floats), FLAC, Ogg, AIFF,
    MP3. Channels are averaged. Other widths than 16 bits are scaled to them and rounded: full scale
    becomes full scale. Floats beyond -1..1 are cut, with a warning.

    Args:
      file: a path or an open binary file.
      name: what to call it in an error; by default the path.
      rate: the Hz that it must have.
      warn: of floats that are cut.

    Raises:
      UserError: it is absent, no recording, cut off, silent for want of samples, or of another rate.
    """
    if name is None:
        name = os.fspath(file) if isinstance(file, str | os.PathLike) else "the recording"
    try:
        import soundfile
    except (ImportError, OSError) as error:  # OSError: it finds no libsndfile
        raise UserError(
            "package-missing",
            f"reading recordings needs the package soundfile ({error}): pip install soundfile",
        ) from None
    beyond = 0
    try:
        if isinstance(file, str | os.PathLike):
            Path(file).open("rb").close()  # libsndfile's own words would not say what is amiss
        with soundfile.SoundFile(file) as recording:
            # In blocks: a header may promise any number of samples, and memory is for those that are there.
            blocks = []
            while len(block := recording.read(_BLOCK, dtype="float64", always_2d=True)):
                if not np.isfinite(block).all():
                    raise UserError(
                        "infinity", f"{name} has samples that are not finite: save it as 16-bit wav"
                    )
                beyond += int((np.abs(block) > 1).any(1).sum())
                mono = np.rint(np.clip(block, -1, 1).mean(1) * 32768)
                blocks.append(np.clip(mono, -32768, 32767).astype(np.int16))
                if len(blocks) > LONGEST // _BLOCK:
                    raise UserError(
                        "recording-too-large",
                        f"{name} has more than {LONGEST:,} samples: cut it into shorter files",
                    )
            frames, found, log = recording.frames, recording.samplerate, recording.extra_info
    except (OSError, soundfile.SoundFileError, TypeError) as error:
        said = getattr(error, "error_string", None) or getattr(error, "strerror", None) or error
        raise UserError(
            "recording-unreadable",
            f"{name} is not a readable wav file or other recording: {str(said).strip()}",
        ) from None
    samples = np.concatenate(blocks) if blocks else np.zeros(0, np.int16)
    if len(samples) < frames or _cut(log):
        raise UserError(
            "recording-unreadable",
            f"{name} is cut off after {len(samples)} samples: replace it, or save what is "
            "left as a new file",
        )
    if not len(samples):
        raise UserError("recording-empty", f"{name} has no samples: take it away")
    if rate is not None and found != rate:
        raise UserError(
            "recording-rate", f"{name} has {found} Hz, not {rate}: convert it to {rate} Hz"
        )
    if warn and beyond:
        warnings.warn(f"{name}: {beyond} samples beyond full scale are cut", stacklevel=2)
    return samples, found


def _cut(log: str) -> bool:
    """Whether libsndfile's log says that the file ends before its samples, as its header counts them."""
    # Containers end early without loss; only their contents count, and where those have no size of
    # their own (W64, RF64) the container's. A program that writes to a pipe cannot know the size, and
    # writes one near the largest instead.
    found = re.findall(
        r"^\s*(?:data|SSND|Data Size|riff|Riff size)\s*: (\d+) \(should be (\d+)\)",
        log,
        re.MULTILINE,
    )
    return any(int(there) < int(said) < 0x7FFF0000 for said, there in found)


def pad_waveforms(waveforms: list[np.ndarray], length: int | None = None) -> Columns:
    """``waveform [n, length]`` int16 padded with 0 at the end, and ``length [n]`` int32 in samples."""
    lengths = np.array([len(item) for item in waveforms], np.int32)
    padded = np.zeros((len(waveforms), length or lengths.max()), np.int16)
    for row, item in enumerate(waveforms):
        padded[row, : len(item)] = item[: padded.shape[1]]
    return {"waveform": padded, "length": np.minimum(lengths, padded.shape[1]).astype(np.int32)}


def beginnings(columns: Columns, samples: int) -> Columns:
    """The first ``samples`` of every recording."""
    waveform = np.ascontiguousarray(columns["waveform"][:, :samples])
    return dict(columns, waveform=waveform, length=np.minimum(columns["length"], samples))


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
        samples, _ = read_wav(io.BytesIO(data), f"{path}, {name}", rate=8000)
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
