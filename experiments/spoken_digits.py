"""Spoken digits: one word a recording, by official split or with one speaker left out.

Data: fsdd (3,000 recordings, 8 kHz, 6 speakers; recordings 0-4 of each are test). Features are computed
inside the compiled step. Reference: 98 % on the official split by small CNNs.
"""

import dataclasses
import functools
from typing import Literal

import jax
import numpy as np

import dl
from dl.core.errors import bounded
from dl.data import load
from dl.data.batches import eval_batches, train_batches
from dl.data.sets.recordings import leave_speaker_out
from dl.models.spectrograms import speech_features
from dl.models.speech import SpeechClassifier, speech_encoder
from dl.tasks.speech import speech_classification
from dl.training.prediction import predict_all


@dataclasses.dataclass(frozen=True)
class Config(dl.Recipe):
    data_dir: str | None = None
    """folder with one sub-folder a data set"""
    leave_out: str | None = None
    """a speaker who is test, whole (george, jackson, lucas, nicolas, theo, yweweler); by default the
    official split"""
    encoder: Literal["cnn", "cnn_lstm", "bilstm", "conformer"] = "cnn"
    width: int = 16
    """channels of the cnn's first stage; the others' sizes follow"""
    samples: int = 8000
    """of each recording that are used, at 8,000 a second; one in a hundred is longer"""
    epochs: int = 30
    learning_rate: float = 3e-3
    warmup_percent: int = 7
    weight_decay: float = 1e-2
    dropout: float = 0.1
    band_width: float = 8.0
    """widest band of channels that SpecAugment masks, of 40"""
    stretch_width: float = 10.0
    """longest stretch that it masks, in frames of 10 ms"""
    label_smoothing: float = 0.05
    ema: float | None = 0.99


@functools.cache
def prepare(data_dir, leave_out, samples):
    splits = load("fsdd", data_dir)
    if leave_out is not None:
        splits = leave_speaker_out(splits, leave_out)

    def short(columns):
        waveform = np.ascontiguousarray(columns["waveform"][:, :samples])
        return dict(columns, waveform=waveform, length=np.minimum(columns["length"], samples))

    return {name: short(getattr(splits, name)) for name in ("train", "validation", "test")}


def build(config: Config) -> dl.Experiment:
    bounded("--samples", config.samples, at_least=1)
    parts = prepare(config.data_dir, config.leave_out, config.samples)
    sets = {name: eval_batches(parts[name], 100) for name in ("validation", "test")}
    encoder = speech_encoder(config.encoder, config.width, config.dropout)
    model = SpeechClassifier(encoder, 10, config.band_width, config.stretch_width)
    task = speech_classification(model, speech_features(), label_smoothing=config.label_smoothing)
    predict = jax.jit(task.predict)

    def views(variables):
        """How often each digit was taken for which, on the validation set."""
        logits = predict_all(predict, variables, sets["validation"], ("waveform", "length"))
        table = np.zeros((10, 10), int)
        np.add.at(table, (parts["validation"]["label"], logits.argmax(1)), 1)
        rows = (f"{digit}: " + " ".join(f"{n:3}" for n in row) for digit, row in enumerate(table))
        return {"confusion": "spoken: taken for 0 ... 9\n" + "\n".join(rows)}

    return config.experiment(
        task,
        train_batches(parts["train"], config.batch_size, config.seed),
        epochs=config.epochs,
        evals={"validation": sets["validation"]},
        tests={"test": sets["test"]},
        select="validation/accuracy",
        classes=tuple("0123456789"),
        views=views,
    )


if __name__ == "__main__":
    dl.main(Config, build)
