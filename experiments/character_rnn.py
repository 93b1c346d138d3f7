"""Character language model: an LSTM trained by truncated back-propagation through time.

Data: tiny Shakespeare, the first 90 % to train on and the last 10 % for validation.
Reference: about 1.5 nats a character for LSTMs of this kind (Karpathy 2015, char-rnn).
"""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp

import dl
from dl.data.batches import eval_batches
from dl.data.batches.tokens import strided, tracks
from dl.data.sets.characters import load_characters
from dl.models.generation import check_sampling, generate
from dl.models.rnn import RNN, RecurrentLanguageModel, gru, lstm, simple_rnn
from dl.tasks.language_modeling import language_modeling

CELLS = {"rnn": simple_rnn, "lstm": lstm, "gru": gru}


@dataclasses.dataclass(frozen=True)
class Config(dl.Recipe):
    data_dir: str | None = None
    """folder with one sub-folder a data set"""
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
    check_sampling(config.temperature)  # used after a tenth of the steps only
    vocabulary, train, held = load_characters("tinyshakespeare", config.data_dir)
    body = RNN(config.features, CELLS[config.cell], config.layers, dropout=config.dropout)
    model = RecurrentLanguageModel(len(vocabulary), body, config.embedding, dropout=config.dropout)

    def sample(variables):
        prompt = jnp.asarray(vocabulary.encode("ROMEO:"))[None]
        (text,) = generate(
            model, variables, prompt, 500, key=jax.random.key(0), temperature=config.temperature
        )
        return {"sample": "ROMEO:" + vocabulary.decode(text)}

    return config.experiment(
        language_modeling(model, carried=True),
        tracks(train, config.length, config.batch_size, config.seed),
        steps=config.steps,
        evals={"validation": eval_batches(strided(held, config.context, config.context // 2), 64)},
        select="-validation/loss",
        views=sample,
    )


if __name__ == "__main__":
    dl.main(Config, build)
