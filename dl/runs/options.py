"""How a run is carried out: the flags that every experiment script has."""

import dataclasses
import os
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, get_args, get_type_hints

from dl.core.errors import UserError, need, unknown
from dl.core.experiment import Experiment, unboxed, with_task
from dl.core.target import Precision, Remat, computing
from dl.core.transforms import traced_within
from dl.runs import store
from dl.runs.toml import typed


@dataclasses.dataclass(frozen=True)
class Options:
    """How a run is carried out and shown; nothing here changes what it computes."""

    name: str | None = None
    """name of the run, and of its folder; by default the script's name with the date and time"""
    runs: Path = Path("runs")
    """folder that holds the runs, also s3://bucket/runs or gs://bucket/runs"""
    data_dir: Path | None = None
    """folder with one sub-folder a data set; by default $DL_DATA_DIR, else the user's cache"""
    resume: bool = False
    """go on with the run --name, or with the unfinished one of this configuration"""
    log_every: int | None = None
    """steps between logged training metrics; by default a hundredth of the run, at most 50"""
    eval_every: int | None = None
    """steps between evaluations; by default a tenth of the run"""
    save_every: int | None = None
    """steps between checkpoints; by default as often as evaluations"""
    progress: bool = True
    """show a progress bar and a line for each evaluation"""
    tensorboard: bool = False
    """also write TensorBoard event files"""
    wandb: str | None = None
    """also log to this Weights & Biases project"""
    mlflow: str | None = None
    """also log to this MLflow experiment"""
    trackio: str | None = None
    """also log to this trackio project"""
    profile: str | None = None
    """two steps, as 50:60, between which a trace for XProf and Perfetto is written into the run's profile/"""
    mesh: str | None = None
    """devices to use, as data=2,fsdp=4,expert=1,sequence=1,tensor=1: batches are cut over the first three, texts
    along sequence, parameters over fsdp, expert and tensor; -1 is all that are left. By default one device, or
    with several processes all by data"""
    deterministic_topology: bool = False
    """sums in one fixed order, so that a run has the same bits on 1, 2, 4 or 8 devices; slower"""
    deterministic: bool = False
    """on a GPU, only kernels that add in one order, so that the same card gives the same bits; slower"""
    precision: Precision | None = None
    """of float32 products on GPU and TPU, which by default take faster ones: float32 is exact"""
    remat: Remat | None = None
    """what each layer of a Transformer or a ResNet computes again in the backward pass to save memory: all,
    all but its matrix products, or none; by default as the model says"""
    coordinator: str | None = None
    """host:port of process 0, where no TPU pod, SLURM or Kubernetes tells the processes of each other"""
    processes: int | None = None
    """how many processes carry this run out together"""
    process: int | None = None
    """which of them this is, from 0"""

    def __post_init__(self) -> None:
        object.__setattr__(self, "runs", Path(self.runs))  # a string will do, in a notebook

    def computing(self) -> AbstractContextManager[None]:
        """Within, programs are made that compute as these options say."""
        return computing(self.deterministic, self.precision, self.remat)

    def carried_by(self, experiment: Experiment) -> Experiment:
        """``experiment`` that computes as these options say wherever it is used, not only within
        :meth:`computing`: a trained run's, which is to predict as it was evaluated."""
        if all(getattr(self, name) == getattr(Options, name) for name in COMPUTING):
            return experiment
        return with_task(experiment, traced_within(experiment.task, self.computing))

    def prepare(self, join: bool = True) -> None:
        """What comes before ``build``, which may compute: find packages, ``join`` the other processes, of which
        JAX learns only before it begins, and take data sets from ``data_dir``."""
        from dl.data.readers.files import use_data_folder
        from dl.parallel import processes

        self.find_packages()
        if join:
            processes.join(self.coordinator, self.processes, self.process)
        if self.data_dir is not None:
            use_data_folder(self.data_dir)

    def find_packages(self) -> None:
        """Raise UserError where a package is missing that a run would only ask for once it is under way."""
        store.check(self.runs)
        if self.tensorboard:
            need("tensorboardX", extra="tensorboard", why="TensorBoard")
        if self.wandb is not None:
            need("wandb", extra="wandb", why="Weights & Biases")
        if self.mlflow is not None:
            need("mlflow", extra="mlflow", why="--mlflow")
        if self.trackio is not None:
            need("trackio", extra="trackio", why="--trackio")

    def refuse_processes(self, what: str) -> None:
        """Raise UserError where flags of a run of several processes are given to ``what`` is but one."""
        for name in ("coordinator", "processes", "process"):
            if getattr(self, name) is not None:
                raise UserError("option-misplaced", f"{what} is of one process: leave --{name} out")

    def cadence(self, steps: int) -> dict[str, int]:
        """The steps between events, defaults filled in for a run of ``steps``."""
        default = {
            "log_every": max(1, min(50, steps // 100)),
            "eval_every": max(1, -(-steps // 10)),
        }
        default["save_every"] = (
            default["eval_every"] if self.eval_every is None else self.eval_every
        )
        given = {n: d if getattr(self, n) is None else getattr(self, n) for n, d in default.items()}
        for name, value in given.items():
            if not (isinstance(value, int) and value >= 1):
                raise UserError(
                    "range", f"{name} must be 1 or more, not {value} (steps are whole numbers)"
                )
        return given


# The options that may change bits, so that a run keeps its own.
COMPUTING = ("deterministic_topology", "deterministic", "precision", "remat")


def kept_options(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Those of :data:`COMPUTING` that a run's ``config.json`` holds.

    Raises:
      UserError: a value that no run writes.
    """
    known = {"precision": get_args(Precision), "remat": get_args(Remat)}
    found = {name: stored[name] for name in COMPUTING if name in stored}
    for name, value in found.items():
        if value not in known.get(name, (True, False)):
            raise UserError("record-damaged", f"config.json: {name!r} cannot be {value!r:.40}")
    return found


def trained_by(stored: Mapping[str, Any]) -> Options:
    """The options by which the run of that ``config.json`` computes; raises as :func:`kept_options`."""
    return Options(**kept_options(stored))


def chosen_options(given: Mapping[str, Any]) -> Options:
    """The options that keyword arguments name.

    Raises:
      UserError: there is none of that name, or it takes values of another type.
    """
    hints = get_type_hints(Options)
    given = {name: unboxed(value) for name, value in given.items()}
    for name, value in given.items():
        if name not in hints:
            raise unknown("option", name, hints)
        # Of a count that is a fraction its own check says more.
        counts = isinstance(value, float) and int in (hints[name], *get_args(hints[name]))
        if not isinstance(value, os.PathLike) and not counts:
            typed(name, hints[name], value)
    return Options(**given)


def recorded(experiment: Experiment, options: Options, config: Any = None) -> dict[str, Any]:
    """What ``config.json`` holds, and what must be equal for a run to be resumed; the ``config`` is a
    lane's own, else the experiment's."""
    config = experiment.config if config is None else config
    values: Any = dataclasses.asdict(config) if _is_value(config) else config
    found = {"config": values, "steps": experiment.steps, **options.cadence(experiment.steps)}
    usual = Options()
    apart = {name: getattr(options, name) for name in COMPUTING}
    return found | {n: value for n, value in apart.items() if value != getattr(usual, n)}


def _is_value(config: Any) -> bool:
    return dataclasses.is_dataclass(config) and not isinstance(config, type)
