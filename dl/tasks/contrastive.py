"""Two views of one example are to be more alike than views of two (Chen et al. 2020, "SimCLR")."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from dl.core.column_checks import pixels
from dl.core.errors import bounded
from dl.core.metrics import hits, mean
from dl.core.random import content_keys, example_keys, purpose_key
from dl.core.task import Batch, Task, in_precision_of
from dl.models.embedding import unit_length
from dl.tasks.classification import unit_range
from dl.tasks.supervised import training

View = Callable[[jax.Array, Batch], Batch]  # an augmentation, each row of which is of its own


def contrastive(
    model: nn.Module,
    view: View,
    *,
    temperature: float | jax.Array = 0.5,
    inputs: str = "image",
    prepare: Callable[[jax.Array], jax.Array] = unit_range,
) -> Task:
    """Cross-entropy of telling each view's partner among the views of the whole batch, by cosines (NT-Xent).

    Args:
      model: gives vectors ``[batch, width]``; its method ``features`` gives what is learned, such as
        :class:`dl.models.self_supervised.Projected`.
      view: ``(key, batch) -> batch``, the augmentation that the two views of an example are drawn by.
      temperature: what cosines are divided by.
      inputs: the batch's column; ``prepare`` turns a view into the model's input.

    Metrics: in training ``loss`` in nats a view, and ``accuracy``: how often the nearest view is the partner. In
    evaluation, where no row may look at another, ``loss`` is how far the two views' vectors of length 1 are apart,
    squared: the alignment of Wang & Isola (2020). ``predict`` gives the features.
    """
    bounded("temperature", temperature, above=0)

    def run(variables, x, **options):
        return model.apply(variables, in_precision_of(variables, prepare(x)), **options)

    def init(key, batch):
        return dict(model.init(key, prepare(batch[inputs])))

    def apply(variables, batch, key):
        """Vectors of length 1 of both views, ``[2, batch, width]``."""
        x = batch[inputs]
        if key is None:
            keys = content_keys(purpose_key(jax.random.key(0), "view"), x)
        else:
            keys = example_keys(purpose_key(key, "view"), len(x))

        def one(key, row):
            return view(key, {inputs: row[None]})[inputs][0]

        each = jax.vmap(lambda key: jax.random.split(key))(keys)
        both = jnp.concatenate([jax.vmap(one)(each[:, place], x) for place in range(2)])
        if key is None:
            vectors, updates = run(variables, both), {}
        else:
            vectors, updates = run(variables, both, train=True, **training(variables, key))
        vectors = unit_length(vectors.astype(jnp.float32))
        return vectors.reshape(2, len(x), -1), dict(updates)

    def score(vectors, batch, train):
        mask, rows = batch.get("mask"), vectors.shape[1]
        if not train:
            return {"loss": mean(jnp.square(vectors[0] - vectors[1]).sum(-1), mask)}
        every = vectors.reshape(2 * rows, -1)
        there = jnp.ones(2 * rows, bool) if mask is None else jnp.tile(mask > 0, 2)
        others = there & ~jnp.eye(2 * rows, dtype=bool)
        alike = jnp.where(others, every @ every.T / temperature, -1e9)
        partner = jnp.roll(jnp.arange(2 * rows), rows)
        losses = optax.softmax_cross_entropy(alike, jax.nn.one_hot(partner, 2 * rows))  # no scatter
        weights = None if mask is None else jnp.tile(mask, 2)
        return {"loss": mean(losses, weights), "accuracy": mean(hits(alike, partner), weights)}

    def predict(variables, columns):
        return run(variables, columns[inputs], method="features")

    def check(variables, batch, columns):
        if prepare is unit_range:
            pixels(inputs, columns[inputs])

    return Task(init, apply, score, predict, (inputs,), check)
