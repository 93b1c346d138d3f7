"""What every family's file says, and what several of them need."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from dl.core.errors import UserError
from dl.interop.tables import Entry
from dl.models.layers import Activation, LayerNorm, RMSNorm
from dl.models.transformer import Transformer

Config = Mapping[str, Any]  # a config.json


class Family(NamedTuple):
    """How one family's folders are read and written.

    Attributes:
      architectures: classes of ``transformers`` whose folders are read; the first is the one of folders
        that name none.
      prefix: what a headed model's tensors begin with and a bare one's lack.
      ignored: pattern of tensors that hold nothing learned, or that our models have no use for.
      heads: paths of ours that hold the last layers.
      build: ``(config, architecture, classes, dropout) ->`` the model; ``dropout`` None takes the
        config's.
      entries: ``model ->`` which array of ours is which of theirs.
      config_of: ``(model, variables) ->`` the ``config.json``, or UserError saying what the layout cannot
        hold.
      example: ``config ->`` an input's shape and dtype, for the model to be initialised with.
    """

    architectures: tuple[str, ...]
    prefix: str
    ignored: str
    heads: tuple[str, ...]
    build: Callable[[Config, str, int, Any], nn.Module]
    entries: Callable[[Any], list[Entry]]
    config_of: Callable[[Any, Any], dict[str, Any]]
    example: Callable[[Config], Any]


def token_example(config: Config) -> jax.ShapeDtypeStruct:
    """An input of a model that reads tokens."""
    return jax.ShapeDtypeStruct((1, 1), jnp.int32)


def rate_of(dropout: Any) -> float:
    """A dropout rate as a number; a traced one is not known and stands as 0."""
    return 0.0 if isinstance(dropout, jax.Array) else float(dropout)


def exact_gelu(x):
    """GELU by the error function; ``nn.gelu`` is the tanh approximation of it."""
    return nn.gelu(x, approximate=False)


ACTIVATIONS: dict[str, Activation] = {
    "gelu": exact_gelu,
    "gelu_new": nn.gelu,
    "gelu_pytorch_tanh": nn.gelu,
    "relu": nn.relu,
    "silu": nn.silu,
    "swish": nn.silu,
}


def activation(name: str) -> Activation:
    if name not in ACTIVATIONS:
        raise UserError(
            "weights-unsupported",
            f"activation {name!r} is not known here, only {', '.join(ACTIVATIONS)}",
        )
    return ACTIVATIONS[name]


def activation_name(function: Activation) -> str:
    for name, known in ACTIVATIONS.items():
        if known is function:
            return name
    raise UserError(
        "hf-layout",
        f"activation {function} has no name in config.json: use one of nn.gelu, nn.relu, nn.silu or "
        "dl.interop.exact_gelu",
    )


def layer_norm(epsilon: float) -> Callable[..., nn.Module]:
    return functools.partial(LayerNorm, epsilon=epsilon)


def rms_norm(epsilon: float) -> Callable[..., nn.Module]:
    return functools.partial(RMSNorm, epsilon=epsilon)


def epsilon_of(body: Transformer, kind: type[nn.Module]) -> float:
    """The epsilon of the body's norms, which must be of that kind."""
    norm: Any = body.norm(parent=None)
    require(isinstance(norm, kind), f"norm={kind.__name__}")
    return norm.epsilon


def plain(body: Transformer) -> None:
    """Raise UserError where a body is not one whose layers have biases, whole heads and no gate."""
    require(
        body.bias is True and not body.rope and not body.gated,
        "biases, no rotary positions or gate",
    )
    require(body.kv_heads in (None, body.heads), "as many key-value heads as heads")
    require(not body.head_dim and not body.head_norm, "heads that share the width, without a norm")
    require(not (body.cross or body.experts or body.mixer), "no memory, experts or mixer")


def require(fits: bool, wanted: str) -> None:
    """Raise UserError where a model is not one that the layout can hold."""
    if not fits:
        raise UserError(
            "hf-layout",
            f"this model has no place in Hugging Face's layout: it would need {wanted}",
        )


def expect(config: Config, **fields: Any) -> None:
    """Raise UserError where ``config.json`` asks for something that our models do not compute."""
    for name, value in fields.items():
        if config.get(name, value) != value:
            raise UserError(
                "weights-unsupported",
                f"config.json says {name} = {config[name]!r}: only {value!r} is supported here",
            )


def field(config: Config, name: str) -> Any:
    """A field that the architecture cannot be known without."""
    if name not in config:
        raise UserError("weights-config", f"config.json has no {name!r}")
    return config[name]


MOST_LAYERS = 10_000


def labels(config: Config) -> int:
    """Classes of a classifier's ``config.json``; those with two need not say so."""
    return len(config["id2label"]) if config.get("id2label") else int(config.get("num_labels", 2))


def label_fields(classes: int) -> dict[str, Any]:
    names = [f"LABEL_{number}" for number in range(classes)]
    return {
        "id2label": {str(number): name for number, name in enumerate(names)},
        "label2id": {name: number for number, name in enumerate(names)},
    }


def numbered(count: int) -> list[tuple[str, str]]:
    """The layers 0, 1, ... as :func:`dl.interop.tables.expand` takes them."""
    if count > MOST_LAYERS:
        raise UserError(
            "weights-config",
            f"config.json says that there are {count:,} layers: more than {MOST_LAYERS:,} are not read",
        )
    return [(str(number), str(number)) for number in range(count)]
