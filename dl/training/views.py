"""The experiment's own pictures in the run folder."""

from collections.abc import Mapping

import numpy as np

from dl.core.contract import kind
from dl.core.errors import UserError
from dl.core.state import TrainState
from dl.runs.files import lies_within
from dl.training.evaluation import Evaluation
from dl.training.lane import Lane


def draw_views(
    evaluation: Evaluation, lane: Lane, step: int, state: TrainState, number: int = 0
) -> None:
    """Draw the views of a state (of the lane of that number in it) into ``views/<name>-<step>``, and give its
    trackers the pictures."""
    views = evaluation.own(number).views
    if views is None:
        return
    from dl.figures.curves import save_view

    predictor, folder = evaluation.predictor(state, number), lane.folder
    if not folder.writes:
        return
    place = folder.path / "views"
    with folder.told(place):
        place.mkdir(exist_ok=True)
    if not lies_within(place, folder.path):
        raise UserError("file-write", f"{place} is a link out of the run: take it away")
    drawn = views(predictor)
    if not isinstance(drawn, Mapping):
        raise UserError(
            "views-return", f"views must return a dict of pictures by name, not {kind(drawn)}"
        )
    for name, view in drawn.items():
        if not isinstance(view, str) and not hasattr(view, "savefig") and np.ndim(view) != 4:
            raise UserError(
                "views-return",
                f"the view {name!r} must be pictures [n, height, width, channels] in 0..1, a string or a "
                f"matplotlib figure, not {kind(view)}",
            )
        with folder.told(place):
            file = save_view(place / f"{name}-{step}", view)
        for tracker in lane.trackers:
            tracker.show(step, name, file)
