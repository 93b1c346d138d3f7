"""Feed-forward networks: activations and optimisers compared in one sweep.

Data: MNIST as flat pixels. The table: --sweep activation=sigmoid,tanh,relu,gelu,silu optimizer=sgd,adam,muon
Reference, test error: 1.25 % with dropout, 1.06 % with max-norm too (Srivastava et al. 2014); the large
network is --widths 1024 1024 --dropout 0.5 --input-dropout 0.2 --epochs 40 --max-norm 3
"""

import dataclasses
from typing import Literal

import flax.linen as nn
import optax

import dl
from dl.core.optim import OptimizerName, ScheduleName
from dl.data import load
from dl.data.batches import eval_batches, train_batches
from dl.models.mlp import MLP, max_norm
from dl.tasks.classification import classification

he, xavier, lecun = (
    getattr(nn.initializers, f"{name}_normal")() for name in ("he", "xavier", "lecun")
)
# Each with the initialisation made for it.
ACTIVATIONS = {
    "sigmoid": (nn.sigmoid, xavier),
    "tanh": (nn.tanh, xavier),
    "relu": (nn.relu, he),
    "leaky_relu": (nn.leaky_relu, he),
    "elu": (nn.elu, he),
    "selu": (nn.selu, lecun),
    "gelu": (nn.gelu, he),
    "silu": (nn.silu, he),
}
# Usual learning rates for networks of this size, where the config names none.
RATES = {"sgd": 0.1, "momentum": 0.03, "nesterov": 0.03, "rmsprop": 1e-3, "adagrad": 0.02}
RATES |= {"adam": 1e-3, "adamw": 1e-3, "lion": 1e-4, "lamb": 1e-2, "muon": 5e-3}


@dataclasses.dataclass(frozen=True)
class Config:
    data: str = "mnist"
    """mnist, or digits (embedded, 8x8)"""
    data_dir: str | None = None
    """folder with one sub-folder a data set"""
    seed: int = 0
    """of initialisation, data order and dropout"""
    activation: Literal["sigmoid", "tanh", "relu", "leaky_relu", "elu", "selu", "gelu", "silu"] = (
        "relu"
    )
    optimizer: OptimizerName = "adam"
    learning_rate: float | None = None
    """by default a usual one for the optimiser"""
    widths: tuple[int, ...] = (256, 256)
    """units of each hidden layer"""
    dropout: float = 0.0
    """rate after each hidden layer"""
    input_dropout: float = 0.0
    """rate on the pixels"""
    max_norm: float | None = None
    """largest norm of a unit's incoming weights; None for no limit"""
    epochs: int = 5
    batch_size: int = 100
    schedule: ScheduleName = "cosine"
    weight_decay: float = 0.0
    ema: float | None = None
    """decay of the averaged parameters that are evaluated"""


def build(config: Config) -> dl.Experiment:
    splits = load(config.data, config.data_dir)
    train = train_batches(splits.train, config.batch_size, config.seed)
    steps = max(1, config.epochs * train.size // train.batch_size)

    activation, init = ACTIVATIONS[config.activation]
    features = (*config.widths, len(splits.info.classes))
    peak = RATES[config.optimizer] if config.learning_rate is None else config.learning_rate
    rate = dl.schedule(config.schedule, peak, steps, warmup=steps // 20)
    model = MLP(features, activation, config.dropout, config.input_dropout, kernel_init=init)
    optimizer = dl.optimizer(config.optimizer, rate, weight_decay=config.weight_decay)
    if config.max_norm is not None:
        optimizer = optax.chain(optimizer, max_norm(config.max_norm))
    return dl.Experiment(
        task=classification(model),
        data=train,
        optimizer=optimizer,
        steps=steps,
        seed=config.seed,
        evals={"validation": eval_batches(splits.validation, 500)},
        tests={"test": eval_batches(splits.test, 500)},
        select="validation/accuracy",
        ema=config.ema,
    )


if __name__ == "__main__":
    dl.main(Config, build)
