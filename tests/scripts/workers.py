"""A tiny experiment whose data is decoded in processes of its own, one of which dies where
``DL_TEST_DIE`` names a row."""

import dataclasses
import os
import signal

import numpy as np
from tiny import Net

import dl
from dl.data.batches.streams import ArraySource, StreamBatches
from dl.tasks.classification import classification


@dataclasses.dataclass(frozen=True)
class Config:
    steps: int = 30


def decode(row):
    if str(row["number"]) == os.environ.get("DL_TEST_DIE"):
        os.kill(os.getpid(), signal.SIGKILL)
    return {"image": row["image"], "label": row["label"]}


def build(config: Config) -> dl.Experiment:
    random = np.random.default_rng(0)
    columns = {
        "image": random.integers(0, 256, (300, 4, 4, 1)).astype(np.uint8),
        "label": random.integers(0, 10, 300).astype(np.int32),
        "number": np.arange(300),
    }
    return dl.Experiment(
        task=classification(Net((8,), 0.1)),
        data=StreamBatches(ArraySource(columns), 4, decode=decode, processes=1, prefetch=1),
        optimizer=dl.optimizer("adam", 1e-3),
        steps=config.steps,
    )


if __name__ == "__main__":
    dl.main(Config, build)
