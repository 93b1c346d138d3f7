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
from dl.models.mlp import MLP
from dl.tasks.classification import classification

# What each activation's weights begin with; the others' as in He et al. 2015.
INITIALIZERS = {"sigmoid": "xavier", "tanh": "xavier", "selu": "lecun"}


@dataclasses.dataclass(frozen=True)
class Config(dl.Recipe):
    data: str = "mnist"
    """mnist, or digits (embedded, 8x8)"""
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
    splits = dl.load(config.data)
    init = getattr(nn.initializers, INITIALIZERS.get(config.activation, "he") + "_normal")()
    widths, activation = (*config.widths, len(splits.info.classes)), getattr(nn, config.activation)
    model = MLP(widths, activation, config.dropout, config.input_dropout, kernel_init=init)
    made = config.experiment(
        classification(model),
        dl.train_batches(splits.train, config.batch_size, config.seed),
        **dl.held_out(splits, 500),
        select="validation/accuracy",
        classes=splits.info.classes,
    )
    if config.max_norm is None:
        return made
    limited = optax.chain(made.optimizer, max_norm(config.max_norm))
    return dataclasses.replace(made, optimizer=limited)


if __name__ == "__main__":
    dl.main(Config, build)
