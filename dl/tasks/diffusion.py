"""Learn to take noise out of pictures, and so to make pictures of noise: diffusion and flow matching."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from dl.core.column_checks import pixels, within
from dl.core.errors import bounded
from dl.core.metrics import mean
from dl.core.random import content_keys, example_keys, purpose_key
from dl.core.task import Batch, Task, Variables, in_precision_of
from dl.tasks.classification import unit_range
from dl.tasks.supervised import training


class Path(NamedTuple):
    """How pictures become noise: ``signal(t) * picture + noise(t) * draws``, normal, from t = 0 to t = 1.

    Attributes:
      signal, noise: of times in 0..1, any shape; at 0 they are 1 and 0.
      straight: the network says where a noisy picture is going, the draws less the picture; else the draws.
    """

    signal: Callable[[jax.Array], jax.Array]
    noise: Callable[[jax.Array], jax.Array]
    straight: bool


def _cosine(time):
    """Of Nichol & Dhariwal 2021, for continuous times. A hundredth of the picture is left at the end: from nothing
    at all no step leads back."""
    start, end = 0.008 / 1.008 * jnp.pi / 2, jnp.pi / 2
    return jnp.maximum(jnp.cos(start + (end - start) * time) / jnp.cos(start), 0.01)


# Ho et al. 2020, "Denoising diffusion probabilistic models": the variance stays, the draws are guessed.
ddpm = Path(_cosine, lambda t: jnp.sqrt(1.0 - jnp.square(_cosine(t))), False)
# Lipman et al. 2023, "Flow matching for generative modeling", and Liu et al. 2023: a straight line, and its slope.
flow = Path(lambda t: 1.0 - t, lambda t: t, True)


class Sampler(NamedTuple):
    """How noise becomes pictures again.

    Attributes:
      steps: equal pieces of the time from 1 to 0.
      heun: look again at the end of every step, and go by the mean of both looks (Karras et al. 2022, "Elucidating
        the design space of diffusion-based generative models"): two calls of the network a step, one for the
        last.
      guidance: how far to go from what the network says without the label to what it says with it, and beyond
        (Ho & Salimans 2022, "Classifier-free diffusion guidance"). 1 takes the label as it is and 0 none, in one
        call; all else takes both.
    """

    steps: int = 10
    heun: bool = False
    guidance: float | jax.Array = 1.0


def _beside(time, x):
    return time.reshape(-1, *(1,) * (x.ndim - 1))


def parts(path: Path, x, time, said) -> tuple[jax.Array, jax.Array]:
    """The picture, kept within -1..1, and the draws that noisy pictures ``x [batch, ...]`` of times ``[batch]``
    are made of by what the network said of them."""
    signal, noise = _beside(path.signal(time), x), _beside(path.noise(time), x)
    picture = (x - noise * said) / (signal + noise if path.straight else signal)
    picture = jnp.clip(picture, -1.0, 1.0)
    return picture, (x - signal * picture) / noise


def drawn(
    path: Path, sampler: Sampler, guess: Callable[[Any, Any], Any], draws: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    """Pictures from normal ``draws [batch, ...]``, without any more of them, by a loop around one network.

    A step takes apart what there is by what the network says, and puts it together with less noise. For ``ddpm``
    that is DDIM (Song et al. 2021, "Denoising diffusion implicit models"), for ``flow`` Euler's method.

    Args:
      guess: ``(x [batch, ...], times [batch]) ->`` what the network says.

    Returns:
      The pictures in -1..1, and the way there: what every call of the network was given, and the picture that it
      made of it, both ``[calls, batch, ...]``.
    """
    bounded("the steps of sampling", sampler.steps, at_least=1, whole=True)
    ends = jnp.linspace(1.0, 0.0, sampler.steps + 1)
    now, then = ends[:-1], ends[1:]
    again = jnp.zeros(len(now), bool)
    if sampler.heun:  # every step, and the look at its end but the last's, where no noise is left
        now, then = (jnp.repeat(x, 2)[:-1] for x in (now, then))
        again = jnp.arange(len(now)) % 2 == 1

    def call(carry, inputs):
        x, begin, first = carry
        now, then, again = inputs
        at = jnp.full(len(x), jnp.where(again, then, now))
        picture, normal = parts(path, x, at, guess(x, at))
        begin = jnp.where(again, begin, x)
        # Along a straight path the slope by time, else that of x / signal by noise / signal, is what stays.
        slope = normal - picture if path.straight else normal
        slope = jnp.where(again, (first + slope) / 2, slope)
        if path.straight:
            after = begin + (then - now) * slope
        else:
            after = begin * (path.signal(then) / path.signal(now))
            ratio = path.noise(now) / path.signal(now)
            after = after + (path.noise(then) - path.signal(then) * ratio) * slope
        return (after, begin, slope), (x, picture)

    start = (draws, draws, jnp.zeros_like(draws))
    (x, _, _), way = jax.lax.scan(call, start, (now, then, again))
    return jnp.clip(x, -1.0, 1.0), way


def generator(model: nn.Module, path: Path, sampler: Sampler) -> Callable[[Variables, Batch], Any]:
    """``(variables, columns) ->`` what :func:`drawn` gives for the columns ``noise`` of normal draws, shaped as
    the pictures, and, of a model of classes, ``label``."""

    def generate(variables, columns):
        draws, guidance = columns["noise"].astype(jnp.float32), sampler.guidance
        none = jnp.full(len(draws), model.classes)
        told = columns["label"] if model.classes else none
        plain = not isinstance(guidance, jax.Array) and guidance in (0, 1)

        def guess(x, time):
            if plain or not model.classes:
                return _said(model, variables, x, time, told if guidance else none)
            twice = (jnp.concatenate(pair) for pair in ((x, x), (time, time), (told, none)))
            with_label, without = jnp.split(_said(model, variables, *twice), 2)
            return without + guidance * (with_label - without)

        return drawn(path, sampler, guess, draws)

    return generate


def on_the_way(task: Task, model: nn.Module, path: Path, sampler: Sampler) -> Task:
    """A :func:`diffusion` task whose ``predict`` gives, of all calls of the network, what it was given and the
    pictures that it made of it, both ``[batch, calls, height, width, channels]``."""
    generate = generator(model, path, sampler)

    def predict(variables, columns):
        return jax.tree.map(lambda x: x.swapaxes(0, 1), generate(variables, columns)[1])

    return dataclasses.replace(task, predict=predict)


def _said(model, variables, x, time, label) -> jax.Array:
    """Times stay in float32, whose waves are short."""
    given = in_precision_of(variables, x), time, label
    return model.apply(variables, *given).astype(jnp.float32)


def diffusion(
    model: nn.Module,
    path: Path = flow,
    sampler: Sampler = Sampler(),  # noqa: B008 (a frozen value)
    *,
    forget: float = 0.1,
    inputs: str = "image",
    prepare: Callable[[jax.Array], jax.Array] = unit_range,
) -> Task:
    """Guess what noisy pictures are made of, by squared error; pictures come of noise by a :func:`generator`.

    Args:
      model: called with noisy pictures, times ``[batch]`` in 0..1 and labels int ``[batch]``, such as
        :class:`dl.models.diffusion.DiffusionUNet`. Its ``classes`` is how many labels it may be told, those of the
        column ``label``, and stands itself for none; 0 tells it none.
      forget: share of the examples whose label is left out in training, for guidance.
      inputs: the batch's column; ``prepare`` turns it into pictures in -1..1.

    Metrics: ``loss``, squared error a value; in evaluation times and draws come of each picture's own contents.
    ``predict`` makes pictures ``[batch, height, width, channels]`` in -1..1 of columns ``noise``, normal draws of
    that shape, and ``label``.
    """
    bounded("forget", forget, at_least=0, at_most=1)
    bounded("guidance", sampler.guidance, at_least=0)
    generate = generator(model, path, sampler)

    def labels(batch, x):
        return batch["label"] if model.classes else jnp.zeros(len(x), jnp.int32)

    def init(key, batch):
        x = prepare(batch[inputs])
        return dict(model.init(key, x, jnp.zeros(len(x)), labels(batch, x)))

    def apply(variables, batch, key):
        """The squared error of each example, ``[batch]``."""
        x = prepare(batch[inputs])
        if key is None:
            keys = content_keys(purpose_key(jax.random.key(0), "noise"), batch[inputs])
        else:
            keys = example_keys(purpose_key(key, "noise"), len(x))
        time, luck = jax.vmap(lambda key: jax.random.uniform(key, (2,)))(keys).T
        noise = jax.vmap(lambda key: jax.random.normal(jax.random.fold_in(key, 1), x.shape[1:]))
        normal, label = noise(keys), labels(batch, x)
        updates: Any = {}
        noisy = _beside(path.signal(time), x) * x + _beside(path.noise(time), x) * normal
        if key is None:
            said = _said(model, variables, noisy, time, label)
        else:
            label = jnp.where(luck < forget, model.classes, label)
            given = in_precision_of(variables, noisy), time, label
            said, updates = model.apply(variables, *given, train=True, **training(variables, key))
        error = said.astype(jnp.float32) - (normal - x if path.straight else normal)
        return jnp.square(error).reshape(len(x), -1).mean(1), dict(updates)

    def score(losses, batch, train):
        return {"loss": mean(losses, batch.get("mask"))}

    def predict(variables, columns):
        return generate(variables, columns)[0]

    def check(variables, batch, columns):
        if prepare is unit_range:
            pixels(inputs, columns[inputs])
        if model.classes:
            within("label", columns["label"], model.classes)

    return Task(init, apply, score, predict, ("noise", "label")[: 1 + bool(model.classes)], check)
