"""The pointer-generator writes, copies and goes on from a carry as its equations say."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dl.core.target import Target, tracing_for
from dl.models.copying import PointerGenerator
from dl.models.generation import beam_search
from dl.models.transformer import Transformer


@pytest.fixture(scope="module")
def network():
    body = Transformer(8, 1, 2, hidden=16, rope=100.0)
    model = PointerGenerator(11, body, body.clone(causal=True, cross=True))
    source = jnp.array([[4, 5, 4, 9, 3, 0], [7, 7, 3, 0, 0, 0]])
    target = jnp.array([[2, 5, 9, 4], [2, 7, 3, 0]])
    variables = model.init(jax.random.key(0), source, target)
    return model, variables, source, target


def _by_hand(model, variables, source, target):
    """The mixture by loops, of the decoder's vectors."""
    bound = model.bind(variables)
    memory, mask = bound.encode(source)
    x, _ = bound.decoder(bound._embed(target, 1), memory=memory, memory_mask=mask)
    query, key, gate = (
        np.asarray(f(y))
        for f, y in zip((bound.query, bound.key, bound.gate), (x, memory, x), strict=True)
    )
    logits = np.asarray(bound._logits(x))
    mixed = np.zeros(logits.shape)
    for row, place in np.ndindex(logits.shape[:2]):
        g = 1 / (1 + np.exp(-gate[row, place, 0]))
        real = np.flatnonzero(np.asarray(source[row]))
        looks = np.exp([query[row, place] @ key[row, s] / np.sqrt(8) for s in real])
        mixed[row, place] = g * np.exp(logits[row, place]) / np.exp(logits[row, place]).sum()
        for s, share in zip(real, looks / looks.sum(), strict=True):
            mixed[row, place, source[row, s]] += (1 - g) * share
    return mixed


def test_its_gradient_is_the_same_by_every_way(network):
    model, variables, source, target = network
    found = []
    for platform in ("cpu", "any"):
        with tracing_for(Target(platform)):
            score = lambda p: model.apply({"params": p}, source, target)[..., 3:].mean()  # noqa: E731
            found.append(jax.grad(score)(variables["params"]))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), *found)


@pytest.mark.parametrize("platform", ["cpu", "any"])
def test_its_distribution_is_the_mixture_of_writing_and_copying(network, platform):
    with tracing_for(Target(platform)):
        found = np.exp(network[0].apply(*network[1:]))
    np.testing.assert_allclose(found, _by_hand(*network), atol=1e-6)
    np.testing.assert_allclose(found.sum(-1), 1, atol=1e-6)


def test_what_no_weight_knows_is_copied(network):
    model, variables, source, target = network
    gate = {"kernel": jnp.zeros((8, 1)), "bias": jnp.full(1, -30.0)}
    copying = {"params": {**variables["params"], "gate": gate}}
    found = np.exp(model.apply(copying, source, target))
    assert found[0][:, [3, 4, 5, 9]].sum(1) == pytest.approx(1, abs=1e-5)
    assert found[1][:, [3, 7]].sum(1) == pytest.approx(1, abs=1e-5)
    gradient = jax.grad(lambda p: model.apply({"params": p}, source, target).mean())(
        copying["params"]
    )
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


def test_token_by_token_it_says_what_it_says_at_once(network):
    model, variables, source, target = network
    whole = model.apply(variables, source, target)
    logits, carry = model.apply(variables, source, target[:, :1], 4, method="begin")
    pieces = [logits]
    for place in range(1, 4):
        logits, carry = model.apply(variables, target[:, place : place + 1], carry, method="decode")
        pieces.append(logits)
    np.testing.assert_allclose(jnp.concatenate(pieces, 1), whole, atol=1e-5)


def test_beams_carry_the_source_of_their_own_row(network):
    model, variables, source, _ = network
    step = lambda tokens, carry: model.apply(variables, tokens, carry, method="decode")  # noqa: E731

    def written(rows):
        first = jnp.full((len(rows), 1), 2)
        logits, carry = model.apply(variables, rows, first, 5, method="begin")
        return beam_search(step, logits[:, -1], carry, 4, beams=3, stop=3)

    tokens, scores = written(source)
    for row in range(2):
        alone, score = written(source[row : row + 1])
        np.testing.assert_array_equal(tokens[row], alone[0])
        assert scores[row] == pytest.approx(float(score[0]), abs=1e-5)
