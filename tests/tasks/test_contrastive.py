"""Contrastive learning: the contract, the loss of the paper, what is hidden from it."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mistakes import raises

from dl.core.metrics import compute
from dl.data.transforms.images import simclr_view
from dl.models.self_supervised import Projected
from dl.tasks.contrastive import contrastive
from dl.testing import check_task


class Flat(nn.Module):
    @nn.compact
    def __call__(self, x, *, train=False):
        return nn.Dense(5)(x.reshape(len(x), -1))


def pictures(rows=4):
    image = np.random.default_rng(0).integers(0, 256, (rows, 6, 6, 3))
    return {"image": image.astype(np.uint8)}


def test_it_keeps_the_contract():
    task = contrastive(Projected(Flat(), 8, 4), simclr_view(0.3, 0.4, True))
    check_task(task, pictures(), eager=False)


def test_the_loss_is_that_of_the_paper_and_leaves_hidden_rows_out():
    vectors = np.random.default_rng(0).normal(size=(2, 5, 4)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
    mask = np.float32([1, 1, 0, 1, 0])
    task = contrastive(Projected(Flat()), lambda key, batch: batch, temperature=0.3)
    shown = np.flatnonzero(mask)
    every = np.float64(vectors[:, shown].reshape(-1, 4))
    losses, right = [], []
    for place, own in enumerate(every):
        partner = (place + len(shown)) % len(every)
        others = [n for n in range(len(every)) if n != place]
        alike = {n: own @ every[n] / 0.3 for n in others}
        losses.append(np.log(sum(map(np.exp, alike.values()))) - alike[partner])
        right.append(max(alike, key=alike.get) == partner)
    found = compute(task.score(jnp.asarray(vectors), {"mask": jnp.asarray(mask)}, True))
    assert found == {
        "loss": pytest.approx(np.mean(losses), rel=1e-5),
        "accuracy": pytest.approx(np.mean(right)),
    }
    held = compute(task.score(jnp.asarray(vectors), {"mask": jnp.asarray(mask)}, False))
    apart = np.square(vectors[0] - vectors[1]).sum(-1)[shown].mean()
    assert held == {"loss": pytest.approx(apart, rel=1e-5)}


def test_two_views_differ_and_evaluation_draws_them_of_the_picture():
    task = contrastive(Projected(Flat(), 8, 4), simclr_view(0.3))
    data = pictures(3)
    variables = task.init(jax.random.key(0), data)
    apply = jax.jit(task.apply)
    one, other = apply(variables, data, None)[0]
    assert (np.abs(one - other).max(-1) > 1e-3).all()
    alone = apply(variables, {"image": data["image"][1:2]}, None)[0]
    np.testing.assert_allclose(alone[:, 0], [one[1], other[1]], atol=1e-5)


def test_what_makes_no_sense_is_refused():
    with raises("range", "temperature"):
        contrastive(Projected(Flat()), simclr_view(0.5), temperature=0.0)
