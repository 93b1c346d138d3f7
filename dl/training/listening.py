"""What speech recognisers hear: some strings at every evaluation, and a command for files."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dl.data.own.sounds import read_sound
from dl.data.sets.recordings import pad_waveforms
from dl.data.splits import Columns
from dl.runs.files import printable
from dl.tasks.ctc import decode, spell
from dl.training.prediction import Predictor
from dl.training.reopening import open_run


@dataclasses.dataclass(frozen=True, eq=False)
class Listening:
    """An experiment's ``views``: true strings above what is recognised, by greedy decoding.

    Attributes:
      shown: recordings with their ``label``, as :func:`dl.tasks.ctc.ctc` takes them.
      details: of the data's info, with the ``rate`` in Hz, and ``tokens`` and ``between`` to :func:`spell` by.
    """

    shown: Columns
    details: Mapping[str, Any]

    def __call__(self, predictor: Predictor) -> dict[str, str]:
        pairs = zip(*self.strings(predictor, self.shown), strict=True)
        lines = [f"{'  ' if a == b else '* '}{a}\n  {b}" for a, b in pairs]
        return {
            "strings": "\n".join(["truth, then what was recognised (* where they differ)", *lines])
        }

    def strings(self, predictor: Predictor, columns: Any, beam: int = 1) -> list[list[str]]:
        """The true strings, and those recognised by a ``beam`` (:func:`dl.tasks.ctc.decode`)."""
        logits, frames = predictor(columns)
        return [self.spelt(columns["label"]), self.spelt(decode(logits, frames, beam))]

    def spelt(self, rows: Iterable[Sequence[int]]) -> list[str]:
        """Rows of tokens in words."""
        return [spell(row, self.details["tokens"], self.details["between"]) for row in rows]


def transcribe(run: Path, files: tuple[Path, ...]) -> None:
    """Print what a trained run hears in recordings (wav, FLAC, Ogg, ... at any rate).

    Args:
      run: the run's folder.
      files: recordings.
    """
    trained = open_run(run)
    views: Any = trained.experiment.views
    listen = dataclasses.replace(trained.predictor, batch_size=1)
    for file in files:
        logits, frames = listen(pad_waveforms([read_sound(file, views.details["rate"])]))
        print(printable(f"{file}: {views.spelt(decode(logits, frames, 16))[0]}"))
