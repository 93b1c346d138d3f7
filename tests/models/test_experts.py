"""The mixture of experts against one written token by token, and on eight simulated devices."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mistakes import raises
from simulated import told_by_eight

import dl
from dl.core.state import init_state
from dl.data.batches import train_batches
from dl.models.experts import Experts
from dl.models.language import LanguageModel
from dl.models.transformer import Transformer
from dl.tasks.language_modeling import language_modeling

WIDTH = 6


def layer(**options):
    options = {"experts": 4, "hidden": 5, "group": 8, **options}
    model = Experts(**options)
    x = jax.random.normal(jax.random.key(1), (2, 16, WIDTH))
    variables = jax.jit(model.init)(jax.random.key(0), x)
    bias = jax.random.normal(jax.random.key(2), (options["experts"],)) * 0.3
    return model, {**variables, "balance": {"bias": bias}}, x


def picked(model, variables, x):
    chances = jax.nn.softmax(x @ variables["params"]["router"]) + variables["balance"]["bias"]
    return np.argsort(-np.asarray(chances), kind="stable")[..., : model.top]


def by_hand(model, variables, x, chosen_of, limited):
    """Token by token: how many each expert has taken of the group so far decides whether it takes one more. Every
    expert computes every token, and those that did not take it count nothing."""
    params = variables["params"]
    batch, time, _ = x.shape
    group = model.group if time % model.group == 0 else time
    room = math.ceil(model.capacity * model.top * group / model.experts)
    chose, took = np.zeros((2, batch, time, model.experts), np.float32)
    for row in range(batch):
        for place in range(time):
            if place % group == 0:
                taken = [0] * model.experts
            for e in map(int, chosen_of[row, place]):
                taken[e] += 1
                chose[row, place, e] = 1
                took[row, place, e] = not (limited and taken[e] > room)
    inside = jnp.einsum("btw,ewh->bteh", x, params["in"])
    if model.gated:
        gate, inside = jnp.split(inside, 2, -1)
        inside = model.activation(gate) * inside
    else:
        inside = model.activation(inside)
    chances = jax.nn.softmax(x @ params["router"])
    whole = (chances * chose).sum(-1, keepdims=True) if model.top > 1 else 1.0
    return jnp.einsum("bte,bteh,ehw->btw", took * chances / whole, inside, params["out"])


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"top": 1, "gated": True, "activation": nn.silu},
        {"capacity": 0.5, "group": 16},
        {"group": 7},
    ],
)
def test_values_and_gradients_are_those_of_a_token_at_a_time(options, train):
    model, variables, x = layer(**options)
    weight = jax.random.normal(jax.random.key(3), x.shape)

    chosen = picked(model, variables, x)

    @jax.jit
    def theirs(params, x):
        given = {**variables, "params": params}
        return (by_hand(model, given, x, chosen, train) * weight).sum()

    def ours(params, x):
        given = {**variables, "params": params}
        y = model.apply(given, x, train=train, mutable=["balance"])[0]
        return (y * weight).sum()

    one, other = (jax.value_and_grad(f, (0, 1))(variables["params"], x) for f in (ours, theirs))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), one, other)


def test_no_token_looks_ahead_even_where_room_is_short():
    model, variables, x = layer(capacity=0.5, group=16)
    run = jax.jit(lambda x: model.apply(variables, x, train=True, mutable=["balance"])[0])
    changed = x.at[:, 9:].set(jax.random.normal(jax.random.key(7), (2, 7, WIDTH)))
    assert not np.array_equal(run(x)[:, 9:], run(changed)[:, 9:])
    np.testing.assert_array_equal(run(x)[:, :9], run(changed)[:, :9])


def test_experts_become_evenly_busy():
    """A router that likes one expert: the biases alone send tokens to the others."""
    model, variables, x = layer(top=1, speed=0.003)
    x = jax.random.normal(jax.random.key(5), (8, 16, WIDTH)).at[..., 0].set(1.0)
    params = variables["params"] | {"router": variables["params"]["router"]}
    params["router"] = params["router"].at[0, 0].add(2.0)
    variables = {"params": params, "balance": {"bias": jnp.zeros(4)}}

    @jax.jit
    def turn(variables):
        updates = model.apply(variables, x, train=True, mutable=["balance"])[1]
        return {**variables, **updates}

    def share(variables):
        chances = jax.nn.softmax(x @ params["router"]) + variables["balance"]["bias"]
        return np.bincount(np.asarray(chances.argmax(-1)).ravel(), minlength=4).max() / 128

    before = share(variables)
    for _ in range(400):
        variables = turn(variables)
    assert before > 0.5
    assert share(variables) < 0.35
    assert set(variables) == {"params", "balance"}


@pytest.mark.parametrize("scan", [False, True])
def test_a_language_model_with_experts_learns_and_writes_as_it_reads(scan):
    body = Transformer(16, 2, 2, causal=True, rope=1e4, experts=4, scan=scan)
    model = LanguageModel(11, body)
    rows = (np.arange(9)[None] + np.arange(32)[:, None]) % 11
    data = train_batches({"inputs": rows[:, :-1], "targets": rows[:, 1:]}, 16)
    task = language_modeling(model)
    variables = jax.eval_shape(task.init, jax.random.key(0), data[0])
    optimizer = dl.optimizer("adam", 1e-2)
    state = jax.jit(lambda batch: init_state(task, optimizer, batch, 0, False))(data[0])
    step = jax.jit(dl.train_step(task, optimizer))
    losses = []
    for number in range(40):
        state, metrics = step(state, data[number])
        losses.append(float(metrics["loss"].total / metrics["loss"].weight))
    assert losses[-1] < 0.3 * losses[0]
    assert any(jnp.abs(leaf).max() > 0 for leaf in jax.tree.leaves(state.variables["balance"]))
    tokens = jnp.asarray(rows[:2, :8])
    whole, _ = jax.jit(model.apply)(state.variables, tokens)
    carry, written = model.initial_carry(2, 8), []
    write = jax.jit(lambda token, carry: model.apply(state.variables, token, carry=carry))
    for place in range(8):
        logits, carry = write(tokens[:, place : place + 1], carry)
        written.append(logits)
    np.testing.assert_allclose(jnp.concatenate(written, 1), whole, atol=1e-4)
    assert jax.tree.structure(variables) == jax.tree.structure(dict(state.variables))


def test_numbers_that_make_no_mixture_are_named():
    with raises("range", "top", "at most 4"):
        layer(top=5)


CODE = """
import json
import dl
import jax, jax.numpy as jnp
from dl.core.target import Target, tracing_for
from dl.models.language import LanguageModel
from dl.models.transformer import Transformer
from dl.parallel.mesh import make_mesh
from dl.parallel.programs import Program
from dl.parallel.sharding import Layout

tokens = jax.random.randint(jax.random.key(0), (8, 33), 0, 64)
model = LanguageModel(64, Transformer(32, 2, 4, causal=True, rope=1e4, experts=8))
variables = jax.jit(model.init)(jax.random.key(1), tokens[:, :-1])
found = {}
for train in (True, False):
    def loss(params):
        given = {**variables, "params": params}
        (logits, _), updates = model.apply(given, tokens[:, :-1], train=train, mutable=["balance"])
        return -jnp.take_along_axis(jax.nn.log_softmax(logits), tokens[:, 1:, None], 2).mean(), updates
    alone = jax.jit(jax.value_and_grad(loss, has_aux=True))(variables["params"])
    for mesh in ("expert=8", "data=2,expert=2,tensor=2", "fsdp=2,expert=4"):
        layout = Layout(make_mesh(mesh))
        def traced(params):
            return loss(params)
        lies = layout.state(variables["params"])
        with tracing_for(Target("cpu", layout.mesh)):
            program = jax.jit(jax.value_and_grad(traced, has_aux=True), in_shardings=(lies,)).lower(
                variables["params"]).compile()
        together = program(jax.device_put(variables["params"], lies))
        pairs = zip(*map(jax.tree.leaves, (alone, together)))
        work = Program(program.as_text()).work
        found[f"{mesh} {train}"] = {
            "apart": max(float((jnp.abs(a - b) / (1 + jnp.abs(a))).max()) for a, b in pairs),
            "dealt": sum(c.result * c.times for c in work.collectives if c.kind == "all-to-all"),
            "gathered": sum(c.result * c.times for c in work.collectives if c.kind == "all-gather"),
            "share": max(x.addressable_shards[0].data.size / x.size
                for x in jax.tree.leaves(together[1]) if x.ndim == 3 and x.size > 8000),
        }
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def found():
    return told_by_eight(CODE)


@pytest.mark.slow
def test_dealt_out_over_devices_they_compute_the_same(found):
    assert len(found) == 6
    for mesh, one in found.items():
        assert one["apart"] < 2e-5, mesh


@pytest.mark.slow
def test_tokens_travel_and_experts_stay(found):
    # Of two layers, forward and backward there and back: 8 rows of 32 tokens, 2 experts each, a quarter more room.
    tokens = 8 * 32 * 2 * 1.25 * 32 * 4 / 8
    assert found["expert=8 True"]["dealt"] == pytest.approx(2 * 4 * tokens, rel=0.3)
    assert found["expert=8 True"]["gathered"] < tokens, found
