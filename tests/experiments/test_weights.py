"""--weights FOLDER: a script begins from an imported model, its last layer fresh where it must be."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mistakes import raises

import dl
import dl.data.own.door
from dl.core.experiment import built
from dl.data.splits import Info, Splits
from dl.data.tokenizers import train_subwords
from dl.interop import exact_gelu, image_preparation, save
from dl.models.language import LanguageModel
from dl.models.resnet import BasicBlock, ResNet
from dl.models.transformer import Transformer
from dl.models.vit import ViT
from dl.runs.scripts import load_script
from dl.training.compiled import Compiled

SCRIPTS = Path(__file__).parents[2] / "experiments"
SENTENCES = ["a fine film , warm and wise", "a dull film , cold and long", "warm wise and fine"] * 4


def begin(name, weights, **fields):
    """``(experiment, first state)`` of a script with these weights."""
    config, build = load_script(SCRIPTS / f"{name}.py")
    experiment = built(build, config(weights=str(weights), **fields))
    return experiment, Compiled(experiment).beginning().state()


def assert_steps(experiment, state):
    step = jax.jit(dl.train_step(experiment.task, experiment.optimizer, ema=experiment.ema))
    later, metrics = step(state, experiment.data[0])
    assert int(later.step) == 1
    total, weight = metrics["loss"]
    assert np.isfinite(total / weight)


def made(model, x, folder):
    variables = jax.jit(model.init)(jax.random.key(3), x)
    save(folder, model, variables)
    return variables


def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_image_classification_keeps_a_head_of_as_many_classes(tmp_path):
    model = ViT(10, Transformer(8, 1, 2, activation=exact_gelu), patch=8, pool="first")
    theirs = made(model, jnp.zeros((1, 16, 16, 3)), tmp_path)  # digits have 8 x 8 grey pixels
    experiment, state = begin("image_classification", tmp_path, batch_size=8)
    same(state.variables["params"], theirs["params"])
    images = experiment.data[0]["image"]
    said = experiment.task.predict(state.variables, {"image": images})
    wanted = model.apply(theirs, image_preparation(tmp_path)(images))
    np.testing.assert_allclose(said, wanted, atol=1e-5)


def test_image_classification_draws_a_head_of_other_classes(tmp_path):
    theirs = made(ResNet(3, (1,), BasicBlock, 4), jnp.zeros((1, 8, 8, 3)), tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(
        '{"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.2, 0.1], "size": {"shortest_edge": 12}}'
    )
    experiment, state = begin("image_classification", tmp_path, batch_size=8)
    assert_steps(experiment, state)
    assert state.variables["params"]["Dense_0"]["kernel"].shape == (4, 10)
    for collection in ("params", "batch_stats"):
        same(
            state.variables[collection]["ResNetFeatures_0"], theirs[collection]["ResNetFeatures_0"]
        )


def test_pictures_are_resized_and_normalised_as_the_folder_says(tmp_path):
    made(ResNet(3, (1,), BasicBlock, 4), jnp.zeros((1, 8, 8, 3)), tmp_path)
    grey = np.full((2, 8, 8, 1), 51, np.uint8)
    np.testing.assert_allclose(
        image_preparation(tmp_path)(grey), np.full((2, 8, 8, 3), -0.6), atol=1e-6
    )
    (tmp_path / "preprocessor_config.json").write_text(
        '{"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.2, 0.1], "size": {"shortest_edge": 12}}'
    )
    x = image_preparation(tmp_path)(grey)
    assert x.shape == (2, 12, 12, 3)
    np.testing.assert_allclose(x[0, 0, 0], [-1.5, -1.0, -1.0], atol=1e-5)
    with raises("channels-differ", "3 channels", "4"):
        image_preparation(tmp_path)(np.zeros((1, 8, 8, 4), np.uint8))


def test_style_transfer_sees_with_an_imported_network(tmp_path):
    made(ResNet(3, (1, 1), BasicBlock, 4), jnp.zeros((1, 8, 8, 3)), tmp_path)
    _, state = begin("style_transfer", tmp_path, size=32)
    assert [g.shape[-1] for g in state.variables["targets"]["style"]] == [4, 8]


@pytest.fixture
def texts(monkeypatch):
    """Both text sets in small, for the scripts that load them."""
    columns = {"text": np.array(SENTENCES, object), "label": np.arange(12, dtype=np.int32) % 2}
    info = Info("sst2", "", "", "", "", "", ("no", "yes"))
    sentences = Splits(columns, columns, columns, info)
    characters = {"text": np.array(list("\n".join(SENTENCES)))}
    whole = Splits(characters, characters, {}, info)
    sets = {"tinyshakespeare": whole, "sst2": sentences}
    monkeypatch.setattr(dl.data.own.door, "load", sets.__getitem__)


def test_gpt_takes_the_folders_tokens(texts, tmp_path):
    tokenizer = train_subwords(SENTENCES, "bpe", 300)
    size = tokenizer.get_vocab_size()
    model = LanguageModel(size + 3, Transformer(8, 1, 2, causal=True), 16)  # padded, as tables are
    theirs = made(model, jnp.zeros((1, 4), jnp.int32), tmp_path)
    fields = {"context": 8, "batch_size": 2, "steps": 2}
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    with raises("text-too-long", "32 tokens", "16 positions"):
        begin("gpt", tmp_path, **fields | {"context": 32})
    experiment, state = begin("gpt", tmp_path, **fields)
    assert_steps(experiment, state)
    same(state.variables["params"], theirs["params"])
    assert int(experiment.data[0]["inputs"].max()) < size
    assert "--" in experiment.views(dl.Predictor(experiment.task, state.variables))["sample"]

    small = tmp_path / "small"
    made(
        LanguageModel(9, Transformer(8, 1, 2, causal=True), 16), jnp.zeros((1, 4), jnp.int32), small
    )
    with raises("weights-vocabulary", "9 tokens", "tokenizer.json"):
        begin("gpt", small, **fields)


@pytest.mark.slow
def test_bert_is_fine_tuned_and_trained_on(texts, tmp_path):
    tokenizer = train_subwords(SENTENCES, "wordpiece", 60)
    body = Transformer(8, 1, 2, norm_first=False, activation=exact_gelu)
    parts = {"token_types": 2, "embedding_norm": True, "transform": True}
    model = LanguageModel(tokenizer.get_vocab_size(), body, 30, **parts)
    theirs = made(model, jnp.zeros((1, 4), jnp.int32), tmp_path)
    fields = {"positions": 24, "batch_size": 4, "steps": 2}

    with raises("tokenizer-file", "tokenizer.json"):
        begin("bert", tmp_path, **fields)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    _, state = begin("bert", tmp_path, stage="pretrain", **fields)
    same(state.variables["params"], theirs["params"])
    experiment, state = begin("bert", tmp_path, **fields)
    assert_steps(experiment, state)
    encoder = {name: tree for name, tree in theirs["params"].items() if name != "output"}
    same(state.variables["params"]["encoder"], encoder)
    assert set(state.variables["params"]) == {"encoder", "pooler", "head"}
