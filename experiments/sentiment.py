"""Sentiment of film reviews: a convolutional network, a BiLSTM and a Transformer side by side.

Data: SST-2, sentence level, trained from scratch: no outside vectors, no phrases.
Reference: 82.7 % for CNN-rand, which also trained on the phrases (Kim 2014).
All three: --sweep model=cnn,bilstm,transformer --seeds 3
"""

import dataclasses
import functools
from typing import Any, Literal

import dl
from dl.data import load
from dl.data.batches import eval_batches
from dl.data.batches.buckets import bucket_batches, trim
from dl.data.tokenizers import encode_all, pad, words
from dl.models.language import LanguageModel, TextClassifier
from dl.models.rnn import RNN
from dl.models.text import TextCNN, TextRNN
from dl.models.transformer import Transformer
from dl.tasks.sequence_classification import sequence_classification


@dataclasses.dataclass(frozen=True)
class Config(dl.Recipe):
    data_dir: str | None = None
    """folder with one sub-folder a data set"""
    model: Literal["cnn", "bilstm", "transformer"] = "cnn"
    embedding: int = 128
    """width of the word vectors, and of the Transformer"""
    features: int = 100
    """filters of each window (cnn) or units of each direction (bilstm)"""
    layers: int = 1
    """of the BiLSTM or the Transformer"""
    heads: int = 4
    dropout: float = 0.5
    """rate before the classifier, and inside the Transformer"""
    embedding_dropout: float = 0.3
    """rate on the word vectors"""
    word_dropout: float = 0.1
    """share of words replaced by the unknown word in training"""
    label_smoothing: float = 0.1
    min_count: int = 2
    """a rarer word of the training set is unknown"""
    batch_size: int = 50
    steps: int = 1700
    """139 are one pass over the training set"""
    learning_rate: float | None = None
    """by default 3e-3 for cnn, whose filters learn slowly, and 1e-3 for the others"""
    warmup_percent: int = 10
    weight_decay: float = 1e-2
    ema: float | None = 0.99


@functools.cache
def prepare(data_dir: str | None, min_count: int):
    """``(vocabulary's size, training, validation and test columns)``; words of the training set."""
    splits = load("sst2", data_dir)
    vocabulary = words(splits.train["text"], min_count=min_count)
    parts = [
        pad(encode_all(vocabulary, part["text"])) | {"label": part["label"]}
        for part in (splits.train, splits.validation, splits.test)
    ]
    return len(vocabulary), *parts


def network(config: Config, vocabulary: int):
    if config.model == "transformer":
        encoder = Transformer(
            config.embedding,
            config.layers,
            config.heads,
            hidden=2 * config.embedding,
            rope=10000.0,
            dropout=config.dropout,
        )
        return TextClassifier(LanguageModel(vocabulary, encoder), 2, dropout=config.dropout)
    noise: dict[str, Any] = {
        "dropout": config.dropout,
        "embedding_dropout": config.embedding_dropout,
    }
    if config.model == "cnn":
        return TextCNN(vocabulary, 2, config.embedding, config.features, **noise)
    body = RNN(config.features, layers=config.layers, bidirectional=True, dropout=config.dropout)
    return TextRNN(vocabulary, 2, body, config.embedding, **noise)


def build(config: Config) -> dl.Experiment:
    vocabulary, train, validation, test = prepare(config.data_dir, config.min_count)
    task = sequence_classification(
        network(config, vocabulary),
        label_smoothing=config.label_smoothing,
        word_dropout=config.word_dropout,
    )
    if config.model == "cnn" and config.learning_rate is None:
        config = dataclasses.replace(config, learning_rate=3e-3)
    return config.experiment(
        task,
        bucket_batches(train, train["tokens_length"], config.batch_size, config.seed),
        trim=trim(["tokens"], (16, 28), lambda batch: batch["tokens_length"].max()),
        steps=config.steps,
        evals={"validation": eval_batches(validation, 128)},
        tests={"test": eval_batches(test, 128)},
        select="validation/accuracy",
        classes=("negative", "positive"),
    )


if __name__ == "__main__":
    dl.main(Config, build)
