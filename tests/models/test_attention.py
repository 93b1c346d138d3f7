"""Attention against PyTorch and against itself on other paths."""

import functools
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mistakes import raises

from dl.core.target import Target, tracing_for
from dl.models import attention as module
from dl.models.attention import attention, attention_weights, columns_attention, rotate
from dl.parallel.devices import CARDS, Machine, answering_for


def inputs(batch, time, source, heads, kv_heads, dim, dtype=jnp.float32):
    keys = jax.random.split(jax.random.key(0), 3)
    q = jax.random.normal(keys[0], (batch, time, heads, dim), dtype)
    k = jax.random.normal(keys[1], (batch, source, kv_heads, dim), dtype)
    return q, k, jax.random.normal(keys[2], (batch, source, kv_heads, dim), dtype)


def with_gradients(function, *arguments):
    @jax.jit
    def run(*arguments):
        out, pull = jax.vjp(function, *arguments)
        return out, pull(jnp.cos(jnp.arange(out.size, dtype=jnp.float32)).reshape(out.shape))

    return run(*arguments)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    ("shape", "causal"),
    [((2, 5, 5, 4, 4, 3), True), ((2, 4, 7, 4, 2, 8), False), ((1, 3, 6, 6, 1, 2), False)],
)
def test_outputs_and_gradients_match_torch(shape, causal, masked):
    torch = pytest.importorskip("torch")
    q, k, v = inputs(*shape)
    batch, time, source, heads, kv_heads, _ = shape
    allowed = np.random.default_rng(0).random((batch, 1, time, source)) < 0.6
    allowed[..., 0] = True
    full = allowed & (np.tri(time, source, dtype=bool) | (not causal))
    options = {"causal": causal, "mask": jnp.asarray(allowed) if masked else None}
    out, grads = with_gradients(functools.partial(attention, **options), q, k, v)

    theirs = [torch.tensor(np.array(x), requires_grad=True) for x in (q, k, v)]
    tq, tk, tv = (x.transpose(1, 2) for x in theirs)
    tk, tv = (x.repeat_interleave(heads // kv_heads, 1) for x in (tk, tv))
    visible = (
        full if masked else np.broadcast_to(np.tri(time, source) if causal else True, full.shape)
    )
    expected = torch.nn.functional.scaled_dot_product_attention(
        tq, tk, tv, attn_mask=torch.tensor(np.array(visible, bool))
    ).transpose(1, 2)
    expected.backward(torch.cos(torch.arange(expected.numel())).reshape(expected.shape))
    np.testing.assert_allclose(out, expected.detach(), atol=1e-5)
    for got, x in zip(grads, theirs, strict=True):
        np.testing.assert_allclose(got, x.grad, atol=1e-4)


def test_the_path_of_other_platforms_gives_the_same():
    q, k, v = inputs(2, 6, 6, 4, 2, 8)
    mask = jax.random.bernoulli(jax.random.key(1), 0.7, (2, 1, 6, 6)).at[..., 0].set(True)
    bias = jax.random.normal(jax.random.key(2), (1, 4, 6, 6))
    options = {"mask": mask, "causal": True}
    here = with_gradients(lambda q, k, v, b: attention(q, k, v, bias=b, **options), q, k, v, bias)
    with tracing_for(Target("any")):
        there = with_gradients(
            lambda q, k, v, b: attention(q, k, v, bias=b, **options), q, k, v, bias
        )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), here, there)


def lowered_for(card, *shapes, **options):
    """The text of attention and its gradients, lowered for a card that need not be here."""
    q, k, v = (jax.ShapeDtypeStruct(shape, jnp.bfloat16) for shape in shapes)

    def loss(q, k, v):
        return attention(q, k, v, **options).astype(jnp.float32).sum()

    where = Machine(card, CARDS[card], [])
    with answering_for(where.card), tracing_for(where.target):
        traced = jax.jit(jax.grad(loss, (0, 1, 2))).trace(q, k, v)
        return traced.lower(lowering_platforms=(where.lowered_for,)).as_text()


@pytest.mark.parametrize(
    ("card", "time", "source", "dim", "masked", "taken"),
    [
        ("h100", 64, 64, 64, False, True),
        ("h100", 197, 197, 64, False, True),  # a class token beside 14 x 14 patches
        ("h100", 33, 47, 64, True, True),  # filled up to even lengths
        ("h100", 64, 64, 256, False, True),
        ("a100", 64, 64, 256, False, False),
        ("a100", 64, 64, 128, True, True),
        ("t4", 64, 64, 64, False, False),  # has no bfloat16
        ("h100", 64, 64, 60, False, False),
        ("h100", 1, 64, 64, False, False),
    ],
)
def test_gpu_takes_cudnn_where_the_card_can(card, time, source, dim, masked, taken):
    mask = jnp.arange(source) < jnp.array([[[[source]]], [[[source - 5]]]]) if masked else None
    shapes = (2, time, 4, dim), (2, source, 2, dim), (2, source, 2, dim)
    text = lowered_for(card, *shapes, mask=mask)
    assert ("__cudnn$fmha" in text) == taken


@pytest.mark.parametrize(("card", "asked"), [("t4", False), ("a100", True)])
def test_a_card_without_bfloat16_is_asked_for_no_product_of_it_by_name(card, asked):
    shape = (2, 64, 4, 60)  # not cuDNN's
    assert ("lhs_precision_type = bf16" in lowered_for(card, shape, shape, shape)) == asked


def test_what_is_filled_up_for_cudnn_changes_nothing():
    q, k, v = inputs(2, 5, 7, 4, 2, 8)
    mask = jnp.arange(7) < jnp.array([7, 4])[:, None, None, None]
    bias = jax.random.normal(jax.random.key(2), (1, 4, 5, 7))
    own = jax.nn.dot_product_attention

    def elsewhere(*arguments, implementation, **options):  # the same function, by XLA
        assert arguments[0].shape[1] % 2 == arguments[1].shape[1] % 2 == 0
        return own(*arguments, **options)

    with mock.patch.object(module.jax.nn, "dot_product_attention", elsewhere):
        padded = module._cudnn_attention(q, k, v, bias, mask, causal=False, scale=None)
    here = attention(q, k, v, bias=bias, mask=mask)
    np.testing.assert_allclose(padded, here, atol=1e-5)


def test_tpu_takes_its_kernel_for_long_texts():
    long, short = (1, 1024, 2, 64), (1, 64, 2, 64)
    assert "tpu_custom_call" in lowered_for("v5e", long, long, long, causal=True)
    assert "tpu_custom_call" not in lowered_for("v5e", short, short, short, causal=True)


def test_the_kernel_for_tpu_gives_the_same():
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as kernels

    q, k, v = inputs(1, 256, 256, 4, 2, 16)
    make = functools.partial(kernels.make_splash_mha, interpret=True)
    with (
        mock.patch.object(kernels, "make_splash_mha", make),
        mock.patch.object(module, "BLOCK", 128),
        tracing_for(Target("tpu")),
    ):
        there = with_gradients(lambda q, k, v: attention(q, k, v, causal=True), q, k, v)
    here = with_gradients(lambda q, k, v: attention(q, k, v, causal=True), q, k, v)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-3), here, there)


def test_weights_are_those_that_attention_uses():
    q, k, v = inputs(2, 5, 5, 4, 2, 3)
    weights = attention_weights(q, k, causal=True)
    out = jnp.einsum("bhts,bshd->bthd", weights, jnp.repeat(v, 2, axis=2))
    np.testing.assert_allclose(out, attention(q, k, v, causal=True), atol=1e-5)


def test_a_query_that_sees_nothing_is_finite():
    q, k, v = inputs(1, 3, 3, 2, 2, 4)
    mask = jnp.zeros((1, 1, 3, 3), bool)
    out, grads = with_gradients(functools.partial(attention, mask=mask), q, k, v)
    assert all(np.isfinite(x).all() for x in (out, *grads))


def test_half_precision_sums_in_float32():
    q, k, v = inputs(1, 64, 64, 2, 2, 16)
    exact = columns_attention(q, k, v)
    half = columns_attention(*(x.astype(jnp.bfloat16) for x in (q, k, v)))
    assert half.dtype == jnp.bfloat16
    np.testing.assert_allclose(half.astype(jnp.float32), exact, atol=0.03)


def test_rotary_scores_depend_on_distance_alone():
    q, k, _ = inputs(1, 1, 1, 1, 1, 8)

    def score(at_q, at_k):
        rotated = rotate(q, jnp.array([at_q]), 1e4), rotate(k, jnp.array([at_k]), 1e4)
        return jnp.sum(rotated[0] * rotated[1])

    np.testing.assert_allclose(score(3, 1), score(103, 101), rtol=1e-4)
    assert abs(score(3, 1) - score(3, 2)) > 1e-3
    np.testing.assert_allclose(rotate(q, jnp.array([0]), 1e4), q)


def test_uneven_groups_are_named():
    with raises("heads-uneven", "4 heads", "3 key-value heads"):
        attention(*inputs(1, 2, 2, 4, 3, 4))


@pytest.mark.parametrize("rope", [None, 100.0])
@pytest.mark.parametrize("cross", [False, True])
def test_biases_of_keys_keep_still_where_the_softmax_takes_them_out(cross, rope):
    # 4 heads of queries, 2 of keys and values, each of 2: by hand, keys' biases are the features
    # 8 to 12 of the joint projection, and 0 to 4 of a memory's.
    x, memory = (jax.random.normal(jax.random.key(i), (2, 5, 8)) for i in (0, 1))
    layer, given = module.Attention(4, 2, rope=None if cross else rope), (x, memory)[: 1 + cross]
    params = jax.tree.map(lambda p: p + 0.1, layer.init(jax.random.key(2), *given))
    slopes = jax.grad(lambda p: jnp.sin(layer.apply(p, *given)[0]).sum())(params)["params"]
    bias = np.asarray(slopes["key_value" if cross else "qkv"]["bias"])
    keys = np.arange(len(bias)) < 4 if cross else (np.arange(len(bias)) // 4 == 2)
    if rope and not cross:
        assert (bias != 0).all()
    else:
        np.testing.assert_array_equal(bias != 0, ~keys)
