"""Whisper's encoder (Radford et al. 2022): :class:`dl.models.speech.WhisperEncoder`."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dl.interop.families import (
    Config,
    Family,
    activation,
    epsilon_of,
    field,
    layer_norm,
    numbered,
    plain,
    rate_of,
    require,
)
from dl.interop.tables import SAME, SERIES, Entry, Row, below, blocks, dense, expand, norm
from dl.models.layers import LayerNorm
from dl.models.speech import WhisperEncoder
from dl.models.transformer import Transformer

EPSILON = 1e-5  # config.json has no field for it
ROWS: tuple[Row, ...] = below(
    "params",
    (
        *dense("conv_0", "model.encoder.conv1", SERIES),
        *dense("conv_1", "model.encoder.conv2", SERIES),
        ("positions", "model.encoder.embed_positions.weight", SAME),
        # Keys have no bias there. One of ours changes nothing: it adds a number to all scores of a query.
        *blocks(
            "model.encoder.layers",
            "self_attn.{q_proj,k_proj,v_proj}",
            "self_attn.out_proj",
            "self_attn_layer_norm",
            "fc1",
            "fc2",
            "final_layer_norm",
        ),
        *norm("body/norm", "model.encoder.layer_norm"),
    ),
)


def entries(model: WhisperEncoder) -> list[Entry]:
    rows = [
        (ours, theirs.replace("k_proj", "~") if theirs.endswith("bias") else theirs, how)
        for ours, theirs, how in ROWS
    ]
    return expand(rows, numbered(model.body.layers))


def build(config: Config, architecture: str, classes: int, dropout: Any) -> WhisperEncoder:
    body = Transformer(
        field(config, "d_model"),
        field(config, "encoder_layers"),
        field(config, "encoder_attention_heads"),
        hidden=field(config, "encoder_ffn_dim"),
        activation=activation(config.get("activation_function", "gelu")),
        norm=layer_norm(EPSILON),
        dropout=config.get("dropout", 0.0) if dropout is None else dropout,
    )
    return WhisperEncoder(body, field(config, "max_source_positions"))


def config_of(model: WhisperEncoder, variables: Any) -> dict[str, Any]:
    body = model.body
    require(body.norm_first and not body.causal, "a bidirectional pre-norm body")
    plain(body)
    require(epsilon_of(body, LayerNorm) == EPSILON, f"norms of epsilon {EPSILON}")
    require(body.activation is activation("gelu"), "activation=dl.interop.exact_gelu")
    hidden = body.hidden or 4 * body.width
    sizes = {"layers": body.layers, "attention_heads": body.heads, "ffn_dim": hidden}
    return {
        "architectures": ["WhisperModel"],
        "model_type": "whisper",
        "d_model": body.width,
        # A decoder, which is fresh where the folder is read whole, of the same size.
        **{f"{side}_{n}": size for side in ("encoder", "decoder") for n, size in sizes.items()},
        "activation_function": "gelu",
        "num_mel_bins": np.shape(variables["params"]["conv_0"]["kernel"])[1],
        "max_source_positions": model.positions,
        "dropout": rate_of(body.dropout),
    }


def example(config: Config) -> Any:
    frames, mels = 2 * field(config, "max_source_positions"), field(config, "num_mel_bins")
    return (
        jax.ShapeDtypeStruct((1, frames, mels), jnp.float32),
        jax.ShapeDtypeStruct((1,), jnp.int32),
    )


FAMILY = Family(
    architectures=(
        "WhisperModel",
        "WhisperForConditionalGeneration",
        "WhisperForAudioClassification",
    ),
    prefix="model.",
    ignored=r"^model\.(decoder|projector|classifier|layer_weights)\b|^proj_out\.",
    heads=(),
    build=build,
    entries=entries,
    config_of=config_of,
    example=example,
)
