"""ConvNeXt (Liu et al. 2022): :class:`dl.models.convnext.ConvNeXt`."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dl.core.errors import UserError
from dl.interop.families import Config, Family, expect, field, label_fields
from dl.interop.tables import CONV, SAME, Entry, Row, below, dense, expand, norm
from dl.models.convnext import ConvNeXt

BLOCK: tuple[Row, ...] = (
    ("*/scale", "*.layer_scale_parameter", SAME),
    *dense("*/depthwise", "*.dwconv", CONV),
    *norm("*/norm", "*.layernorm"),
    *dense("*/in", "*.pwconv1"),
    *dense("*/out", "*.pwconv2"),
)


def entries(model: ConvNeXt) -> list[Entry]:
    stages = "convnext.encoder.stages"
    rows: list[Row] = [
        *dense("patches_0", "convnext.embeddings.patch_embeddings", CONV),
        *norm("norm_0", "convnext.embeddings.layernorm"),
        *BLOCK,
        *norm("norm", "convnext.layernorm"),
        *dense("head", "classifier"),
    ]
    for stage in range(1, len(model.depths)):
        rows += norm(f"norm_{stage}", f"{stages}.{stage}.downsampling_layer.0")
        rows += dense(f"patches_{stage}", f"{stages}.{stage}.downsampling_layer.1", CONV)
    places = [
        (f"block_{stage}_{place}", f"{stages}.{stage}.layers.{place}")
        for stage, depth in enumerate(model.depths)
        for place in range(depth)
    ]
    return expand(below("params", rows), places)


def build(config: Config, architecture: str, classes: int, dropout: Any) -> ConvNeXt:
    expect(config, hidden_act="gelu")
    if architecture == "ConvNextModel":
        raise UserError("no-head", "ConvNextModel has no classifier: give classes= for a fresh one")
    widths, depths = field(config, "hidden_sizes"), field(config, "depths")
    expect(config, num_stages=len(depths))
    return ConvNeXt(
        classes,
        tuple(widths),
        tuple(depths),
        config.get("patch_size", 4),
        0.0 if dropout is None else dropout,
        epsilon=config.get("layer_norm_eps", 1e-12),
    )


def config_of(model: ConvNeXt, variables: Any) -> dict[str, Any]:
    return {
        "architectures": ["ConvNextForImageClassification"],
        "model_type": "convnext",
        "num_channels": int(np.shape(variables["params"]["patches_0"]["kernel"])[2]),
        "patch_size": model.patch,
        "num_stages": len(model.depths),
        "hidden_sizes": list(model.widths),
        "depths": list(model.depths),
        "hidden_act": "gelu",
        "layer_norm_eps": model.epsilon,
        **label_fields(model.classes),
    }


def example(config: Config) -> Any:
    side = config.get("patch_size", 4) * 2 ** len(field(config, "depths"))
    return jax.ShapeDtypeStruct((1, side, side, config.get("num_channels", 3)), jnp.float32)


FAMILY = Family(
    architectures=("ConvNextForImageClassification", "ConvNextModel"),
    prefix="convnext.",
    ignored=r"^$",
    heads=("params/head",),
    build=build,
    entries=entries,
    config_of=config_of,
    example=example,
)
