"""Recommenders against the papers' formulas in plain NumPy, values and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dl.models.language import LanguageModel
from dl.models.recommender import MatrixFactorization, NeuMF
from dl.models.transformer import Transformer

USER, ITEM = np.array([0, 2, 2, 1]), np.array([3, 0, 4, 4])


def start(model):
    variables = jax.jit(model.init)(jax.random.key(0), USER, ITEM)
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda x: rng.normal(size=x.shape).astype(np.float32), variables)


def test_factors_are_a_product_and_two_biases():
    model = MatrixFactorization(3, 5, 2)
    variables = start(model)
    p, q = (np.float64(variables["params"][name]["embedding"]) for name in ("user", "item"))
    expected = [
        sum(p[u, k] * q[i, k] for k in range(2)) + p[u, 2] + q[i, 2]
        for u, i in zip(USER, ITEM, strict=True)
    ]
    np.testing.assert_allclose(model.apply(variables, USER, ITEM), expected, rtol=1e-5)

    value = np.array([1.0, 2, 3, 4])
    loss = lambda v: jnp.sum((model.apply(v, USER, ITEM) - value) ** 2)  # noqa: E731
    found = jax.grad(loss)(variables)["params"]
    own, other = np.zeros_like(p), np.zeros_like(q)
    for u, i, said, wanted in zip(USER, ITEM, expected, value, strict=True):
        own[u] += 2 * (said - wanted) * np.append(q[i, :2], 1)
        other[i] += 2 * (said - wanted) * np.append(p[u, :2], 1)
    np.testing.assert_allclose(found["user"]["embedding"], own, rtol=1e-4)
    np.testing.assert_allclose(found["item"]["embedding"], other, rtol=1e-4)


def neumf_by_hand(params, user, item):
    """Equations 7 to 12 of He et al. 2017 for one pair, and the gradient of the score."""
    get = lambda name, leaf: np.float64(params[name][leaf])  # noqa: E731
    p, q = get("user", "embedding")[user], get("item", "embedding")[item]
    x, layers = np.concatenate([p[2:], q[2:]]), []
    for name in ("Dense_0", "Dense_1"):
        before = x
        x = np.maximum(x @ get(name, "kernel") + get(name, "bias"), 0)
        layers.append((name, before, x > 0))
    read = get("score", "kernel")[:, 0]
    score = np.concatenate([p[:2] * q[:2], x]) @ read + get("score", "bias")[0]
    grads = {"score": {"kernel": np.concatenate([p[:2] * q[:2], x])[:, None], "bias": np.ones(1)}}
    down = read[2:]
    for name, before, on in reversed(layers):
        down = down * on
        grads[name] = {"kernel": np.outer(before, down), "bias": down}
        down = get(name, "kernel") @ down
    half = len(p) - 2
    for name, row, vector in (
        ("user", user, np.concatenate([read[:2] * q[:2], down[:half]])),
        ("item", item, np.concatenate([read[:2] * p[:2], down[half:]])),
    ):
        table = np.zeros_like(get(name, "embedding"))
        table[row] = vector
        grads[name] = {"embedding": table}
    return score, grads


def test_neumf_is_the_papers():
    model = NeuMF(3, 5, 2, (6, 4))
    variables = start(model)
    pairs = [neumf_by_hand(variables["params"], u, i) for u, i in zip(USER, ITEM, strict=True)]
    np.testing.assert_allclose(
        model.apply(variables, USER, ITEM), [score for score, _ in pairs], rtol=1e-4
    )
    found = jax.grad(lambda v: model.apply(v, USER, ITEM).sum())(variables)["params"]
    expected = jax.tree.map(lambda *each: sum(each), *(grads for _, grads in pairs))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4), found, expected)


@pytest.mark.parametrize("model", [MatrixFactorization(3, 5, 2), NeuMF(3, 5, 2, (6, 4))])
def test_several_items_a_user_score_as_one_by_one(model):
    variables = start(model)
    several = np.array([[0, 1, 2], [4, 0, 3], [1, 1, 1], [2, 3, 4]])
    found = model.apply(variables, USER, several)
    assert found.shape == several.shape
    for place in range(3):
        alone = model.apply(variables, USER, several[:, place])
        np.testing.assert_allclose(found[:, place], alone, rtol=1e-5, atol=1e-6)


def test_what_comes_after_a_place_is_the_language_models_own_logits():
    model = LanguageModel(7, Transformer(8, 2, 2, causal=True, rope=10000.0))
    tokens = np.array([[0, 3, 2, 5], [0, 1, 0, 0]])
    variables = jax.jit(model.init)(jax.random.key(0), tokens)
    whole, _ = model.apply(variables, tokens)
    place = np.array([3, 1])
    after = model.apply(variables, tokens, place, method="after")
    np.testing.assert_allclose(after, whole[np.arange(2), place], rtol=1e-5, atol=1e-6)
    # What stands behind the place, be it filling or not, makes no difference.
    other = model.apply(variables, np.array([[0, 3, 2, 5], [0, 1, 6, 2]]), place, method="after")
    np.testing.assert_array_equal(after, other)
