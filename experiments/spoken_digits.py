"""Spoken digits: one word a recording, by official split or with one speaker left out.

Data: fsdd (3,000 recordings, 8 kHz, 6 speakers; recordings 0-4 of each are test). Features are computed
inside the compiled step. Reference: 98 % on the official split by small CNNs.
"""

import dataclasses
from typing import Literal

import numpy as np

import dl
from dl.data.sets.recordings import beginnings, leave_speaker_out
from dl.models.spectrograms import speech_features
from dl.models.speech import SpeechClassifier, speech_encoder
from dl.tasks.speech import speech_classification


@dataclasses.dataclass(frozen=True)
class Config(dl.Recipe):
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


@dl.prepared
def recordings(config: Config):
    splits = dl.load("fsdd")
    if config.leave_out is not None:
        splits = leave_speaker_out(splits, config.leave_out)
    return splits.map(lambda part: beginnings(part, config.samples))


def build(config: Config) -> dl.Experiment:
    dl.bounded("--samples", config.samples, at_least=1)
    splits = recordings(config)
    encoder = speech_encoder(config.encoder, config.width, config.dropout)
    model = SpeechClassifier(encoder, 10, config.band_width, config.stretch_width)
    task = speech_classification(model, speech_features(), label_smoothing=config.label_smoothing)

    def views(predictor):
        """How often each digit was taken for which, on the validation set."""
        held, table = splits.validation, np.zeros((10, 10), int)
        np.add.at(table, (held["label"], predictor(held).argmax(1)), 1)
        rows = (f"{digit}: " + " ".join(f"{n:3}" for n in row) for digit, row in enumerate(table))
        return {"confusion": "spoken: taken for 0 ... 9\n" + "\n".join(rows)}

    return config.experiment(
        task,
        dl.train_batches(splits.train, config.batch_size, config.seed),
        **dl.held_out(splits, 100),
        select="validation/accuracy",
        classes=tuple("0123456789"),
        views=views,
    )


if __name__ == "__main__":
    dl.main(Config, build)
