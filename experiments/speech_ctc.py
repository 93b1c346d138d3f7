"""Speech recognition without alignments (CTC): strings of digits, or your own, and a `transcribe` command.

Data: fsdd, recordings of one speaker joined to strings of 1 to 5 digits with pauses, anew in every step, test
strings made of the official test recordings; or --data TABLE of path and text, recognised by characters.
Reference: none published; word error of 3 % on the digits is the aim. A trained run reads files: python
experiments/speech_ctc.py transcribe RUN FILE.wav ...
"""

import dataclasses
from typing import Literal

import jax

import dl
from dl.baselines.recordings import transcript_baselines
from dl.data.own.transcripts import OwnTranscripts, in_characters
from dl.data.sets.recordings import beginnings
from dl.data.transforms.recordings import join_recordings
from dl.models.spectrograms import speech_features
from dl.models.speech import SpeechRecognizer, speech_encoder
from dl.scores.speech import word_error
from dl.tasks.ctc import ctc
from dl.training.listening import Listening, transcribe

WORD = 8000  # samples of one recording that are used


@dataclasses.dataclass(frozen=True)
class Config(OwnTranscripts, dl.Recipe):
    data: str = "fsdd"
    """fsdd, or a table of path and text of your own, or a folder laid out as LibriSpeech or Common Voice"""
    encoder: Literal["cnn", "cnn_lstm", "bilstm", "conformer"] = "cnn_lstm"
    width: int = 32
    """channels of the cnn's first stage; the others' sizes follow"""
    most: int = 5
    """digits of fsdd in the longest string"""
    samples: int = 28000
    """of fsdd's longest string, at 8,000 a second; digits that do not fit are left out"""
    epochs: int | None = None
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
    """Recordings and their tokens; of fsdd fixed strings to evaluate on, one beginning with each recording."""
    splits = dl.data.open(config.data, "transcripts", config)
    if "text" in dl.data.known(splits.train):
        return in_characters(splits)
    given = splits.test
    splits = splits.map(lambda part: beginnings(part, WORD))
    join = jax.jit(join_recordings(config.most, config.samples))
    validation = jax.device_get(join(jax.random.key(1), splits.validation))
    if "speaker" in dl.data.known(given):  # else files to predict for, as they are
        given = jax.device_get(join(jax.random.key(2), splits.test))
    return dataclasses.replace(splits, validation=validation, test=given)


def build(config: Config) -> dl.Experiment:
    dl.bounded("--beam", config.beam, at_least=1)  # first used when all is trained
    dl.need("jiwer", extra="speech", why="word error")
    splits = strings(config)
    known, details = dl.data.known(splits.train), splits.info.details
    encoder = speech_encoder(config.encoder, config.width, config.dropout)
    model = SpeechRecognizer(encoder, len(details["tokens"]))
    views = Listening(dl.data.take(splits.validation, slice(20)), details)
    join = join_recordings(config.most, config.samples)

    def measure(predictor, columns, name):
        if name != "test":  # the beam is slow, so it is for the end alone
            return {}
        return {"word_error": word_error(*views.strings(predictor, columns, config.beam))}

    return config.experiment(
        ctc(model, speech_features(details["rate"])),
        dl.train_batches(splits.train, config.batch_size, config.seed, at_most=True),
        augment=(join,) if "speaker" in known else (),
        **dl.held_out(splits, 50),
        usual_epochs=20,
        select="-validation/token_error",
        measure=measure,
        answer=lambda own, rows: {"text": views.strings(own, rows, config.beam)[1]},
        baselines=lambda: transcript_baselines(splits, join if "speaker" in known else None),
        views=views,
    )


if __name__ == "__main__":
    dl.main(Config, build, transcribe=transcribe)
