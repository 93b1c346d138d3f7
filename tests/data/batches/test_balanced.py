"""Balanced batches hold as many rows of each class, as a function of seed and step alone."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mistakes import raises

import dl
from dl.core.experiment import built
from dl.core.lanes import traceable_fields
from dl.data.batches.streams import ArraySource, StreamBatches
from dl.data.folded import Folds
from dl.models.mlp import MLP
from dl.tasks.classification import classification

LABEL = np.repeat([3, 7, 8], [40, 5, 1]).astype(np.int32)
ARRAYS = {"row": np.arange(46, dtype=np.int32), "label": LABEL}


def rows(steps, **options):
    batches = dl.train_batches(
        ARRAYS, options.get("batch_size", 4), options.get("seed", 0), "label"
    )
    return np.concatenate([np.asarray(batches[step]["row"]) for step in range(steps)])


@pytest.mark.parametrize("batch_size", [1, 4, 46])
def test_as_many_rows_of_each_class_and_each_class_in_epochs(batch_size):
    seen = rows(360 // batch_size + 1, batch_size=batch_size)[:360]
    blocks = LABEL[seen].reshape(120, 3)
    assert (np.sort(blocks) == [3, 7, 8]).all()
    assert len({tuple(block) for block in blocks}) == 6  # the classes' order changes
    common = seen[LABEL[seen] == 3].reshape(3, 40)
    assert (np.sort(common) == np.arange(40)).all()  # no row twice an epoch
    assert (common[0] != common[1]).any()
    assert (np.sort(seen[LABEL[seen] == 7].reshape(24, 5)) == np.arange(40, 45)).all()


def test_the_step_and_the_seed_decide_traced_or_not():
    batches = dl.train_batches(ARRAYS, 5, 3, "label")
    traced = jax.jit(lambda batches, step: batches[step])(batches, jnp.int32(9))
    np.testing.assert_array_equal(traced["row"], batches[9]["row"])
    np.testing.assert_array_equal(batches.indices(9), batches[9]["row"])
    assert (rows(9, seed=1) != rows(9, seed=2)).any()
    seeds = jax.jit(lambda seed: dl.train_batches(ARRAYS, 5, seed, "label").indices(9))
    np.testing.assert_array_equal(seeds(jnp.uint32(3)), batches.indices(9))


def test_a_seed_of_theirs_may_be_a_lane():
    @dataclasses.dataclass(frozen=True)
    class Config(dl.Recipe):
        steps: int = 4
        batch_size: int = 6

    def build(config):
        columns = {"image": np.zeros((46, 2, 2, 1), np.uint8), "label": LABEL}
        data = dl.train_batches(columns, config.batch_size, config.seed, "label")
        return config.experiment(classification(MLP((9,))), data)

    assert "seed" in traceable_fields(built(build, Config())).values


def test_mistakes_are_told_in_one_line():
    with raises("unknown", "'labels'", "did you mean 'label'"):
        dl.train_batches(ARRAYS, 4, 0, "labels")
    with raises("balance-not-classes", "'x'"):
        dl.train_batches({"x": np.ones((4, 2), np.float32)}, 2, 0, "x")

    class Streamed:
        def train_batches(self, batch_size, seed):
            return StreamBatches(ArraySource(ARRAYS), batch_size, seed)

    with raises("balance-streams"):
        dl.train_batches(Streamed(), 4, 0, "label")
    with raises("balance-folds", "leave out the folds"):
        dl.train_batches(Folds([ARRAYS, ARRAYS]).at(0), 4, 0, "label")
