"""Losses of recommenders against plain NumPy, gradients too; what is drawn; whom they know."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mistakes import raises

from dl.core.metrics import compute
from dl.models.language import LanguageModel
from dl.models.recommender import MatrixFactorization, NeuMF
from dl.models.transformer import Transformer
from dl.tasks.recommendation import item_ranking, next_item, rating_prediction

BATCH = {
    "user": np.array([0, 2, 2, 1], np.int32),
    "item": np.array([3, 0, 4, 4], np.int32),
    "value": np.array([1.0, 5, 3, 4], np.float32),
}


def test_the_loss_of_ratings_is_squared_error_and_the_squares_of_their_vectors():
    model = MatrixFactorization(3, 5, 2)
    task = rating_prediction(model, penalty=0.3, centre=2.5)
    variables = task.init(jax.random.key(0), BATCH)
    p, q = (np.float64(variables["params"][name]["embedding"]) for name in ("user", "item"))
    u, i = p[BATCH["user"]], q[BATCH["item"]]
    rest = (u[:, :2] * i[:, :2]).sum(1) + u[:, 2] + i[:, 2] + 2.5 - BATCH["value"]
    found, aux = task.loss(variables, BATCH, jax.random.key(1))
    assert float(found) == pytest.approx(
        (rest**2).mean() + 0.3 * ((u**2).sum(1) + (i**2).sum(1)).mean(), rel=1e-5
    )
    held = compute(task.evaluate(variables, BATCH))
    assert held["loss"] == pytest.approx((rest**2).mean(), rel=1e-5)
    assert held["mse"] == compute(aux.metrics)["mse"]
    np.testing.assert_allclose(task.predict(variables, BATCH), rest + BATCH["value"], rtol=1e-5)

    grads = jax.grad(lambda v: task.loss(v, BATCH, jax.random.key(1))[0])(variables)["params"]
    mine = np.zeros_like(q)
    for row in range(4):
        side = 2 * rest[row] * np.append(u[row, :2], 1) + 2 * 0.3 * i[row]
        mine[BATCH["item"][row]] += side / 4
    np.testing.assert_allclose(grads["item"]["embedding"], mine, rtol=1e-4, atol=1e-7)


def test_an_item_is_told_from_others_drawn_from_all():
    model = NeuMF(3, 5, 2, (6, 4))
    task = item_ranking(model, negatives=3)
    variables = task.init(jax.random.key(0), BATCH)
    scores, _ = task.apply(variables, BATCH, jax.random.key(1))
    assert scores.shape == (4, 4)
    every = np.float64(task.predict(variables, {"user": BATCH["user"]}))
    assert every.shape == (4, 5)
    np.testing.assert_allclose(scores[:, 0], every[np.arange(4), BATCH["item"]], rtol=1e-5)
    for row in range(4):  # each drawn is one of the five
        assert all(np.isclose(every[row], x, rtol=1e-4).any() for x in scores[row, 1:])
    said = np.float64(scores)
    chance = 1 / (1 + np.exp(-said))
    expected = -(np.log(chance[:, 0]) + np.log(1 - chance[:, 1:]).sum(1)).mean() / 4
    loss, aux = task.loss(variables, BATCH, jax.random.key(1))
    assert float(loss) == pytest.approx(expected, rel=1e-5)
    first = (said[:, :1] > said[:, 1:]).all(1).mean()
    assert compute(aux.metrics)["accuracy"] == pytest.approx(first)


def test_what_is_drawn_is_all_items_alike_and_in_evaluation_the_rows_own():
    model = MatrixFactorization(40, 10, 1)
    task = item_ranking(model, negatives=50)
    many = {"user": np.arange(40, dtype=np.int32), "item": np.zeros(40, np.int32)}
    variables = {
        "params": {
            "user": {"embedding": jnp.zeros((40, 2))},
            "item": {"embedding": jnp.stack([jnp.zeros(10), jnp.arange(10.0)], 1)},
        }
    }
    for key in (None, jax.random.key(3)):
        drawn = np.asarray(task.apply(variables, many, key)[0])[:, 1:].round().astype(int)
        counts = np.bincount(drawn.ravel(), minlength=10)
        assert (abs(counts - 200) < 60).all()
        assert len({tuple(row) for row in drawn}) == 40
    again = np.asarray(task.apply(variables, {n: x[::-1] for n, x in many.items()}, None)[0])
    np.testing.assert_array_equal(again[::-1], task.apply(variables, many, None)[0])


def test_the_next_item_is_the_language_models_own_and_no_filling_is_recommended():
    model = LanguageModel(6, Transformer(8, 1, 2, causal=True, rope=10000.0))
    task = next_item(model)
    inputs = np.array([[0, 3, 0, 0], [0, 0, 0, 0], [2, 1, 5, 4]], np.int32)
    variables = task.init(jax.random.key(0), {"inputs": inputs})
    whole, _ = model.apply(variables, inputs)
    expected = np.asarray(whole)[np.arange(3), [1, 0, 3], 1:]
    found = task.predict(variables, {"inputs": inputs})
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_a_user_who_was_not_there_is_told():
    task = rating_prediction(MatrixFactorization(3, 5, 2))
    with raises("user-unseen", "of 2 users 1", "--model transformer"):
        task.check({}, BATCH, {**BATCH, "user": np.array([0, 3, 3, 0])})
    with raises("class-out-of-range", "item", "0 to 4"):
        task.check({}, BATCH, {**BATCH, "item": np.array([0, 5, 3, 0])})
