"""Variational autoencoding: descend the negative evidence lower bound."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from dl.core.column_checks import pixels
from dl.core.errors import bounded
from dl.core.metrics import mean
from dl.core.random import content_keys, example_keys, purpose_key
from dl.core.task import Task, in_precision_of
from dl.models.vae import VAE
from dl.tasks.autoencoding import unit_interval
from dl.tasks.supervised import training

Likelihood = Callable[[jax.Array, jax.Array], jax.Array]  # (parameters, x) -> [batch] nats


def bernoulli(logits: jax.Array, x: jax.Array) -> jax.Array:
    """Log-probability of ``x`` in 0..1 ``[batch, ...]`` under independent logits: ``[batch]``."""
    logits = logits.astype(jnp.float32)
    # log sigmoid of both signs with one exponential and one logarithm, stable at any size.
    nats = x * logits - jnp.maximum(logits, 0.0) - jnp.log1p(jnp.exp(-jnp.abs(logits)))
    return nats.reshape(len(x), -1).sum(axis=1)


def gaussian(sd: float | jax.Array) -> Likelihood:
    """Log-density of ``x [batch, ...]`` around the decoder's means, standard deviation ``sd``."""
    bounded("the standard deviation", sd, above=0)

    def likelihood(means, x):
        z = (x - means.astype(jnp.float32)) / sd
        nats = -0.5 * jnp.square(z) - jnp.log(sd) - 0.5 * jnp.log(2.0 * jnp.pi)
        return nats.reshape(len(x), -1).sum(axis=1)

    return likelihood


def _normal(x, mean, log_sd):
    """Log-density of a diagonal normal at ``x [..., latent]``: ``[...]``."""
    z = (x - mean) * jnp.exp(-log_sd)
    return jnp.sum(-0.5 * jnp.square(z) - log_sd - 0.5 * jnp.log(2.0 * jnp.pi), axis=-1)


def importance_nll(model: VAE, likelihood: Likelihood, variables, x, keys, samples: int):
    """``-log p(x)`` in nats, ``[batch]``, estimated from ``samples`` codes of each example drawn from
    its own posterior (Burda et al. 2016, "Importance weighted autoencoders", equation 8 as K grows).

    The weights are summed as they come, in one pass, so memory does not grow with ``samples``.
    """
    bounded("samples", samples, at_least=1, whole=True)
    posterior: Any = model.apply(variables, in_precision_of(variables, x), method="encode")
    mu, log_sd = (part.astype(jnp.float32) for part in posterior)

    def body(index, carry):
        top, total = carry
        each = jax.vmap(lambda key: jax.random.fold_in(key, index))(keys)
        noise = jax.vmap(lambda key: jax.random.normal(key, mu.shape[1:]))(each)
        code = mu + jnp.exp(log_sd) * noise
        outputs: Any = model.apply(variables, in_precision_of(variables, code), method="decode")
        weight = likelihood(outputs, x)
        weight = weight + _normal(code, 0.0, jnp.zeros(())) - _normal(code, mu, log_sd)
        new = jnp.maximum(top, weight)
        level = jnp.where(jnp.isfinite(new), new, 0.0)  # no code so far explains x at all: -inf
        return new, total * jnp.exp(top - level) + jnp.exp(weight - level)

    start = jnp.full(len(x), -jnp.inf), jnp.zeros(len(x))
    top, total = jax.lax.fori_loop(0, samples, body, start)
    return jnp.log(samples) - top - jnp.log(total)


def variational(
    model: VAE,
    *,
    likelihood: Likelihood = bernoulli,
    binarize: bool = False,
    beta: float | jax.Array = 1.0,
    particles: int = 1,
    importance: int = 0,
    inputs: str = "image",
    prepare: Callable[[jax.Array], jax.Array] = unit_interval,
) -> Task:
    """Negative evidence lower bound of ``prepare(batch[inputs])``, in nats an example.

    Args:
      likelihood: of an example given the decoder's output: :func:`bernoulli`, ``gaussian(sd)`` or
        another ``(parameters, x) -> [batch]``.
      binarize: draw every value as 0 or 1 with its own probability, anew at every step; in evaluation
        once for each example, from its contents (Salakhutdinov & Murray 2008).
      beta: weight of the divergence in training (Higgins et al. 2017).
      particles: codes an example in training; with more than one the tighter, importance-weighted
        bound is descended (Burda et al. 2016, "Importance weighted autoencoders").
      importance: codes an example from which evaluation estimates ``-log p(x)``; 0 leaves it out.

    Metrics: ``loss`` (with beta when training, plain when evaluating), ``reconstruction`` and ``kl``,
    all in nats an example; ``nll`` where ``importance`` says so.
    """
    bounded("beta", beta, at_least=0)
    bounded("particles", particles, at_least=1, whole=True)
    bounded("importance", importance, at_least=0, whole=True)

    def run(method, variables, x, options) -> tuple[Any, dict]:
        """Outputs, and the variables with what training changed in them."""
        x = in_precision_of(variables, x)
        if not options:
            return model.apply(variables, x, method=method), variables
        outputs, updates = model.apply(variables, x, train=True, method=method, **options)
        return outputs, {**variables, **updates}

    def bounds(variables, x, keys, weight, count=1, **options):
        """What each example is worth, by name ``[batch]``, and the variables with what training changed."""
        (mu, log_sd), variables = run("encode", variables, x, options)
        mu, log_sd = mu.astype(jnp.float32), log_sd.astype(jnp.float32)
        noise = jax.vmap(lambda key: jax.random.normal(key, (count, mu.shape[1])))(keys)
        code = mu[:, None] + jnp.exp(log_sd)[:, None] * noise
        outputs, variables = run("decode", variables, code.reshape(-1, mu.shape[1]), options)
        nats = likelihood(outputs, jnp.repeat(x, count, axis=0)).reshape(len(x), count)
        kl = 0.5 * jnp.sum(jnp.exp(2.0 * log_sd) + jnp.square(mu) - 1.0 - 2.0 * log_sd, axis=-1)
        bound = weight * kl - nats[:, 0]
        if count > 1:
            ratio = _normal(code, 0.0, jnp.zeros(())) - _normal(code, mu[:, None], log_sd[:, None])
            bound = jnp.log(count) - jax.nn.logsumexp(nats + weight * ratio, axis=1)
        return {"loss": bound, "reconstruction": -nats.mean(axis=1), "kl": kl}, variables

    def drawn(keys, x):
        if not binarize:
            return x
        uniform = jax.vmap(lambda key: jax.random.uniform(key, x.shape[1:]))(keys)
        return (uniform < x).astype(x.dtype)

    def init(key, batch):
        return dict(model.init(key, prepare(batch[inputs])))

    def apply(variables, batch, key):
        raw, x = batch[inputs], prepare(batch[inputs])
        if key is None:
            code, binary, many = (
                content_keys(purpose_key(jax.random.key(0), purpose), raw)
                for purpose in ("code", "binarize", "importance")
            )
            x = drawn(binary, x)
            found, _ = bounds(variables, x, code, 1.0)
            if importance:
                found["nll"] = importance_nll(model, likelihood, variables, x, many, importance)
            return found, {}
        x = drawn(example_keys(purpose_key(key, "binarize"), len(x)), x)
        codes = example_keys(purpose_key(key, "code"), len(x))
        found, after = bounds(variables, x, codes, beta, particles, **training(variables, key))
        return found, {name: value for name, value in after.items() if name != "params"}

    def score(outputs, batch, train):
        return {name: mean(nats, batch.get("mask")) for name, nats in outputs.items()}

    def predict(variables, columns):
        """The decoder's output for the mean code of each example: ``[batch, *shape]``."""
        return model.apply(variables, in_precision_of(variables, prepare(columns[inputs])))

    def check(variables, batch, columns):
        if prepare is unit_interval:
            pixels(inputs, columns[inputs])

    return Task(init, apply, score, predict, (inputs,), check)
