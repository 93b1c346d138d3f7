"""The Transformer against PyTorch's layers, and against itself: causality, padding, cache, scan, remat."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mistakes import raises

from dl.models.language import EncoderDecoder, LanguageModel, TextClassifier
from dl.models.layers import RMSNorm
from dl.models.transformer import Transformer, sinusoids

exact_gelu = functools.partial(nn.gelu, approximate=False)
GPT = LanguageModel(13, Transformer(8, 2, 2, causal=True), positions=12)
LLAMA = LanguageModel(
    13,
    Transformer(
        8,
        layers=2,
        heads=4,
        kv_heads=2,
        hidden=12,
        activation=nn.silu,
        gated=True,
        norm=RMSNorm,
        rope=1e4,
        bias=False,
        causal=True,
    ),
)
BERT = LanguageModel(13, Transformer(8, 2, 2), positions=12)
TOKENS = jax.random.randint(jax.random.key(0), (3, 10), 1, 13)


@functools.partial(jax.jit, static_argnums=0)
def init(model, *arguments):
    variables = model.init(jax.random.key(1), *arguments)
    # Nothing zero or one, so that every parameter matters.
    return jax.tree.map(lambda p: p + 0.1 * jnp.sin(jnp.arange(p.size)).reshape(p.shape), variables)


@functools.partial(jax.jit, static_argnums=0, static_argnames=("method", "mutable"))
def apply(model, *arguments, **keywords):
    return model.apply(*arguments, **keywords)


def torch_layer(torch, kind, params, heads, norm_first):
    """torch's TransformerEncoderLayer or DecoderLayer with the weights of one of ours."""
    width = params["attention_norm"]["scale"].shape[0]
    options = {"activation": "gelu", "batch_first": True, "norm_first": norm_first}
    layer = kind(width, heads, 4 * width, 0.0, **options)
    set_ = lambda target, value: setattr(target, "data", torch.tensor(np.array(value)))  # noqa: E731
    dense = lambda to, p: (set_(to.weight, p["kernel"].T), set_(to.bias, p["bias"]))  # noqa: E731
    norm = lambda to, p: (set_(to.weight, p["scale"]), set_(to.bias, p["bias"]))  # noqa: E731
    own = params["attention"]
    set_(layer.self_attn.in_proj_weight, own["qkv"]["kernel"].T)
    set_(layer.self_attn.in_proj_bias, own["qkv"]["bias"])
    dense(layer.self_attn.out_proj, own["out"])
    dense(layer.linear1, params["in"])
    dense(layer.linear2, params["out"])
    norms = ["attention_norm", "feed_forward_norm"]
    if "memory" in params:
        other, attn = params["memory"], layer.multihead_attn
        parts = [other["query"], other["key_value"]]
        set_(attn.in_proj_weight, jnp.concatenate([p["kernel"].T for p in parts]))
        set_(attn.in_proj_bias, jnp.concatenate([p["bias"] for p in parts]))
        dense(attn.out_proj, other["out"])
        norms.insert(1, "memory_norm")
    for place, name in enumerate(norms):
        norm(getattr(layer, f"norm{place + 1}"), params[name])
    return layer


@pytest.mark.parametrize("norm_first", [True, False])
def test_encoder_and_decoder_match_torch(norm_first):
    torch = pytest.importorskip("torch")
    common = {"activation": exact_gelu, "norm_first": norm_first}
    encoder = Transformer(8, 2, 2, **common)
    decoder = Transformer(8, 2, 2, causal=True, cross=True, **common)
    x, y = (jax.random.normal(jax.random.key(i), (2, 5 + i, 8)) for i in (0, 1))
    mask = jnp.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    first = init(encoder, x)
    second = jax.jit(lambda: decoder.init(jax.random.key(2), y, memory=x))()

    def run(params, x, y):
        memory, _ = encoder.apply({"params": params[0]}, x, mask=mask)
        out, _ = decoder.apply({"params": params[1]}, y, memory=memory, memory_mask=mask)
        return jnp.sum(jnp.sin(out)), out

    params = first["params"], second["params"]
    gradient = jax.jit(jax.grad(run, argnums=(0, 1, 2), has_aux=True))
    (grads, dx, dy), out = gradient(params, x, y)

    tx, ty = (torch.tensor(np.array(a), requires_grad=True) for a in (x, y))
    hidden = torch.tensor(np.array(mask) == 0)
    a, b, layers = tx, ty, {}
    for i in range(2):
        p = params[0][f"layer_{i}"]
        layer = torch_layer(torch, torch.nn.TransformerEncoderLayer, p, 2, norm_first)
        a, layers[i] = layer(a, src_key_padding_mask=hidden), layer
    final = lambda p, x: torch.nn.functional.layer_norm(  # noqa: E731
        x, (8,), torch.tensor(np.array(p["scale"])), torch.tensor(np.array(p["bias"]))
    )
    a = final(params[0]["norm"], a) if norm_first else a
    for i in range(2):
        p = params[1][f"layer_{i}"]
        layer = torch_layer(torch, torch.nn.TransformerDecoderLayer, p, 2, norm_first)
        future = torch.nn.Transformer.generate_square_subsequent_mask(6)
        b = layer(b, a, tgt_mask=future, tgt_is_causal=True, memory_key_padding_mask=hidden)
        layers[2 + i] = layer
    b = final(params[1]["norm"], b) if norm_first else b
    torch.sin(b).sum().backward()

    np.testing.assert_allclose(out, b.detach(), atol=2e-5)
    np.testing.assert_allclose(dx, tx.grad, atol=1e-4)
    np.testing.assert_allclose(dy, ty.grad, atol=1e-4)
    for i in range(2):
        for side in (0, 1):
            got, layer = grads[side][f"layer_{i}"], layers[2 * side + i]
            qkv = got["attention"]["qkv"]["kernel"].T
            np.testing.assert_allclose(qkv, layer.self_attn.in_proj_weight.grad, atol=1e-4)
            np.testing.assert_allclose(got["in"]["kernel"].T, layer.linear1.weight.grad, atol=1e-4)


@settings(max_examples=8, deadline=None)
@given(place=st.integers(1, 9), token=st.integers(1, 12), which=st.sampled_from([GPT, LLAMA]))
def test_later_tokens_never_change_earlier_logits(place, token, which):
    variables = init(which, TOKENS)
    before, _ = apply(which, variables, TOKENS)
    after, _ = apply(which, variables, TOKENS.at[:, place].set(token))
    np.testing.assert_array_equal(before[:, :place], after[:, :place])


def test_an_encoder_sees_both_ways():
    variables = init(BERT, TOKENS)
    before, _ = apply(BERT, variables, TOKENS)
    after, _ = apply(BERT, variables, TOKENS.at[:, -1].set(TOKENS[:, -1] % 12 + 1))
    assert (jnp.abs(before - after).max(axis=(0, 2)) > 1e-6).all()


@settings(max_examples=6, deadline=None)
@given(length=st.integers(1, 9), filler=st.integers(0, 12))
def test_what_padding_holds_changes_nothing(length, filler):
    variables = init(BERT, TOKENS)
    mask = jnp.broadcast_to(jnp.arange(10) < length, (3, 10))
    filled = jnp.where(mask, TOKENS, filler)
    clean, _ = apply(BERT, variables, TOKENS, mask=mask)
    noisy, _ = apply(BERT, variables, filled, mask=mask)
    np.testing.assert_allclose(clean[:, :length], noisy[:, :length], atol=1e-5)


def test_packed_documents_do_not_see_each_other():
    variables = init(LLAMA, TOKENS)
    document = jnp.broadcast_to(jnp.arange(10) >= 6, (3, 10))
    mask = (document[:, :, None] == document[:, None, :])[:, None]
    packed, _ = apply(LLAMA, variables, TOKENS, mask=mask)
    alone, _ = apply(LLAMA, variables, TOKENS[:, 6:])
    np.testing.assert_allclose(packed[:, 6:], alone, atol=1e-5)


@pytest.mark.parametrize("model", [GPT, LLAMA])
@pytest.mark.parametrize("scan", [False, True])
def test_the_cache_gives_what_the_whole_text_gives(model, scan):
    model = model.clone(body=model.body.clone(scan=scan))
    variables = init(model, TOKENS)
    whole, _ = apply(model, variables, TOKENS)
    first, carry = apply(model, variables, TOKENS[:, :4], carry=model.initial_carry(3, 10))
    pieces = [first]
    for t in range(4, 10):
        logits, carry = apply(model, variables, TOKENS[:, t : t + 1], carry=carry)
        pieces.append(logits)
    np.testing.assert_allclose(jnp.concatenate(pieces, 1), whole, atol=2e-5)
    assert carry.used == 10


@pytest.mark.parametrize("scan", [False, True])
def test_translation_decodes_step_by_step_as_all_at_once(scan):
    model = EncoderDecoder(
        13,
        Transformer(8, 2, 2, scan=scan),
        Transformer(8, 2, 2, causal=True, cross=True, scan=scan),
        positions=12,
    )
    source = TOKENS.at[1, 6:].set(0)
    variables = init(model, source, TOKENS)
    whole = apply(model, variables, source, TOKENS)
    begin = jax.jit(lambda v: model.apply(v, source, TOKENS[:, :1], 10, method="begin"))
    logits, carry = begin(variables)
    pieces = [logits]
    for t in range(1, 10):
        logits, carry = apply(model, variables, TOKENS[:, t : t + 1], carry, method="decode")
        pieces.append(logits)
    np.testing.assert_allclose(jnp.concatenate(pieces, 1), whole, atol=2e-5)


def test_scan_and_remat_change_nothing():
    deep = GPT.clone(body=GPT.body.clone(scan=True, remat=True))
    variables = init(GPT, TOKENS)
    stacked = dict(variables["params"])
    body = dict(stacked["body"])
    layers = [body.pop(f"layer_{i}") for i in range(2)]
    body["layers"] = jax.tree.map(lambda *p: jnp.stack(p), *layers)
    stacked["body"] = body

    def loss(params, model):
        return jnp.sum(jnp.sin(model.apply({"params": params}, TOKENS)[0]))

    plain = jax.jit(jax.grad(loss), static_argnums=1)(variables["params"], GPT)
    other = jax.jit(jax.grad(loss), static_argnums=1)(stacked, deep)
    for i in range(2):
        jax.tree.map(
            lambda a, b, i=i: np.testing.assert_allclose(a, b[i], atol=2e-4),
            plain["body"][f"layer_{i}"],
            other["body"]["layers"],
        )
    np.testing.assert_allclose(
        plain["embedding"]["embedding"], other["embedding"]["embedding"], atol=2e-4
    )


def test_dropout_takes_a_traced_rate_in_a_scan():
    def run(rate):
        body = Transformer(8, 2, 2, causal=True, scan=True, dropout=rate)
        model = LanguageModel(13, body, positions=12)
        rngs = {"dropout": jax.random.key(5)}
        return model.apply(variables, TOKENS, train=True, rngs=rngs)[0]

    scanned = GPT.clone(body=GPT.body.clone(scan=True))
    variables = init(scanned, TOKENS)
    none, some = jax.jit(jax.vmap(run))(jnp.array([0.0, 0.5]))
    np.testing.assert_allclose(none, apply(scanned, variables, TOKENS)[0], atol=1e-5)
    assert jnp.abs(none - some).max() > 0.01


def test_attention_maps_are_kept_only_when_asked_for():
    variables = init(GPT, TOKENS)
    _, kept = apply(GPT, variables, TOKENS, mutable=("intermediates",))
    (weights,) = kept["intermediates"]["body"]["layer_1"]["attention"]["weights"]
    assert weights.shape == (3, 2, 10, 10)
    np.testing.assert_allclose(weights.sum(-1), 1.0, atol=1e-5)


@pytest.mark.parametrize("pool", ["first", "mean"])
def test_a_classifier_takes_the_language_model_s_parameters(pool):
    model = TextClassifier(BERT, 3, pool)
    tokens = TOKENS.at[:, 7:].set(0)
    variables = init(model, tokens)
    logits = apply(model, variables, tokens)
    assert logits.shape == (3, 3)
    np.testing.assert_allclose(logits, apply(model, variables, tokens[:, :7]), atol=1e-5)
    pretrained = init(BERT, tokens)["params"]
    assert jax.tree.structure(variables["params"]["encoder"]) == jax.tree.structure(pretrained)


def test_mistakes_are_named():
    with raises("text-too-long", "13 tokens", "12 positions"):
        jax.eval_shape(lambda: GPT.init(jax.random.key(0), jnp.zeros((1, 13), int)))
    with raises("text-too-long", "12 positions"):
        GPT.initial_carry(1, 40)
    with raises("not-causal"):
        BERT.init(jax.random.key(0), TOKENS, carry=GPT.initial_carry(3, 10))


def test_sinusoids_are_those_of_the_paper():
    table = sinusoids(50, 6)
    np.testing.assert_allclose(table[7, 2], np.sin(7 / 10000 ** (2 / 6)), rtol=1e-5)
    np.testing.assert_allclose(table[7, 3], np.cos(7 / 10000 ** (2 / 6)), rtol=1e-5)


def test_translation_shows_where_its_last_layer_looks():
    encoder = Transformer(8, 2, 2)
    model = EncoderDecoder(11, encoder, encoder.clone(causal=True, cross=True))
    source, target = jnp.array([3, 4, 5, 6]), jnp.array([7, 8, 9])
    variables = model.init(jax.random.key(0), source[None], target[None])
    looks = model.attention(variables, source, target)
    assert looks.shape == (2, 3, 4)
    np.testing.assert_allclose(looks.sum(-1), 1.0, atol=1e-5)
