"""Optional copies of the logged scalars for other tools; ``metrics.jsonl`` stays the source."""

import contextlib
import functools
import html
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from dl.core.errors import UserError, need
from dl.core.experiment import Experiment
from dl.runs.folder import RunFolder, to_json
from dl.runs.options import Options, recorded


def trackers(
    options: Options, folder: RunFolder, experiment: Experiment, config: Any = None
) -> list["Tracker"]:
    """Those that the options ask for, of a run whose folder this process writes; ``config`` is a lane's own."""
    found: list[Tracker] = []
    if options.tensorboard and folder.writes:
        found.append(TensorBoard(folder.path))
    if options.wandb is not None and folder.writes:
        described = to_json(recorded(experiment, options, config))
        found.append(WandB(folder.path, options.wandb, described))
    for kind, project in ((MLflow, options.mlflow), (Trackio, options.trackio)):
        if project is not None and folder.writes:
            described = to_json(recorded(experiment, options, config))
            found.append(kind(folder.path, project, described))
    return found


class Tracker(Protocol):
    def go_on(self, step: int) -> None:
        """The run goes on after ``step``: what was written of later ones is void."""

    def write(self, step: int, metrics: dict[str, float]) -> None: ...

    def show(self, step: int, name: str, file: Path) -> None:
        """What was drawn at ``step`` under ``name``: a PNG, or a text (.txt)."""

    def close(self) -> None: ...


class TensorBoard:
    """Event files in ``<run>/tensorboard``; needs the extra ``tensorboard``."""

    def __init__(self, folder: Path):
        library = need("tensorboardX", extra="tensorboard", why="TensorBoard")
        self._open = functools.partial(library.SummaryWriter, str(folder / "tensorboard"))
        self._writer: Any = None

    def go_on(self, step: int) -> None:
        self._writer = self._open(purge_step=step + 1) if step else None

    def write(self, step: int, metrics: dict[str, float]) -> None:
        self._writer = self._writer or self._open()
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)

    def show(self, step: int, name: str, file: Path) -> None:
        self._writer = self._writer or self._open()
        if file.suffix == ".txt":
            self._writer.add_text(name, f"```\n{file.read_text('utf-8')}\n```", step)
        else:
            self._writer.add_image(name, _pixels(file), step, dataformats="HWC")

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


class WandB:
    """A Weights & Biases run of the same name, resumed with it; needs the extra ``wandb``."""

    def __init__(self, folder: Path, project: str, config: Any):
        self._library = wandb = need("wandb", extra="wandb", why="Weights & Biases")
        name = _called(folder)
        try:
            self._run = wandb.init(
                project=project,
                id=name,
                name=name,
                config=config,
                resume="allow",
                reinit="create_new",
            )
        except Exception as error:  # no key, no network, no such project: classes of its own
            raise UserError(
                "wandb-unavailable",
                f"Weights & Biases cannot begin ({' '.join(str(error).split())[:200]}): log in with "
                "`wandb login`, set WANDB_MODE=offline, or leave --wandb out",
            ) from error

    def go_on(self, step: int) -> None:
        """Nothing to do: W&B drops steps that it has."""

    def write(self, step: int, metrics: dict[str, float]) -> None:
        self._run.log(metrics, step=step)

    def show(self, step: int, name: str, file: Path) -> None:
        text = file.suffix == ".txt"
        shown = (
            self._library.Html(f"<pre>{html.escape(file.read_text('utf-8'))}</pre>")
            if text
            else self._library.Image(str(file))
        )
        self._run.log({name: shown}, step=step)

    def close(self) -> None:
        self._run.finish()


class MLflow:
    """An MLflow run of the same name in that experiment, at the place that ``MLFLOW_TRACKING_URI`` says; needs the
    extra ``mlflow``. What was logged after the step of a resume is logged again."""

    def __init__(self, folder: Path, project: str, config: Any):
        mlflow = need("mlflow", extra="mlflow", why="MLflow")
        name = _called(folder)
        with _reached("MLflow", "see that MLFLOW_TRACKING_URI names a server at work"):
            self._client: Any = mlflow.MlflowClient()
            known = self._client.get_experiment_by_name(project)
            place = known.experiment_id if known else self._client.create_experiment(project)
            quote = '"' if "'" in name else "'"  # one with both is refused, in MLflow's words
            found = self._client.search_runs([place], f"tags.mlflow.runName = {quote}{name}{quote}")
            run = found[0] if found else self._client.create_run(place, run_name=name)
            self._id = run.info.run_id
            for field, value in {} if found else config["config"].items():
                self._client.log_param(self._id, field, value)

    def go_on(self, step: int) -> None:
        """Nothing to do: MLflow keeps each value with its time."""

    def write(self, step: int, metrics: dict[str, float]) -> None:
        for name, value in metrics.items():
            self._client.log_metric(self._id, name, value, step=step)

    def show(self, step: int, name: str, file: Path) -> None:
        self._client.log_artifact(self._id, str(file), "views")

    def close(self) -> None:
        self._client.set_terminated(self._id)


class Trackio:
    """A trackio run of the same name in that project; needs the extra ``trackio``."""

    def __init__(self, folder: Path, project: str, config: Any):
        self._library = need("trackio", extra="trackio", why="trackio")
        with _reached("trackio", "see to what it says"):
            self._run = self._library.init(
                project=project, name=_called(folder), config=config["config"], resume="allow"
            )

    def go_on(self, step: int) -> None:
        """Nothing to do: trackio keeps all that it is given."""

    def write(self, step: int, metrics: dict[str, float]) -> None:
        self._run.log(metrics, step=step)

    def show(self, step: int, name: str, file: Path) -> None:
        if file.suffix == ".png":
            self._run.log({name: self._library.Image(str(file))}, step=step)

    def close(self) -> None:
        self._run.finish()


@contextlib.contextmanager
def _reached(name: str, remedy: str) -> Iterator[None]:
    """What another tool says against beginning, in one line."""
    try:
        yield
    except Exception as error:  # no server, no such place: classes of its own
        raise UserError(
            "tracker-unavailable",
            f"{name} cannot begin ({' '.join(str(error).split())[:200]}): {remedy}, or leave its flag out",
        ) from error


def _called(folder: Path) -> str:
    """What other tools call a run: two sweeps have lanes of one name."""
    return folder.name if folder.parent.name != "lanes" else f"{folder.parts[-3]}-{folder.name}"


def _pixels(file: Path) -> np.ndarray:
    from PIL import Image

    return np.asarray(Image.open(file).convert("RGB"))
