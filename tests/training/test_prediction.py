"""A predictor takes any number of rows, says what it cannot take, and is what measures and views are given."""

import dataclasses
import json
from pathlib import Path
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mistakes import raises

import dl
from dl.core.experiment import built
from dl.core.lanes import traceable_fields
from dl.data.batches import eval_batches, train_batches
from dl.data.batches.streams import ArraySource, StreamEvalBatches
from dl.data.batches.windows import Slice, eval_windows
from dl.models.gan import GAN, Discriminator, Generator
from dl.runs.options import Options
from dl.sweeps.sweep import Sweep, run_sweep
from dl.tasks.adversarial import adversarial
from dl.tasks.classification import classification
from dl.tasks.regression import regression
from dl.training.prediction import columns_of

OPTIONS = {"log_every": 3, "eval_every": 3, "progress": False}
DRAW = np.random.default_rng(0)


class Said(NamedTuple):
    value: jax.Array
    rank: jax.Array


def line() -> dl.Task:
    """Two numbers a row from two columns, one of them traced into a named tuple."""

    def predict(variables, columns):
        value = columns["x"] @ variables["params"]["w"] + columns["shift"][:, None]
        return {"said": Said(value, value.argmax(-1))}

    task = regression(nn.Dense(1), inputs=("x", "shift"))
    return dataclasses.replace(task, predict=predict)


VARIABLES = {"params": {"w": jnp.array(DRAW.normal(size=(3, 2)), jnp.float32)}}
ROWS = {"x": DRAW.normal(size=(40, 3)), "shift": np.arange(40)}
LINE = line()


def cut(rows):
    return {name: column[rows] for name, column in ROWS.items()}


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 40])
def test_any_number_of_rows_is_predicted_as_one_by_one(count):
    predict = dl.Predictor(LINE, VARIABLES, batch_size=8)
    said = predict(cut(slice(count)))["said"]
    assert isinstance(said, Said)
    assert type(said.value) is np.ndarray
    assert (said.value.shape, said.rank.shape) == ((count, 2), (count,))
    assert (said.value.dtype, said.rank.dtype) == (np.float32, np.int32)
    for row in range(count):
        alone = predict(cut(slice(row, row + 1)))["said"]
        np.testing.assert_array_equal(said.value[row], alone.value[0])
        np.testing.assert_array_equal(said.rank[row], alone.rank[0])


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 50), st.integers(0, 40))
def test_any_batch_size_gives_the_same_values(size, count):
    wanted = LINE.predict(VARIABLES, jax.tree.map(jnp.asarray, cut(slice(count))))["said"].value
    said = dl.Predictor(LINE, VARIABLES, batch_size=size)(cut(slice(count)))["said"]
    np.testing.assert_allclose(said.value, wanted, rtol=1e-5, atol=1e-6)


def network(task, columns):
    return jax.jit(task.init)(jax.random.key(0), columns)


PICTURES = {
    "image": DRAW.integers(0, 256, (10, 4, 4, 1)).astype(np.uint8),
    "label": np.arange(10, dtype=np.int32) % 3,
}


class Flat(nn.Module):
    """One layer on whole pictures."""

    @nn.compact
    def __call__(self, x, *, train: bool = False):
        return nn.Dense(3)(x.reshape(len(x), -1))


CLASSES = classification(Flat())


def test_the_members_of_an_ensemble_predict_together():
    task = dl.ensemble(CLASSES, 3)
    variables = network(task, PICTURES)
    said = dl.Predictor(task, variables, batch_size=4)(PICTURES)
    np.testing.assert_allclose(said, task.predict(variables, PICTURES), rtol=1e-5, atol=1e-6)
    with raises("pixels-range", "'image'", "0..255"):
        dl.Predictor(task, variables, PICTURES)(PICTURES["image"] / 255.0)


def test_one_program_serves_all_counts_and_variables_of_a_task():
    traces = []

    def predict(variables, columns):
        traces.append(columns["x"].shape)
        return columns["x"] * variables["params"]["w"]

    task = dataclasses.replace(LINE, predict=predict, columns=("x",))
    for w in (1.0, 2.0):
        for count in (0, 1, 9, 30):
            said = dl.Predictor(task, {"params": {"w": w}}, batch_size=8)(np.ones((count, 2)))
            np.testing.assert_array_equal(said, np.full((count, 2), w))
    assert traces == [(8, 2)]


def test_evaluation_batches_are_predicted_without_their_padding():
    x = DRAW.normal(size=(23, 3)).astype(np.float32)
    columns = {"x": x, "shift": np.arange(23, dtype=np.int32), "label": np.zeros(23)}
    predict = dl.Predictor(LINE, VARIABLES, batch_size=8)
    wanted = predict(columns)["said"].value
    for batches in (
        eval_batches(columns, 5),
        StreamEvalBatches(ArraySource(columns), 5),
        eval_batches(columns, 50),
    ):
        np.testing.assert_array_equal(predict(batches)["said"].value, wanted)
        last = batches[len(batches) - 1]
        real = np.asarray(last["mask"]).sum().astype(int)
        np.testing.assert_array_equal(predict(last)["said"].value, wanted[-real:])
    with raises("not-evaluation-batches", "give evaluation batches", "eval_batches(columns, 500)"):
        predict(train_batches(columns, 5))


def test_columns_are_what_a_set_holds_in_order_without_padding():
    values = DRAW.normal(size=(11, 2)).astype(np.float32)
    windows = eval_windows(
        {"values": values}, (Slice("past", "values", 0, 3),), 4, labels={"row": np.arange(9)}
    )
    found = columns_of(windows)
    np.testing.assert_array_equal(found["row"], np.arange(9))
    np.testing.assert_array_equal(found["past"], [values[i : i + 3] for i in range(9)])
    for batches in (eval_batches(PICTURES, 4), StreamEvalBatches(ArraySource(PICTURES), 4)):
        found = columns_of(batches)
        assert found.keys() == PICTURES.keys()
        for name, column in PICTURES.items():
            np.testing.assert_array_equal(found[name], column)


class Counted:
    """Rows that count how often each is read, and how many were held at once."""

    def __init__(self, columns):
        self.columns, self.read = columns, 0

    def __len__(self):
        return len(next(iter(self.columns.values())))

    def __getitem__(self, row):
        self.read += 1
        return {name: value[row] for name, value in self.columns.items()}


def test_columns_that_stream_are_read_when_they_are_asked_for():
    x = DRAW.normal(size=(23, 3)).astype(np.float32)
    columns = {"x": x, "shift": np.arange(23, dtype=np.int32), "label": np.zeros(23)}
    source = Counted(columns)
    found = columns_of(StreamEvalBatches(source, 5))
    assert source.read == 0
    predict = dl.Predictor(LINE, VARIABLES, batch_size=8)
    np.testing.assert_array_equal(predict(found)["said"].value, predict(columns)["said"].value)
    assert source.read == 25  # padding and all, once


MISTAKES = {
    "a missing batch axis": (
        "image",
        lambda x: x["image"][0],
        ("not-a-batch", "'image'", "give a batch of one, x[None]"),
    ),
    "a wrong number of features": (
        *("image", lambda x: x["image"][:, :3]),
        (
            "column-unlike-training",
            "'image'",
            "whole numbers [batch, 3, 4, 1]",
            "whole numbers [batch, 4, 4, 1]",
        ),
    ),
    "an unknown column": (
        "image",
        lambda x: {**x, "lable": x["label"]},
        ("unknown", "'lable'", "did you mean 'label'?"),
    ),
    "a missing column": (
        "image",
        lambda x: {"label": x["label"]},
        ("column-missing", "'image' is missing", "given is 'label'"),
    ),
    "one array for two columns": (
        *(("image", "label"), lambda x: x["image"]),
        ("columns-not-dict", "dict of columns ('image', 'label')", "one array"),
    ),
    "an array for no column": (
        (),
        lambda x: x["image"],
        ("columns-not-dict", "dict of columns (no column)"),
    ),
    "columns of several lengths": (
        *(("image", "label"), lambda x: {**x, "label": x["label"][:4]}),
        ("column-lengths", "'image' 10, 'label' 4"),
    ),
    "rows of several shapes": (
        "image",
        lambda x: [x["image"][0], x["image"][0, :2]],
        ("row-shapes-differ", "'image'"),
    ),
    "text": ("image", lambda x: x["image"].astype(str), ("column-not-numbers", "'image'", "<U3")),
    "one number": ("image", lambda x: 3, ("not-a-batch", "'image' as [batch, 4, 4, 1]", "[]")),
    "numbers beyond the device's": (
        *(("image", "label"), lambda x: {**x, "label": x["label"].astype(np.int64) + 2**40}),
        ("number-too-large", "'label'", "int32"),
    ),
}


@pytest.mark.parametrize("what", MISTAKES)
def test_a_mistake_is_one_line(what):
    columns, change, says = MISTAKES[what]
    columns = (columns,) if isinstance(columns, str) else columns
    task = dataclasses.replace(CLASSES, columns=columns, check=None)
    predict = dl.Predictor(task, network(CLASSES, PICTURES), PICTURES)
    with raises(*says) as caught:
        predict(change(PICTURES))
    assert "ScopeParam" not in str(caught.value)


def test_without_an_example_the_model_itself_says_what_does_not_fit():
    predict = dl.Predictor(CLASSES, network(CLASSES, PICTURES))
    with raises(
        "column-unlike-training", "'image' as whole numbers [batch, 3, 4, 1]", "give as many"
    ):
        predict(PICTURES["image"][:, :3])
    summed = dataclasses.replace(CLASSES, predict=lambda variables, columns: jnp.zeros(3))
    with raises("predict-return", "a row for each of 128 rows", "[3]"):
        dl.Predictor(summed, {})(PICTURES)


def test_a_generator_is_given_its_noise():
    model = GAN(Generator((4, 4, 1), (4,)), Discriminator((4,)), latent=3)
    task = adversarial(model)
    variables = network(task, PICTURES)
    noise = model.noise(jax.random.key(0), 5)
    drawn = dl.Predictor(task, variables, PICTURES, batch_size=2)(noise)
    np.testing.assert_allclose(drawn, task.predict(variables, {"noise": noise}), atol=1e-5)
    with raises("column-unlike-training", "'noise' as floats"):
        dl.Predictor(task, variables, PICTURES)(noise[:, :2])


def test_what_is_predicted_of_no_column_needs_none():
    task = dataclasses.replace(
        LINE, predict=lambda variables, _: variables["params"]["w"], columns=()
    )
    predict = dl.Predictor(task, VARIABLES)
    np.testing.assert_array_equal(predict({}), VARIABLES["params"]["w"])
    np.testing.assert_array_equal(predict(ROWS), VARIABLES["params"]["w"])


# -- what a run gives measures and views --------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Config:
    shift: float = 0.5
    seed: int = 0
    steps: int = 6


SEEN: list = []
TRACES: list = []


def columns(count, first=0.0):
    x = first + np.arange(count, dtype=np.float32)[:, None] / 16
    return {"x": x, "label": 2 * x[:, 0], "row": np.arange(count, dtype=np.int32)}


def build(config: Config) -> dl.Experiment:
    plain = regression(Number(), inputs="x")

    def predict(variables, columns):
        TRACES.append(columns["x"].shape)
        return plain.predict(variables, columns) * 0 + config.shift

    def measure(predictor, columns, name):
        SEEN.append((name, columns))
        said = predictor(columns)
        return {"said": float(said.mean()), "rows": float(len(said))}

    return dl.Experiment(
        task=dataclasses.replace(plain, predict=predict),
        data=train_batches(columns(32), 8, config.seed),
        optimizer=dl.optimizer("sgd", 0.1),
        steps=config.steps,
        seed=config.seed,
        evals={
            "validation": eval_batches(columns(13, 1.0), 5),
            "streamed": StreamEvalBatches(ArraySource(columns(7, 2.0)), 4),
        },
        tests={"test": eval_batches(columns(11, 3.0), 4)},
        measure=measure,
        views=lambda predictor: {"said": str(predictor(np.ones((2, 1))).tolist())},
    )


class Number(nn.Module):
    @nn.compact
    def __call__(self, x, *, train: bool = False):
        return nn.Dense(1)(x)[:, 0]


def watched():
    SEEN.clear()
    TRACES.clear()


def check_seen(times):
    wanted = {"validation": (13, 1.0), "streamed": (7, 2.0), "test": (11, 3.0)}
    assert len(SEEN) == times
    for name, held in SEEN:
        for column, values in columns(*wanted[name]).items():
            assert type(held[column]) is np.ndarray
            np.testing.assert_array_equal(held[column], values)


def test_a_measure_sees_the_rows_of_its_set_and_one_program_serves_the_run(tmp_path):
    watched()
    run = dl.train(build, Config(0.25), runs=tmp_path, name="a", **OPTIONS)
    check_seen(2 * 2 + 1)
    assert TRACES.count((5, 1)) == 1
    for name, rows in (("validation", 13), ("streamed", 7), ("test", 11)):
        assert run.metrics[f"{name}/said"] == 0.25
        assert run.metrics[f"{name}/rows"] == rows
    assert (run.folder.path / "views" / "said-6.txt").read_text() == "[0.25, 0.25]\n"
    np.testing.assert_array_equal(run.predict(np.ones((3, 1))), np.full(3, 0.25))


def test_a_measure_of_a_lane_sees_the_same_and_predicts_with_the_lane_s_own_values(tmp_path):
    watched()
    place = run_sweep(
        build,
        Config(),
        Sweep(sweep=("shift=0.25,0.5,0.75",), lanes="map"),
        Options(name="s", runs=tmp_path, **OPTIONS),
        lambda name, text: float(text),
        script=Path(__file__),
    ).folder
    check_seen(3 * (2 * 2 + 1))
    assert TRACES.count((5, 1)) == 1
    for lane, shift in zip(sorted((place / "lanes").iterdir()), (0.25, 0.5, 0.75), strict=True):
        assert json.loads((lane / "result.json").read_text())["metrics"]["test/said"] == shift
        assert (lane / "views" / "said-6.txt").read_text() == f"[{shift}, {shift}]\n"


def test_a_value_that_predict_needs_in_python_is_traced_in_no_run():
    def sharp(config):
        made = build(config)
        predict = lambda v, columns: columns["x"][:, 0] if config.shift > 0 else None  # noqa: E731
        return dataclasses.replace(made, task=dataclasses.replace(made.task, predict=predict))

    assert traceable_fields(built(sharp, Config())).values.keys() == {"seed"}
    assert traceable_fields(built(build, Config())).values.keys() == {"shift", "seed"}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {"measure": lambda variables, name: {}},
            ("not-a-function", "measure", "(predictor, columns, name) -> dict"),
        ),
        ({"views": lambda: {}}, ("not-a-function", "views", "(predictor) -> dict")),
    ],
)
def test_a_measure_of_other_arguments_is_refused_before_training(tmp_path, changes, says):
    def wrong(config):
        return dataclasses.replace(build(config), **changes)

    with raises(*says):
        dl.train(wrong, Config(), runs=tmp_path, name="x", **OPTIONS)
    assert not (tmp_path / "x").exists()
