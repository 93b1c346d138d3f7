"""Say what the hidden patches of a picture hold (He et al. 2022, "Masked autoencoders")."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from dl.core.column_checks import pixels
from dl.core.errors import UserError, bounded
from dl.core.metrics import mean
from dl.core.random import content_keys, example_keys, purpose_key
from dl.core.task import Task, in_precision_of
from dl.models.self_supervised import MaskedAutoencoder
from dl.models.vit import patches
from dl.tasks.classification import unit_range
from dl.tasks.supervised import training


def masked_autoencoding(
    model: MaskedAutoencoder,
    *,
    hidden: float = 0.75,
    inputs: str = "image",
    prepare: Callable[[jax.Array], jax.Array] = unit_range,
) -> Task:
    """Squared error of the hidden patches' pixels, less the patch's mean and divided by its deviation.

    Args:
      hidden: share of the patches that is hidden, drawn anew at every step; in evaluation of the picture alone.
      inputs: the batch's column; ``prepare`` turns it into the model's input.

    Metrics: ``loss``, a value. ``predict`` gives the features, with no patch hidden.

    Raises:
      UserError: no patch would be left, or none hidden.
    """
    bounded("hidden", hidden, above=0, below=1)
    count = model.places - round(hidden * model.places)
    if not 0 < count < model.places:
        raise UserError("range", f"hidden must leave some of {model.places} patches, not {count}")

    def kept(keys):
        """Which patches are seen, ``[batch, count, places]`` of 0 and 1."""

        def one(key):
            order = jnp.argsort(jax.random.uniform(key, (model.places,)))
            return jax.nn.one_hot(order[:count], model.places)

        return jax.vmap(one)(keys)

    def init(key, batch):
        x = prepare(batch[inputs])
        return dict(model.init(key, x, kept(example_keys(key, len(x)))))

    def apply(variables, batch, key):
        """What is said of every patch, and which are hidden, 1.0 or 0.0."""
        x = in_precision_of(variables, prepare(batch[inputs]))
        updates: Any = {}
        if key is None:
            seen = kept(content_keys(purpose_key(jax.random.key(0), "hide"), batch[inputs]))
            said = model.apply(variables, x, seen)
        else:
            seen = kept(example_keys(purpose_key(key, "hide"), len(x)))
            said, updates = model.apply(variables, x, seen, train=True, **training(variables, key))
        return (said, 1 - seen.sum(1)), dict(updates)

    def score(outputs, batch, train):
        said, chosen = outputs
        true = patches(prepare(batch[inputs]), model.encoder.patch)
        true = true - true.mean(-1, keepdims=True)
        true = true * jax.lax.rsqrt(jnp.square(true).mean(-1, keepdims=True) + 1e-6)
        error = jnp.square(said.astype(jnp.float32) - true).mean(-1)
        weight = chosen if "mask" not in batch else chosen * batch["mask"][:, None]
        return {"loss": mean(error, weight)}

    def predict(variables, columns):
        x = in_precision_of(variables, prepare(columns[inputs]))
        return model.apply(variables, x, method="features")

    def check(variables, batch, columns):
        if prepare is unit_range:
            pixels(inputs, columns[inputs])

    return Task(init, apply, score, predict, (inputs,), check)
