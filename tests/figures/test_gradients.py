"""Gradient sizes by layer and by time."""

import numpy as np

from dl.figures.gradients import gradient_figure, kernel_norms


def test_norms_are_of_kernels_alone():
    tree = {"a": {"kernel": np.full((2, 2), -3.0), "bias": np.ones(2)}}
    assert kernel_norms(tree) == {"a/kernel": 3.0}


def test_a_vanished_gradient_is_drawn():
    figure = gradient_figure({"first": 0.0, "second": 1.0}, [0.0, 1e-5, 1.0])
    bars, curve = figure.axes
    assert [label.get_text() for label in bars.get_yticklabels()] == ["first", "second"]
    assert curve.get_yscale() == bars.get_xscale() == "log"
