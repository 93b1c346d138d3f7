"""Figures show themselves."""

import numpy as np

from dl.figures import pictures
from dl.figures.canvas import new_figure
from dl.figures.clouds import from_two_sides, taken_for
from dl.figures.codes import code_map
from dl.figures.curves import curve_figure
from dl.figures.gradients import gradient_figure
from dl.figures.verification import receiver, trade_off
from dl.report.sweeps import _field_panel
from dl.scores.verification import Pairs


def test_every_figure_gives_a_notebook_its_picture(monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "agg")  # as on a machine without a screen
    figures = (
        pictures.lines({"a": {"b": np.arange(3.0)}}),
        code_map(np.eye(4), np.arange(4)),
        gradient_figure({"first": 1.0}),
    )
    for figure in figures:
        assert figure._repr_png_().startswith(b"\x89PNG")


def test_classes_and_chances_are_painted_over_pictures():
    images, label = np.full((1, 2, 3, 1), 100, np.uint8), np.array([[[-1, 0, 1], [0, 0, 1]]])
    painted = pictures.painted(images, label)
    np.testing.assert_allclose(painted[0, 0, 0], 100 / 255, rtol=1e-5)  # void stays as it is
    assert (painted[0, 0, 1] == painted[0, 1, 0]).all()
    assert (painted[0, 0, 1] != painted[0, 0, 2]).any()
    glow = pictures.heat(images, np.array([[[0.0, 0.5, 1.0]] * 2]))
    np.testing.assert_allclose(glow[0, 0, 0], 100 / 255, rtol=1e-5)
    assert glow.shape == painted.shape == (1, 2, 3, 3)
    assert glow[0, 0, 2, 0] > glow[0, 0, 1, 0] > glow[0, 0, 0, 0]


def test_what_is_found_stands_beside_what_is_there():
    images, truth = np.full((2, 2, 3, 1), 100, np.uint8), np.arange(12).reshape(2, 2, 3) % 2
    pair = pictures.segmented(images, 1 - truth, truth, 0)
    np.testing.assert_array_equal(pair[2:], pictures.overlay(images, 1 - truth, truth, 0))
    every = pictures.segmented(images, 1 - truth, truth)
    np.testing.assert_allclose(every[:2], 100 / 255)
    np.testing.assert_array_equal(every[4:], pictures.painted(images, 1 - truth))
    part = {"points": np.zeros((4, 3, 3)), "label": np.array([0, 1, 0, 1])}
    drawn = taken_for(part, np.array([0, 0, 0, 1]), ("chair", "sofa"), 2)
    assert [axes.get_title() for axes in drawn.axes][::2] == ["chair, is sofa", "chair, is chair"]
    past, later = np.arange(60.0).reshape(5, 6, 2), np.arange(30.0).reshape(5, 3, 2)
    last = pictures.forecast_examples(past, later, later, later, 2).axes[1]
    np.testing.assert_array_equal(last.lines[0].get_ydata(), past[4, :, 1])


def test_a_name_with_dollars_is_no_formula():
    odd, curve = r"$\frac$ \x$^{", np.arange(3.0)
    scalars = {odd: {odd: np.array([[0, 1.0], [10, 0.5]])}}
    box = (np.ones((1, 1, 4)), np.ones((1, 1)), np.zeros((1, 1), int))
    pairs = Pairs(np.array([0.2, 0.8, 0.6]), np.array([False, True, False]))
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
        trade_off({odd: pairs}, odd),
        receiver({odd: pairs}, {odd: 0.5}, odd),
        from_two_sides(np.zeros((1, 3, 3)), [odd]),
    )
    for figure in figures:
        assert figure._repr_png_().startswith(b"\x89PNG")
