"""A tiny experiment for the tests: an MLP with dropout on the embedded digits.

It has one of everything that a state can hold: statistics, momentum, averaged parameters, keys.
"""

import dataclasses

import flax.linen as nn

import dl
from dl.data import load
from dl.data.batches import eval_batches, train_batches
from dl.data.batches.streams import ArraySource, StreamBatches, StreamEvalBatches
from dl.models.layers import Dropout
from dl.tasks.classification import classification


@dataclasses.dataclass(frozen=True)
class Config:
    steps: int = 60
    """optimiser steps"""
    learning_rate: float = 3e-3
    batch_size: int = 50
    widths: tuple[int, ...] = (16,)
    dropout: float = 0.1
    seed: int = 0
    optimizer: str = "adam"
    stream: bool = False
    """read the digits as if they lay on disk"""


class Net(nn.Module):
    widths: tuple[int, ...]
    dropout: float

    @nn.compact
    def __call__(self, x, *, train: bool = False):
        x = x.reshape(x.shape[0], -1)
        for width in self.widths:
            x = nn.relu(nn.BatchNorm(use_running_average=not train)(nn.Dense(width)(x)))
        x = Dropout(self.dropout)(x, train=train)
        return nn.Dense(10)(x)


def build(config: Config) -> dl.Experiment:
    splits = load("digits")
    train = train_batches(splits.train, config.batch_size, config.seed)
    validation: dl.Batches = eval_batches(splits.validation, 101)
    if config.stream:
        train = StreamBatches(ArraySource(splits.train), config.batch_size, config.seed)
        validation = StreamEvalBatches(ArraySource(splits.validation), 101)
    return dl.Experiment(
        task=classification(Net(config.widths, config.dropout), label_smoothing=0.1),
        data=train,
        optimizer=dl.optimizer(config.optimizer, config.learning_rate, clip=1.0),
        steps=config.steps,
        seed=config.seed,
        evals={"validation": validation},
        tests={"test": eval_batches(splits.test, 100)},
        select="validation/accuracy",
        ema=0.9,
        classes=("<1", *"123456789"),
    )


if __name__ == "__main__":
    dl.main(Config, build)
