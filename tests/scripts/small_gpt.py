"""A small experiment for the tests: a GPT of two layers on made-up tokens."""

import dataclasses

import jax
import numpy as np

import dl
from dl.data.batches import eval_batches
from dl.data.batches.tokens import crops, strided
from dl.models.language import LanguageModel
from dl.models.transformer import Transformer
from dl.tasks.language_modeling import language_modeling


@dataclasses.dataclass(frozen=True)
class Config:
    steps: int = 12
    learning_rate: float = 1e-2
    batch_size: int = 16
    width: int = 64
    layers: int = 2
    dropout: float = 0.1
    seed: int = 0


def build(config: Config) -> dl.Experiment:
    tokens = np.asarray(jax.random.randint(jax.random.key(1), (600,), 0, 64)) // 2 * 2
    body = Transformer(config.width, config.layers, 4, causal=True, dropout=config.dropout)
    return dl.Experiment(
        task=language_modeling(LanguageModel(64, body, positions=16)),
        data=crops(tokens[:500], 16, config.batch_size, config.seed),
        optimizer=dl.optimizer("momentum", config.learning_rate, clip=1.0),
        steps=config.steps,
        seed=config.seed,
        evals={"validation": eval_batches(strided(tokens[500:], 16), 5)},
    )


if __name__ == "__main__":
    dl.main(Config, build)
