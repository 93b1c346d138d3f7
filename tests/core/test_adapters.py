"""Adapters begin as nothing, alone are trained, and merge into plain variables."""

import dataclasses
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from mistakes import raises

import dl
from dl.core.experiment import built
from dl.core.lanes import traceable_fields
from dl.data import load
from dl.models.language import LanguageModel, TextClassifier
from dl.models.mlp import MLP
from dl.models.resnet import ResNet
from dl.models.transformer import Transformer
from dl.tasks.classification import classification
from dl.tasks.sequence_classification import sequence_classification
from dl.testing import check_task

ROWS = {
    "image": np.random.default_rng(0).integers(0, 255, (4, 3, 3, 1)).astype(np.uint8),
    "label": np.arange(4, dtype=np.int32) % 3,
}
PLAIN = classification(MLP((5, 3)))
QUICK = {"log_every": 4, "eval_every": 4, "save_every": 4, "progress": False}


def test_it_keeps_the_contract_of_a_task():
    check_task(dl.lora(PLAIN, 2, whole=("bias",)), ROWS)


@pytest.mark.parametrize("bfloat16", [False, True])
@pytest.mark.parametrize("body", ["conv", "layers", "scan"])
def test_it_begins_with_the_outputs_of_the_base_to_the_bit(body, bfloat16):
    if body == "conv":
        rows = ROWS | {"image": np.tile(ROWS["image"], (1, 4, 4, 3))}
        plain = classification(ResNet(3, (1, 1), width=4))
    else:
        tokens = np.random.default_rng(0).integers(1, 9, (4, 6)).astype(np.int32)
        rows = {"tokens": tokens, "tokens_length": np.full(4, 6), "label": ROWS["label"]}
        inner = LanguageModel(9, Transformer(8, 2, 2, scan=body == "scan"), 6)
        plain = sequence_classification(TextClassifier(inner, 3))
    adapted = dl.lora(plain, 2, alpha=4.0)
    if bfloat16:
        plain, adapted = dl.mixed_precision(plain), dl.mixed_precision(adapted)
    key, columns = jax.random.key(0), {n: jnp.asarray(x) for n, x in rows.items()}
    before, begun = (jax.jit(task.init)(key, columns) for task in (plain, adapted))
    jax.tree.map(np.testing.assert_array_equal, before["params"], dl.merge(begun)["params"])
    outputs = [
        jax.jit(t.apply)(v, columns, None)[0] for t, v in ((plain, before), (adapted, begun))
    ]
    np.testing.assert_array_equal(*outputs)
    if body == "scan":
        kernel = begun["params"]["encoder"]["body"]["layers"]["in"]["kernel"]
        assert (kernel["a"].shape, kernel["b"].shape) == ((2, 8, 2), (2, 2, 32))


def stepped(task, optimizer, count=3):
    batch = {name: jnp.asarray(x) for name, x in ROWS.items()}
    state = jax.jit(lambda batch: dl.init_state(task, optimizer, batch))(batch)
    step = jax.jit(dl.train_step(task, optimizer))
    begun = state
    for _ in range(count):
        state, _ = step(state, batch)
    return begun, state


def test_adapters_alone_are_trained_and_the_merged_predict_the_same():
    task = dl.lora(
        PLAIN, 2, alpha=3.0, whole="Dense_1/bias"
    )  # one pattern is a word, or a tuple of one
    begun, after = stepped(task, optax.adam(0.1))
    jax.tree.map(np.testing.assert_array_equal, begun.variables["base"], after.variables["base"])
    assert set(after.variables["params"]["Dense_0"]) == {"kernel"}
    moments = after.opt_state[0].mu
    assert jax.tree.structure(moments) == jax.tree.structure(after.variables["params"])
    plain = dl.merge(after.variables)
    assert set(plain) == {"params"}
    columns = {"image": jnp.asarray(ROWS["image"])}
    said = task.predict(after.variables, columns)
    for one in (PLAIN, task):  # the adapted task takes merged variables too
        np.testing.assert_allclose(said, one.predict(plain, columns), rtol=1e-5, atol=1e-6)
    kernel = after.variables["params"]["Dense_0"]["kernel"]
    change = plain["params"]["Dense_0"]["kernel"] - begun.variables["base"]["Dense_0"]["kernel"]
    np.testing.assert_allclose(change, 1.5 * kernel["a"] @ kernel["b"], atol=1e-6)
    assert np.abs(said - PLAIN.predict(dl.merge(begun.variables), columns)).max() > 0.01


def test_mistakes_are_told_in_one_line():
    batch = {name: jnp.asarray(x) for name, x in ROWS.items()}
    with raises("pattern-nowhere", "'attention'"):
        dl.lora(PLAIN, 2, pattern="attention").init(jax.random.key(0), batch)
    with raises("pattern-nowhere", "'bias'", "no matrix"):
        dl.lora(PLAIN, 2, pattern="bias").init(jax.random.key(0), batch)
    with raises("range", "rank"):
        dl.lora(PLAIN, 0)
    with raises("ensemble-last"):
        dl.lora(dl.ensemble(PLAIN, 2), 1)
    with raises("adapters-twice"):
        dl.lora(dl.lora(PLAIN, 2), 1).init(jax.random.key(0), batch)


@dataclasses.dataclass(frozen=True)
class Config(dl.Recipe):
    steps: int = 12
    batch_size: int = 20
    learning_rate: float = 1e-2
    ema: float | None = 0.9
    rank: int = 0
    alpha: float = 4.0
    classes: int = 10


def build(config):
    splits = load("digits")
    task = classification(MLP((16, config.classes)))
    if config.rank:
        task = dl.lora(task, config.rank, alpha=config.alpha, whole=("^Dense_1/",))
    data = dl.train_batches(splits.train, config.batch_size, config.seed)
    return config.experiment(task, data, **dl.held_out(splits, 100))


def test_it_begins_with_another_run_and_goes_out_merged(tmp_path):
    first = dl.train(build, Config(), runs=tmp_path, name="first", **QUICK)
    start = str(shutil.copytree(first.folder.path, tmp_path / "start"))
    config = Config(rank=2, start=start, classes=12)
    run = dl.train(build, config, runs=tmp_path, name="tuned", **QUICK)
    began = first.state.eval_variables["params"]["Dense_0"]["kernel"]
    np.testing.assert_array_equal(run.state.variables["base"]["Dense_0"]["kernel"], began)
    assert run.state.variables["params"]["Dense_1"]["kernel"].shape == (16, 12)
    assert set(run.predictor.variables) == {"params"}
    images = load("digits").test["image"][:5]
    said = run.experiment.task.predict(run.state.eval_variables, {"image": jnp.asarray(images)})
    np.testing.assert_allclose(run.predict(images), said, rtol=1e-4, atol=1e-5)
    again = dl.open_run(run.folder.path, build, config)
    np.testing.assert_array_equal(again.predict(images), run.predict(images))
    shutil.rmtree(start)
    with raises("base-missing", run.folder.path.name, start, "bring it back"):
        dl.open_run(run.folder.path, build, config)
    assert {"learning_rate", "alpha"} <= set(traceable_fields(built(build, config)).values)


def test_a_lane_has_the_bits_of_the_run_alone(tmp_path):
    config = Config(rank=2, steps=6)
    swept = {"learning_rate": [1e-3, 1e-2], "alpha": [4.0]}
    dl.sweep(build, config, swept, lanes="map", runs=tmp_path, name="swept", **QUICK)
    alone = dl.train(build, config, runs=tmp_path, name="alone", **QUICK)
    lane = sorted((tmp_path / "swept" / "lanes").iterdir())[1]
    found = dl.open_run(lane, build, dataclasses.replace(config, learning_rate=1e-2))
    assert dl.digest(found.state) == dl.digest(alone.state)
