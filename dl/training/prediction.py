"""Predictions for any number of rows, by one compiled program."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from dl.core.adapters import merge
from dl.core.errors import UserError, unknown
from dl.core.experiment import Batches, Experiment
from dl.core.task import Batch, Task, Variables
from dl.data.batches.folded import FoldedEval
from dl.data.batches.resident import EvalBatches
from dl.report.layers import path_of
from dl.training.checks import explained


@dataclasses.dataclass(frozen=True, eq=False)
class Predictor:
    """What a task predicts with its trained variables.

    It computes batches of one size and fills up the last, so it compiles once for a shape of rows, and a
    row's prediction does not depend on the rows beside it. ``dataclasses.replace(predictor, batch_size=1)``
    computes in another size.

    Example::

        predictor = dl.Predictor(task, state.eval_variables)
        logits = predictor({"image": images})  # or predictor(images), where the task reads one column

    Attributes:
      task: what was learned.
      variables: the variables to predict with.
      example: a training batch. What is given must be like it: the same names, axes and kinds of numbers, and
        values that the task's ``check`` accepts. None leaves these checks out.
      batch_size: rows computed at once.
      program: ``task.predict`` compiled, where others use it too; by default it is compiled here.
    """

    task: Task
    variables: Variables
    example: dict[str, Any] | None = None
    batch_size: int = 128
    program: Callable[[Variables, Batch], Any] | None = None

    def __call__(self, columns: Any, key: jax.Array | None = None) -> Any:
        """The predictions for every row.

        Args:
          columns: ``{name: [rows, ...]}`` with the task's ``columns`` among them; one array, where the task
            reads one column; a part that streams; or evaluation batches. Rows whose ``mask`` is 0 are left out.
          key: for a task that draws: it reads a column ``keys`` uint32 ``[rows, 2]``, which is made of ``key`` and
            the row's number, so that no draw depends on the batches (see :func:`jax.random.wrap_key_data`).

        Returns:
          What ``task.predict`` returns, leaves ``[rows, ...]`` in NumPy.

        Raises:
          UserError: what is given is not what the task reads, or is unlike the example.
        """
        program, size = self._program, self.batch_size
        if key is not None and "keys" not in self.task.columns:
            raise UserError(
                "option-misplaced", "this task draws nothing when it predicts: leave key out"
            )
        if hasattr(columns, "eval_batches"):
            columns = columns.eval_batches(size)
        if isinstance(columns, Batches | StreamedColumns):
            return self._of_set(getattr(columns, "batches", columns), key)
        given = self._named(columns, key)
        if any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves(given)):
            return program(self.variables, given)  # within someone's own trace there are no values
        given = self._checked({name: _array(name, x) for name, x in given.items()})
        if not given:
            return jax.device_get(program(self.variables, {}))
        count = len(next(iter(given.values())))
        like = self._traced(given)

        def part(start: int) -> dict[str, Any]:
            rows = np.minimum(np.arange(start, start + size), count - 1)
            return {name: x[rows] for name, x in given.items()}

        parts = [
            jax.device_get(program(self.variables, part(start))) for start in range(0, count, size)
        ]

        def joined(like: jax.ShapeDtypeStruct, *leaves: np.ndarray) -> np.ndarray:
            return np.concatenate([np.zeros((0, *like.shape[1:]), like.dtype), *leaves])[:count]

        return jax.tree.map(joined, like, *parts)

    @functools.cached_property
    def _program(self) -> Callable[[Variables, Batch], Any]:
        # JAX keeps one program for one function, however many predictors jit it.
        return self.program or jax.jit(self.task.predict)

    def at(self, layer: str) -> "Predictor":
        """A predictor of what a layer gives, by its path as ``run.summary()`` has it, such as
        ``"encoder/Dense_0"``; of one that is called several times what it gives first.

        Raises:
          UserError: in a call, the model has no such layer, or the layer is inside a loop over layers.
        """
        task = dataclasses.replace(self.task, predict=functools.partial(_reached, self.task, layer))
        return dataclasses.replace(self, task=task, program=None)

    def _of_set(self, batches: Any, key: jax.Array | None) -> Any:
        if not hasattr(batches, "__len__"):
            raise UserError(
                "not-evaluation-batches",
                "training batches have no end: give evaluation batches, such as eval_batches(columns, 500)",
            )
        read, parts = (*self.task.columns, "mask"), []
        for index in range(len(batches)):
            batch = {name: x for name, x in batches[index].items() if name in read}
            if key is not None:
                first = index * batches.batch_size
                batch["keys"] = _row_keys(key, first, len(batch["mask"]))
            parts.append(self(batch))
        return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)

    def _named(self, columns: Any, key: jax.Array | None) -> dict[str, Any]:
        """The columns that the task reads, and the mask where there is one."""
        names = self.task.columns
        if key is not None:
            others = [name for name in names if name != "keys"]
            if not isinstance(columns, Mapping) and len(others) == 1:
                columns = {others[0]: columns}
            if isinstance(columns, Mapping) and columns:
                count = len(next(iter(columns.values())))
                columns = {**columns, "keys": _row_keys(key, 0, count)}
        read = ", ".join(map(repr, names)) or "no column"
        if not isinstance(columns, Mapping):
            if len(names) != 1:
                raise UserError(
                    "columns-not-dict",
                    f"predict takes a dict of columns ({read}), and this is one array",
                )
            return {names[0]: columns}
        if missing := [name for name in names if name not in columns]:
            given = ", ".join(map(repr, columns)) or "none"
            raise UserError(
                "column-missing",
                f"predict needs {read}, and {missing[0]!r} is missing: given is {given}"
                + ("; this task draws, so give key=jax.random.key(0)" * (missing == ["keys"])),
            )
        if self.example is not None:
            known = {*names, *self.example, "mask"}
            for name in columns:
                if name not in known:
                    raise unknown("column", name, known)
        return {name: columns[name] for name in (*names, "mask") if name in columns}

    def _checked(self, given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The real rows; raises UserError where the task would misread them."""
        example = self.example or {}
        for name, x in given.items():
            _check_axes(name, x, example.get(name))
        counts = {name: len(x) for name, x in given.items()}
        if len(set(counts.values())) > 1:
            told = ", ".join(f"{name!r} {count}" for name, count in counts.items())
            raise UserError(
                "column-lengths", f"the columns must have equally many rows, and these have {told}"
            )
        if "mask" in given:
            real = given.pop("mask") > 0
            given = {name: x[real] for name, x in given.items()}
        if not any(x.size for x in given.values()):
            return given
        for name, x in given.items():
            _check_finite(name, x, example.get(name))
        if self.task.check is not None and example:
            whole = {name: np.asarray(x) for name, x in example.items()}
            variables, batch = jax.eval_shape(lambda *trees: trees, self.variables, whole)
            self.task.check(variables, batch, {**whole, **given})
        return {name: _narrow(name, x) for name, x in given.items()}

    def _traced(self, given: dict[str, np.ndarray]) -> Any:
        """The shapes of a batch's predictions; raises UserError where the model does not take the rows."""
        from flax.errors import ScopeParamShapeError

        shapes = {
            name: jax.ShapeDtypeStruct((self.batch_size, *x.shape[1:]), x.dtype)
            for name, x in given.items()
        }
        try:
            with explained("predicting", given):
                like = jax.eval_shape(self._program, self.variables, shapes)
        except UserError as error:
            cause = error.__cause__
            for name, x in given.items() if cause else ():
                trained = (self.example or {}).get(name)
                if trained is not None and _kind(x) != _kind(trained):
                    raise UserError(
                        "column-unlike-training",
                        f"{name!r} is {_kind(x)} here, and was {_kind(trained)} in training: give it likewise",
                    ) from cause
            if isinstance(cause, ScopeParamShapeError):
                told = ", ".join(f"{name!r} as {_kind(x)}" for name, x in given.items())
                raise UserError(
                    "column-unlike-training",
                    f"the model's parameters are not for {told}: give as many features as in training",
                ) from cause
            raise
        for leaf in jax.tree.leaves(like):
            if leaf.shape[:1] != (self.batch_size,):
                raise UserError(
                    "predict-return",
                    f"the task's predict must return a row for each of {self.batch_size} rows, and returns "
                    f"{list(leaf.shape)}",
                )
        return like


def predictor_of(experiment: Experiment, variables: Variables, **fields: Any) -> Predictor:
    """The predictor of an experiment's task, which computes as many rows at once as evaluation does. Adapters are
    merged, so that its variables are the model's own."""
    sets = (*experiment.evals.values(), *experiment.tests.values())
    size = max((batches.batch_size for batches in sets), default=experiment.data.batch_size)
    return Predictor(experiment.task, merge(variables), batch_size=size, **fields)


class StreamedColumns(Mapping[str, np.ndarray]):
    """The columns of evaluation ``batches`` that stream, each read whole when it is asked for; a predictor that is
    given them reads batch by batch, so that pictures need not fit into memory."""

    def __init__(self, batches: Any):
        self.batches = batches

    def __getitem__(self, name: str) -> np.ndarray:
        parts = (self.batches[index] for index in range(len(self.batches)))
        return np.concatenate([part[name][part["mask"] > 0] for part in parts])

    def __iter__(self) -> Iterator[str]:
        return (name for name in self.batches[0] if name != "mask")

    def __len__(self) -> int:
        return len(self.batches[0]) - 1


def columns_of(batches: Any) -> Mapping[str, np.ndarray]:
    """All that evaluation ``batches`` hold, on the host, in order and without padding:
    ``{name: [rows, ...]}``, of a resident set the data themselves, not to be written to."""
    if hasattr(batches, "iterate"):
        return StreamedColumns(batches)
    if isinstance(batches, EvalBatches | FoldedEval):
        own = batches.alone()[0] if isinstance(batches, FoldedEval) else batches.arrays
        columns = {name: np.asarray(x).view() for name, x in own.items()}
        for x in columns.values():
            x.flags.writeable = False
        return columns
    parts: dict[str, list[np.ndarray]] = {}
    for index in range(len(batches)):
        batch = jax.device_get(batches[index])
        real = np.asarray(batch.pop("mask")) > 0
        for name, x in batch.items():
            parts.setdefault(name, []).append(np.asarray(x)[real])
    return {name: np.concatenate(several) for name, several in parts.items()}


def _row_keys(key: jax.Array, first: int, count: int) -> np.ndarray:
    """A key for each row by its number, as numbers ``[count, 2]``."""
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(first, first + count))
    return np.asarray(jax.random.key_data(keys))


def _reached(task: Task, layer: str, variables: Variables, columns: Batch) -> Any:
    """What ``layer`` gives for every row; of one that is called with the steps of all rows in one axis, or with
    time before the batch, what it gives for a row by itself."""

    def look(given: Batch) -> Any:
        return _looked(task, layer, variables, given)

    rows, like = len(next(iter(columns.values()))), jax.eval_shape(look, columns)
    if all(leaf.shape[:1] == (rows,) for leaf in jax.tree.leaves(like)):
        return look(columns)
    each = jax.vmap(lambda row: look(jax.tree.map(lambda x: x[None], row)))(columns)

    def alone(
        x: jax.Array, whole: Any
    ) -> jax.Array:  # rows that are the first axis need no other of one
        return x[:, 0] if (whole.shape[:1], x.shape[1:2]) == ((rows,), (1,)) else x

    return jax.tree.map(alone, each, like)


def _looked(task: Task, layer: str, variables: Variables, columns: Batch) -> Any:
    """What ``layer`` gives, looked on while the task predicts."""
    found: dict[str, Any] = {}

    def look(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        outputs = call(*args, **kwargs)
        if context.method_name != "setup" and context.module.scope is not None:
            found.setdefault(path_of(context) or ".", outputs)
        return outputs

    with nn.intercept_methods(look):
        task.predict(variables, columns)
    if layer not in found:
        raise unknown("layer", layer, list(found))
    given = found[layer]
    try:  # what is inside a loop has no value outside of it
        return jax.tree.map(lambda x: x + 0, given)
    except jax.errors.UnexpectedTracerError:
        raise UserError(
            "layer-in-loop",
            f"{layer} runs inside a loop over layers or members, where it has no one value: take one around it",
        ) from None


def _array(name: str, x: Any) -> np.ndarray:
    try:
        return np.asarray(x)
    except ValueError:
        raise UserError(
            "row-shapes-differ",
            f"predict takes a batch of {name!r}, and the examples in this list differ in shape: bring "
            "them to one",
        ) from None


def _check_axes(name: str, given: np.ndarray, trained: Any) -> None:
    """Raise UserError where a column holds no numbers, or has not as many axes as in training."""
    if _numbers(given) is None:
        raise UserError(
            "column-not-numbers",
            f"predict takes numbers, and {name!r} is {given.dtype}{list(given.shape)}",
        )
    if given.ndim == 0 or (trained is not None and given.ndim != trained.ndim):
        row = ["..."] if trained is None else list(trained.shape[1:])
        hint = ": give a batch of one, x[None]" if list(given.shape) == row else ""
        raise UserError(
            "not-a-batch",
            f"predict takes a batch, {name!r} as [{', '.join(map(str, ['batch', *row]))}], and this is "
            f"{list(given.shape)}{hint}",
        )


def _check_finite(name: str, given: np.ndarray, trained: Any) -> None:
    """Raise UserError where a column holds NaN, and the training batch has none."""
    if trained is None or _numbers(given) != "floats":
        return
    odd = ~np.isfinite(given)
    if odd.any() and np.isfinite(np.asarray(trained).astype(np.float32)).all():
        raise UserError(
            "infinity",
            f"{name!r} holds {odd.sum()} values that are missing or infinite, and none was in training",
        )


def _narrow(name: str, x: np.ndarray) -> np.ndarray:
    """``x`` in the dtype that programs compute it in."""
    narrow = x.astype(jax.dtypes.canonicalize_dtype(x.dtype), copy=False)
    if x.dtype.kind in "iu" and (narrow != x).any():
        raise UserError(
            "number-too-large",
            f"{name!r} holds whole numbers beyond {narrow.dtype}, in which they are computed: number from 0",
        )
    return narrow


def _numbers(x: Any) -> str | None:
    kinds = {jnp.floating: "floats", jnp.integer: "whole numbers", jnp.bool_: "truth values"}
    return next((kind for dtype, kind in kinds.items() if jnp.issubdtype(x.dtype, dtype)), None)


def _kind(x: Any) -> str:
    """``floats [batch, 8, 8, 1]``."""
    return f"{_numbers(x)} [{', '.join(map(str, ('batch', *x.shape[1:])))}]"
