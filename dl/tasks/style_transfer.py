"""One picture's content in another's style, by the features some network sees in them.

The network is any pure function ``pictures [batch, height, width, channels] in 0..1 -> feature maps``
(a sequence, each ``[batch, height, width, features]``): a trained classifier of one's own, imported
weights, or random ones.
"""

import re
from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from dl.core.column_checks import pixels
from dl.core.errors import UserError, bounded
from dl.core.metrics import Metrics, mean
from dl.core.task import Batch, Task, Variables
from dl.tasks.autoencoding import unit_interval
from dl.tasks.supervised import training

Features = Callable[[jax.Array], Sequence[jax.Array]]
Weights = Sequence[float | jax.Array]


def maps_of(
    model: nn.Module,
    variables: Variables,
    layer: type[nn.Module],
    prepare: Callable[[jax.Array], jax.Array] = lambda x: 2.0 * x - 1.0,
) -> Features:
    """The rectified outputs of every ``layer`` of a network, in the order of their names, as its
    features: a trained classifier's, say, of its ``nn.BatchNorm`` layers.

    Args:
      prepare: pictures in 0..1 to the network's input, in -1..1 unless said otherwise.
    """

    def place(item):
        return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", str(item[0]))]

    def features(x):
        def chosen(module, _):
            return isinstance(module, layer)

        seen = model.apply(variables, prepare(x), capture_intermediates=chosen)[1]
        found = jax.tree_util.tree_leaves_with_path(seen)
        return [jax.nn.relu(maps) for _, maps in sorted(found, key=place)]

    return features


def gram(features: jax.Array) -> jax.Array:
    """Products of all pairs of channels, averaged over places: ``[batch, features, features]``
    (Gatys et al. 2016, "Image style transfer using convolutional neural networks")."""
    flat = features.reshape(features.shape[0], -1, features.shape[-1])
    return jnp.einsum("bpi,bpj->bij", flat, flat) / flat.shape[1]


def roughness(x: jax.Array) -> jax.Array:
    """Mean squared difference of neighbouring pixels (total variation): ``[batch]``."""
    rows, columns = jnp.diff(x, axis=1), jnp.diff(x, axis=2)
    return jnp.square(rows).mean((1, 2, 3)) + jnp.square(columns).mean((1, 2, 3))


def _losses(
    features: Features, x, wanted, grams, content_weights, style_weights, smoothness
) -> dict[str, jax.Array]:
    """The losses, by name ``[batch]``, of pictures ``x`` against the feature maps ``wanted`` and the
    style's Gram matrices."""
    maps = features(x)
    if not len(maps) == len(content_weights) == len(style_weights):
        raise UserError(
            "style-weights-count",
            f"the network gives {len(maps)} feature maps: content_weights ({len(content_weights)}) and "
            f"style_weights ({len(style_weights)}) need one number for each",
        )

    def apart(a, b):
        return jnp.square(a - b).reshape(len(x), -1).mean(axis=1)

    content = sum(w * apart(a, b) for w, a, b in zip(content_weights, maps, wanted, strict=True))
    style = sum(
        w * apart(gram(a), jnp.broadcast_to(g, (len(x), *g.shape[1:])))
        for w, a, g in zip(style_weights, maps, grams, strict=True)
    )
    total = content + style + smoothness * roughness(x)
    content, style = (jnp.broadcast_to(part, total.shape) for part in (content, style))
    return {"loss": total, "content": content, "style": style}


def _score(outputs: dict[str, jax.Array], batch: Batch, train: bool) -> Metrics:
    return {name: mean(values, batch.get("mask")) for name, values in outputs.items()}


def style_transfer(
    features: Features,
    content_weights: Weights,
    style_weights: Weights,
    *,
    smoothness: float | jax.Array = 0.0,
    prepare: Callable[[jax.Array], jax.Array] = unit_interval,
) -> Task:
    """Gatys et al. 2016: the parameters are the picture itself, begun as the content.

    A batch holds ``content`` and ``style``, ``[batch, height, width, channels]`` each (a data set of one
    row will do); their features are computed once and kept in the variables.

    Args:
      content_weights, style_weights: one number for each of the network's feature maps; 0 leaves it out.
      smoothness: weight of :func:`roughness`.

    Metrics: ``loss``, ``content``, ``style``. ``predict`` reads no column and gives the pictures.
    """
    bounded("smoothness", smoothness, at_least=0)

    def init(key, batch):
        content, style = prepare(batch["content"]), prepare(batch["style"])
        grams = [gram(m) for m in features(style)]
        targets = {"content": list(features(content)), "style": grams}
        return {"params": {"picture": content}, "targets": targets}

    def apply(variables, batch, key):
        targets, weights = variables["targets"], (content_weights, style_weights, smoothness)
        picture = variables["params"]["picture"]
        losses = _losses(features, picture, targets["content"], targets["style"], *weights)
        return losses, {"targets": targets}

    def predict(variables, columns):
        """The pictures, ``[batch, height, width, channels]`` in 0..1."""
        return jnp.clip(variables["params"]["picture"], 0.0, 1.0)

    def check(variables, batch, columns):
        if prepare is unit_interval:
            pixels("content", columns["content"])
            pixels("style", columns["style"])

    return Task(init, apply, _score, predict, check=check)


def style_network(
    model: nn.Module,
    features: Features,
    style: jax.Array,
    content_weights: Weights,
    style_weights: Weights,
    *,
    smoothness: float | jax.Array = 0.0,
    inputs: str = "image",
    prepare: Callable[[jax.Array], jax.Array] = unit_interval,
) -> Task:
    """Johnson et al. 2016: a network that gives any picture one style in a single pass.

    Args:
      model: pictures to pictures in 0..1, such as :class:`dl.models.style.StyleNetwork`.
      style: the style's picture, ``[height, width, channels]``.

    The rest as in :func:`style_transfer`; ``predict`` takes pictures.
    """
    bounded("smoothness", smoothness, at_least=0)

    def init(key, batch):
        grams = [gram(m) for m in features(prepare(jnp.asarray(style))[None])]
        return {**model.init(key, prepare(batch[inputs])), "targets": grams}

    def run(variables, x, **options):
        network = {name: value for name, value in variables.items() if name != "targets"}
        return model.apply(network, x, **options)

    def apply(variables, batch, key):
        x = prepare(batch[inputs])
        if key is None:
            outputs, updates = run(variables, x), {}
        else:
            options = training({k: v for k, v in variables.items() if k != "targets"}, key)
            outputs, updates = run(variables, x, train=True, **options)
        weights = content_weights, style_weights, smoothness
        losses = _losses(features, outputs, features(x), variables["targets"], *weights)
        return losses, {**updates, "targets": variables["targets"]}

    def predict(variables, columns):
        """Pictures in the style, ``[batch, height, width, channels]`` in 0..1."""
        return run(variables, prepare(columns[inputs]))

    def check(variables, batch, columns):
        if prepare is unit_interval:
            pixels("style", np.asarray(style))
            pixels(inputs, columns[inputs])

    return Task(init, apply, _score, predict, (inputs,), check)
