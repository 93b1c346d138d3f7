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
from dl.core.optim import max_norm
from dl.data import load
from dl.data.batches import eval_batches, train_batches
from dl.models.mlp import MLP
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


@dataclasses.dataclass(frozen=True)
class Config(dl.Recipe):
    data: str = "mnist"
    """mnist, or digits (embedded, 8x8)"""
    data_dir: str | None = None
    """folder with one sub-folder a data set"""
    activation: Literal["sigmoid", "tanh", "relu", "leaky_relu", "elu", "selu", "gelu", "silu"] = (
        "relu"
    )
    optimizer: dl.OptimizerName = "adam"
    clip: float | None = None
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


def build(config: Config) -> dl.Experiment:
    splits = load(config.data, config.data_dir)
    train = train_batches(splits.train, config.batch_size, config.seed)

    activation, init = ACTIVATIONS[config.activation]
    features = (*config.widths, len(splits.info.classes))
    model = MLP(features, activation, config.dropout, config.input_dropout, kernel_init=init)
    made = config.experiment(
        classification(model),
        train,
        epochs=config.epochs,
        evals={"validation": eval_batches(splits.validation, 500)},
        tests={"test": eval_batches(splits.test, 500)},
        select="validation/accuracy",
        classes=splits.info.classes,
    )
    if config.max_norm is None:
        return made
    return dataclasses.replace(
        made, optimizer=optax.chain(made.optimizer, max_norm(config.max_norm))
    )


if __name__ == "__main__":
    dl.main(Config, build)
