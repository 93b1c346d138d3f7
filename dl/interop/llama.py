"""Llama (Touvron et al. 2023) and what shares its layout: :class:`~dl.models.language.LanguageModel`
with rotary positions, RMSNorm and a gated feed-forward. Mistral's is the same where nothing slides."""

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
from dl.interop.tables import LINEAR, SAME, Entry, Row, expand
from dl.models.attention import Rope
from dl.models.language import LanguageModel
from dl.models.layers import RMSNorm
from dl.models.transformer import Transformer

ROWS: tuple[Row, ...] = (
    ("params/embedding/embedding", "model.embed_tokens.weight", SAME),
    ("params/body/layer_*/attention_norm/scale", "model.layers.*.input_layernorm.weight", SAME),
    (
        "params/body/layer_*/attention/qkv/kernel",
        "model.layers.*.self_attn.{q_proj,k_proj,v_proj}.weight",
        LINEAR,
    ),
    ("params/body/layer_*/attention/out/kernel", "model.layers.*.self_attn.o_proj.weight", LINEAR),
    (
        "params/body/layer_*/feed_forward_norm/scale",
        "model.layers.*.post_attention_layernorm.weight",
        SAME,
    ),
    ("params/body/layer_*/in/kernel", "model.layers.*.mlp.{gate_proj,up_proj}.weight", LINEAR),
    ("params/body/layer_*/out/kernel", "model.layers.*.mlp.down_proj.weight", LINEAR),
    ("params/body/norm/scale", "model.norm.weight", SAME),
)
BIASES: tuple[Row, ...] = (
    (
        "params/body/layer_*/attention/qkv/bias",
        "model.layers.*.self_attn.{q_proj,k_proj,v_proj}.bias",
        SAME,
    ),
    ("params/body/layer_*/attention/out/bias", "model.layers.*.self_attn.o_proj.bias", SAME),
    ("params/body/layer_*/in/bias", "model.layers.*.mlp.{gate_proj,up_proj}.bias", SAME),
    ("params/body/layer_*/out/bias", "model.layers.*.mlp.down_proj.bias", SAME),
)
UNTIED: tuple[Row, ...] = (("params/head/kernel", "lm_head.weight", LINEAR),)


def entries(model: LanguageModel) -> list[Entry]:
    body = model.body
    kv_heads = body.kv_heads or body.heads
    rows = ROWS + (BIASES if body.bias else ()) + (() if model.tied else UNTIED)
    return expand(rows, numbered(body.layers), {3: (body.heads, kv_heads, kv_heads)})


def build(config: Config, architecture: str, classes: int, dropout: Any) -> LanguageModel:
    width, heads = field(config, "hidden_size"), field(config, "num_attention_heads")
    expect(config, pretraining_tp=1, sliding_window=None)
    if config.get("head_dim") is not None:
        expect(config, head_dim=width // heads)
    bias = config.get("attention_bias", False)
    expect(config, mlp_bias=bias)
    body = Transformer(
        width,
        field(config, "num_hidden_layers"),
        heads,
        config.get("num_key_value_heads"),
        hidden=field(config, "intermediate_size"),
        activation=activation(config.get("hidden_act", "silu")),
        gated=True,
        norm=rms_norm(config.get("rms_norm_eps", 1e-6)),
        rope=_rope(config),
        bias=bias,
        causal=True,
        dropout=0.0 if dropout is None else dropout,
    )
    tied = config.get("tie_word_embeddings", False)
    return LanguageModel(field(config, "vocab_size"), body, tied=tied)


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
    rope = _rope_fields(body.rope)  # type: ignore[arg-type]  # required just above
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": model.vocabulary,
        "hidden_size": body.width,
        "num_hidden_layers": body.layers,
        "num_attention_heads": body.heads,
        "num_key_value_heads": body.kv_heads or body.heads,
        "head_dim": body.width // body.heads,
        "intermediate_size": body.hidden or 4 * body.width,
        "hidden_act": activation_name(body.activation),
        "rms_norm_eps": epsilon_of(body, RMSNorm),
        # Both spellings: files are read by older and newer versions.
        "rope_parameters": rope,
        "rope_theta": rope["rope_theta"],
        "rope_scaling": None if rope["rope_type"] == "default" else rope,
        "attention_bias": body.bias,
        "mlp_bias": body.bias,
        "tie_word_embeddings": model.tied,
        "bos_token_id": None,
        "eos_token_id": None,
    }


FAMILY = Family(
    architectures=("LlamaForCausalLM", "LlamaModel", "MistralForCausalLM", "MistralModel"),
    prefix="model.",
    ignored=r"\.rotary_emb\.inv_freq$|^lm_head\.weight$",
    heads=("params/head",),
    build=build,
    entries=entries,
    config_of=config_of,
    example=token_example,
)
