"""Optional copies of the logged scalars for other tools; ``metrics.jsonl`` stays the source."""

import collections
import contextlib
import functools
import html
import os
import re
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from dl.core.errors import UserError, need, one_line
from dl.core.experiment import Experiment
from dl.runs.folder import RunFolder, to_json, write_json
from dl.runs.options import Options, recorded
from dl.runs.readers import read_object

FILE = "trackers.json"  # in the run's folder: what other tools call it
PAUSE = 60.0  # seconds, at least, before a tool that failed is tried again


def trackers(
    options: Options,
    folder: RunFolder,
    experiment: Experiment,
    config: Any = None,
    say: Callable[[str], Any] = print,
) -> list["Tracker"]:
    """Those that the options ask for, of a run whose folder this process writes; ``config`` is a lane's own; what
    they fail in while the run trains is said by ``say``."""
    found: list[Tracker] = []
    if options.tensorboard and folder.writes:
        found.append(TensorBoard(folder.path))
    kinds = (WandB, options.wandb), (MLflow, options.mlflow), (Trackio, options.trackio)
    for kind, project in kinds:
        if project is not None and folder.writes:
            described = to_json(recorded(experiment, options, config))
            found.append(Patient(kind(folder.path, project, described), kind.__name__, say))
    return found


class Tracker(Protocol):
    def go_on(self, step: int) -> None:
        """The run goes on after ``step``: what was written of later ones is void."""

    def write(self, step: int, metrics: dict[str, float]) -> None: ...

    def show(self, step: int, name: str, file: Path) -> None:
        """What was drawn at ``step`` under ``name``: a PNG, or a text (.txt)."""

    def flush(self) -> None:
        """A checkpoint comes next: behind it a resumed run goes on, and writes nothing of before once more."""

    def close(self) -> None: ...


class TensorBoard:
    """Event files in ``<run>/tensorboard``; needs the extra ``tensorboard``.

    Not by tensorboardX's SummaryWriter, which holds lines back for minutes, so that a kill loses them.
    """

    def __init__(self, folder: Path):
        need("tensorboardX", extra="tensorboard", why="TensorBoard")
        self._folder, self._begin = folder / "tensorboard", 0
        self._file: Any = None

    def go_on(self, step: int) -> None:
        self._begin = step + 1 if step else 0

    def write(self, step: int, metrics: dict[str, float]) -> None:
        from tensorboardX import summary

        for name, value in metrics.items():
            self._add(step, summary=summary.scalar(name, value))

    def show(self, step: int, name: str, file: Path) -> None:
        from tensorboardX import summary

        if file.suffix == ".txt":
            shown = summary.text(name, f"```\n{file.read_text('utf-8')}\n```")
        else:
            shown = summary.image(name, _pixels(file), dataformats="HWC")
        self._add(step, summary=shown)

    def flush(self) -> None:
        if self._file is not None:
            self._file.flush()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _add(self, step: int, **what: Any) -> None:
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event, SessionLog

        if self._file is None:
            self._folder.mkdir(exist_ok=True)
            others = any(self._folder.iterdir())
            self._file = EventsWriter(str(self._folder / "events"))
            if others:  # what is there of this step and later ones is void
                self._add(self._begin, session_log=SessionLog(status=SessionLog.START))
        self._file.write_event(Event(step=step, wall_time=time.time(), **what))


class Patient:
    """A tracker whose failures stop no run: what it does not take is kept, in order, and given to it again."""

    def __init__(self, tracker: "Tracker", name: str, say: Callable[[str], Any]):
        self._tracker, self._name, self._say = tracker, name, say
        self._left: collections.deque[Callable[[], None]] = collections.deque()
        self._wait, self._told = 0.0, False

    def go_on(self, step: int) -> None:
        self._give(functools.partial(self._tracker.go_on, step))

    def write(self, step: int, metrics: dict[str, float]) -> None:
        if metrics:
            self._give(functools.partial(self._tracker.write, step, metrics))

    def show(self, step: int, name: str, file: Path) -> None:
        self._give(functools.partial(self._tracker.show, step, name, file))

    def flush(self) -> None:
        if not self._left:  # else it is away, and what it lacks stays here
            self._give(self._tracker.flush)

    def close(self) -> None:
        self._wait = 0.0
        self._give(self._tracker.close)
        if self._left:
            self._say(f"{self._name} lacks the last {len(self._left)} lines: metrics.jsonl has all")

    def _give(self, call: Callable[[], None]) -> None:
        self._left.append(call)
        begun = time.monotonic()
        if begun < self._wait:
            return
        try:
            while self._left:
                self._left[0]()
                self._left.popleft()
        except Exception as error:  # of a server or a disk: classes of its own
            now = time.monotonic()
            self._wait = now + max(PAUSE, 10 * (now - begun))  # at most a tenth of the run's time
            if not self._told:
                self._say(
                    f"{self._name} takes nothing ({one_line(error)}): the run goes on, and tries it again"
                )
            self._told = True


class WandB:
    """A Weights & Biases run of the same name, resumed with it; needs the extra ``wandb``."""

    def __init__(self, folder: Path, project: str, config: Any):
        self._library = wandb = need("wandb", extra="wandb", why="Weights & Biases")
        try:
            self._run = wandb.init(
                project=project,
                id=_kept(folder, "wandb") or _keep(folder, "wandb", uuid.uuid4().hex[:16]),
                name=_called(folder),
                config=config,
                resume="allow",
                reinit="create_new",
            )
        except Exception as error:  # no key, no network, no such project: classes of its own
            raise UserError(
                "wandb-unavailable",
                f"Weights & Biases cannot begin ({one_line(error)}): log in with "
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

    def flush(self) -> None:
        """Nothing to do: W&B has a process of its own, which outlives this one."""

    def close(self) -> None:
        self._run.finish()


class MLflow:
    """An MLflow run of the same name in that experiment, at the place that ``MLFLOW_TRACKING_URI`` says; needs the
    extra ``mlflow``. A resumed run goes on with its own, and logs no step of it again."""

    def __init__(self, folder: Path, project: str, config: Any):
        # A server that is away is told of in seconds; by itself MLflow tries for minutes.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
        self._library = mlflow = need("mlflow", extra="mlflow", why="MLflow")
        self._had: dict[str, set[int]] = {}
        with _reached(
            "MLflow",
            "see that MLFLOW_TRACKING_URI names a server or a database, sqlite:///mlflow.db",
        ):
            self._client: Any = mlflow.MlflowClient()
            known = self._client.get_experiment_by_name(project)
            place = known.experiment_id if known else self._client.create_experiment(project)
            self._id = self._own(folder, place) or self._new(folder, place, config["config"])

    def _own(self, folder: Path, place: str) -> str | None:
        """The run that this one has there already, opened again."""
        own = _kept(folder, "mlflow")
        if own is None:
            return None
        try:
            run = self._client.get_run(own)
        except self._library.exceptions.MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":  # removed, or on another server
                return None
            raise
        if run.info.experiment_id != place or run.info.lifecycle_stage != "active":
            return None
        self._client.update_run(own, status="RUNNING")
        for name in run.data.metrics:
            self._had[name] = {m.step for m in self._client.get_metric_history(own, name)}
        return own

    def _new(self, folder: Path, place: str, config: dict[str, Any]) -> str:
        own = self._client.create_run(place, run_name=_called(folder)).info.run_id
        for field, value in config.items():
            self._client.log_param(own, field, value)
        return _keep(folder, "mlflow", own)

    def go_on(self, step: int) -> None:
        """Nothing to do: what MLflow has of later steps is not logged again."""

    def write(self, step: int, metrics: dict[str, float]) -> None:
        stamp, named = int(time.time() * 1000), {_plain(name): x for name, x in metrics.items()}
        new = [
            self._library.entities.Metric(name, float(value), stamp, step)
            for name, value in named.items()
            if step not in self._had.get(name, ())
        ]
        if new:
            self._client.log_batch(self._id, metrics=new)

    def show(self, step: int, name: str, file: Path) -> None:
        self._client.log_artifact(self._id, str(file), "views")

    def flush(self) -> None:
        """Nothing to do: what is written is sent at once."""

    def close(self) -> None:
        self._client.set_terminated(self._id)


class Trackio:
    """A trackio run of the same name in that project; needs the extra ``trackio``. A resumed run goes on with its
    own, and logs no step of it again where trackio keeps its files on this machine."""

    def __init__(self, folder: Path, project: str, config: Any):
        self._library = need("trackio", extra="trackio", why="trackio")
        had = _kept(folder, "trackio") is not None
        with _reached("trackio", "see to what it says"):
            self._run = self._library.init(
                project=project,
                name=_called(folder),
                config=config["config"],
                resume="allow" if had else "never",
            )
            _keep(folder, "trackio", str(self._run.id))
            self._had = self._logged(project) if had else set()

    def _logged(self, project: str) -> set[tuple[int, str]]:
        """The steps and names that trackio has of the run."""
        from trackio.sqlite_storage import SQLiteStorage  # no public function reads them

        lines = SQLiteStorage.get_logs(project, self._run.name, run_id=self._run.id)
        return {(int(line["step"]), name) for line in lines for name in line}

    def go_on(self, step: int) -> None:
        """Nothing to do: what trackio has of later steps is not logged again."""

    def write(self, step: int, metrics: dict[str, float]) -> None:
        if new := {name: x for name, x in metrics.items() if (step, name) not in self._had}:
            self._run.log(new, step=step)

    def show(self, step: int, name: str, file: Path) -> None:
        if (step, name) in self._had:
            return
        if file.suffix == ".txt":
            shown = self._library.Markdown(f"```\n{file.read_text('utf-8')}\n```")
        else:
            shown = self._library.Image(str(file))
        self._run.log({name: shown}, step=step)

    def flush(self) -> None:
        """Nothing to do: trackio sends by a thread of its own."""

    def close(self) -> None:
        self._run.finish()


def _kept(folder: Path, tool: str) -> str | None:
    """What a tool calls this run, which another of the same name is not to be taken for."""
    return (read_object(folder / FILE) or {}).get(tool)


def _keep(folder: Path, tool: str, own: str) -> str:
    write_json(folder / FILE, {**(read_object(folder / FILE) or {}), tool: own})
    return own


def _plain(name: str) -> str:
    """A metric's name in the characters that MLflow takes.

    >>> _plain("test/recall of 'a, b'"), _plain("/train//../loss")
    ('test/recall of _a_ b_', 'train/loss')
    """
    parts = re.sub(r"[^/\w.\- :]", "_", name).split("/")
    return "/".join(part for part in parts if part not in ("", ".", ".."))[:250]


@contextlib.contextmanager
def _reached(name: str, remedy: str) -> Iterator[None]:
    """What another tool says against beginning, in one line."""
    try:
        yield
    except Exception as error:  # no server, no such place: classes of its own
        raise UserError(
            "tracker-unavailable",
            f"{name} cannot begin ({one_line(error)}): {remedy}, or leave its flag out",
        ) from error


def _called(folder: Path) -> str:
    """What other tools call a run: two sweeps have lanes of one name."""
    return folder.name if folder.parent.name != "lanes" else f"{folder.parts[-3]}-{folder.name}"


def _pixels(file: Path) -> np.ndarray:
    from PIL import Image

    return np.asarray(Image.open(file).convert("RGB"))
