"""Metrics are exact under any split of the data, and NaN where there is nothing to average."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mistakes import raises

from dl.core.metrics import Mean, MeanOfMeans, best_class, compute, hits, mean, merge


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(-1000, 1000), min_size=2, max_size=20), st.data())
def test_a_split_changes_nothing(values, data):
    cut = data.draw(st.integers(1, len(values) - 1))
    values = np.array(values, np.float32)  # integers, so that float sums are exact
    whole = compute({"m": mean(values)})["m"]
    parts = merge({"m": mean(values[:cut])}, {"m": mean(values[cut:])})
    assert compute(parts)["m"] == whole


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(-99, 99), st.sampled_from([0, 0, 1, 3])), max_size=12))
def test_a_weighted_mean_is_numpys_in_float64_and_nan_of_nothing(pairs):
    values = np.array([value for value, _ in pairs], np.float64)
    weights = np.array([weight for _, weight in pairs], np.float64)
    expected = np.average(values, weights=weights) if weights.sum() else np.nan
    lost = np.where(weights == 0, np.nan, values)  # what is not counted may be anything
    cut = len(pairs) // 2
    parts = [mean(lost[part], weights[part]) for part in (slice(cut), slice(cut, None))]
    found = compute(merge({"m": parts[0]}, {"m": parts[1]}))["m"]
    assert found == pytest.approx(expected, nan_ok=True)


def test_a_mean_of_nothing_is_nan_whatever_its_shape():
    assert np.isnan(compute({"m": mean(np.ones(3), np.zeros(3))})["m"])
    assert np.isnan(compute({"m": mean(np.zeros(0))})["m"])
    assert np.isnan(compute({"m": Mean(np.ones(2), np.zeros(()))})["m"]).all()
    found = compute({"m": Mean(np.array([3.0, 0.0]), np.array([2.0, 0.0]))})["m"]
    np.testing.assert_array_equal(found, [1.5, np.nan])


def test_a_mean_of_means_leaves_out_what_was_never_there():
    parts = [MeanOfMeans(np.array([3.0, 0, 0]), np.array([2.0, 0, 1])) for _ in range(2)]
    assert compute({"m": merge(*({"m": part} for part in parts))["m"]}) == {"m": (1.5 + 0) / 2}
    assert np.isnan(compute({"m": MeanOfMeans(np.zeros(2), np.zeros(2))})["m"])


def test_padding_counts_nothing_even_if_it_is_nan():
    values = np.array([1.0, 3.0, np.nan])
    assert compute({"m": mean(values, np.array([1.0, 1.0, 0.0]))}) == {"m": 2.0}


@pytest.mark.parametrize("weights", [np.array([1.0, 0.0]), np.zeros(2)])
def test_what_is_not_counted_has_no_gradient_even_if_it_is_nan(weights):
    slope = jax.grad(lambda values: mean(values, weights).total)(jnp.array([2.0, jnp.nan]))
    np.testing.assert_array_equal(slope, weights)


def test_weights_spread_over_trailing_axes():
    values = np.array([[1.0, 3.0], [100.0, 100.0]])
    assert compute({"m": mean(values, np.array([1.0, 0.0]))}) == {"m": 2.0}
    assert compute({"m": mean(values, np.array([[1.0], [0.0]]))}) == {"m": 2.0}


@pytest.mark.parametrize("shape", [(1,), (3,), (2, 3), (2, 2, 1)])
def test_weights_of_other_rows_are_refused(shape):
    with raises("mean-weights"):
        mean(np.ones((2, 2)), np.ones(shape))


@settings(max_examples=30, deadline=None)
@given(st.sampled_from([1, 4]), st.integers(0, 2**32 - 1))
def test_the_best_class_is_numpys_argmax_with_ties_and_none_where_a_score_is_nan(classes, seed):
    rng = np.random.default_rng(seed)
    scores = rng.integers(-1, 2, (20, classes)).astype(np.float32)
    label = rng.integers(-1, classes, 20)
    lost = rng.random(20) < 0.2
    scores[lost, rng.integers(classes)] = np.nan
    expected = np.where(lost, classes, scores.argmax(-1))
    np.testing.assert_array_equal(best_class(scores), expected)
    for kind in (np.int8, np.int64, np.float32):
        found = hits(jnp.asarray(scores), jnp.asarray(label.astype(kind)))
        np.testing.assert_array_equal(found, label == expected)
