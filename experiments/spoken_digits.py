"""Spoken digits, or any classes of sounds: one label a recording.

Data: fsdd (3,000 recordings, 8 kHz, 6 speakers; recordings 0-4 of each are test, or one speaker left out), or
--data FOLDER with a folder a class. Features are computed inside the compiled step. Reference: 98 % on fsdd's
official split by small CNNs.
"""

import dataclasses
from typing import Literal

import dl
from dl.baselines.recordings import spectrum_baseline
from dl.data.own.recordings import OwnRecordings
from dl.data.sets.recordings import beginnings, leave_speaker_out
from dl.figures.sequences import taken_for
from dl.models.spectrograms import speech_features
from dl.models.speech import SpeechClassifier, speech_encoder
from dl.tasks.speech import speech_classification


@dataclasses.dataclass(frozen=True)
class Config(OwnRecordings, dl.Recipe):
    data: str = "fsdd"
    """fsdd, or a folder of your own with a folder of recordings a class, or a table of path and label"""
    leave_out: str | None = None
    """a speaker of fsdd who is test, whole (george, jackson, lucas, nicolas, theo, yweweler); by default the
    official split"""
    encoder: Literal["cnn", "cnn_lstm", "bilstm", "conformer"] = "cnn"
    width: int = 16
    """channels of the cnn's first stage; the others' sizes follow"""
    samples: int = 8000
    """of each recording of fsdd that are used, at 8,000 a second; one in a hundred is longer"""
    epochs: int | None = None
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
    splits = dl.data.open(config.data, "recordings", config)
    if config.leave_out is not None:
        splits = leave_speaker_out(splits, config.leave_out)
    if config.data != "fsdd":
        return splits
    return splits.map(lambda part: beginnings(part, config.samples))


def build(config: Config) -> dl.Experiment:
    dl.bounded("--samples", config.samples, at_least=1)
    splits = recordings(config)
    classes, rate = splits.info.classes, splits.info.details["rate"]
    encoder = speech_encoder(config.encoder, config.width, config.dropout)
    model = SpeechClassifier(encoder, len(classes), config.band_width, config.stretch_width)
    features = speech_features(rate)
    task = speech_classification(model, features, label_smoothing=config.label_smoothing)

    def views(predictor):
        """How often each class was taken for which, on the validation set."""
        truth = dl.data.known(splits.validation)["label"]
        return {"confusion": taken_for(truth, predictor(splits.validation).argmax(1), classes)}

    return config.experiment(
        task,
        dl.train_batches(splits.train, config.batch_size, config.seed, at_most=True),
        **dl.held_out(splits, 100),
        usual_epochs=30,
        select="validation/accuracy",
        classes=classes,
        baselines=lambda: {"spectrum": spectrum_baseline(splits)},
        views=views,
    )


if __name__ == "__main__":
    dl.main(Config, build)
