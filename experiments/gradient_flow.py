"""Vanishing gradients, shown: a plain RNN, LSTM and GRU on the adding problem, and a deep MLP.

Data: sequences of random numbers two of which are marked; the answer is their sum (Hochreiter &
Schmidhuber 1997). Or the embedded digits for --model mlp (try --activation sigmoid).
Reference: always answering 1 has a mean squared error of 0.167; below 0.01 the problem is solved.
"""

import dataclasses
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

import dl
from dl.data.sets.synthetic import adding_problem
from dl.figures.gradients import gradient_figure, gradients, kernel_norms
from dl.models.layers import Dense
from dl.models.mlp import MLP
from dl.models.rnn import CELLS, RNN
from dl.tasks.classification import classification
from dl.tasks.regression import regression


@dataclasses.dataclass(frozen=True)
class Config(dl.Recipe):
    model: Literal["rnn", "lstm", "gru", "mlp"] = "lstm"
    activation: Literal["sigmoid", "tanh", "relu"] = "relu"
    """of the MLP"""
    layers: int = 1
    """recurrent layers, or hidden layers of the MLP"""
    features: int = 64
    """width of every layer"""
    length: int = 200
    """numbers in a sequence"""
    examples: int = 20000
    """sequences to train on"""
    batch_size: int = 50
    optimizer: dl.OptimizerName = "adam"
    steps: int = 4000
    learning_rate: float = 2e-3


class Adder(nn.Module):
    """Recurrent layers over the sequence ``[batch, time, 2]``; the last state gives the answer."""

    body: RNN

    @nn.compact
    def __call__(self, x, *, train: bool = False):
        x, _ = self.body(x, train=train)
        return Dense(1)(x[:, -1])[..., 0]


def sequence(x):
    """Numbers and marks side by side, ``[batch, time, 2]``."""
    marks = jax.nn.one_hot(x["marks"], x["values"].shape[1]).sum(1)
    return (jnp.stack([x["values"], marks], axis=-1),)


def build(config: Config) -> dl.Experiment:
    dl.bounded("--length", config.length, at_least=2)  # a mark in either half
    dl.bounded("--examples", config.examples, at_least=1)
    if config.model == "mlp":
        splits = dl.load("digits")
        train, validation = splits.train, splits.validation
        widths = (*(config.features,) * config.layers, 10)
        activation, init = getattr(nn, config.activation), nn.initializers.he_normal()
        task = classification(MLP(widths, activation, kernel_init=init))
    else:
        train = adding_problem(config.examples, config.length, seed=0)
        validation = adding_problem(2000, config.length, seed=1)
        adder = Adder(RNN(config.features, CELLS[config.model], config.layers))
        task = regression(adder, inputs=("values", "marks"), arguments=sequence)

    def views(predictor):
        batch = dl.data.take(validation, slice(256))
        by_params, by_batch = gradients(task, predictor.variables, batch)
        times = None if config.model == "mlp" else jnp.linalg.norm(by_batch["values"], axis=0)
        return {"gradients": gradient_figure(kernel_norms(by_params), times)}

    return config.experiment(
        task,
        dl.train_batches(train, config.batch_size, config.seed),
        evals={"validation": dl.eval_batches(validation, 500)},
        select="-validation/loss",
        views=views,
    )


if __name__ == "__main__":
    dl.main(Config, build)
