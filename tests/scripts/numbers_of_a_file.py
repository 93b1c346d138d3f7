"""A tiny experiment for the tests, whose data are a file of the data folder."""

import dataclasses

import numpy as np

import dl
from dl.data import prepared
from dl.data.batches import eval_batches, train_batches
from dl.data.readers.files import data_folder
from dl.models.mlp import MLP
from dl.tasks.regression import regression


@dataclasses.dataclass(frozen=True)
class Config(dl.Recipe):
    rows: int = 8
    batch_size: int = 4


@prepared
def columns(config: Config):
    path = data_folder() / "numbers" / "x.npy"
    if not path.exists():
        raise dl.UserError("file-missing", f"there is no {path}")
    x = np.load(path, allow_pickle=False)[: config.rows]
    return {"x": x, "label": x.sum(1, keepdims=True)}


def build(config: Config) -> dl.Experiment:
    data = columns(config)
    return config.experiment(
        regression(MLP((1,)), inputs="x"),
        train_batches(data, config.batch_size, config.seed),
        steps=4,
        evals={"validation": eval_batches(data, 4)},
    )


if __name__ == "__main__":
    dl.main(Config, build)
