"""Functions in a config have names that are the same in every process, and differ where the functions do."""

import dataclasses
import functools
import os
import subprocess
import sys
from collections.abc import Callable

import flax.linen as nn
import jax
import numpy as np
import optax
import pytest
from mistakes import raises

import dl
from dl.core.experiment import unboxed
from dl.runs.folder import read_json, to_json
from dl.runs.functions import called
from dl.runs.scripts import from_json
from dl.tasks.classification import classification


def scaled(factor):
    def act(x):
        return factor * x

    return act


class Holder:
    def __init__(self, factor):
        self.factor = factor

    def act(self, x):
        return self.factor * x


def recursive():
    def count(n):
        return count(n - 1) if n else 0

    return count


def some():
    """Pairs of functions that differ in one number."""
    yield from ([make(k) for k in (2, 3)] for make in (scaled, lambda k: Holder(k).act))
    yield [lambda x: 2 * x, lambda x: 3 * x]
    yield [lambda x, k=2: k * x, lambda x, k=3: k * x]
    yield [jax.jit(scaled(k)) for k in (2, 3)]
    yield [functools.partial(np.add, k) for k in (2, 3)]
    yield [functools.partial(scaled(k), x=1) for k in (2, 3)]
    yield [optax.constant_schedule(k) for k in (2, 3)]
    yield [optax.adam(k).update for k in (2, 3)]
    yield [scaled(np.arange(3) * k) for k in (2, 3)]
    yield [scaled(Holder(k)) for k in (2, 3)]


def test_functions_that_differ_are_told_apart_and_the_same_made_again_are_not():
    for (one, other), (again, _) in zip(some(), some(), strict=True):
        assert called(one) == called(again) != called(other)


def test_those_of_a_module_go_by_their_name():
    assert to_json([scaled, jax.nn.relu, len, Holder]) == ["scaled", "relu", "len", "Holder"]
    assert called(functools.partial(jax.nn.leaky_relu, negative_slope=0.1)) == (
        "leaky_relu(negative_slope=0.1)"
    )
    assert called(recursive()).startswith("count ")


CODE = """
from dl.runs.functions import called
make = lambda k: lambda x, y=2: x if x in {"a", "b", "c"} else k
names = called(make(2)), called(make({"d", "e", "f"}))
"""


def test_names_are_those_of_another_process():
    here: dict = {}
    exec(CODE, here)
    command = [sys.executable, "-c", CODE + "print(names)"]
    path = {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONHASHSEED": "7"}
    told = subprocess.run(
        command, capture_output=True, text=True, check=True, env=os.environ | path
    )
    assert told.stdout.strip() == str(here["names"])


@dataclasses.dataclass(frozen=True)
class Config(dl.Recipe):
    steps: int = 2
    act: Callable = jax.nn.relu


class Net(nn.Module):
    act: Callable

    @nn.compact
    def __call__(self, x, *, train=False):
        return nn.Dense(2)(self.act(x))


def build(config):
    columns = {"features": np.ones((4, 3), np.float32), "label": np.arange(4, dtype=np.int32) % 2}
    task = classification(Net(config.act), inputs="features", prepare=lambda x: x)
    return config.experiment(task, dl.train_batches(columns, 2, 0), steps=config.steps)


def test_a_finished_run_is_not_taken_for_one_of_another_function(tmp_path):
    def run(act, resume, **fields):
        config = Config(act=act, **fields)
        return dl.train(build, config, runs=tmp_path, name="run", resume=resume, progress=False)

    # NumPy's numbers are those of Python.
    first = run(scaled(2), False, steps=np.int64(2), learning_rate=np.float32(0.1))
    again = run(scaled(2), True, learning_rate=0.1)
    assert again.result == first.result
    with raises("config-changed", "config.act", "another --name") as told:
        run(scaled(3), True, learning_rate=0.1)
    assert "dl fork" not in str(told.value)  # no flag could say it
    stored = read_json(first.folder.config)["config"]
    with raises("config-of-functions", "'act'", "build="):
        from_json(Config, stored)
    assert from_json(Config, {**stored, "act": "relu"}).act is jax.nn.relu


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (np.float32(0.1), 0.1),
        (np.float64(0.1), 0.1),
        (np.array(3), 3),
        (np.array([[1], [2]]), [[1], [2]]),
        (jax.numpy.array([True]), [True]),
        (np.str_("a"), "a"),
        ("a", "a"),
    ],
)
def test_numbers_of_numpy_become_python_s(value, plain):
    found = unboxed(value)
    assert found == plain
    assert type(found) is type(plain)
