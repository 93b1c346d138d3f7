"""Llama (Touvron et al. 2023) and what shares its layout: :class:`~dl.models.language.LanguageModel`
with rotary positions, RMSNorm and a gated feed-forward. Mistral's is the same where nothing slides; Qwen2 has
biases of queries, keys and values, Qwen3 norms of queries and keys, Gemma scaled embeddings and GEGLU."""

from typing import Any

from dl.core.errors import UserError
from dl.interop.families import (
    Config,
    Family,
    activation,
    activation_name,
    epsilon_of,
    expect,
    field,
    numbered,
    require,
    rms_norm,
    token_example,
)
from dl.interop.tables import FROM_ONE, LINEAR, SAME, Entry, Row, below, dense, expand
from dl.models.attention import Rope
from dl.models.language import LanguageModel
from dl.models.layers import RMSNorm
from dl.models.transformer import Transformer

LAYER = "model.layers.*."


def entries(model: LanguageModel) -> list[Entry]:
    body = model.body
    scale = FROM_ONE if model.scaled else SAME  # Gemma's norms keep what they differ from 1
    attention: tuple[Row, ...] = (
        ("attention_norm/scale", "input_layernorm.weight", scale),
        *dense("attention/qkv", "self_attn.{q_proj,k_proj,v_proj}"),
        *dense("attention/out", "self_attn.o_proj"),
        ("attention/query_norm/scale", "self_attn.q_norm.weight", SAME),
        ("attention/key_norm/scale", "self_attn.k_norm.weight", SAME),
        ("feed_forward_norm/scale", "post_attention_layernorm.weight", scale),
        *dense("in", "mlp.{gate_proj,up_proj}"),
        *dense("out", "mlp.down_proj"),
    )
    biases = {"qkv": ("attention/qkv",), "attention": ("attention/",), True: ("",)}
    rows: list[Row] = [
        ("embedding/embedding", "model.embed_tokens.weight", SAME),
        ("body/norm/scale", "model.norm.weight", scale),
    ]
    for ours, theirs, layout in attention:
        bias = not ours.endswith("bias") or ours.startswith(biases.get(body.bias, ()))
        if bias and (body.head_norm or "y_norm" not in ours):
            rows.append((f"body/layer_*/{ours}", LAYER + theirs, layout))
    if not model.tied:
        rows.append(("head/kernel", "lm_head.weight", LINEAR))
    kv_heads = body.kv_heads or body.heads
    shares = {3: (body.heads, kv_heads, kv_heads)}
    return expand(below("params", rows), numbered(body.layers), shares)


def build(config: Config, architecture: str, classes: int, dropout: Any) -> LanguageModel:
    kind = config["model_type"]
    qwen, gemma = kind in ("qwen2", "qwen3"), kind == "gemma"
    expect(config, pretraining_tp=1, use_bidirectional_attention=None)
    if not qwen or config.get("use_sliding_window", False):
        expect(config, sliding_window=None)
    layers = field(config, "num_hidden_layers")
    if config.get("layer_types") is not None:
        expect(config, layer_types=["full_attention"] * layers)
    bias = config.get("attention_bias", False)
    mlp_bias = config.get("mlp_bias", False)
    if mlp_bias and not bias:
        expect(config, mlp_bias=False)
    usual = {"qwen3": 128, "gemma": 256}
    name = config.get("hidden_act", "gelu_pytorch_tanh" if gemma else "silu")
    body = Transformer(
        field(config, "hidden_size"),
        layers,
        field(config, "num_attention_heads"),
        config.get("num_key_value_heads"),
        hidden=field(config, "intermediate_size"),
        # Gemma was published as "gelu", and is computed by the other.
        activation=activation("gelu_pytorch_tanh" if gemma and name == "gelu" else name),
        gated=True,
        norm=rms_norm(config.get("rms_norm_eps", 1e-6)),
        rope=_rope(config),
        bias="qkv" if kind == "qwen2" else "attention" if bias and not mlp_bias else bias,
        causal=True,
        dropout=0.0 if dropout is None else dropout,
        head_dim=config.get("head_dim", usual.get(kind)),
        head_norm=kind == "qwen3",
    )
    tied = config.get("tie_word_embeddings", gemma)
    return LanguageModel(field(config, "vocab_size"), body, tied=tied, scaled=gemma)


def _rope(config: Config) -> float | Rope:
    """Newer files keep all under ``rope_parameters``, older ones under ``rope_scaling`` and beside it."""
    given = config.get("rope_parameters") or config.get("rope_scaling") or {}
    base = float(given.get("rope_theta") or config.get("rope_theta") or 10000.0)
    kind = given.get("rope_type", given.get("type", "default"))
    if kind == "default":
        return base
    if kind == "linear":
        return Rope(base, field(given, "factor"))
    if kind == "llama3":
        names = (
            "factor",
            "low_freq_factor",
            "high_freq_factor",
            "original_max_position_embeddings",
        )
        return Rope(base, *(field(given, name) for name in names))
    raise UserError(
        "weights-unsupported",
        f"rotary positions of type {kind!r} are not known here: default, linear, llama3",
    )


def _rope_fields(rope: float | Rope) -> dict[str, Any]:
    if not isinstance(rope, Rope):
        return {"rope_type": "default", "rope_theta": rope}
    fields = {"rope_theta": rope.base, "factor": rope.factor}
    if rope.low == rope.high:
        return {"rope_type": "linear", **fields}
    return {
        "rope_type": "llama3",
        **fields,
        "low_freq_factor": rope.low,
        "high_freq_factor": rope.high,
        "original_max_position_embeddings": rope.length,
    }


def config_of(model: LanguageModel, variables: Any) -> dict[str, Any]:
    body = model.body
    require(body.causal and body.norm_first and body.gated, "a causal, pre-norm and gated body")
    require(bool(body.rope) and not model.positions, "rotary positions alone")
    require(not model.token_types and not body.cross, "no token types, and no memory")
    require(not model.embedding_norm and not model.transform, "a plain embedding and output")
    special = model.scaled + body.head_norm + (body.bias == "qkv")
    require(special < 2, "one of scaled (Gemma), head_norm (Qwen3) and bias='qkv' (Qwen2)")
    require(
        body.bias is not True or not (model.scaled or body.head_norm), "bias of attention alone"
    )
    kind, name = "llama", "Llama"
    if special:
        kind = "gemma" if model.scaled else "qwen3" if body.head_norm else "qwen2"
        name = kind.capitalize()
    chosen = activation_name(body.activation)
    if chosen == "gelu_new" and kind == "gemma":
        chosen = "gelu_pytorch_tanh"  # the same, as Gemma's files say it
    rope = _rope_fields(body.rope)  # type: ignore[arg-type]  # required just above
    own = {"attention_bias": bool(body.bias), "mlp_bias": body.bias is True}
    if kind == "qwen2":
        require(body.head_dim in (None, body.width // body.heads), "heads that share the width")
        own = {}
    return {
        "architectures": [f"{name}ForCausalLM"],
        "model_type": kind,
        "vocab_size": model.vocabulary,
        "hidden_size": body.width,
        "num_hidden_layers": body.layers,
        "num_attention_heads": body.heads,
        "num_key_value_heads": body.kv_heads or body.heads,
        "head_dim": body.head_dim or body.width // body.heads,
        "intermediate_size": body.hidden or 4 * body.width,
        "hidden_act": chosen,
        "rms_norm_eps": epsilon_of(body, RMSNorm),
        # Both spellings: files are read by older and newer versions.
        "rope_parameters": rope,
        "rope_theta": rope["rope_theta"],
        "rope_scaling": None if rope["rope_type"] == "default" else rope,
        "tie_word_embeddings": model.tied,
        "bos_token_id": None,
        "eos_token_id": None,
        **own,
    }


FAMILY = Family(
    architectures=tuple(
        f"{name}{end}"
        for name in ("Llama", "Mistral", "Qwen2", "Qwen3", "Gemma")
        for end in ("ForCausalLM", "Model")
    ),
    prefix="model.",
    ignored=r"\.rotary_emb\.inv_freq$|^lm_head\.weight$",
    heads=("params/head",),
    build=build,
    entries=entries,
    config_of=config_of,
    example=token_example,
)
