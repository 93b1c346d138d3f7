"""Attention that goes round a ring of devices, against the plain one, on eight simulated devices."""

import pytest
from simulated import told_by_eight

CODE = """
import json, sys
import dl
import jax, jax.numpy as jnp, numpy as np
from dl.core.target import Target, tracing_for
from dl.models import ring
from dl.models.attention import attention
from dl.models.language import LanguageModel
from dl.models.transformer import Transformer
from dl.parallel.mesh import make_mesh
from dl.parallel.programs import Program, shape_bytes

ring.BLOCK = 4  # a piece is several blocks
found = {"attention": {}, "kinds": {}}

def apart(one, other):
    pairs = zip(*map(jax.tree.leaves, (one, other)))
    return max(float((jnp.abs(a - b) / (1 + jnp.abs(a))).max()) for a, b in pairs)

def both(function, mesh, *arguments):
    def traced(*arguments):  # another function, which JAX has not traced for another target
        return function(*arguments)
    alone = jax.jit(jax.value_and_grad(function))(*arguments)
    with tracing_for(Target("cpu", make_mesh(mesh))):
        program = jax.jit(jax.value_and_grad(traced)).lower(*arguments).compile()
    return alone, program(*arguments), program

keys = jax.random.split(jax.random.key(0), 4)
for mesh, heads, kv_heads, causal, lengths in (
    ("data=2,sequence=4", 2, 2, False, None),
    ("data=2,sequence=4", 4, 2, True, (32, 20, 3, 0)),
    ("sequence=4,tensor=2", 4, 2, False, (32, 20, 3, 0)),
    ("fsdp=2,sequence=2,tensor=2", 2, 2, True, None),
    ("sequence=2,tensor=4", 4, 2, True, None),  # fewer heads of keys than pieces
):
    q, k, v, weight = (
        jax.random.normal(key, (4, 32, count, 8))
        for key, count in zip(keys, (heads, kv_heads, kv_heads, heads))
    )
    mask = None
    if lengths is not None:
        mask = (jnp.arange(32) < jnp.array(lengths)[:, None])[:, None, None]
    def weighed(x):
        return (attention(*x, mask=mask, causal=causal) * weight).sum()
    alone, together, _ = both(weighed, mesh, (q, k, v))
    found["attention"][f"{mesh} {heads} {kv_heads} {causal} {lengths}"] = apart(alone, together)

tokens = jax.random.randint(keys[0], (4, 65), 0, 64)
for mesh, heads in (("data=2,sequence=4", 2), ("sequence=8", 4), ("data=2,sequence=4", 4)):
    body = Transformer(32, 2, heads, causal=True, rope=1e4, scan=True)
    model = LanguageModel(64, body)
    variables = model.init(keys[1], tokens[:, :-1])
    def loss(variables):
        logits, _ = model.apply(variables, tokens[:, :-1])
        return -jnp.take_along_axis(jax.nn.log_softmax(logits), tokens[:, 1:, None], 2).mean()
    alone, together, program = both(loss, mesh, variables)
    work = Program(program.as_text()).work
    found["kinds"][f"{mesh} {heads}"] = {
        "apart": apart(alone, together),
        "gathered": sum(c.result * c.times for c in work.collectives if c.kind == "all-gather"),
        "dealt": sum(c.result * c.times for c in work.collectives if c.kind == "all-to-all"),
        "moved": sum(c.result * c.times for c in work.collectives if c.kind == "collective-permute"),
    }
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def found():
    return told_by_eight(CODE)


def test_values_and_gradients_are_those_of_plain_attention(found):
    assert len(found["attention"]) == 5
    assert max(found["attention"].values()) < 1e-5, found


@pytest.mark.parametrize(
    ("run", "devices", "rows"), [("data=2,sequence=4 2", 4, 2), ("sequence=8 4", 8, 4)]
)
def test_a_language_model_learns_the_same_and_gathers_no_activations(found, run, devices, rows):
    one = found["kinds"][run]
    assert one["apart"] < 1e-5, one
    assert one["gathered"] == 0, one
    # Keys and values go round twice, and their gradients once, in float32, in each of two layers.
    piece = rows * 64 // devices * 32 * 4
    assert one["moved"] >= 2 * devices * 6 * piece, one
    assert one["moved"] < 2 * devices * 6.5 * piece, one


def test_where_heads_suffice_they_are_dealt_out_and_none_gathered(found):
    one = found["kinds"]["data=2,sequence=4 4"]
    assert one["apart"] < 1e-5, one
    assert one["gathered"] == 0, one
    assert 0 < one["moved"] < one["dealt"], one  # parts of the joint projection change places
