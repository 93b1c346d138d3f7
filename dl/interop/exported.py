"""A trained model as a program of its own: it runs where only jax (with flatbuffers) is installed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import jax
import jax.export
import jax.numpy as jnp
import numpy as np

from dl.core.adapters import merge
from dl.core.errors import UserError, need, unknown
from dl.core.experiment import Experiment
from dl.core.state import TrainState
from dl.core.target import Target, tracing_for
from dl.data.readers.files import write_whole

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")
MOST_BYTES = 1.9e9  # a serialised program holds its constants, and cannot be larger than 2 GiB


class Trained(Protocol):
    """What :func:`export` needs of a run (:class:`dl.Run` has it)."""

    experiment: Experiment
    state: TrainState


class Exported(NamedTuple):
    """A program written to disk.

    Attributes:
      path: the file, of ``jax.export``; beside it lies the bare StableHLO, portable bytecode, with the
        suffix ``.stablehlo``.
      inputs: shapes and dtypes of the columns it takes, by name; a leading axis named ``b`` may be of any
        size.
      platforms: where it runs.
      fixed: why the batch size is fixed, or None where it is free.
    """

    path: Path
    inputs: dict[str, Any]
    platforms: tuple[str, ...]
    fixed: str | None

    @property
    def snippet(self) -> str:
        """Python that loads the program and calls it, with zeros for inputs."""

        def zeros(leaf) -> str:
            shape = [1 if not isinstance(n, int) else n for n in leaf.shape]
            return f"np.zeros({tuple(shape)}, np.{np.dtype(leaf.dtype).name})"

        given = ", ".join(f"{name!r}: {zeros(leaf)}" for name, leaf in self.inputs.items())
        return (
            "import jax.export, numpy as np\n"
            f"predict = jax.export.deserialize(bytearray(open({str(self.path)!r}, 'rb').read())).call\n"
            f"print(predict({{{given}}}))"
        )


def export(
    run: Trained,
    path: str | Path,
    *,
    inputs: dict[str, Any] | None = None,
    platforms: Sequence[str] = PLATFORMS,
) -> Exported:
    """Write what ``run.predict`` computes as one program with the selected parameters inside, by
    ``jax.export``: it takes a dict of the task's columns.

    Traced for one platform, it holds that platform's kernels; for several, those that run on all of them, which
    may not be the fastest on each. The batch size is left free where the model can be traced so.

    Args:
      run: from ``dl.train`` or ``dl.open_run``.
      path: the file to write.
      inputs: an example of the columns that ``predict`` reads, where the training data do not hold them.

    Raises:
      UserError: a task whose predictions are not made of its data, and no ``inputs``; a model too
        large for one program; a platform that jax does not know.
    """
    need("flatbuffers", extra="interop", why="writing a program, and reading it,")
    path = Path(path)
    if path.is_dir():
        raise UserError("file-is-folder", f"{path} is a folder: name the file to write")
    task, variables = run.experiment.task, merge(run.state.eval_variables)
    if inputs is None:
        batch = run.experiment.data[0]
        if not task.columns or not batch.keys() >= set(task.columns):
            raise UserError(
                "export-no-inputs",
                "this task's predictions are not made of its data: export it from Python, "
                "dl.interop.export(run, path, inputs=an example)",
            )
        inputs = {name: batch[name] for name in task.columns}
    for name in platforms:
        if name not in PLATFORMS:
            raise unknown("platform", name, PLATFORMS)
    size = sum(x.nbytes for x in jax.tree.leaves(variables))
    if size > MOST_BYTES:
        raise UserError(
            "export-too-large",
            f"{size / 1e9:.1f} GB of parameters do not fit into one program: save them with "
            "dl.interop.save instead",
        )
    variables = jax.device_get(variables)

    def predicted(x):
        return _plain(task.predict(jax.tree.map(jnp.asarray, variables), x))

    def lowered(shapes):
        one = {"cpu": "cpu", "cuda": "gpu", "tpu": "tpu"}.get(platforms[0], "any")
        with tracing_for(Target(one if len(platforms) == 1 else "any")):
            return jax.export.export(jax.jit(predicted), platforms=tuple(platforms))(shapes)

    fixed = None
    (rows,) = jax.export.symbolic_shape("b")
    given = jax.eval_shape(lambda inputs: inputs, inputs)  # in the dtypes that programs compute
    free = jax.tree.map(lambda x: jax.ShapeDtypeStruct((rows, *x.shape[1:]), x.dtype), given)
    try:
        program = lowered(free)
    except Exception as error:  # a trace that needs the number can fail in as many ways as code can
        fixed = (str(error).strip().splitlines() or [type(error).__name__])[0]
        if isinstance(error, TypeError) and "_DimExpr" in fixed:
            fixed = f"{fixed} (len(x) of a batch needs its number, x.shape[0] does not)"
        program = lowered(given)
    else:
        given = free
    path.parent.mkdir(parents=True, exist_ok=True)
    # Whatever lies there, a link or a pipe, is replaced and not written to.
    write_whole(
        path.with_suffix(".stablehlo"), lambda file: file.write(program.mlir_module_serialized)
    )
    write_whole(path, lambda file: file.write(program.serialize()))
    return Exported(path, given, program.platforms, fixed)


def _plain(tree: Any) -> Any:
    """Named tuples as dicts, so that whoever loads the program needs none of our classes."""
    if isinstance(tree, tuple) and hasattr(tree, "_asdict"):
        return {name: _plain(leaf) for name, leaf in tree._asdict().items()}
    if isinstance(tree, dict):
        return {name: _plain(leaf) for name, leaf in tree.items()}
    if isinstance(tree, list | tuple):
        return type(tree)(_plain(leaf) for leaf in tree)
    return tree
