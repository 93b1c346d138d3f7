"""Figures show themselves."""

import numpy as np

from dl.figures import pictures
from dl.figures.canvas import new_figure
from dl.figures.codes import code_map
from dl.figures.curves import curve_figure
from dl.figures.gradients import gradient_figure
from dl.report.sweeps import _field_panel


def test_every_figure_gives_a_notebook_its_picture(monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "agg")  # as on a machine without a screen
    figures = (
        pictures.lines({"a": {"b": np.arange(3.0)}}),
        code_map(np.eye(4), np.arange(4)),
        gradient_figure({"first": 1.0}),
    )
    for figure in figures:
        assert figure._repr_png_().startswith(b"\x89PNG")


def test_a_name_with_dollars_is_no_formula():
    odd, curve = r"$\frac$ \x$^{", np.arange(3.0)
    scalars = {odd: {odd: np.array([[0, 1.0], [10, 0.5]])}}
    box = (np.ones((1, 1, 4)), np.ones((1, 1)), np.zeros((1, 1), int))
    figure = new_figure(3, 3)
    _field_panel(figure.add_subplot(), "name", [(odd, 0.1), ("b", 0.2)])
    figures = (
        figure,
        curve_figure([(odd, [scalars])], {odd: {odd: 0.3}}),
        curve_figure([(odd, [scalars]), ("b", [scalars])]),
        pictures.lines({odd: {odd: curve}}),
        pictures.forecasts(*[curve[None]] * 3, titles=[odd]),
        pictures.attention_maps(np.eye(2)[None], [odd, "$$"], [odd, "b"], [odd]),
        pictures.detected(np.zeros((1, 8, 8, 3)), box, box[0], box[2], [odd]),
        pictures.reliability({odd: (curve, curve, curve)}, odd),
    )
    for figure in figures:
        assert figure._repr_png_().startswith(b"\x89PNG")
