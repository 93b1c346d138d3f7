"""A recipe describes the experiment that its fields say."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mistakes import raises

import dl
from dl.core.experiment import built
from dl.core.lanes import traceable_fields
from dl.data.batches import train_batches
from dl.models.mlp import MLP
from dl.tasks.classification import classification

COLUMNS = {
    "image": np.arange(10 * 4, dtype=np.uint8).reshape(10, 2, 2, 1),
    "label": np.arange(10, dtype=np.int32) % 2,
}


@dataclasses.dataclass(frozen=True)
class Config(dl.Recipe):
    batch_size: int = 5
    learning_rate: float = 0.1
    width: int = 3


def build(config: Config, **length) -> dl.Experiment:
    task = classification(MLP((config.width, 2)))
    data = train_batches(COLUMNS, config.batch_size, config.seed)
    return config.experiment(task, data, **(length or {"steps": 40}))


def test_the_length_is_steps_or_passes_over_the_data():
    assert build(Config(), steps=7).steps == 7
    assert build(Config(), epochs=2.5).steps == 5
    assert build(Config(), epochs=0.1).steps == 1
    with raises("steps-or-epochs"):
        build(Config(), steps=7, epochs=2)


def test_the_usual_length_suits_the_size_of_the_set():
    assert build(Config(), usual_epochs=50).steps == 1000
    assert build(Config(), usual_epochs=600, least_steps=30).steps == 1200

    @dataclasses.dataclass(frozen=True)
    class Asked(Config):
        epochs: int | None = None

    assert build(Asked(epochs=3), usual_epochs=50).steps == 6  # what is asked for counts
    assert build(Asked(), usual_epochs=2, least_steps=1).steps == 4


@pytest.mark.parametrize("name", ["linear", "cosine", "exponential"])
def test_the_rate_rises_over_the_warmup_and_falls_to_the_final_share(name):
    config = Config(
        optimizer="sgd", schedule=name, warmup_percent=25, final_rate=0.1, clip=None, seed=1
    )
    optimizer = build(config).optimizer
    params = {"kernel": jnp.ones((2, 2))}

    def step(state, _):
        updates, state = optimizer.update(jax.tree.map(jnp.ones_like, params), state, params)
        return state, -updates["kernel"][0, 0]

    rates = jax.lax.scan(step, optimizer.init(params), length=41)[1]
    assert rates[0] == 0
    assert np.argmax(rates) == 10
    np.testing.assert_allclose(rates[jnp.array([10, 40])], [0.1, 0.01], rtol=1e-5)


def test_no_rate_takes_the_optimizers_usual_one():
    first = build(Config(optimizer="lion", learning_rate=None, warmup_percent=0))  # type: ignore[arg-type]
    params = {"kernel": jnp.ones((2, 2))}
    updates, _ = first.optimizer.update(params, first.optimizer.init(params), params)
    np.testing.assert_allclose(updates["kernel"], -1e-4, rtol=1e-5)


def test_bfloat16_computes_so_and_keeps_the_parameters():
    experiment = build(Config(bfloat16=True))
    variables = experiment.task.init(jax.random.key(0), experiment.data[0])
    assert {leaf.dtype.name for leaf in jax.tree.leaves(variables)} == {"float32"}
    logits = experiment.task.predict(variables, experiment.data[0])
    assert logits.dtype == jnp.float32
    np.testing.assert_array_equal(logits, logits.astype(jnp.bfloat16).astype(jnp.float32))


def test_its_numbers_can_be_lanes_of_one_program():
    lifted = traceable_fields(built(build, Config())).values
    assert {"seed", "learning_rate", "final_rate", "weight_decay", "b2", "clip"} <= set(lifted)


def test_an_exponential_fall_needs_an_end_above_0():
    with raises("range", "final_rate", "above 0"):
        build(Config(schedule="exponential"))
