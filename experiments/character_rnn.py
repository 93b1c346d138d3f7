"""Character language model: an LSTM trained by truncated back-propagation through time.

Data: tiny Shakespeare, the first 90 % to train on and the last 10 % for validation; or your own text with
--data PATH, in characters or --unit word, wordpiece or bpe, which bits a byte compare.
Reference: about 1.5 nats a character for LSTMs of this kind (Karpathy 2015, char-rnn).
"""

import dataclasses
from typing import Literal

import dl
from dl.baselines.ngrams import ngram_scores
from dl.data.batches.tokens import held_windows, tracks
from dl.data.own.corpus import OwnCorpus
from dl.data.own.units import Units, encoded
from dl.models.rnn import CELLS, RNN, RecurrentLanguageModel
from dl.tasks.language_modeling import language_modeling
from dl.training.writing import Writing, write


@dataclasses.dataclass(frozen=True)
class Config(OwnCorpus, Units, dl.Recipe):
    data: str = "tinyshakespeare"
    """a named set, a file, folder or table of text, or tokens of `dl data tokens` (a:0.7,b:0.3)"""
    cell: Literal["rnn", "lstm", "gru"] = "lstm"
    features: int = 320
    """width of every layer"""
    layers: int = 1
    embedding: int = 64
    """width of the tokens' vectors"""
    dropout: float = 0.1
    """rate on the layers' inputs and on the last one's output"""
    length: int = 64
    """tokens a step: how far gradients go back; the state is carried on"""
    steps: int | None = None
    """of training; by default 1,500 or so many as 6 passes over a larger text take"""
    learning_rate: float = 5e-3
    weight_decay: float = 1e-2
    context: int = 1000
    """tokens of an evaluation window; half of them are context alone"""
    temperature: float = 0.8
    """of the sample drawn at every evaluation"""


def build(config: Config) -> dl.Experiment:
    vocabulary, text = encoded(config)
    prompt = "ROMEO:" if config.data == "tinyshakespeare" else "\n"
    body = RNN(config.features, CELLS[config.cell], config.layers, dropout=config.dropout)
    model = RecurrentLanguageModel(len(vocabulary), body, config.embedding, dropout=config.dropout)
    return config.experiment(
        language_modeling(model, carried=True),
        tracks(text.train["tokens"], config.length, config.batch_size, config.seed),
        **dl.held_out(held_windows(text, config.context, config.context // 2), 64),
        usual_epochs=6.1225,  # 1,500 steps of tiny Shakespeare
        select="-validation/loss",
        baselines=lambda: {"n-grams": ngram_scores(text, len(vocabulary))},
        views=Writing(model, vocabulary, 500, config.temperature, prompt=prompt, texts=1),
    )


if __name__ == "__main__":
    dl.main(Config, build, write=write)
