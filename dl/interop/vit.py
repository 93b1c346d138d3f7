"""ViT (Dosovitskiy et al. 2021) and DeiT (Touvron et al. 2021): :class:`dl.models.vit.ViT` with a class token."""

import functools
from typing import Any, Literal

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
    plain,
    rate_of,
    require,
)
from dl.interop.tables import BATCHED, Entry, Patches, Row, below, blocks, dense, expand, norm
from dl.models.layers import LayerNorm
from dl.models.transformer import Transformer
from dl.models.vit import ViT

TEACHER = "DeiTForImageClassificationWithTeacher"


def entries(kind: str, model: ViT) -> list[Entry]:
    top = f"{kind}.embeddings"
    rows: list[Row] = [
        ("class_token", f"{top}.cls_token", BATCHED),
        ("positions", f"{top}.position_embeddings", BATCHED),
        *dense("patches", f"{top}.patch_embeddings.projection", Patches(model.patch)),
        *blocks(
            f"{kind}.encoder.layer",
            "attention.attention.{query,key,value}",
            "attention.output.dense",
            "layernorm_before",
            "intermediate.dense",
            "output.dense",
            "layernorm_after",
        ),
        *norm("body/norm", f"{kind}.layernorm"),
        *dense("head", "cls_classifier" if model.pool == "both" else "classifier"),
    ]
    if kind == "deit":
        rows.append(("distillation_token", f"{top}.distillation_token", BATCHED))
    if model.pool == "both":
        rows += dense("distillation_head", "distillation_classifier")
    return expand(below("params", rows), numbered(model.body.layers))


def build(kind: str, config: Config, architecture: str, classes: int, dropout: Any) -> ViT:
    expect(config, qkv_bias=True)
    if architecture.endswith("Model"):
        raise UserError(
            "no-head", f"{architecture} has no classifier: give classes= for a fresh one"
        )
    body = Transformer(
        field(config, "hidden_size"),
        field(config, "num_hidden_layers"),
        field(config, "num_attention_heads"),
        hidden=field(config, "intermediate_size"),
        activation=activation(config.get("hidden_act", "gelu")),
        norm=layer_norm(config.get("layer_norm_eps", 1e-12)),
        dropout=config.get("hidden_dropout_prob", 0.0) if dropout is None else dropout,
    )
    pool: Literal["first", "both"] = "both" if architecture == TEACHER else "first"
    return ViT(classes, body, field(config, "patch_size"), pool, distilled=kind == "deit")


def config_of(kind: str, model: ViT, variables: Any) -> dict[str, Any]:
    body = model.body
    require(model.pool != "mean", "a class token (pool='first')")
    require(body.norm_first and not body.causal, "a bidirectional pre-norm body")
    plain(body)
    tokens = 1 + (kind == "deit")
    across = round((variables["params"]["positions"].shape[0] - tokens) ** 0.5)
    square = across**2 + tokens == variables["params"]["positions"].shape[0]
    require(square, "pictures that are square")
    pixels = np.shape(variables["params"]["patches"]["kernel"])[0]
    return {
        "architectures": [TEACHER if model.pool == "both" else _named(kind)],
        "model_type": kind,
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


def _named(kind: str) -> str:
    return (DEIT_FAMILY if kind == "deit" else FAMILY).architectures[0]


def example(config: Config) -> Any:
    side = field(config, "image_size")
    return jax.ShapeDtypeStruct((1, side, side, config.get("num_channels", 3)), jnp.float32)


def _family(kind: str, *architectures: str, heads: tuple[str, ...] = ("params/head",)) -> Family:
    return Family(
        architectures=architectures,
        prefix=f"{kind}.",
        ignored=rf"^{kind}\.pooler\.",
        heads=heads,
        build=functools.partial(build, kind),
        entries=functools.partial(entries, kind),
        config_of=functools.partial(config_of, kind),
        example=example,
    )


FAMILY = _family("vit", "ViTForImageClassification", "ViTModel")
DEIT_FAMILY = _family(
    "deit",
    "DeiTForImageClassification",
    TEACHER,
    "DeiTModel",
    heads=("params/head", "params/distillation_head"),
)
