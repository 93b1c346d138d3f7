"""One optimiser step as a pure function, and the transformations of it."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from dl.core.errors import bounded
from dl.core.metrics import Mean, Metrics, merge
from dl.core.random import purpose_key
from dl.core.state import TrainState
from dl.core.target import target
from dl.core.task import Aux, Batch, Members, Task, Variables, member_key, together

Gradient = Callable[..., tuple[optax.Updates, Aux]]  # (variables, batch, key) -> (gradients, aux)
Augment = Callable[[jax.Array, Batch], Batch]  # (key, batch) -> batch
Progress = tuple[
    TrainState, Metrics, jax.Array
]  # state, running totals, whether every loss was finite
# What computes a function of a batch in one of several shapes: (batch -> tree) -> (batch -> tree).
Trim = Callable[[Callable[[Batch], Any]], Callable[[Batch], Any]]


def gradient(task: Task) -> Gradient:
    """``(variables, batch, key) -> (gradients, aux)`` of the task's loss by its parameters."""

    def compute(variables: Variables, batch: Batch, key: jax.Array) -> tuple[optax.Updates, Aux]:
        def loss(params: optax.Params) -> tuple[jax.Array, Aux]:
            return task.loss({**variables, "params": params}, batch, key)

        return jax.grad(loss, has_aux=True)(variables["params"])

    return compute


def augmented(gradient: Gradient, transforms: Sequence[Augment]) -> Gradient:
    """The gradient on batches passed through ``transforms`` (:func:`augment_batch`)."""
    return lambda variables, batch, key: gradient(
        variables, augment_batch(transforms, key, batch), key
    )


def augment_batch(transforms: Sequence[Augment], key: jax.Array, batch: Batch) -> Batch:
    """``batch`` passed through ``transforms``, each a pure ``(key, batch) -> batch``, in order."""
    for place, transform in enumerate(transforms):
        batch = transform(purpose_key(key, "augment", place), batch)
    return batch


def accumulate(gradient: Gradient, count: int) -> Gradient:
    """The gradient over ``count`` micro-batches, one in memory at a time.

    Equal to the gradient of the whole batch (micro-batches weigh as their ``'loss'`` metric does,
    so masks may be uneven), for losses that are means over examples. Statistics such as batch
    norm's are updated micro-batch by micro-batch.
    """
    if count == 1:
        return gradient

    def compute(variables: Variables, batch: Batch, key: jax.Array) -> tuple[optax.Updates, Aux]:
        micro = jax.tree.map(lambda x: x.reshape(count, x.shape[0] // count, *x.shape[1:]), batch)

        def body(carry: Any, inputs: Any) -> tuple[Any, Metrics]:
            total, updates = carry
            index, part = inputs
            grads, aux = gradient({**variables, **updates}, part, jax.random.fold_in(key, index))
            weight = aux.metrics["loss"].weight
            total = jax.tree.map(lambda t, g: t + weight * g, total, grads)
            return (total, aux.updates), aux.metrics

        zeros = jax.tree.map(jnp.zeros_like, variables["params"])
        rest = {name: value for name, value in variables.items() if name != "params"}
        (total, updates), metrics = jax.lax.scan(body, (zeros, rest), (jnp.arange(count), micro))
        metrics = together(metrics)
        weight = jnp.maximum(metrics["loss"].weight, 1e-8)
        return jax.tree.map(lambda t: t / weight, total), Aux(metrics, updates)

    return compute


@dataclasses.dataclass(frozen=True, eq=False)  # eq=False: hashable and weakly referable, for jit
class Step:
    """One optimiser step, callable as ``(state, batch) -> (state, metrics)``, and its two halves.

    Attributes:
      gradients: ``(state, batch) -> (gradients, aux)``, what the batch says.
      update: ``(state, gradients, aux) -> state``, what the optimiser makes of it.
    """

    gradients: Callable[[TrainState, Batch], tuple[optax.Updates, Aux]]
    update: Callable[[TrainState, optax.Updates, Aux], TrainState]

    def __call__(self, state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        grads, aux = self.gradients(state, batch)
        return self.update(state, grads, aux), aux.metrics


def tree_norm(tree: Any) -> jax.Array:
    """The Euclidean norm of all numbers in a tree, float32, by products, which every platform computes faster than
    sums of squares."""

    def square(x: jax.Array) -> jax.Array:
        axes = tuple(range(x.ndim))
        whole: Any = {"precision": jax.lax.Precision.HIGHEST, "preferred_element_type": jnp.float32}
        return jax.lax.dot_general(x, x, ((axes, axes), ((), ())), **whole)

    return jnp.sqrt(sum(map(square, jax.tree.leaves(tree)), jnp.float32(0)))


# Of totals: it is added up in the very step that its log line closes, so no checkpoint holds any of it.
GRADIENT_NORM = "_gradient_norm"
Told = Callable[[TrainState, optax.Updates, Aux], Metrics]  # what is added up of a step


def logged(every: int, last: int, of_lanes: str | None = None) -> Told:
    """What a training loop adds up of a step: its metrics, and of every ``every``-th step and the ``last`` the
    norm of the gradient over all parameters, as the optimiser gets it (:data:`GRADIENT_NORM`).

    Args:
      of_lanes: the axis of lanes that are mapped over at once, of which one does for all to ask.
    """

    def told(state: TrainState, grads: optax.Updates, aux: Aux) -> Metrics:
        step = state.step + 1
        due = (step % every == 0) | (step == last)
        if of_lanes is not None:  # else a branch of a lane's own would be computed in every step
            due = jax.lax.pmax(due.astype(jnp.int32), of_lanes) > 0
        if target().platform == "cpu":
            norm = jax.lax.cond(due, tree_norm, lambda grads: jnp.float32(0), grads)
        else:  # a branch costs more there, and clipping has these very sums
            exact = jax.tree.map(lambda x: x.astype(jnp.float32), grads)
            norm = jnp.where(due, optax.global_norm(exact), 0.0)
        return {**aux.metrics, GRADIENT_NORM: Mean(norm, due.astype(jnp.float32))}

    return told


def train_step(
    task: Task,
    optimizer: optax.GradientTransformation,
    *,
    augment: Sequence[Augment] = (),
    trim: Trim | None = None,
    ema: float | jax.Array | None = None,
    micro_batches: int = 1,
    place: Callable[[Step], Step] = lambda step: step,
) -> Step:
    """One optimiser step ``(state, batch) -> (state, metrics)``.

    Args:
      task: what to learn. Each member of an ensemble takes a step of its own.
      optimizer: any Optax transformation; clipping and decay belong in it.
      augment: transforms ``(key, batch) -> batch`` of training batches, on the device, in order.
      trim: how a batch is cut down before it is computed (:func:`dl.data.batches.buckets.trim`).
      ema: decay of the variables' moving average (the state must have been made with one).
      micro_batches: pieces the batch is cut into to save memory (see :func:`accumulate`).
      place: a transformation of the step of one model, before members of an ensemble are taken together.
    """
    bounded("ema, the decay of averaged variables,", ema, at_least=0, below=1)
    bounded("micro_batches", micro_batches, at_least=1, whole=True)
    if task.members is not None:
        each = train_step(
            task.members.task,
            optimizer,
            augment=augment,
            trim=trim,
            ema=ema,
            micro_batches=micro_batches,
            place=place,
        )
        return over_members(each, task.members, optimizer)
    one = gradient(task)
    if trim is not None:
        one = _trimmed(one, trim)
    compute = accumulate(augmented(one, augment), micro_batches)

    def gradients(state: TrainState, batch: Batch) -> tuple[optax.Updates, Aux]:
        return compute(state.variables, batch, purpose_key(state.key, "loss", state.step))

    def update(state: TrainState, grads: optax.Updates, aux: Aux) -> TrainState:
        params = state.variables["params"]
        updates, opt_state = optimizer.update(grads, state.opt_state, params)
        params = optax.apply_updates(params, updates)
        variables = {**state.variables, **aux.updates, "params": params}
        average = state.ema
        if ema is not None:
            average = moving_average(average, variables, state.step, ema)
        return dataclasses.replace(
            state,
            step=state.step + 1,
            variables=variables,
            opt_state=opt_state,
            ema=average,
        )

    return place(Step(gradients, update))


def _trimmed(gradient: Gradient, trim: Trim) -> Gradient:
    return lambda variables, batch, key: trim(lambda part: gradient(variables, part, key))(batch)


def moving_average(
    average: Variables, variables: Variables, step: jax.Array, decay: float | jax.Array
) -> Variables:
    """The average of the variables after ``step + 1`` steps: exponential, once it has gone long enough.

    The newest values weigh ``max(1 - decay, 9 / (step + 9))``. So the first average is the first values
    (nothing of the random start is left), the average reaches over the last ninth of the steps while
    that is less than ``1 / (1 - decay)`` (polynomial-decay averaging, Shamir & Zhang 2013), and over
    ``1 / (1 - decay)`` steps from then on. Statistics such as batch norm's are averaged with the
    parameters they belong to; what is no floating-point number is taken as it is.
    """
    share = jnp.maximum(1.0 - decay, _SHORTEST / (step.astype(jnp.float32) + _SHORTEST))

    def one(old: jax.Array, new: jax.Array) -> jax.Array:
        if not jnp.issubdtype(new.dtype, jnp.floating):
            return new
        return (old + share * (new - old)).astype(new.dtype)

    return jax.tree.map(one, average, variables)


_SHORTEST = 9.0


def over_members(step: Step, members: Members, optimizer: optax.GradientTransformation) -> Step:
    """``step``, which ``optimizer`` takes, of every member of an ensemble, on a state whose variables,
    averages and optimiser state are the members' stacked."""

    def each(state: TrainState) -> Any:
        def alone(params: optax.Params) -> optax.OptState:
            return optimizer.init(jax.tree.map(lambda x: x[0], params))

        def own(leaf: jax.Array, one: jax.ShapeDtypeStruct) -> jax.Array:
            # An optimiser begun on stacked parameters has one counter for all.
            shared = leaf.ndim == one.ndim
            return jnp.broadcast_to(leaf, (members.size, *leaf.shape)) if shared else leaf

        of_one = jax.eval_shape(alone, state.variables["params"])
        return state.variables, jax.tree.map(own, state.opt_state, of_one), state.ema

    def state_of(state: TrainState, member: jax.Array, own: Any) -> TrainState:
        variables, opt_state, ema = own
        return TrainState(state.step, variables, opt_state, ema, member_key(state.key, member))

    def gradients(state: TrainState, batch: Batch) -> tuple[optax.Updates, Aux]:
        def one(member: jax.Array, own: Any) -> tuple[optax.Updates, Aux]:
            return step.gradients(state_of(state, member, own), batch)

        grads, aux = members.map(one, each(state))
        return grads, Aux(together(aux.metrics), aux.updates)

    def update(state: TrainState, grads: optax.Updates, aux: Aux) -> TrainState:
        def one(member: jax.Array, own: Any, grads: optax.Updates, updates: Variables) -> Any:
            new = step.update(state_of(state, member, own), grads, Aux({}, updates))
            return new.variables, new.opt_state, new.ema

        variables, opt_state, ema = members.map(one, each(state), grads, aux.updates)
        return dataclasses.replace(
            state, step=state.step + 1, variables=variables, opt_state=opt_state, ema=ema
        )

    return Step(gradients, update)


def eval_step(task: Task, trim: Trim | None = None) -> Callable[[TrainState, Batch], Metrics]:
    """``(state, batch) -> metrics`` on the averaged variables where the state keeps them."""

    def evaluate(state: TrainState, batch: Batch) -> Metrics:
        def one(batch: Batch) -> Metrics:
            return task.evaluate(state.eval_variables, batch)

        return one(batch) if trim is None else trim(one)(batch)

    return evaluate


def unlogged(state: TrainState, grads: optax.Updates, aux: Aux) -> Metrics:
    """The step's own metrics, and no more."""
    return aux.metrics


def guarded(
    step: Step, told: Told = unlogged
) -> Callable[[TrainState, Metrics, jax.Array, Any], Progress]:
    """One step that adds to running totals and stands still once a loss is not finite.

    ``(state, totals, finite, batches) -> (state, totals, finite)``. ``batches[state.step]`` gives the
    batch, so the data position is the state's own. A step whose loss is not finite is not taken, so the
    state returned is the one that was about to take it, for a post-mortem. ``told`` says what is added up.
    """

    def take(
        state: TrainState, totals: Metrics, grads: optax.Updates, aux: Aux
    ) -> tuple[TrainState, Metrics]:
        return step.update(state, grads, aux), merge(totals, told(state, grads, aux))

    def run(state: TrainState, totals: Metrics, finite: jax.Array, batches: Any) -> Progress:
        grads, aux = step.gradients(state, batches[state.step])
        finite = finite & jnp.isfinite(aux.metrics["loss"].total)
        if target().platform == "cpu":
            # A select over the state would cost a tenth of a small model's step.
            state, totals = jax.lax.cond(
                finite, take, lambda state, totals, *_: (state, totals), state, totals, grads, aux
            )
            return state, totals, finite
        # A branch would copy the whole state, and a GPU's host would wait to learn which one to launch.
        taken = take(state, totals, grads, aux)
        choose = lambda new, old: jnp.where(finite, new, old)  # noqa: E731
        state, totals = jax.tree.map(choose, taken, (state, totals))
        return state, totals, finite

    return run


def scan_steps(
    step: Step, told: Told = unlogged
) -> Callable[[TrainState, Metrics, Any, Any], Progress]:
    """Many steps in one dispatch: ``(state, totals, batches, count) -> (state, totals, finite)``.

    ``totals`` are running metrics, begun as :func:`zero_metrics`. ``count`` is traced: the body is
    compiled once and has the same bits however a run is cut into dispatches, which a static trip
    count does not promise (XLA inlines a loop of one). A non-finite loss ends the dispatch early
    (see :func:`guarded`).
    """
    one = guarded(step, told)

    def run(state: TrainState, totals: Metrics, batches: Any, count: Any) -> Progress:
        stop = state.step + count
        return jax.lax.while_loop(
            lambda carry: (carry[0].step < stop) & carry[2],
            lambda carry: one(*carry, batches),
            (state, totals, jnp.bool_(True)),
        )

    return run


def zero_metrics(function: Callable[..., Metrics], *args: Any) -> Metrics:
    """Totals of nothing, shaped like the metrics that ``function(*args)`` would return."""
    return zeros(jax.eval_shape(function, *args))


def zeros(shapes: Metrics) -> Metrics:
    """Totals of nothing, of these shapes."""
    return jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)


def scan_evaluation(
    evaluate: Callable[[TrainState, Batch], Metrics],
) -> Callable[[TrainState, Metrics, Any, Any, Any], Metrics]:
    """Metrics of many batches in one dispatch:
    ``(state, totals, batches, start, count) -> totals``."""

    def run(state: TrainState, totals: Metrics, batches: Any, start: Any, count: Any) -> Metrics:
        def body(index: jax.Array, totals: Metrics) -> Metrics:
            # Nothing may move out of the loop: how far XLA hoists depends on what surrounds it (the loop
            # over a sweep's lanes), and with it what is fused and where sums round.
            held, index = jax.lax.optimization_barrier((state, index))
            return merge(totals, evaluate(held, batches[index]))

        return jax.lax.fori_loop(start, start + count, body, totals)

    return run
