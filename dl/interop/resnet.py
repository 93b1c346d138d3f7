"""ResNet (He et al. 2016): :class:`dl.models.resnet.ResNet`, of either block."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dl.core.errors import UserError
from dl.interop.families import Config, Family, expect, field, label_fields, require
from dl.interop.tables import CONV, LINEAR, SAME, Entry, Row, expand
from dl.models.resnet import BasicBlock, Bottleneck, ResNet


def _norm(ours: str, theirs: str) -> tuple[Row, ...]:
    return (
        (f"params/ResNetFeatures_0/{ours}/scale", f"{theirs}.weight", SAME),
        (f"params/ResNetFeatures_0/{ours}/bias", f"{theirs}.bias", SAME),
        (f"batch_stats/ResNetFeatures_0/{ours}/mean", f"{theirs}.running_mean", SAME),
        (f"batch_stats/ResNetFeatures_0/{ours}/var", f"{theirs}.running_var", SAME),
    )


def _layer(conv: str, norm: str, theirs: str) -> tuple[Row, ...]:
    """A convolution and its norm."""
    kernel = f"params/ResNetFeatures_0/{conv}/kernel"
    return (
        (kernel, f"{theirs}.convolution.weight", CONV),
        *_norm(norm, f"{theirs}.normalization"),
    )


STEM = _layer("stem", "stem_norm", "resnet.embedder.embedder")
HEAD: tuple[Row, ...] = (
    ("params/Dense_0/kernel", "classifier.1.weight", LINEAR),
    ("params/Dense_0/bias", "classifier.1.bias", SAME),
)
LAYER = "resnet.encoder.stages.*"  # ours numbers all blocks through, theirs those of a stage


def _channels(model: ResNet) -> tuple[int, list[int]]:
    """Of the stem, and of what each stage gives."""
    width, expansion = model.width, model.block.expansion  # type: ignore[attr-defined]
    widths = [width * 2**n for n in range(len(model.stages))] if isinstance(width, int) else width
    return model.stem or widths[0], [width * expansion for width in widths]


def entries(model: ResNet) -> list[Entry]:
    stem, hidden = _channels(model)
    blocks: list[tuple[str, str]] = []
    shortcuts = []
    for stage, count in enumerate(model.stages):
        for place in range(count):
            block = (str(len(blocks)), f"{stage}.layers.{place}")
            blocks.append(block)
            if place == 0 and (stage > 0 or hidden[0] != stem):
                shortcuts.append(block)
    name = f"{model.block.__name__}_*"  # type: ignore[attr-defined]
    rows: list[Row] = []
    for number in range(3 if model.block is Bottleneck else 2):
        ours = f"{name}/Conv_{number}", f"{name}/BatchNorm_{number}"
        rows += _layer(*ours, f"{LAYER}.layer.{number}")
    beside = _layer(f"{name}/shortcut", f"{name}/shortcut_norm", f"{LAYER}.shortcut")
    return [*expand([*STEM, *HEAD, *rows], blocks), *expand(beside, shortcuts)]


def build(config: Config, architecture: str, classes: int, dropout: Any) -> ResNet:
    expect(config, hidden_act="relu", downsample_in_first_stage=False)
    expect(config, downsample_in_bottleneck=False)
    if architecture == "ResNetModel":
        raise UserError("no-head", "ResNetModel has no classifier: give classes= for a fresh one")
    kinds: dict[str, Any] = {"basic": BasicBlock, "bottleneck": Bottleneck}
    kind = config.get("layer_type", "bottleneck")
    if kind not in kinds:
        raise UserError(
            "weights-unsupported",
            f"config.json says layer_type = {kind!r}: known are {', '.join(kinds)}",
        )
    block, stem = kinds[kind], field(config, "embedding_size")
    hidden, stages = field(config, "hidden_sizes"), tuple(field(config, "depths"))
    widths = tuple(size // block.expansion for size in hidden)
    expect(config, hidden_sizes=[width * block.expansion for width in widths])
    rate = 0.0 if dropout is None else dropout
    return ResNet(classes, stages, block, widths, dropout=rate, stem=stem)


def config_of(model: ResNet, variables: Any) -> dict[str, Any]:
    require(not model.small_images, "the stem of large pictures (small_images=False)")
    require(model.block in (BasicBlock, Bottleneck), "blocks of BasicBlock or Bottleneck")
    stem, hidden = _channels(model)
    kernel = variables["params"]["ResNetFeatures_0"]["stem"]["kernel"]
    return {
        "architectures": ["ResNetForImageClassification"],
        "model_type": "resnet",
        "num_channels": int(np.shape(kernel)[2]),
        "embedding_size": stem,
        "hidden_sizes": hidden,
        "depths": list(model.stages),
        "layer_type": "bottleneck" if model.block is Bottleneck else "basic",
        "hidden_act": "relu",
        "downsample_in_first_stage": False,
        "downsample_in_bottleneck": False,
        **label_fields(model.classes),
    }


def example(config: Config) -> Any:
    return jax.ShapeDtypeStruct((1, 32, 32, config.get("num_channels", 3)), jnp.float32)


FAMILY = Family(
    architectures=("ResNetForImageClassification", "ResNetModel"),
    prefix="resnet.",
    ignored=r"\.num_batches_tracked$",  # counted there for momentum by averaging, which ours is not
    heads=("params/Dense_0",),
    build=build,
    entries=entries,
    config_of=config_of,
    example=example,
)
