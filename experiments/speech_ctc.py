"""Speech recognition: strings of digits without alignments (CTC), and a `transcribe` command.

Data: fsdd, recordings of one speaker joined to strings of 1 to 5 digits with pauses, anew in every step;
test strings are made of the official test recordings. Reference: none published; word error of 3 % is the
aim. A trained run reads files: python experiments/speech_ctc.py transcribe RUN FILE.wav ...
"""

import dataclasses
from pathlib import Path
from typing import Literal

import jax
import numpy as np

import dl
from dl.data import take
from dl.data.sets.recordings import beginnings, read_wav
from dl.data.transforms.recordings import join_recordings
from dl.models.spectrograms import speech_features
from dl.models.speech import SpeechRecognizer, speech_encoder
from dl.scores.speech import word_error
from dl.tasks.ctc import ctc, decode, spell

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
RATE, WORD = 8000, 8000  # samples a second; samples of one recording that are used


@dataclasses.dataclass(frozen=True)
class Config(dl.Recipe):
    encoder: Literal["cnn", "cnn_lstm", "bilstm", "conformer"] = "cnn_lstm"
    width: int = 32
    """channels of the cnn's first stage; the others' sizes follow"""
    most: int = 5
    """digits in the longest string"""
    samples: int = 28000
    """of the longest string, at 8,000 a second; digits that do not fit are left out"""
    epochs: int = 20
    batch_size: int = 32
    learning_rate: float = 3e-3
    warmup_percent: int = 10
    weight_decay: float = 1e-2
    dropout: float = 0.1
    ema: float | None = 0.99
    beam: int = 16
    """strings that the final decoding keeps; 1 is greedy"""


@dl.prepared
def strings(config: Config):
    """Training recordings, and fixed strings to evaluate on, one beginning with each recording."""
    splits = dl.load("fsdd").map(lambda part: beginnings(part, WORD))
    join = jax.jit(join_recordings(config.most, config.samples))
    validation = jax.device_get(join(jax.random.key(1), splits.validation))
    test = jax.device_get(join(jax.random.key(2), splits.test))
    return dataclasses.replace(splits, validation=validation, test=test)


def build(config: Config) -> dl.Experiment:
    dl.bounded("--beam", config.beam, at_least=1)  # first used when all is trained
    dl.need("jiwer", extra="speech", why="word error")
    splits = strings(config)
    encoder = speech_encoder(config.encoder, config.width, config.dropout)
    task = ctc(SpeechRecognizer(encoder, len(WORDS)), speech_features())

    def decoded(predictor, columns, beam):
        """(true strings, recognised strings)."""
        logits, frames = predictor(columns)
        both = columns["label"], decode(logits, frames, beam)
        return [[spell(row, WORDS) for row in rows] for rows in both]

    def measure(predictor, columns, name):
        if name != "test":  # the beam is slow, so it is for the end alone
            return {}
        return {"word_error": word_error(*decoded(predictor, columns, config.beam))}

    def views(predictor):
        pairs = zip(*decoded(predictor, take(splits.validation, slice(20)), 1), strict=True)
        lines = ["truth, then what was recognised (* where they differ)"]
        lines += [f"{'  ' if a == b else '* '}{a}\n  {b}" for a, b in pairs]
        return {"strings": "\n".join(lines)}

    return config.experiment(
        task,
        dl.train_batches(splits.train, config.batch_size, config.seed),
        augment=(join_recordings(config.most, config.samples),),
        **dl.held_out(splits, 50),
        select="-validation/token_error",
        measure=measure,
        views=views,
    )


def transcribe(run: Path, files: tuple[Path, ...]) -> None:
    """Print what a trained run hears in recordings (wav, FLAC, Ogg, ...; 8 kHz).

    Args:
      run: the run's folder.
      files: recordings.
    """
    listen = dataclasses.replace(dl.open_run(run).predictor, batch_size=1)
    for file in files:
        samples, _ = read_wav(file, rate=RATE)
        recording = {"waveform": samples[None], "length": np.array([len(samples)], np.int32)}
        logits, frames = listen(recording)
        print(f"{file}: {spell(decode(logits, frames, 16)[0], WORDS)}")


if __name__ == "__main__":
    dl.main(Config, build, transcribe=transcribe)
