"""Sentence classifiers of three kinds learn, ignore padding, and word dropout spares special tokens."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from learning import learn
from mistakes import raises

from dl.core import metrics as M
from dl.models.language import LanguageModel, TextClassifier
from dl.models.rnn import RNN
from dl.models.text import TextCNN, TextRNN
from dl.models.transformer import Transformer
from dl.tasks.sequence_classification import sequence_classification

MODELS = {
    "cnn": TextCNN(30, 2, embedding=16, filters=8),
    "rnn": TextRNN(30, 2, RNN(8, bidirectional=True), embedding=16),
    "transformer": TextClassifier(LanguageModel(30, Transformer(16, 1, 2), positions=12), 2),
}


def sentences(key, batch=64):
    """Label 1 where word 7 stands right before word 8."""
    tokens = jax.random.randint(key, (batch, 12), 7, 30)
    label = jnp.arange(batch) % 2
    tokens = tokens.at[:, 3].set(jnp.where(label == 1, 7, 9)).at[:, 4].set(8)
    return {"tokens": tokens.at[:, 9:].set(0), "label": label}


@pytest.mark.parametrize("name", MODELS)
def test_it_learns(name):
    task = sequence_classification(MODELS[name], word_dropout=0.05)
    state, *_ = learn(task, optax.adam(3e-3), lambda step: sentences(jax.random.key(step)), 150)
    metrics = jax.jit(task.evaluate)(state.variables, sentences(jax.random.key(999)))
    assert M.compute(metrics)["accuracy"] > 0.9


@pytest.mark.parametrize("name", MODELS)
def test_padding_changes_nothing(name):
    model = MODELS[name]
    tokens = sentences(jax.random.key(0), 4)["tokens"]
    variables = jax.jit(model.init)(jax.random.key(1), tokens)
    apply = jax.jit(model.apply)
    np.testing.assert_allclose(apply(variables, tokens), apply(variables, tokens[:, :9]), atol=1e-5)
    empty = apply(variables, jnp.zeros((1, 12), int))
    assert np.isfinite(empty).all()


def test_text_cnn_matches_torch():
    torch = pytest.importorskip("torch")
    model = MODELS["cnn"]
    tokens = sentences(jax.random.key(0), 3)["tokens"]
    variables = jax.jit(model.init)(jax.random.key(1), tokens)
    params = jax.tree.map(np.array, variables["params"])
    x = torch.tensor(params["embedding"]["embedding"][np.array(tokens)])
    x = (x * torch.tensor(np.array(tokens) != 0)[..., None])[:, :9].transpose(1, 2)
    pooled = []
    for window in (3, 4, 5):
        p = params[f"window_{window}"]
        kernel = torch.tensor(p["kernel"].transpose(2, 1, 0))
        h = torch.nn.functional.conv1d(x, kernel, torch.tensor(p["bias"]), padding=window - 1)
        pooled.append(torch.relu(h).amax(-1))
    expected = torch.cat(pooled, 1) @ torch.tensor(params["head"]["kernel"])
    np.testing.assert_allclose(
        jax.jit(model.apply)(variables, tokens), expected + params["head"]["bias"], atol=1e-5
    )


class Tokens(nn.Module):
    """Gives back the tokens that it was given."""

    @nn.compact
    def __call__(self, tokens, *, train=False):
        return tokens


def test_word_dropout_takes_its_share_of_words_and_no_special_token():
    tokens = jnp.tile(jnp.array([4] + [9] * 9), (500, 1))
    task = sequence_classification(Tokens(), word_dropout=jnp.float32(0.3))
    seen, _ = task.apply({"params": {}}, {"tokens": tokens}, jax.random.key(0))
    assert (seen[:, 0] == 4).all()
    assert abs((seen[:, 1:] == 1).mean() - 0.3) < 0.03
    seen, _ = task.apply({"params": {}}, {"tokens": tokens}, None)
    np.testing.assert_array_equal(seen, tokens)


@pytest.mark.parametrize("name", MODELS)
def test_a_token_beyond_the_vocabulary_is_refused(name):
    task = sequence_classification(MODELS[name])
    batch = jax.tree.map(np.array, sentences(jax.random.key(0), 4))
    variables = jax.eval_shape(task.init, jax.random.key(0), batch)
    task.check(variables, batch, batch)
    batch["tokens"][1, 2] = 30
    with raises("class-out-of-range", "'tokens'", "0 to 29"):
        task.check(variables, batch, batch)
