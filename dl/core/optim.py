"""Optimisers and learning-rate schedules by their standard names, all of them Optax's."""

import math
from collections.abc import Callable
from typing import Literal, get_args

import jax
import jax.numpy as jnp
import optax

from dl.core.errors import UserError, unknown

ScheduleName = Literal["constant", "linear", "cosine", "exponential", "rsqrt", "wsd"]
OptimizerName = Literal[
    "sgd", "momentum", "nesterov", "rmsprop", "adagrad", "adam", "adamw", "lion", "lamb", "muon"
]

# Usual learning rates for small networks.
_USUAL: dict[OptimizerName, float] = {
    "sgd": 0.1,
    "momentum": 0.03,
    "nesterov": 0.03,
    "rmsprop": 1e-3,
    "adagrad": 0.02,
    "adam": 1e-3,
    "adamw": 1e-3,
    "lion": 1e-4,
    "lamb": 1e-2,
    "muon": 5e-3,
}


def usual_rate(name: OptimizerName) -> float:
    """A learning rate to begin with, where nothing is known."""
    if name not in _USUAL:
        raise unknown("optimizer", name, _USUAL)
    return _USUAL[name]


def schedule(
    name: ScheduleName,
    peak: float | jax.Array,
    steps: int,
    *,
    warmup: int = 0,
    end: float = 0.0,
) -> optax.Schedule:
    """Learning rate as a function of the step, warmed up linearly from 0 over ``warmup`` steps.

    Args:
      name: ``constant``; ``linear`` or ``cosine`` (Loshchilov & Hutter 2017) decay to ``end * peak``
        at ``steps``, ``exponential`` by the same share every step; ``rsqrt``, peak *
        sqrt(warmup / step) (Vaswani et al. 2017); ``wsd``, constant, then linear to ``end * peak``
        over the last fifth (Hu et al. 2024, warmup-stable-decay).
      peak: the highest value; may be traced.
      steps: length of the run.
    """
    if name not in get_args(ScheduleName):
        raise unknown("schedule", name, get_args(ScheduleName))
    _not_negative(peak)
    warmup = min(warmup, max(steps - 1, 0))
    rest = max(steps - warmup, 1)
    if name == "constant":
        main = optax.constant_schedule(peak)
    elif name == "linear":
        main = optax.linear_schedule(peak, end * peak, rest)
    elif name == "cosine":
        main = optax.cosine_decay_schedule(peak, rest, alpha=end)
    elif name == "exponential":
        if isinstance(end, int | float) and end <= 0:
            raise UserError(
                "an exponential schedule needs a final rate (final_rate) above 0, 0.01 say"
            )
        main = lambda step: peak * jnp.power(end, jnp.minimum(step / rest, 1.0))  # noqa: E731
    elif name == "rsqrt":
        scale = max(warmup, 1)
        main = lambda step: peak * jnp.sqrt(scale / (step + scale))  # noqa: E731
    else:
        decay = max(rest // 5, 1)
        main = optax.linear_schedule(peak, end * peak, decay, transition_begin=rest - decay)
    if warmup == 0:
        return main
    return optax.join_schedules([optax.linear_schedule(0.0, peak, warmup), main], [warmup])


def _not_negative(learning_rate) -> None:
    if isinstance(learning_rate, int | float) and not 0 <= learning_rate < math.inf:
        raise UserError(f"the learning rate must be 0 or more, not {learning_rate}")


def decay_matrices(params) -> optax.Params:
    """Weight-decay mask: True for kernels and embeddings (two axes or more), False for biases and
    norm scales."""
    return jax.tree.map(lambda p: p.ndim >= 2, params)


def optimizer(
    name: OptimizerName,
    learning_rate: float | jax.Array | optax.Schedule,
    *,
    weight_decay: float | jax.Array = 0.0,
    clip: float | None = None,
    momentum: float = 0.9,
    b1: float = 0.9,
    b2: float = 0.999,
    decay_mask: Callable | None = decay_matrices,
) -> optax.GradientTransformation:
    """An Optax optimiser by its usual name, with global-norm clipping and masked weight decay.

    ``adamw``, ``lion``, ``lamb`` and ``muon`` decay weights as published, decoupled from the
    gradient (Loshchilov & Hutter 2019); for the others ``weight_decay`` is classical L2, added to
    the gradient.
    """
    decay = {"weight_decay": weight_decay, "mask": decay_mask}
    lr = learning_rate
    makers: dict[str, Callable[[], optax.GradientTransformation]] = {
        "sgd": lambda: optax.sgd(lr),
        "momentum": lambda: optax.sgd(lr, momentum),
        "nesterov": lambda: optax.sgd(lr, momentum, nesterov=True),
        "rmsprop": lambda: optax.rmsprop(lr, decay=0.99),
        "adagrad": lambda: optax.adagrad(lr),
        "adam": lambda: optax.adam(lr, b1, b2),
        "adamw": lambda: optax.adamw(lr, b1, b2, **decay),
        "lion": lambda: optax.lion(lr, b1, min(b2, 0.99), **decay),
        "lamb": lambda: optax.lamb(lr, b1, b2, **decay),
        "muon": lambda: optax.contrib.muon(
            lr, weight_decay=weight_decay, weight_decay_mask=decay_mask, adam_b1=b1, adam_b2=b2
        ),
    }
    if name not in makers:
        raise unknown("optimizer", name, makers)
    _not_negative(learning_rate)
    parts = [makers[name]()]
    l2 = name in ("sgd", "momentum", "nesterov", "rmsprop", "adagrad", "adam")
    # A traced or non-zero decay is applied; a plain zero leaves the chain as short as Optax's own.
    if l2 and not (isinstance(weight_decay, int | float) and weight_decay == 0):
        parts.insert(0, optax.add_decayed_weights(weight_decay, decay_mask))
    if clip is not None:
        parts.insert(0, optax.clip_by_global_norm(clip))
    return optax.chain(*parts) if len(parts) > 1 else parts[0]
