import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dl
from dl.core.metrics import compute
from dl.models.embedding import Embedding
from dl.tasks.metric_learning import metric_learning, with_margin


class Body(nn.Module):
    @nn.compact
    def __call__(self, x, *, train=False):
        return nn.Dense(6)(x.reshape(len(x), -1))


def made(**options):
    task = metric_learning(Embedding(Body(), 4, 3), prepare=jnp.asarray, **options)
    draw = np.random.default_rng(0)
    batch = {
        "image": draw.normal(size=(6, 5)).astype(np.float32),
        "label": np.array([0, 1, 2, 0, 1, 1], np.int32),
    }
    return task, task.init(jax.random.key(0), batch), batch


def test_the_margin_widens_the_angle_and_never_turns_round():
    angle = np.linspace(0.01, np.pi - 0.01, 200)
    moved = np.asarray(with_margin(np.cos(angle), 0.4))
    inside = angle + 0.4 < np.pi
    np.testing.assert_allclose(moved[inside], np.cos(angle[inside] + 0.4), atol=1e-6)
    assert (np.diff(moved) < 0).all()
    assert np.isfinite(
        jax.vmap(jax.grad(with_margin), (0, None))(jnp.array([1.0, -1.0]), 0.4)
    ).all()


def test_the_loss_is_that_of_the_paper():
    task, variables, batch = made(margin=0.3, scale=8.0)
    outputs, _ = task.apply(variables, batch, jax.random.key(1))
    cosine, label = np.float64(outputs.cosine), batch["label"]
    losses = []
    for row, own in zip(cosine, label, strict=False):
        logits = 8 * row
        logits[own] = 8 * np.cos(np.arccos(row[own]) + 0.3)
        losses.append(np.log(np.exp(logits).sum()) - logits[own])
    found = compute(task.score(outputs, batch, True))
    np.testing.assert_allclose(found["loss"], np.mean(losses), rtol=1e-5)
    np.testing.assert_allclose(found["accuracy"], (cosine.argmax(-1) == label).mean(), rtol=1e-6)


def test_vectors_have_length_one_and_strangers_are_to_be_like_nobody():
    task, variables, batch = made(open_set=True, scale=2.0)
    np.testing.assert_allclose(
        np.linalg.norm(task.predict(variables, batch), axis=-1), 1, rtol=1e-6
    )
    outputs, _ = task.apply(variables, batch, None)
    logits = 2 * np.float64(outputs.cosine)
    losses = np.log(np.exp(logits).sum(-1)) - logits.mean(-1)
    found = compute(task.evaluate(variables, {**batch, "label": batch["label"] + 9}))
    assert found == {"loss": pytest.approx(losses.mean(), rel=1e-5)}
    assert losses.min() > np.log(3)  # of a row that is alike to all


def test_it_keeps_the_contract():
    task, _, batch = made()
    dl.testing.check_task(task, batch)
