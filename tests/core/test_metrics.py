"""Metrics are exact under any split of the data."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from dl.core.metrics import compute, mean, merge


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(-1000, 1000), min_size=2, max_size=20), st.data())
def test_a_split_changes_nothing(values, data):
    cut = data.draw(st.integers(1, len(values) - 1))
    values = np.array(values, np.float32)  # integers, so that float sums are exact
    whole = compute({"m": mean(values)})["m"]
    parts = merge({"m": mean(values[:cut])}, {"m": mean(values[cut:])})
    assert compute(parts)["m"] == whole


def test_padding_counts_nothing_even_if_it_is_nan():
    values = np.array([1.0, 3.0, np.nan])
    assert compute({"m": mean(values, np.array([1.0, 1.0, 0.0]))}) == {"m": 2.0}


def test_weights_spread_over_trailing_axes():
    values = np.array([[1.0, 3.0], [100.0, 100.0]])
    assert compute({"m": mean(values, np.array([1.0, 0.0]))}) == {"m": 2.0}
