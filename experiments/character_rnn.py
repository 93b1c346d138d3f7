"""Character language model: an LSTM trained by truncated back-propagation through time.

Data: tiny Shakespeare, the first 90 % to train on and the last 10 % for validation.
Reference: about 1.5 nats a character for LSTMs of this kind (Karpathy 2015, char-rnn).
"""

import dataclasses
from typing import Literal

import dl
from dl.data.batches.tokens import strided, tracks
from dl.data.sets.characters import load_characters
from dl.models.rnn import CELLS, RNN, RecurrentLanguageModel
from dl.tasks.language_modeling import language_modeling
from dl.training.writing import Writing, write


@dataclasses.dataclass(frozen=True)
class Config(dl.Recipe):
    cell: Literal["rnn", "lstm", "gru"] = "lstm"
    features: int = 320
    """width of every layer"""
    layers: int = 1
    embedding: int = 64
    """width of the character vectors"""
    dropout: float = 0.1
    """rate on the layers' inputs and on the last one's output"""
    length: int = 64
    """characters a step: how far gradients go back; the state is carried on"""
    steps: int = 1500
    learning_rate: float = 5e-3
    weight_decay: float = 1e-2
    context: int = 1000
    """characters of an evaluation window; half of them are context alone"""
    temperature: float = 0.8
    """of the sample drawn at every evaluation"""


def build(config: Config) -> dl.Experiment:
    vocabulary, train, held = load_characters("tinyshakespeare")
    body = RNN(config.features, CELLS[config.cell], config.layers, dropout=config.dropout)
    model = RecurrentLanguageModel(len(vocabulary), body, config.embedding, dropout=config.dropout)
    return config.experiment(
        language_modeling(model, carried=True),
        tracks(train, config.length, config.batch_size, config.seed),
        evals={
            "validation": dl.eval_batches(strided(held, config.context, config.context // 2), 64)
        },
        select="-validation/loss",
        views=Writing(model, vocabulary, 500, config.temperature, prompt="ROMEO:", texts=1),
    )


if __name__ == "__main__":
    dl.main(Config, build, write=write)
