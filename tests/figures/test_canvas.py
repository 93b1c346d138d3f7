"""Figures show themselves."""

import numpy as np

from dl.figures import pictures
from dl.figures.codes import code_map
from dl.figures.gradients import gradient_figure


def test_every_figure_gives_a_notebook_its_picture(monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "agg")  # as on a machine without a screen
    figures = (
        pictures.lines({"a": {"b": np.arange(3.0)}}),
        code_map(np.eye(4), np.arange(4)),
        gradient_figure({"first": 1.0}),
    )
    for figure in figures:
        assert figure._repr_png_().startswith(b"\x89PNG")
