"""The step between rows, and what repeats itself."""

import numpy as np
import pytest
from mistakes import raises

from dl.data.readers.steps import find_step, places, repeating


def test_no_step_is_made_up_of_one_row():
    assert str(find_step(np.array(["2024-01-01"], "datetime64[D]"), np.array([True]))) == "day"
    assert repeating(np.arange(3.0)) == 1
    assert repeating(np.random.default_rng(0).normal(size=500).cumsum()) == 1


def test_rows_lie_on_steps_with_gaps_between():
    when = np.array(
        ["2024-01-01T00", "2024-01-01T01", "2024-01-01T04", "2023-12-31T00"], "datetime64[h]"
    )
    first = np.array([True, False, False, True])
    step = find_step(when, first)
    assert str(step) == "hour"
    assert places(when, first, step, "x", str).tolist() == [0, 1, 4, 0]
    with raises("times-uneven", "lies between steps of hour"):
        odd = when.astype("datetime64[m]") + np.array([0, 0, 20, 0])
        places(odd, first, step, "x", str)


@pytest.mark.parametrize("period", [7, 24, 52])
def test_what_repeats_is_found_beside_noise_trend_and_gaps(period):
    rng = np.random.default_rng(period)
    wave = np.sin(2 * np.pi * np.arange(600) / period) + 0.005 * np.arange(600)
    values = wave + rng.normal(0, 0.05, 600)
    values[rng.random(600) < 0.05] = np.nan
    assert abs(repeating(values) - period) <= period // 50
