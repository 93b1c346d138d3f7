"""A run that is there: its folder, its numbers, its selected state, ready to predict."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from dl.core.errors import UserError, unknown
from dl.core.experiment import Experiment, built
from dl.core.lanes import first_batch
from dl.core.state import TrainState
from dl.former import found
from dl.parallel.sharding import Layout
from dl.report.layers import Summary, summary
from dl.report.page import plain_table
from dl.runs.folder import RunFolder, read_json
from dl.runs.frames import frame as as_frame
from dl.runs.options import trained_by
from dl.runs.readers import numbers, read_result
from dl.runs.seal import check_seal
from dl.training.checkpoints import Checkpoints
from dl.training.compiled import Compiled
from dl.training.console import format_metrics
from dl.training.evaluation import local
from dl.training.keeping import restored
from dl.training.prediction import Predictor, predictor_of
from dl.training.starting import base_of

__getattr__ = found(__name__)  # what was here in earlier releases

EVENTS = ("train", "update", "eval", "hook", "checkpoint", "test")


class Run:
    """A run and its folder.

    Attributes:
      folder: where it lies; experiment: what was run; state: the selected state, for use;
      ended: 'done', 'early' (patience ran out) or the name of the signal that stopped it.
    """

    def __init__(self, folder: RunFolder, experiment: Experiment, state: TrainState, ended: str):
        self.folder, self.experiment, self.state, self.ended = folder, experiment, state, ended

    @property
    def result(self) -> dict[str, Any]:
        """``result.json``: final metrics, how the state was selected, times.

        Raises:
          UserError: the run has not ended.
        """
        if not self.folder.finished():
            raise UserError(
                "run-unfinished",
                f"{self.folder.path} has not ended, so it has no result yet: history('eval') has what it reached",
            )
        return read_json(self.folder.result)

    @property
    def metrics(self) -> dict[str, float]:
        """The final metrics."""
        return numbers(self.result["metrics"])

    def history(self, event: str = "train", frame: bool = False) -> Any:
        """Logged scalars over the run: ``{'step': [n], 'train/loss': [n], ..., 'time/elapsed': [n], ...}`` in
        NumPy, or as a data ``frame`` (:func:`dl.runs.frames.frame`). What a line has no number of is NaN."""
        if event not in EVENTS:
            raise unknown("event", event, EVENTS)
        lines = [line for line in self.folder.records() if line["event"] == event]
        clocks = [{f"time/{name}": x for name, x in line.get("time", {}).items()} for line in lines]
        values = [
            numbers(line["metrics"] | clock | line["metrics"])
            for line, clock in zip(lines, clocks, strict=True)
        ]
        shapes = {name: np.shape(x) for value in values for name, x in value.items()}
        columns = {
            name: np.array([value.get(name, np.full(shape, np.nan)) for value in values])
            for name, shape in shapes.items()
        }
        found = {"step": np.array([line["step"] for line in lines], int), **columns}
        return as_frame({n: v.tolist() for n, v in found.items()}) if frame else found

    @functools.cached_property
    def predictor(self) -> Predictor:
        """The task's predictions with the selected parameters (:class:`dl.Predictor`)."""
        example = jax.tree.map(np.asarray, self.experiment.data[0])
        return predictor_of(self.experiment, local(self.state.eval_variables), example=example)

    def predict(self, columns: Any, key: jax.Array | None = None) -> Any:
        """The predictions for every row of ``columns``, drawn by ``key`` where the task draws: see
        :meth:`dl.Predictor.__call__`."""
        return self.predictor(columns, key)

    def predict_files(self, files: Any, out: Any = None, batch_size: int = 0, **fields: Any) -> int:
        """Write the predictions for files: see :func:`dl.training.predicting.predict_files`."""
        from dl.training.predicting import predict_files

        return predict_files(self, files, out, batch_size, **fields)

    def embed(self, columns: Any, layer: str) -> Any:
        """What a layer gives for every row, leaves ``[rows, ...]``: see :meth:`dl.Predictor.at`."""
        return self.predictor.at(layer)(columns)

    def evaluate(self, data: Any = None, **fields: Any) -> dict[str, Any]:
        """Every metric of the task on other data: see :func:`dl.training.judging.evaluate`."""
        from dl.training.judging import evaluate

        return evaluate(self, data, **fields)

    def slices(self, columns: Any, data: Any = None, **fields: Any) -> dict[str, Any]:
        """The metrics by the values of columns of the data's table, or of the own test rows', as ``"city,age"`` or
        a list of headings: see :func:`dl.training.judging.judged`."""
        from dl.training.judging import judged

        return judged(self, data, columns, **fields)[1]

    def rebuilt(self) -> Experiment:
        """The experiment built once more, of data that have taken the place of its own.

        Raises:
          UserError: the run was not made by ``build(config)``.
        """
        own = self.experiment
        if own.build is None:
            raise UserError(
                "build-not-known",
                "this run was not made by build(config): evaluate and predict need both for other data",
            )
        return _as_trained(self.folder, built(own.build, own.config))

    def fork(self, at: int | None = None, name: str | None = None, **values: Any) -> "Run":
        """A new run from a state of this one, with other values: see :func:`dl.training.forking.fork`."""
        from dl.training.forking import fork

        return fork(self, at, name, values)

    def plot(self) -> Any:
        """Learning curves as a matplotlib figure, saved as ``curves.png``: a notebook shows it, and
        elsewhere the file's path is printed."""
        from dl.figures.curves import curves, shown

        return shown(curves([self.folder.path]), self.folder.path / "curves.png")

    def summary(self) -> Summary:
        """The layers with their output shapes, parameters and FLOPs, as a table when shown."""
        return summary(self.experiment.task, first_batch(self.experiment))

    def _repr_html_(self) -> str:
        ended = self.ended if self.folder.finished() else f"stopped at step {int(self.state.step)}"
        rows = [("folder", self.folder.path), ("ended", ended)]
        if self.folder.finished():
            chosen = self.result["selected"]
            rows.append(
                ("selected", f"step {chosen['step']} by {chosen['rule'] or 'being the last'}")
            )
            rows += [(k, f"{v:.4g}") for k, v in self.metrics.items() if isinstance(v, float | int)]
        return plain_table((), rows)

    def __repr__(self) -> str:
        if self.folder.finished():
            return f"Run({str(self.folder.path)!r}: {format_metrics(self.metrics)})"
        return f"Run({str(self.folder.path)!r}: stopped at step {int(self.state.step)})"


def reopen(
    folder: RunFolder,
    experiment: Experiment,
    say: Callable[[str], Any] = print,
    layout: Layout | None = None,
) -> Run:
    """The run in ``folder`` with its selected state, or its last one where it is unfinished."""
    step, ended = None, "unfinished"
    if folder.finished():
        try:
            check_seal(folder)
        except UserError as error:  # which a reader is told
            say(str(error))
        result = read_result(folder.path)
        step, ended = result["selected"].get("step"), result["ended"]
    state = _state(folder, experiment, step, say, layout)
    return Run(folder, _as_trained(folder, experiment), state, ended)


def _as_trained(folder: RunFolder, experiment: Experiment) -> Experiment:
    """``experiment`` that computes as the options say that the run in ``folder`` was trained with."""
    return trained_by(read_json(folder.config)).carried_by(experiment)


def newest_whole(folder: RunFolder, experiment: Experiment, layout: Layout | None) -> int | None:
    """The step of the newest checkpoint that can be believed; None where there is none."""
    try:
        return int(_state(folder, experiment, None, lambda _: None, layout).step)
    except UserError:
        return None


def _state(
    folder: RunFolder,
    experiment: Experiment,
    step: int | None,
    say: Callable[[str], Any],
    layout: Layout | None,
) -> TrainState:
    """The state of the checkpoint at ``step``, or of the newest whole one."""
    # Traced as in training: an optimiser may have a part that a plain zero (a decay) would leave out.
    compiled = Compiled.alone(experiment, layout)
    checkpoints = Checkpoints(folder.checkpoints, False, base=base_of(folder))
    try:
        return restored(checkpoints, compiled, compiled.beginning().state(), step, say)
    finally:
        checkpoints.close()
