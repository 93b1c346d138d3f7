"""Optional copies of the logged scalars for other tools; ``metrics.jsonl`` stays the source."""

import functools
from pathlib import Path
from typing import Any, Protocol

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
    return found


class Tracker(Protocol):
    def go_on(self, step: int) -> None:
        """The run goes on after ``step``: what was written of later ones is void."""

    def write(self, step: int, metrics: dict[str, float]) -> None: ...

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

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


class WandB:
    """A Weights & Biases run of the same name, resumed with it; needs the extra ``wandb``."""

    def __init__(self, folder: Path, project: str, config: Any):
        wandb = need("wandb", extra="wandb", why="Weights & Biases")
        # Two sweeps have lanes of one name.
        name = folder.name if folder.parent.name != "lanes" else f"{folder.parts[-3]}-{folder.name}"
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

    def close(self) -> None:
        self._run.finish()
