"""Masked language modelling: what is hidden, and that it is learned."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from learning import learn

from dl.core import metrics as M
from dl.models.language import LanguageModel
from dl.models.transformer import Transformer
from dl.tasks.masked_language_modeling import masked_language_modeling

BERT = LanguageModel(20, Transformer(16, 1, 2), positions=16)


class Spy:
    """Stands for the model and says what it was shown."""

    def apply(self, variables, tokens, *, mask, mutable=None, **_):
        self.tokens, self.mask = tokens, mask
        logits = jnp.zeros((*tokens.shape, 20))
        return ((logits, None), {}) if mutable is not None else (logits, None)


def test_the_shares_of_hidden_tokens_are_those_of_the_paper():
    spy = Spy()
    task = masked_language_modeling(spy, 20)
    tokens = jax.random.randint(jax.random.key(0), (200, 100), 7, 20).at[:, 80:].set(0)
    tokens = tokens.at[:, 0].set(4)
    _, aux = task.loss({"params": {}}, {"tokens": tokens}, jax.random.key(1))
    chosen = float(aux.metrics["loss"].weight)
    assert abs(chosen / (200 * 79) - 0.15) < 0.01
    became_mask = float((spy.tokens == 6).sum())
    assert abs(became_mask / chosen - 0.8) < 0.03
    changed = float(((spy.tokens != tokens) & (spy.tokens != 6)).sum())
    assert abs(changed / chosen - 0.1 * 12 / 13) < 0.03  # a random token is the same one in 13
    assert (spy.tokens[:, 0] == 4).all()
    assert (spy.tokens[:, 80:] == 0).all()
    assert (spy.mask == (tokens != 0)).all()


def test_evaluation_hides_the_same_in_any_batch():
    spy = Spy()
    task = masked_language_modeling(spy, 20)
    tokens = jax.random.randint(jax.random.key(0), (6, 30), 7, 20)
    task.evaluate({"params": {}}, {"tokens": tokens})
    whole = spy.tokens
    task.evaluate({"params": {}}, {"tokens": tokens[2:4], "mask": jnp.array([1.0, 0.0])})
    np.testing.assert_array_equal(spy.tokens, whole[2:4])
    assert (whole != tokens).any()


def test_padding_rows_do_not_count():
    task = masked_language_modeling(BERT, 20, rate=0.5)
    tokens = jax.random.randint(jax.random.key(0), (4, 16), 7, 20)
    variables = jax.jit(task.init)(jax.random.key(0), {"tokens": tokens})
    evaluate = jax.jit(task.evaluate)
    masked = evaluate(variables, {"tokens": tokens, "mask": jnp.array([1.0, 1.0, 0.0, 0.0])})
    alone = evaluate(variables, {"tokens": tokens[:2]})
    np.testing.assert_allclose(masked["loss"].total, alone["loss"].total, rtol=1e-5)
    assert masked["loss"].weight == alone["loss"].weight


def test_it_learns_what_the_neighbours_say():
    task = masked_language_modeling(BERT, 20, rate=jnp.float32(0.2))
    tokens = 7 + (jnp.arange(16) + jnp.arange(32)[:, None]) % 13
    state, *_ = learn(task, optax.adam(1e-2), {"tokens": tokens}, 150)
    metrics = jax.jit(task.evaluate)(state.variables, {"tokens": tokens})
    assert M.compute(metrics)["loss"] < 0.5
