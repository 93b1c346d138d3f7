"""The two ends of a token model against plain indexing and a plain softmax."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dl.core.target import Target, tracing_for
from dl.models import vocabulary
from dl.models.language import LanguageModel
from dl.models.transformer import Transformer
from dl.models.vocabulary import Embed, Unread, look_up, token_losses
from dl.tasks.language_modeling import language_modeling


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch):
    monkeypatch.setattr(vocabulary, "TILE", 300)  # so that there are several, the last one not full


KEYS = jax.random.split(jax.random.key(0), 5)


def test_the_gradient_of_a_look_up_sums_the_rows_asked_for():
    table = jax.random.normal(KEYS[0], (37, 4))
    ids = jax.random.randint(KEYS[1], (5, 7), 0, 37)
    weights = jax.random.normal(KEYS[2], (5, 7, 4))
    np.testing.assert_array_equal(look_up(table, ids), table[ids])
    found = jax.grad(lambda t: jnp.sum(look_up(t, ids) * weights))(table)
    wanted = np.zeros((37, 4))
    np.add.at(wanted, np.asarray(ids), np.asarray(weights, np.float64))
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_gradients_of_a_common_row_are_summed_in_float32():
    table = jnp.zeros((3, 1), jnp.bfloat16)
    ids = jnp.zeros(1000, jnp.int32)
    found = jax.grad(lambda t: look_up(t, ids).astype(jnp.float32).sum())(table)
    assert found[0, 0] == 1000  # in bfloat16 the sum would stop at 256


def test_an_embedding_is_flax_s_own_on_every_platform():
    ids = jax.random.randint(KEYS[1], (3, 5), 0, 11)
    module = Embed(11, 4)
    variables = module.init(KEYS[0], ids)
    for platform in ("cpu", "gpu"):
        with tracing_for(Target(platform)):
            found = jax.grad(lambda v: jnp.square(module.apply(v, ids)).sum())(variables)
        table = variables["params"]["embedding"]
        wanted = jax.grad(lambda t: jnp.square(t[ids]).sum())(table)
        np.testing.assert_allclose(found["params"]["embedding"], wanted, atol=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_tiled_loss_is_that_of_a_softmax(smoothing):
    table, hidden = jax.random.normal(KEYS[0], (37, 4)), jax.random.normal(KEYS[1], (5, 7, 4))
    bias, weights = jax.random.normal(KEYS[2], (37,)), jax.random.normal(KEYS[3], (5, 7))
    targets = jax.random.randint(KEYS[4], (5, 7), 0, 37)

    def tiled(table, hidden, bias):
        losses, right = token_losses(Unread(hidden, table, bias), targets, smoothing)
        return jnp.sum(losses * weights), right

    def plain(table, hidden, bias):
        logits = hidden @ table.T + bias
        said = jax.nn.log_softmax(logits)
        wanted = (1 - smoothing) * jax.nn.one_hot(targets, 37) + smoothing / 37
        return -jnp.sum(weights * jnp.sum(said * wanted, -1)), logits.argmax(-1) == targets

    found = jax.value_and_grad(tiled, (0, 1, 2), has_aux=True)(table, hidden, bias)
    wanted = jax.value_and_grad(plain, (0, 1, 2), has_aux=True)(table, hidden, bias)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), found, wanted)


def test_a_language_model_learns_the_same_from_the_tiled_loss(monkeypatch):
    model = LanguageModel(40, Transformer(8, 1, 2, causal=True), positions=6, transform=True)
    task = language_modeling(model)
    tokens = jax.random.randint(KEYS[0], (3, 7), 0, 40)
    batch = {"inputs": tokens[:, :-1], "targets": tokens[:, 1:]}
    variables = task.init(KEYS[1], batch)

    def learned():
        def loss(params):
            return task.loss({"params": params}, batch, KEYS[2])[0]

        return jax.value_and_grad(loss)(variables["params"]), task.evaluate(variables, batch)

    here = learned()
    monkeypatch.setattr(vocabulary, "LARGE", 40)
    with tracing_for(Target("any")):
        assert isinstance(task.apply(variables, batch, None)[0], Unread)
        there = learned()
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), here, there)
