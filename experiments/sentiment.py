"""Sentiment of film reviews: a convolutional network, a BiLSTM and a Transformer side by side.

Data: SST-2, sentence level, trained from scratch: no outside vectors, no phrases.
Reference: 82.7 % for CNN-rand, which also trained on the phrases (Kim 2014).
All three: --sweep model=cnn,bilstm,transformer --seeds 3
"""

import dataclasses
from typing import Any, Literal

import dl
from dl.data.batches.buckets import bucket_batches, trim
from dl.data.tokenizers import tokenized, words
from dl.models.language import LanguageModel, TextClassifier
from dl.models.rnn import RNN
from dl.models.text import TextCNN, TextRNN
from dl.models.transformer import Transformer
from dl.tasks.sequence_classification import sequence_classification


@dataclasses.dataclass(frozen=True)
class Config(dl.Recipe):
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


@dl.prepared
def reviews(config: Config):
    """How many words the training set has, and the reviews as their numbers."""
    splits = dl.load("sst2")
    vocabulary = words(splits.train["text"], min_count=config.min_count)
    return len(vocabulary), tokenized(splits, vocabulary)


def network(config: Config, vocabulary: int):
    if config.model == "transformer":
        inner: Any = {"hidden": 2 * config.embedding, "rope": 10000.0, "dropout": config.dropout}
        encoder = Transformer(config.embedding, config.layers, config.heads, **inner)
        return TextClassifier(LanguageModel(vocabulary, encoder), 2, dropout=config.dropout)
    noise: Any = {"dropout": config.dropout, "embedding_dropout": config.embedding_dropout}
    if config.model == "cnn":
        return TextCNN(vocabulary, 2, config.embedding, config.features, **noise)
    body = RNN(config.features, layers=config.layers, bidirectional=True, dropout=config.dropout)
    return TextRNN(vocabulary, 2, body, config.embedding, **noise)


def build(config: Config) -> dl.Experiment:
    vocabulary, splits = reviews(config)
    noise: Any = {"label_smoothing": config.label_smoothing, "word_dropout": config.word_dropout}
    task = sequence_classification(network(config, vocabulary), **noise)
    if config.model == "cnn" and config.learning_rate is None:
        config = dataclasses.replace(config, learning_rate=3e-3)
    return config.experiment(
        task,
        bucket_batches(splits.train, "tokens_length", config.batch_size, config.seed),
        trim=trim(["tokens"], (16, 28)),
        **dl.held_out(splits, 128),
        select="validation/accuracy",
        classes=("negative", "positive"),
    )


if __name__ == "__main__":
    dl.main(Config, build)
