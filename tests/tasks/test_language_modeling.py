"""Language modelling: carried state over steps, packed documents, exact evaluation, learning."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from learning import learn
from mistakes import raises

import dl
from dl.core import metrics as M
from dl.data.batches import eval_batches
from dl.data.batches.tokens import strided, tracks
from dl.models.language import LanguageModel
from dl.models.rnn import RNN, RecurrentLanguageModel, gru
from dl.models.transformer import Transformer
from dl.tasks.language_modeling import language_modeling
from dl.tasks.tokens import token_metrics

TEXT = np.tile(np.arange(6), 40)
RECURRENT = RecurrentLanguageModel(6, RNN(12, gru))
GPT = LanguageModel(6, Transformer(16, 1, 2, causal=True), positions=12)


def rows(start=0, batch=4, time=8):
    places = start + np.arange(batch)[:, None] * 11 + np.arange(time)
    return {"inputs": jnp.asarray(TEXT[places]), "targets": jnp.asarray(TEXT[places + 1])}


@pytest.mark.parametrize(("model", "carried"), [(GPT, False), (RECURRENT, True)])
def test_it_learns_a_cycle(model, carried):
    task, batches = language_modeling(model, carried=carried), tracks(TEXT, 8, 4)
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *(batches[step] for step in range(60)))
    state, _, last = learn(
        task, optax.adam(0.02), lambda step: jax.tree.map(lambda x: x[step], stacked), 60
    )
    assert last["loss"] < 0.2
    assert ("carry" in state.variables) == carried


def test_the_state_is_carried_from_step_to_step_and_reset():
    task = language_modeling(RECURRENT, carried=True)
    batch = rows(time=4)
    variables = jax.jit(task.init)(jax.random.key(0), batch)
    loss = jax.jit(task.loss)
    _, first = loss(variables, batch, jax.random.key(1))
    carried = {**variables, **first.updates}
    _, second = loss(carried, rows(4, time=4), jax.random.key(2))
    whole, _ = RECURRENT.apply({"params": variables["params"]}, rows(time=8)["inputs"])
    targets = rows(4, time=4)["targets"]
    expected = token_metrics(whole[:, 4:], targets, jnp.ones(targets.shape))
    np.testing.assert_allclose(second.metrics["loss"].total, expected["loss"].total, rtol=1e-5)

    reset = {**rows(4, time=4), "reset": jnp.array([1.0, 0.0, 1.0, 0.0])}
    _, third = loss(carried, reset, jax.random.key(2))
    _, fresh = loss(variables, rows(4, time=4), jax.random.key(2))
    carry = {
        name: aux.updates["carry"] for name, aux in (("r", third), ("f", fresh), ("c", second))
    }
    np.testing.assert_allclose(carry["r"][:, 0::2], carry["f"][:, 0::2], atol=1e-6)
    np.testing.assert_allclose(carry["r"][:, 1::2], carry["c"][:, 1::2], atol=1e-6)


def test_the_gradient_stops_at_the_carried_state():
    task = language_modeling(RECURRENT, carried=True)
    variables = jax.jit(task.init)(jax.random.key(0), rows())
    by_carry = jax.grad(
        lambda p, c: task.loss({"params": p, "carry": c}, rows(), jax.random.key(0))[0], argnums=0
    )
    grads = by_carry(variables["params"], variables["carry"])
    assert jax.tree.structure(grads) == jax.tree.structure(variables["params"])


@pytest.mark.parametrize("model", [GPT, RECURRENT])
def test_evaluation_is_exact_under_any_batching(model):
    task = language_modeling(model, carried=model is RECURRENT)
    variables = jax.jit(task.init)(jax.random.key(0), rows())
    columns = strided(TEXT[:100], 12, 5)
    evaluate = jax.jit(task.evaluate)

    def whole(size):
        batches = eval_batches(columns, size)
        parts = [evaluate(variables, batches[i]) for i in range(len(batches))]
        return M.compute(functools.reduce(M.merge, parts)), functools.reduce(M.merge, parts)

    (a, sums), (b, _) = whole(4), whole(7)
    assert sums["loss"].weight == 99
    np.testing.assert_allclose(a["loss"], b["loss"], rtol=1e-6)
    assert a["accuracy"] == b["accuracy"]


def test_packed_documents_are_scored_as_if_alone():
    task = language_modeling(LanguageModel(6, Transformer(16, 2, 2, causal=True, rope=1e4)))
    batch = rows(batch=2, time=8)
    document = jnp.broadcast_to(jnp.arange(8) >= 3, (2, 8)).astype(jnp.int32)
    variables = jax.jit(task.init)(jax.random.key(0), batch)
    evaluate = jax.jit(task.evaluate)
    packed = evaluate(variables, {**batch, "document": document})["loss"].total
    pieces = [{n: v[:, cut] for n, v in batch.items()} for cut in (slice(3), slice(3, 8))]
    alone = sum(evaluate(variables, piece)["loss"].total for piece in pieces)
    np.testing.assert_allclose(packed, alone, rtol=1e-5)


def test_weights_and_masks_count():
    task = language_modeling(GPT)
    batch = rows()
    variables = jax.jit(task.init)(jax.random.key(0), batch)
    half = {**batch, "mask": jnp.array([1.0, 1.0, 0.0, 0.0])}
    some = jax.jit(task.evaluate)(variables, {n: v[:2] for n, v in batch.items()})
    for name, (total, weight) in task.evaluate(variables, half).items():
        np.testing.assert_allclose(total, some[name].total, rtol=1e-5)
        assert weight == 16
    light = jax.jit(task.evaluate)(variables, {**batch, "weight": jnp.full((4, 8), 0.5)})
    assert light["loss"].weight == 16


def test_micro_batches_of_a_carried_state_are_refused():
    task = language_modeling(RECURRENT, carried=True)
    optimizer = optax.sgd(0.1)
    state = jax.eval_shape(lambda: dl.init_state(task, optimizer, rows()))
    with raises("carry-of-another-batch", "without micro-batches"):
        jax.eval_shape(dl.train_step(task, optimizer, micro_batches=2), state, rows())


def test_half_precision_keeps_the_state_s_dtypes():
    task = dl.mixed_precision(language_modeling(RECURRENT, carried=True))
    optimizer = optax.sgd(0.1)
    state = jax.eval_shape(lambda: dl.init_state(task, optimizer, rows()))
    new, _ = jax.eval_shape(dl.train_step(task, optimizer), state, rows())
    same = jax.tree.map(lambda a, b: a.dtype == b.dtype and a.shape == b.shape, state, new)
    assert all(jax.tree.leaves(same))


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_token_metrics_match_torch(smoothing):
    torch = pytest.importorskip("torch")
    logits = 3 * jax.random.normal(jax.random.key(0), (3, 5, 7))
    targets = jax.random.randint(jax.random.key(1), (3, 5), 0, 7)
    weight = jnp.arange(15.0).reshape(3, 5) % 3
    ours = token_metrics(logits, targets, weight, jnp.float32(smoothing))
    theirs = torch.nn.functional.cross_entropy(
        torch.tensor(np.array(logits)).flatten(0, 1),
        torch.tensor(np.array(targets)).flatten().long(),
        reduction="none",
        label_smoothing=smoothing,
    )
    expected = (theirs * torch.tensor(np.array(weight)).flatten()).sum()
    np.testing.assert_allclose(ours["loss"].total, expected, rtol=1e-5)
    hits = (jnp.argmax(logits, -1) == targets) * weight
    np.testing.assert_allclose(ours["accuracy"].total, hits.sum())
