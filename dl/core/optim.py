"""Optimisers and learning-rate schedules by their standard names, all of them Optax's."""

import math
from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import optax

from dl.core.errors import UserError, bounded, unknown
from dl.core.groups import Groups, adapted, by_params, part_of, partitioned, rate_of
from dl.core.state import path_name

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
        sqrt(warmup / step) from the warm-up on (Vaswani et al. 2017; without one, peak *
        sqrt(1 / (step + 1))); ``wsd``, constant, then linear to ``end * peak`` over the last fifth of
        the steps (Hu et al. 2024, warmup-stable-decay).
      peak: the highest value; may be traced.
      steps: length of the run.
    """
    if name not in get_args(ScheduleName):
        raise unknown("schedule", name, get_args(ScheduleName))
    _not_negative(peak)
    bounded("warmup", warmup, at_least=0, whole=True)
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
                "range",
                "an exponential schedule needs a final rate (final_rate) above 0, 0.01 say",
            )
        main = lambda step: peak * jnp.power(end, jnp.minimum(step / rest, 1.0))  # noqa: E731
    elif name == "rsqrt":
        scale = max(warmup, 1)
        # Joined schedules are asked for steps before their own, too, where this would divide by 0.
        main = lambda step: peak * jnp.sqrt(scale / (jnp.maximum(step, 0) + scale))  # noqa: E731
    else:
        decay = min(max(steps // 5, 1), rest)
        main = optax.linear_schedule(peak, end * peak, decay, transition_begin=rest - decay)
    if warmup == 0:
        return main
    return optax.join_schedules([optax.linear_schedule(0.0, peak, warmup), main], [warmup])


def _not_negative(learning_rate: Any) -> None:
    if isinstance(learning_rate, int | float) and not 0 <= learning_rate < math.inf:
        raise UserError("range", f"the learning rate must be 0 or more, not {learning_rate}")


Axes = Callable[[optax.Params], optax.Params]  # the stacked axes of each leaf

# What parameters are called that have one axis in every layer: by Flax, and by other names of norms.
_VECTORS = ("bias", "scale", "beta", "gamma")


def stacked_axes(params: optax.Params) -> optax.Params:
    """How many leading axes of each leaf are those of models or layers stacked on one another, int: 1 for
    layers under ``nn.scan`` and for the members of an ensemble, 2 for both.

    Told by biases and norm scales, which have one axis in any single layer, and by LoRA's adapters, which have
    two: where all of a subtree have one more, and every leaf of it has the same first length, the subtree is
    stacked. Whatever looks at a leaf's axes (weight decay, Muon, LAMB's norms, max-norm) asks here which of them
    are the layer's own.
    """

    def count(tree: Any, known: int) -> Any:
        leaves = jax.tree_util.tree_leaves_with_path(tree)
        thin = adapted(path_name(path) for path, _ in leaves)
        more = [leaf.ndim - 1 for path, leaf in leaves if _name(path) in _VECTORS]
        more += [leaf.ndim - 2 for path, leaf in leaves if path_name(path)[:-2] in thin]

        def stacked() -> bool:
            return (
                bool(more)
                and all(along > known for along in more)
                and all(leaf.ndim > known for _, leaf in leaves)
                and len({leaf.shape[known] for _, leaf in leaves}) == 1
            )

        while isinstance(tree, Mapping) and stacked():
            known += 1
        if isinstance(tree, Mapping):
            return type(tree)({name: count(child, known) for name, child in tree.items()})  # type: ignore[call-arg]
        return jax.tree.map(lambda _: known, tree)

    return count(params, 0)


def _name(path: tuple[Any, ...]) -> str:
    """The last word of a leaf's path."""
    return str(getattr(path[-1], "key", getattr(path[-1], "name", ""))) if path else ""


def own_axes(params: optax.Params, stacked: Axes = stacked_axes) -> optax.Params:
    """How many axes each leaf has in its own layer: all but the stacked ones."""
    return jax.tree.map(lambda p, along: p.ndim - along, params, stacked(params))


def decay_matrices(params: optax.Params) -> optax.Params:
    """Weight-decay mask: True for kernels and embeddings (two axes or more of their own), False for biases
    and norm scales."""
    return jax.tree_util.tree_map_with_path(
        lambda path, axes: axes >= 2 and _name(path) not in _VECTORS, own_axes(params)
    )


def _muon(
    rate: Any, weight_decay: Any, mask: Any, b1: float, b2: float, stacked: Axes
) -> optax.GradientTransformation:
    """Muon for matrices, those of stacked layers each by itself; Adam for the rest; decay for both."""

    def make(params: optax.Params) -> optax.GradientTransformation:
        # A leaf is a matrix to Muon where it has two axes of its own; the others go to Adam.
        numbers = jax.tree.map(
            lambda own: optax.contrib.MuonDimensionNumbers(-2, -1) if own == 2 else None,
            own_axes(params, stacked),
        )
        return optax.contrib.muon(
            1.0, adam_b1=b1, adam_b2=b2, muon_weight_dimension_numbers=numbers
        )

    return optax.chain(
        by_params(make),
        optax.scale(-1.0),
        optax.add_decayed_weights(weight_decay, mask),
        optax.scale_by_learning_rate(rate),
    )


def _lamb(
    rate: Any, weight_decay: Any, mask: Any, b1: float, b2: float, stacked: Axes
) -> optax.GradientTransformation:
    """``optax.lamb`` with norms over each layer's own axes."""

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        def scaled(u: jax.Array, p: jax.Array, along: int) -> jax.Array:
            axes = tuple(range(along, p.ndim))
            old, new = (jnp.sqrt(jnp.sum(jnp.square(x), axes, keepdims=True)) for x in (p, u))
            return u * jnp.where((old == 0) | (new == 0), 1.0, old / jnp.where(new == 0, 1.0, new))

        return jax.tree.map(scaled, updates, params, stacked(params)), state

    return optax.chain(
        optax.scale_by_adam(b1, b2, eps=1e-6),
        optax.add_decayed_weights(weight_decay, mask),
        optax.GradientTransformation(lambda params: optax.EmptyState(), update),
        optax.scale_by_learning_rate(rate),
    )


def max_norm(limit: float | jax.Array) -> optax.GradientTransformation:
    """Optax transformation that scales back every unit's incoming weights to norm ``limit``.

    Put it last in ``optax.chain``; it acts on matrices alone (Srivastava et al. 2014, section 5.1:
    max-norm 2 to 4 with dropout on MNIST).
    """
    bounded("the largest norm", limit, above=0)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        def project(u: jax.Array, p: jax.Array, own: int) -> jax.Array:
            if own != 2:
                return u
            new = p + u
            norm = jnp.sqrt(jnp.sum(jnp.square(new), axis=-2, keepdims=True))
            return new * jnp.minimum(1.0, limit / jnp.maximum(norm, 1e-12)) - p

        return jax.tree.map(project, updates, params, own_axes(params)), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def optimizer(
    name: OptimizerName,
    learning_rate: float | jax.Array | optax.Schedule,
    *,
    weight_decay: float | jax.Array = 0.0,
    clip: float | None = None,
    momentum: float = 0.9,
    b1: float = 0.9,
    b2: float = 0.999,
    decay_mask: Callable[[optax.Params], optax.Params] | None = decay_matrices,
    moment: Literal["float32", "bfloat16"] = "float32",
    groups: Groups | None = None,
) -> optax.GradientTransformation:
    """An Optax optimiser by its usual name, with global-norm clipping and masked weight decay.

    ``adamw``, ``lion``, ``lamb`` and ``muon`` decay weights as published, decoupled from the
    gradient (Loshchilov & Hutter 2019); for the others ``weight_decay`` is classical L2, added to
    the gradient.

    >>> optimizer = dl.optimizer(
    ...     "adamw", 1e-3, groups={"^embedding/": {"freeze": True}, "^head/": {"factor": 10.0}}
    ... )

    Args:
      moment: in which ``adam``, ``adamw`` and ``lion`` keep the first moment; bfloat16 spares a third of
        Adam's memory.
      groups: options of the parameters in whose path, such as ``encoder/layer_0/in/kernel``, a pattern is found
        (a regular expression); the first pattern that is found counts. ``factor`` multiplies the learning
        rate, ``learning_rate`` (a number or a schedule) and ``weight_decay`` replace it; ``freeze`` keeps the
        parameters as they are, outside of decay, clipping and the optimiser's memory.

    Raises:
      UserError: a value is out of its bounds, or a pattern is in no path (raised by ``init``).
    """
    kept: Any = {} if moment == "float32" else {"mu_dtype": jnp.bfloat16}
    # A number of Python's would be rounded to bfloat16 beside the moment: 0.99 to 0.988.
    exact: Any = jnp.float32 if kept else lambda rate: rate
    if kept and name not in ("adam", "adamw", "lion"):
        raise UserError(
            "option-misplaced", f"{name} has no moment in {moment}: adam, adamw and lion do"
        )

    def core(
        lr: Any, weight_decay: Any, mask: Any, stacked: Axes = stacked_axes
    ) -> list[optax.GradientTransformation]:
        decay = {"weight_decay": weight_decay, "mask": mask}
        makers: dict[str, Callable[[], optax.GradientTransformation]] = {
            "sgd": lambda: optax.sgd(lr),
            "momentum": lambda: optax.sgd(lr, momentum),
            "nesterov": lambda: optax.sgd(lr, momentum, nesterov=True),
            "rmsprop": lambda: optax.rmsprop(lr, decay=0.99),
            "adagrad": lambda: optax.adagrad(lr),
            "adam": lambda: optax.adam(lr, exact(b1), b2, **kept),
            "adamw": lambda: optax.adamw(lr, exact(b1), b2, **kept, **decay),
            "lion": lambda: optax.lion(lr, exact(b1), exact(min(b2, 0.99)), **kept, **decay),
            "lamb": lambda: _lamb(lr, weight_decay, mask, b1, b2, stacked),
            "muon": lambda: _muon(lr, weight_decay, mask, b1, b2, stacked),
        }
        if name not in makers:
            raise unknown("optimizer", name, makers)
        _not_negative(lr)
        bounded("weight_decay", weight_decay, at_least=0)
        l2 = name in ("sgd", "momentum", "nesterov", "rmsprop", "adagrad", "adam")
        # A traced or non-zero decay is applied; a plain zero leaves the chain as short as Optax's own.
        if l2 and not (isinstance(weight_decay, int | float) and weight_decay == 0):
            return [optax.add_decayed_weights(weight_decay, mask), makers[name]()]
        return [makers[name]()]

    bounded("clip, the largest norm of the gradient,", clip, above=0)
    for decay_rate, value in {"momentum": momentum, "b1": b1, "b2": b2}.items():
        bounded(decay_rate, value, at_least=0, below=1)
    parts = core(learning_rate, weight_decay, decay_mask)
    if groups:

        def own(options: Mapping[str, Any], params: Any) -> optax.GradientTransformation:
            mask = decay_mask and part_of(decay_mask(params))
            decay = options.get("weight_decay", weight_decay)
            rate, stacked = rate_of(options, learning_rate), part_of(stacked_axes(params))
            return optax.chain(*core(rate, decay, mask, stacked))

        return partitioned(groups, own, clip)
    if clip is not None:
        parts.insert(0, optax.clip_by_global_norm(clip))
    return optax.chain(*parts) if len(parts) > 1 else parts[0]
