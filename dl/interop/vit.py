"""ViT (Dosovitskiy et al. 2021): :class:`dl.models.vit.ViT` with a class token."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dl.core.errors import UserError
from dl.interop.families import (
    Config,
    Family,
    activation,
    activation_name,
    epsilon_of,
    expect,
    field,
    label_fields,
    layer_norm,
    numbered,
    rate_of,
    require,
)
from dl.interop.tables import BATCHED, LINEAR, SAME, Entry, Patches, Row, expand
from dl.models.layers import LayerNorm
from dl.models.transformer import Transformer
from dl.models.vit import ViT

ROWS: tuple[Row, ...] = (
    ("params/class_token", "vit.embeddings.cls_token", BATCHED),
    ("params/positions", "vit.embeddings.position_embeddings", BATCHED),
    ("params/patches/bias", "vit.embeddings.patch_embeddings.projection.bias", SAME),
    (
        "params/body/layer_*/attention_norm/scale",
        "vit.encoder.layer.*.layernorm_before.weight",
        SAME,
    ),
    ("params/body/layer_*/attention_norm/bias", "vit.encoder.layer.*.layernorm_before.bias", SAME),
    (
        "params/body/layer_*/attention/qkv/kernel",
        "vit.encoder.layer.*.attention.attention.{query,key,value}.weight",
        LINEAR,
    ),
    (
        "params/body/layer_*/attention/qkv/bias",
        "vit.encoder.layer.*.attention.attention.{query,key,value}.bias",
        SAME,
    ),
    (
        "params/body/layer_*/attention/out/kernel",
        "vit.encoder.layer.*.attention.output.dense.weight",
        LINEAR,
    ),
    (
        "params/body/layer_*/attention/out/bias",
        "vit.encoder.layer.*.attention.output.dense.bias",
        SAME,
    ),
    (
        "params/body/layer_*/feed_forward_norm/scale",
        "vit.encoder.layer.*.layernorm_after.weight",
        SAME,
    ),
    (
        "params/body/layer_*/feed_forward_norm/bias",
        "vit.encoder.layer.*.layernorm_after.bias",
        SAME,
    ),
    ("params/body/layer_*/in/kernel", "vit.encoder.layer.*.intermediate.dense.weight", LINEAR),
    ("params/body/layer_*/in/bias", "vit.encoder.layer.*.intermediate.dense.bias", SAME),
    ("params/body/layer_*/out/kernel", "vit.encoder.layer.*.output.dense.weight", LINEAR),
    ("params/body/layer_*/out/bias", "vit.encoder.layer.*.output.dense.bias", SAME),
    ("params/body/norm/scale", "vit.layernorm.weight", SAME),
    ("params/body/norm/bias", "vit.layernorm.bias", SAME),
    ("params/head/kernel", "classifier.weight", LINEAR),
    ("params/head/bias", "classifier.bias", SAME),
)


def entries(model: ViT) -> list[Entry]:
    projection = "vit.embeddings.patch_embeddings.projection.weight"
    rows = [("params/patches/kernel", projection, Patches(model.patch)), *ROWS]
    return expand(rows, numbered(model.body.layers))


def build(config: Config, architecture: str, classes: int, dropout: Any) -> ViT:
    expect(config, qkv_bias=True)
    if architecture == "ViTModel":
        raise UserError("no-head", "ViTModel has no classifier: give classes= for a fresh one")
    body = Transformer(
        field(config, "hidden_size"),
        field(config, "num_hidden_layers"),
        field(config, "num_attention_heads"),
        hidden=field(config, "intermediate_size"),
        activation=activation(config.get("hidden_act", "gelu")),
        norm=layer_norm(config.get("layer_norm_eps", 1e-12)),
        dropout=config.get("hidden_dropout_prob", 0.0) if dropout is None else dropout,
    )
    return ViT(classes, body, field(config, "patch_size"), pool="first")


def config_of(model: ViT, variables: Any) -> dict[str, Any]:
    body = model.body
    require(model.pool == "first", "a class token (pool='first')")
    require(body.norm_first and body.bias and not body.causal, "a bidirectional pre-norm body")
    require(not body.rope and not body.gated and not body.cross, "no rotary positions and no gate")
    require(body.kv_heads in (None, body.heads), "as many key-value heads as heads")
    across = round((variables["params"]["positions"].shape[0] - 1) ** 0.5)
    require(across**2 + 1 == variables["params"]["positions"].shape[0], "pictures that are square")
    pixels = np.shape(variables["params"]["patches"]["kernel"])[0]
    return {
        "architectures": ["ViTForImageClassification"],
        "model_type": "vit",
        "hidden_size": body.width,
        "num_hidden_layers": body.layers,
        "num_attention_heads": body.heads,
        "intermediate_size": body.hidden or 4 * body.width,
        "hidden_act": activation_name(body.activation),
        "layer_norm_eps": epsilon_of(body, LayerNorm),
        "hidden_dropout_prob": rate_of(body.dropout),
        "attention_probs_dropout_prob": 0.0,
        "image_size": across * model.patch,
        "patch_size": model.patch,
        "num_channels": pixels // model.patch**2,
        "qkv_bias": True,
        **label_fields(model.classes),
    }


def example(config: Config) -> Any:
    side = field(config, "image_size")
    return jax.ShapeDtypeStruct((1, side, side, config.get("num_channels", 3)), jnp.float32)


FAMILY = Family(
    architectures=("ViTForImageClassification", "ViTModel"),
    prefix="vit.",
    ignored=r"^vit\.pooler\.",
    heads=("params/head",),
    build=build,
    entries=entries,
    config_of=config_of,
    example=example,
)
