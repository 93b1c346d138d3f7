"""GPT-2 (Radford et al. 2019): :class:`~dl.models.language.LanguageModel` with learned positions."""

from typing import Any

from dl.interop.families import (
    Config,
    Family,
    activation,
    activation_name,
    epsilon_of,
    expect,
    field,
    layer_norm,
    numbered,
    plain,
    rate_of,
    require,
    token_example,
)
from dl.interop.tables import LINEAR, SAME, Entry, Row, below, blocks, expand, norm
from dl.models.language import LanguageModel
from dl.models.layers import LayerNorm
from dl.models.transformer import Transformer

# Its layers are of the kind whose kernels are [in, out], as ours are.
ROWS: tuple[Row, ...] = below(
    "params",
    (
        ("embedding/embedding", "transformer.wte.weight", SAME),
        ("positions", "transformer.wpe.weight", SAME),
        *blocks(
            "transformer.h",
            "attn.c_attn",
            "attn.c_proj",
            "ln_1",
            "mlp.c_fc",
            "mlp.c_proj",
            "ln_2",
            kernel=SAME,
        ),
        *norm("body/norm", "transformer.ln_f"),
    ),
)
UNTIED: tuple[Row, ...] = (("params/head/kernel", "lm_head.weight", LINEAR),)


def entries(model: LanguageModel) -> list[Entry]:
    rows = ROWS if model.tied else ROWS + UNTIED
    return expand(rows, numbered(model.body.layers))


def build(config: Config, architecture: str, classes: int, dropout: Any) -> LanguageModel:
    expect(
        config,
        add_cross_attention=False,
        scale_attn_weights=True,
        scale_attn_by_inverse_layer_idx=False,
    )
    body = Transformer(
        field(config, "n_embd"),
        field(config, "n_layer"),
        field(config, "n_head"),
        hidden=config.get("n_inner"),
        activation=activation(config.get("activation_function", "gelu_new")),
        norm=layer_norm(config.get("layer_norm_epsilon", 1e-5)),
        causal=True,
        dropout=config.get("resid_pdrop", 0.1) if dropout is None else dropout,
    )
    tied = config.get("tie_word_embeddings", True)
    return LanguageModel(field(config, "vocab_size"), body, field(config, "n_positions"), tied)


def config_of(model: LanguageModel, variables: Any) -> dict[str, Any]:
    body = model.body
    require(body.causal and body.norm_first and not body.gated, "a causal pre-norm body, not gated")
    plain(body)
    require(not model.token_types and not model.scaled, "no token types, nothing scaled")
    require(not model.embedding_norm and not model.transform, "a plain embedding and output")
    rate = rate_of(body.dropout)
    names = {"gelu_pytorch_tanh": "gelu_new"}
    chosen = activation_name(body.activation)
    return {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "vocab_size": model.vocabulary,
        "n_positions": model.positions,
        "n_embd": body.width,
        "n_layer": body.layers,
        "n_head": body.heads,
        "n_inner": body.hidden,
        "activation_function": names.get(chosen, chosen),
        "layer_norm_epsilon": epsilon_of(body, LayerNorm),
        "attn_pdrop": 0.0,
        "embd_pdrop": rate,
        "resid_pdrop": rate,
        "tie_word_embeddings": model.tied,
        "bos_token_id": None,
        "eos_token_id": None,
    }


FAMILY = Family(
    architectures=("GPT2LMHeadModel", "GPT2Model"),
    prefix="transformer.",
    ignored=(
        r"\.attn\.(bias|masked_bias)$|^lm_head\.weight$"  # causal masks; the output's kernel if tied
    ),
    heads=("params/head",),
    build=build,
    entries=entries,
    config_of=config_of,
    example=token_example,
)
