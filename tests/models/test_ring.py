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
from dl.parallel.programs import Program, products

ring.BLOCK = 4  # a piece is several blocks
found = {"attention": {}, "kinds": {}}

def apart(one, other):
    pairs = zip(*map(jax.tree.leaves, (one, other)))
    return max(float((jnp.abs(a - b) / (1 + jnp.abs(a))).max()) for a, b in pairs)

def both(function, mesh, *arguments, **given):
    def traced(*arguments):  # another function, which JAX has not traced for another target
        return function(*arguments)
    alone = jax.jit(jax.value_and_grad(function, **given))(*arguments)
    with tracing_for(Target("cpu", make_mesh(mesh))):
        program = jax.jit(jax.value_and_grad(traced, **given)).lower(*arguments).compile()
    return alone, program(*arguments), program

keys, draw = jax.random.split(jax.random.key(0), 4), np.random.default_rng(0)
for mesh, heads, kv_heads, causal, lengths in (
    ("data=2,sequence=4", 2, 2, False, None),
    ("data=2,sequence=4", 4, 2, True, (32, 20, 3, 0)),
    ("sequence=4,tensor=2", 4, 2, False, (32, 20, 3, 0)),
    ("fsdp=2,sequence=2,tensor=2", 2, 2, True, None),
    ("sequence=2,tensor=4", 4, 2, True, None),  # fewer heads of keys than pieces
    ("sequence=8", 1, 1, True, None),
    ("data=2,sequence=4", 1, 1, True, (36, 35, 20, 0)),  # 36 places: pieces that have no halves
):
    time = 32 if lengths is None else max(lengths)
    q, k, v, weight = (
        jnp.asarray(draw.normal(size=(4, time, count, 8)), jnp.float32)  # JAX compiles for each shape
        for count in (heads, kv_heads, kv_heads, heads)
    )
    mask = None
    if lengths is not None:
        mask = (jnp.arange(time) < jnp.array(lengths)[:, None])[:, None, None]
        if causal:  # what a query that sees nothing gets need only be finite
            weight = weight * (jnp.array(lengths) > 0)[:, None, None, None]
    def weighed(x):
        out = attention(*x, mask=mask, causal=causal)
        return (out * weight).sum(), jnp.where(weight == 0, 0 * out, out)
    alone, together, _ = both(weighed, mesh, (q, k, v), has_aux=True)
    found["attention"][f"{mesh} {heads} {kv_heads} {causal} {lengths}"] = [
        apart(alone[0][1], together[0][1]), apart(alone[1], together[1])
    ]

for causal in (False, True):
    x = [jax.random.normal(key, (4, 64, 1, 8)) for key in keys[:3]]
    squares = lambda x: (attention(*x, causal=causal) ** 2).sum()
    with tracing_for(Target("cpu", make_mesh("sequence=8"))):
        traced = jax.make_jaxpr(jax.value_and_grad(squares))(x)
    found.setdefault("products", []).append(sum(products(traced.jaxpr).values()))

tokens = jax.random.randint(keys[0], (4, 65), 0, 64)
for mesh, heads in (("data=2,sequence=4", 2), ("sequence=8", 4), ("data=2,sequence=4", 4)):
    body = Transformer(32, 2, heads, causal=True, rope=1e4, scan=True)
    model = LanguageModel(64, body)
    variables = jax.jit(model.init)(keys[1], tokens[:, :-1])
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
    assert len(found["attention"]) == 7
    for mesh, (values, gradients) in found["attention"].items():
        assert values < 1e-6, (mesh, values)
        assert gradients < 1e-6, (mesh, gradients)


def test_what_a_causal_mask_hides_of_other_pieces_is_not_computed(found):
    whole, causal = found["products"]
    assert whole == 7 * 2 * 4 * 64 * 64 * 8  # two products forward, and five back
    # Of 2 x 8 halves of keys a half of queries meets its own, and one of each two others.
    assert causal == whole * 17 / 32


@pytest.mark.parametrize(
    ("run", "devices", "rows"), [("data=2,sequence=4 2", 4, 2), ("sequence=8 4", 8, 4)]
)
def test_a_language_model_learns_the_same_and_gathers_no_activations(found, run, devices, rows):
    one = found["kinds"][run]
    assert one["apart"] < 1e-5, one
    assert one["gathered"] == 0, one
    # Keys and values go round twice, and their gradients once, in float32, in each of two layers. Before and
    # after, halves of queries, keys, values, outputs and their gradients change places.
    piece = rows * 64 // devices * 32 * 4
    assert one["moved"] >= 2 * (devices * 6 + 8) * piece, one
    assert one["moved"] < 2 * (devices * 6.5 + 8.5) * piece, one


def test_where_heads_suffice_they_are_dealt_out_and_none_gathered(found):
    one = found["kinds"]["data=2,sequence=4 4"]
    assert one["apart"] < 1e-5, one
    assert one["gathered"] == 0, one
    assert 0 < one["moved"] < one["dealt"], one  # parts of the joint projection change places
