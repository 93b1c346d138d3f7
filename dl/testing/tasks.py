"""A task, proved against the contract."""

import contextlib
import functools
import itertools
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.extend.core import Var

from dl.core.contract import changes, sound
from dl.core.errors import UserError
from dl.core.metrics import Metrics, merge
from dl.core.state import array_digest, init_state, path_name, plain
from dl.core.step import eval_step, scan_steps, train_step, zero_metrics
from dl.core.task import Batch, Task, Variables
from dl.core.transforms import ensemble, mixed_precision
from dl.testing.rules import explained, rule, said, same

# For programs that run a few times: they compile in half of the time.
QUICK = {"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False}

STEEP = "roots and norms are infinitely steep at 0, and jnp.where passes on the NaN it hides"
FLAT = "look for an argmax, a rounding or a stop_gradient between parameters and loss"
MASK = (
    "weigh every metric by the mask, dl.core.metrics.mean(values, batch.get('mask')), and let no row look at "
    "another ([b, 1] less [b] is [b, b])"
)
ROWS = "sum over rows (dl.core.metrics.mean), and let no row look at another"
BOTH = "average is given what apply returns as well as what predict does: let one mean suit both"
ANY_ROWS = "a task is pure functions of (variables, batch, key), for any number of rows"
TRACED = "Python runs once, while JAX traces: let it look at no value, no clock, no generator"
DRAWN = "draw from the key alone (jax.random), and where it is None not at all, or from the row's contents"


def check_task(task: Task, batch: Batch, given: Batch | None = None, *, eager: bool = True) -> None:
    """Prove that ``task`` keeps the contract of :class:`dl.Task`, in whichever way it is trained.

    Its functions return the shapes of the contract. Loss, gradient and metrics are finite, and the gradient is
    not all zero. One key gives one beginning and one loss, and noise comes of it; jit changes nothing; variables
    stacked under vmap do not notice each other. Evaluation has no randomness and is the same however a batch is
    split; rows under mask 0 change nothing; ``check`` accepts the rows. ``predict`` says of a row the same alone
    and among others, and reads no column that is for ``score`` alone; ``average`` is a mean, and two models that
    agree score as either. Every transformation (mixed precision, ensemble, accumulation, augmentation, moving
    average, scanned steps) composes with every other.

    Example::

        def test_my_task():
            check_task(my_task(Net()), {"image": images[:4], "label": labels[:4]})

    Args:
      batch: training rows ``{name: [rows, ...]}``: an even number, 4 say, not all alike.
      given: what ``predict`` reads and no batch holds, such as a GAN's ``noise [rows, ...]``.
      eager: evaluate without jit as well, which takes half of the time.

    Raises:
      AssertionError: a rule does not hold.
    """
    data = {name: jnp.asarray(column) for name, column in batch.items() if name != "mask"}
    with jax.default_matmul_precision("float32"):
        _check_shapes(task, data)
        init = _jit(task.init)
        again = [_program(task.init, jax.random.key(0), data) for _ in range(2)]
        name, seen = "one key gives one beginning", "traced twice it is two programs"
        rule(again[0] == again[1], name, seen, TRACED)
        one, other = (init(jax.random.key(seed), data) for seed in range(2))
        _check_training(task, one, data)
        one, other = _moved(one), _moved(other)
        whole = _check_evaluation(task, one, other, data, {**data, **(given or {})})
        if eager:
            with explained("evaluation runs without jit"):
                alone = task.evaluate(one, _masked(data))
            same("jit changes no metric", alone, whole, TRACED)
        _check_compositions(task, data)


def _check_shapes(task: Task, data: Batch) -> None:
    lengths = {name: column.shape[:1] for name, column in data.items()}
    rule(len({*lengths.values()}) == 1, "columns have one entry a row", f"they have {lengths}")

    def everything(key: jax.Array, batch: Batch) -> Any:
        variables = whole.init(key, batch)
        return whole.loss(variables, batch, key)[0], whole.evaluate(variables, batch)

    whole, key = sound(task), jax.random.key(0)
    with explained("a task's functions return what the contract says"):
        jax.eval_shape(everything, key, _masked(data))
    with explained("init takes any number of rows"):
        variables, alone = (jax.eval_shape(task.init, key, own) for own in (data, _row(data, 0)))
    changed = changes(*({"params": own["params"]} for own in (variables, alone)))
    rule(not changed, "init gives the same params for any number of rows", changed, ANY_ROWS)
    if task.check is not None:
        first = jax.eval_shape(lambda: data)
        with explained("check accepts the rows that it is tried on"):
            task.check(variables, first, {name: np.asarray(x) for name, x in data.items()})
    own = {name for name in task.columns if name in data}
    if own == {*task.columns}:
        with explained("predict needs no more than the columns that it names"):
            read = _read(task.predict, variables, {name: data[name] for name in own})
            scored = _read(task.evaluate, variables, data)
            given = _read(lambda own, batch: task.apply(own, batch, None)[0], variables, data)
        told = ", ".join(sorted(read & scored - given))
        fix = (
            "what is to be predicted is for score alone: leave it out of columns; what is known beforehand, as an "
            "offset, goes through the model"
        )
        rule(
            not told,
            "predict reads what apply reads",
            f"{told} is read by score and not by it",
            fix,
        )


def _moved(variables: Variables) -> Variables:
    """The variables with parameters that begin at zero, as a head's may, away from it: what lies before such a one
    would show in no output."""
    draw = np.random.default_rng(0)

    def own(leaf: Any) -> Any:
        if not jnp.issubdtype(leaf.dtype, jnp.floating) or jnp.any(leaf):
            return leaf
        return jnp.asarray(draw.normal(0.0, 0.1, leaf.shape), leaf.dtype)

    return {**variables, "params": jax.tree.map(own, variables["params"])}


def _read(function: Callable[..., Any], variables: Variables, columns: Batch) -> set[str]:
    """The columns that what a function returns hangs on."""
    program = jax.make_jaxpr(lambda *given: function(*given))(variables, columns).jaxpr
    needed = {x for x in program.outvars if isinstance(x, Var)}
    for step in reversed(program.eqns):
        if needed & {*step.outvars}:
            needed |= {x for x in step.invars if isinstance(x, Var)}
    names = sorted(columns)
    read = zip(names, program.invars[-len(names) :], strict=True) if names else ()
    return {name for name, x in read if x in needed}


def _check_training(task: Task, variables: Variables, data: Batch) -> None:
    def descend(variables: Variables, batch: Batch, key: jax.Array) -> Any:
        def loss(params: Any) -> Any:
            return task.loss({**variables, "params": params}, batch, key)

        (value, aux), slope = jax.value_and_grad(loss, has_aux=True)(variables["params"])
        return {"loss": value, "gradient": slope, "metrics": aux.metrics}

    key, step = jax.random.key(1), _jit(descend)
    with explained("training runs under jit"):
        found = step(variables, _masked(data), key)
        value, slope = found["loss"], found["gradient"]
        once, again = (_program(task.loss, variables, _masked(data), key) for _ in range(2))
    finite = bool(np.isfinite(value))
    rule(finite, "the loss is finite", f"it is {value}", "look for log(0) or a division by 0")
    for path, leaf in jax.tree_util.tree_leaves_with_path(slope):
        seen, finite = f"that of {path_name(path)} is not", np.isfinite(leaf).all()
        rule(finite, "the gradient is finite", seen, STEEP)
    moves = any(np.any(leaf) for leaf in jax.tree.leaves(slope))
    rule(moves, "the gradient is not all zero", "it is", FLAT)
    rule(once == again, "one key gives one loss", "traced twice it is two programs", DRAWN)
    if "random_bits" in once[0]:
        drawn = [step(variables, _masked(data), jax.random.key(seed)) for seed in range(2, 8)]
        leaves = [[np.asarray(x).tobytes() for x in jax.tree.leaves(d)] for d in (found, *drawn)]
        heeded = any(leaves[0] != own for own in leaves)
        rule(heeded, "noise in training comes of the key", "seven keys give one loss", DRAWN)
    if set(variables) == {"params"}:  # statistics, such as batch norm's, see the whole batch
        real, hidden = (step(variables, part, key) for part in _half_hidden(data))
        same("rows under mask 0 change nothing in training", real, hidden, MASK)


def _program(function: Callable[..., Any], *args: Any) -> tuple[str, list[str]]:
    """What a function is once it is traced: its operations, and the constants in them."""
    traced = jax.make_jaxpr(lambda *args: function(*args))(*args)
    return re.sub("0x[0-9a-f]+", "", str(traced)), [array_digest(plain(x)) for x in traced.consts]


def _check_evaluation(
    task: Task, one: Variables, other: Variables, data: Batch, columns: Batch
) -> Metrics:
    """The metrics of all rows, by a program."""
    for name in task.columns:
        fix = f"give it, check_task(task, batch, {{{name!r}: ...}}), or take it out of Task.columns"
        rule(name in columns, "predict reads columns of the batch", f"{name!r} is none", fix)
    read = {name: jnp.asarray(columns[name]) for name in task.columns}

    @_jit
    def told(variables: Variables, batch: Batch, read: Batch) -> tuple[Metrics, Any]:
        return task.evaluate(variables, batch), task.predict(variables, read)

    @_jit
    def stacked_evaluation(both: Variables, batch: Batch) -> tuple[Metrics, Metrics | None]:
        outputs = jax.vmap(lambda own: task.apply(own, batch, None)[0])(both)
        lanes = jax.vmap(lambda own: task.score(own, batch, False))(outputs)
        return lanes, _of_two_that_agree(task, outputs, batch)

    @_jit
    def in_bfloat16(variables: Variables, batch: Batch) -> jax.Array:
        return mixed_precision(task).evaluate(variables, batch)["loss"].total

    masked, rows = _masked(data), range(_length(data))
    real, hidden = _half_hidden(data)
    rest = {**data, "mask": 1.0 - real["mask"]}
    with explained("evaluation and prediction run under jit"):
        (whole, predicted), (second, _) = told(one, masked, read), told(other, masked, read)
        empty = {
            name: jax.vmap(jnp.where)(real["mask"] > 0, x, jnp.zeros_like(x))
            for name, x in real.items()
        }
        shown, unseen, *changed = (told(one, part, read)[0] for part in (real, rest, hidden, empty))
        once, again = (_program(task.evaluate, one, masked) for _ in range(2))
    with explained("evaluation and prediction run on one row, without a mask"):
        alike = [told(one, _row(data, i), _row(read, i)) for i in rows]
        metrics, answers = zip(*alike, strict=True)
    with explained("evaluation runs under vmap over stacked variables, and in bfloat16"):
        stacked = functools.partial(jax.tree.map, lambda *x: jnp.stack(x))
        lanes, agreed = stacked_evaluation(stacked(one, other), masked)
        try:
            low = in_bfloat16(one, masked)
        except jax.errors.JaxRuntimeError as error:
            # XLA for CPU knows not every product of bfloat16 (jaxlib 0.12): there the trace must do.
            if "RET_CHECK" not in str(error):
                raise
            low = np.zeros(())
    rule(once == again, "evaluation has no randomness", "traced twice it is two programs", DRAWN)
    for metric, (total, weight) in whole.items():
        kinds = f"{metric} is of {total.dtype} and {weight.dtype}"
        exact = total.dtype == weight.dtype == jnp.float32
        rule(exact, "metrics are summed in float32", kinds, "make them by dl.core.metrics.mean")
        seen, fix = f"{metric} is not", "give weight 0 to what cannot be scored"
        rule(np.isfinite(total).all(), "metrics are finite", seen, fix)
    for other_rows in changed:
        same("rows under mask 0 change nothing in evaluation", shown, other_rows, MASK)
    for split in (merge(shown, unseen), functools.reduce(merge, metrics)):
        same("any split of a batch gives the same evaluation", whole, split, ROWS)
    name, fix = "vmap over variables changes no metric", "count axes from the end"
    same(name, stacked(whole, second), lanes, fix)
    name, fix = "mixed precision keeps the loss finite", "score outputs.astype(jnp.float32)"
    rule(np.isfinite(low), name, f"in bfloat16 it is {low}", fix)
    answered = not read or jax.tree.leaves(predicted)
    rule(answered, "predict answers", f"it gives {predicted}", "give [batch, ...]")
    for path, leaf in jax.tree_util.tree_leaves_with_path(predicted) if read else ():
        name, by_row = "predict answers row by row", leaf.shape[:1] == (len(rows),)
        seen = f"{path_name(path) or 'it'} is {list(leaf.shape)} for {len(rows)} rows"
        rule(by_row, name, seen, "give [batch, ...]")
    if read:
        joined = jax.tree.map(lambda *x: jnp.concatenate(x), *answers)
        same("predict says of a row the same alone and among others", predicted, joined, ROWS)
        if task.average is not None and task.members is None:
            _check_average(task.average, predicted)
    if agreed is not None:
        same("two models that agree score as either", whole, agreed, BOTH)
    return whole


def _of_two_that_agree(task: Task, outputs: Any, batch: Batch) -> Metrics | None:
    """The metrics of what the first of ``outputs [models, ...]`` and its like say together; None where they have
    no mean, or a mistake that is told elsewhere."""
    if task.average is None or task.members is not None:
        return None
    try:
        together = task.average(jax.tree.map(lambda x: jnp.stack([x[0], x[0]]), outputs))
        return task.score(together, batch, False)
    except Exception:
        return None


def _check_average(average: Callable[[Any], Any], predicted: Any) -> None:
    """What two models say together hangs on no order, and of two that agree is what either says."""

    def said_by(*models: Any) -> Any:
        return average(jax.tree.map(lambda *x: jnp.stack(x), *models))

    reverse = jax.tree.map(lambda x: x[::-1], predicted)
    try:
        agreed = said_by(predicted, predicted)
    except Exception:  # whole numbers, which have no mean, or a mistake that the compositions tell
        return
    name, fix = (
        "average is a mean",
        "take dl.core.transforms.mean_of_values or ..._of_probabilities",
    )
    shapes = [[x.shape for x in jax.tree.leaves(tree)] for tree in (agreed, predicted)]
    rule(shapes[0] == shapes[1], name, f"it gives {shapes[0]} for several {shapes[1]}", fix)
    same(name, said_by(predicted, reverse), said_by(reverse, predicted), fix)
    same(name, agreed, said_by(agreed, agreed), fix)


def _check_compositions(task: Task, data: Batch) -> None:
    """All transformations together; where that fails, the fewest that do."""
    names = ["mixed_precision", "augment", "ema", "scan_steps"]
    names += ["ensemble"] if task.average is not None and task.members is None else []
    names += ["accumulate"] if _length(data) > 1 else []

    def failure(some: Sequence[str]) -> Exception | None:
        try:
            _compose(task, data, some)
        except Exception as error:
            return error
        return None

    found = failure(names)
    if isinstance(found, UserError):  # refused in one line, which is an answer; the others compose
        names = [name for name in names if not isinstance(failure([name]), UserError)]
        found = failure(names)
    for size in range(1, len(names) + 1) if found is not None else ():
        for some in itertools.combinations(names, size):
            found = failure(some)
            name, seen = "transformations compose", f"{' and '.join(some)}: {said(found)}"
            rule(found is None or isinstance(found, UserError), name, seen, ANY_ROWS)


class _Always(NamedTuple):
    """The same batch at every step."""

    batch: Batch

    def __getitem__(self, step: Any) -> Any:
        return self.batch


def _compose(task: Task, data: Batch, names: Sequence[str]) -> None:
    """Trace two steps, an evaluation and a prediction of ``task`` so transformed, in either order."""

    def shuffled(key: jax.Array, batch: Batch) -> Batch:
        return {name: jax.random.permutation(key, column) for name, column in batch.items()}

    def run(data: Batch) -> Any:
        begin = init_state(made, optimizer, data, 0, "ema" in names)
        if "scan_steps" in names:
            totals = zero_metrics(lambda *given: step(*given)[1], begin, data)
            after = scan_steps(step)(begin, totals, _Always(data), 2)[0]
        else:
            after = step(begin, data)[0]
        columns = {name: data[name] for name in made.columns if name in data}
        answer = made.predict(after.variables, columns) if {*columns} == {*made.columns} else 0
        return begin, after, eval_step(made)(after, _masked(data)), answer

    def many(task: Task) -> Task:
        return ensemble(task, 2)

    optimizer, count = optax.adam(1e-3), _length(data)
    makers = {"mixed_precision": mixed_precision, "ensemble": many}
    for order in itertools.permutations(name for name in makers if name in names):
        made = functools.reduce(lambda made, name: makers[name](made), order, task)
        step = train_step(
            made,
            optimizer,
            augment=[shuffled] if "augment" in names else [],
            ema=0.9 if "ema" in names else None,
            micro_batches=1 if "accumulate" not in names else count if count % 2 else 2,
        )
        changed = changes(*jax.eval_shape(run, data)[:2])
        rule(not changed, "a step leaves the state's shapes and dtypes as they were", changed)


def _jit(function: Callable[..., Any]) -> Callable[..., Any]:
    return jax.jit(function, compiler_options=_known())


@functools.cache
def _known() -> dict[str, Any]:
    """Those of the ``QUICK`` settings that this version of XLA has."""
    found: dict[str, Any] = {}
    for name, value in QUICK.items():
        with contextlib.suppress(jax.errors.JaxRuntimeError):
            jax.jit(lambda: 0, compiler_options={name: value}).lower().compile()
            found[name] = value
    return found


def _length(data: Batch) -> int:
    return len(next(iter(data.values())))


def _row(data: Batch, place: int) -> Batch:
    return {name: column[place : place + 1] for name, column in data.items()}


def _masked(data: Batch) -> Batch:
    return {**data, "mask": jnp.ones(_length(data))}


def _half_hidden(data: Batch) -> tuple[Batch, Batch]:
    """The rows with the second half under mask 0, and once more with other rows in that half."""
    count = _length(data)
    shown = np.arange(count) < (count + 1) // 2
    others = {name: jnp.concatenate([x[shown], x[: count // 2]]) for name, x in data.items()}
    mask = jnp.asarray(shown, jnp.float32)
    return {**data, "mask": mask}, {**others, "mask": mask}
