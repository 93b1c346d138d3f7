"""Speech recognition: strings of digits without alignments (CTC), and a `transcribe` command.

Data: fsdd, recordings of one speaker joined to strings of 1 to 5 digits with pauses, anew in every step;
test strings are made of the official test recordings. Reference: none published; word error of 3 % is the
aim. A trained run reads files: python experiments/speech_ctc.py transcribe RUN FILE.wav ...
"""

import dataclasses
import functools
from pathlib import Path
from typing import Literal

import jax
import numpy as np

import dl
from dl.core.errors import bounded, need
from dl.data import load
from dl.data.batches import eval_batches, train_batches
from dl.data.sets.recordings import read_wav
from dl.data.transforms.recordings import join_recordings
from dl.models.spectrograms import speech_features
from dl.models.speech import SpeechRecognizer, speech_encoder
from dl.scores.speech import word_error
from dl.tasks.ctc import ctc, decode, spell
from dl.training.prediction import predict_all

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
RATE, WORD = 8000, 8000  # samples a second; samples of one recording that are used


@dataclasses.dataclass(frozen=True)
class Config(dl.Recipe):
    data_dir: str | None = None
    """folder with one sub-folder a data set"""
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


def short(columns):
    """The first second of every recording."""
    waveform = np.ascontiguousarray(columns["waveform"][:, :WORD])
    return dict(columns, waveform=waveform, length=np.minimum(columns["length"], WORD))


@functools.cache
def prepare(data_dir, most, samples):
    """Training recordings, and fixed strings to evaluate on, one beginning with each recording."""
    splits = load("fsdd", data_dir)
    join = jax.jit(join_recordings(most, samples))

    def strings(columns, number):
        return jax.tree.map(np.asarray, join(jax.random.key(number), short(columns)))

    return short(splits.train), strings(splits.validation, 1), strings(splits.test, 2)


def build(config: Config) -> dl.Experiment:
    bounded("--beam", config.beam, at_least=1)  # first used when all is trained
    need("jiwer", extra="speech", why="word error")
    recordings, *strings = prepare(config.data_dir, config.most, config.samples)
    parts = dict(zip(("validation", "test"), strings, strict=True))
    sets = {name: eval_batches(part, 50) for name, part in parts.items()}
    encoder = speech_encoder(config.encoder, config.width, config.dropout)
    task = ctc(SpeechRecognizer(encoder, len(WORDS)), speech_features())
    predict = jax.jit(task.predict)

    def decoded(variables, name, beam):
        """(true strings, recognised strings) of a set."""
        logits, frames = predict_all(predict, variables, sets[name], ("waveform", "length"))
        both = parts[name]["label"], decode(logits, frames, beam)
        return [[spell(row, WORDS) for row in rows] for rows in both]

    def measure(variables, name):  # the beam is slow, so it is for the end alone
        beam = config.beam
        return {"word_error": word_error(*decoded(variables, name, beam))} if name == "test" else {}

    def views(variables):
        pairs = list(zip(*decoded(variables, "validation", 1), strict=True))[:20]
        lines = ["truth, then what was recognised (* where they differ)"]
        lines += [f"{'  ' if a == b else '* '}{a}\n  {b}" for a, b in pairs]
        return {"strings": "\n".join(lines)}

    return config.experiment(
        task,
        train_batches(recordings, config.batch_size, config.seed),
        augment=(join_recordings(config.most, config.samples),),
        epochs=config.epochs,
        evals={"validation": sets["validation"]},
        tests={"test": sets["test"]},
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
    trained = dl.open_run(run)
    for file in files:
        samples, _ = read_wav(file, rate=RATE)
        recording = {"waveform": samples[None], "length": np.array([len(samples)], np.int32)}
        logits, frames = trained.predict(recording)
        print(f"{file}: {spell(decode(logits, frames, 16)[0], WORDS)}")


if __name__ == "__main__":
    dl.main(Config, build, transcribe=transcribe)
