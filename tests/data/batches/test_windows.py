"""Windows are the slices they claim to be, and none is lost."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mistakes import raises

import dl.data
from dl.data.batches.windows import (
    Slice,
    eval_windows,
    forecasting,
    panel_forecasting,
    train_windows,
    unit_windows,
)
from dl.data.sets.series import pad_series
from dl.data.splits import Info, Splits

INFO = Info("x", "x", "x", "x", "x", "x")
FIELDS = (Slice("past", "v", 0, 3), Slice("next", "v", 3, 2))


def test_an_epoch_has_every_window_once():
    windows = train_windows({"v": np.arange(14)}, FIELDS, 5, seed=1)
    assert windows.size == 10
    batches = [windows[step] for step in range(2)]
    starts = np.sort(np.concatenate([b["past"][:, 0] for b in batches]))
    np.testing.assert_array_equal(starts, np.arange(10))
    for batch in batches:
        whole = np.concatenate([batch["past"], batch["next"]], 1)
        np.testing.assert_array_equal(np.diff(whole), 1)


def test_windows_work_inside_a_compiled_step():
    windows = jax.device_put(train_windows({"v": np.arange(14.0)}, FIELDS, 4, seed=2))
    jitted = jax.jit(lambda w, step: w[step]["past"])
    for step in (0, 7):
        np.testing.assert_array_equal(jitted(windows, step), windows[step]["past"])


def test_starts_and_labels_go_together():
    starts = np.array([9, 0, 4])
    windows = eval_windows({"v": np.arange(14)}, FIELDS, 2, starts=starts, labels={"y": -starts})
    assert len(windows) == 2
    last = windows[1]
    np.testing.assert_array_equal(last["mask"], [1, 0])
    np.testing.assert_array_equal(last["past"][:, 0], -last["y"])
    assert windows.digest() != eval_windows({"v": np.arange(14)}, FIELDS, 2).digest()


@pytest.mark.parametrize("starts", [[10], [-1]])
def test_a_window_beyond_its_sequence_is_an_error(starts):
    with raises("window-beyond"):
        eval_windows({"v": np.arange(14)}, FIELDS, 2, starts=starts)


def test_a_sequence_that_is_too_short_is_an_error():
    with raises("no-window", "1 too short"):
        train_windows({"v": np.arange(4)}, FIELDS, 1)


def test_forecasts_lie_in_their_part_and_look_back_before_it():
    values = np.arange(60.0)[:, None]
    parts = [{"values": part} for part in np.split(values, [30, 45])]
    train, held, test = forecasting(Splits(*parts, INFO), 6, 4, batch_size=3, eval_batch_size=5)  # type: ignore[call-arg]
    assert (train.size, held.size, test.size) == (21, 12, 12)
    futures = {"train": (6, 29), "held": (30, 44), "test": (45, 59)}
    for name, windows in (("train", train), ("held", held), ("test", test)):
        count = 7 if name == "train" else len(windows)
        batches = [windows[i] for i in range(count)]
        future = np.concatenate([b["future"] for b in batches])
        assert (future.min(), future.max()) == futures[name]
        assert all((b["past"][:, -1] + 1 == b["future"][:, 0]).all() for b in batches)


@pytest.mark.data
def test_etth1_windows_number_as_published(data_dir):
    splits = dl.data.load("ett", data_dir)
    sizes = [w.size for w in forecasting(splits, 336, 96, batch_size=32)]
    assert sizes == [8640 - 336 - 96 + 1, 2785, 2785]


def test_panel_windows_stay_inside_their_series():
    series = [np.arange(100.0, 112.0), np.arange(200.0, 209.0)]
    held = {"values": np.array([[112.0, 113.0], [209.0, 210.0]])}
    test = {"values": np.array([[114.0, 115.0], [211.0, 212.0]])}
    splits = Splits(pad_series(series), held, test, INFO)
    train, held_windows, test_windows = panel_forecasting(splits, 5, 2, batch_size=3)
    assert train.size == (12 - 6) + (9 - 6)
    for step in range(3):
        batch = train[step]
        whole = np.concatenate([batch["past"], batch["future"]], 1)
        np.testing.assert_array_equal(np.diff(whole), 1)
        np.testing.assert_array_equal(whole[:, 0] // 100 - 1, batch["series"])
    for windows, first in ((held_windows, [112, 209]), (test_windows, [114, 211])):
        np.testing.assert_array_equal(windows[0]["future"][:, 0], first)
        np.testing.assert_array_equal(windows[0]["past"][:, -1] + 1, first)
    with raises("no-window", "has 9"):
        panel_forecasting(splits, 8, 2, batch_size=1)


def _engines():
    unit = np.repeat([1, 2], [5, 2])
    return {
        "unit": unit,
        "sensors": np.arange(7.0)[:, None] + 10 * unit[:, None],
        "rul": np.array([4.0, 3, 2, 1, 0, 1, 0]),
    }


def test_unit_windows_end_at_their_label():
    batch = eval_windows(**unit_windows(_engines(), 3, cap=1.5), batch_size=9)[0]
    np.testing.assert_array_equal(
        batch["window"][..., 0], [[10, 11, 12], [11, 12, 13], [12, 13, 14], [25, 25, 26]]
    )
    np.testing.assert_array_equal(batch["rul"], [1.5, 1, 0, 0])
    np.testing.assert_array_equal(batch["unit"], [1, 1, 1, 2])


def test_only_last_windows_for_the_test():
    batch = eval_windows(**unit_windows(_engines(), 3, last_only=True), batch_size=2)[0]
    assert batch["rul"].tolist() == [0, 0]
    assert batch["window"][:, 2, 0].tolist() == [14, 26]


def test_windows_may_ride_through_transformations():
    windows = train_windows({"v": jnp.arange(14)}, FIELDS, 5, seed=jnp.uint32(3))
    leaves, tree = jax.tree.flatten(windows)
    np.testing.assert_array_equal(jax.tree.unflatten(tree, leaves)[1]["past"], windows[1]["past"])


def _cut(values, *ends, **columns):
    """Splits of one series at two places."""
    named = {"values": values, **columns}
    parts = [dict(zip(named, part, strict=True)) for part in zip(
        *(np.split(column, ends) for column in named.values()), strict=True)]  # fmt: skip
    return Splits(*parts, INFO)  # type: ignore[call-arg]


def _all(windows, name):
    batches = [windows[index] for index in range(len(windows))]
    return np.concatenate([np.asarray(b[name])[np.asarray(b["mask"]) > 0] for b in batches])


@settings(max_examples=20, deadline=None)
@given(st.sampled_from([0.0, 1.0, 1e4, 1e6, 1e8, -1.7e9, 1e12]), st.integers(0, 2**31))
def test_windows_keep_the_digits_of_a_series_at_any_level(level, seed):
    """With ``level`` added again they are the series to float32's rounding of its movement."""
    shape = np.random.default_rng(seed).normal(size=(40, 2))
    shape[:, 1] += 3  # a second variable, at a low level
    values = shape + np.array([level, 0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        train, held, test = forecasting(_cut(values, 24, 32), 6, 3, batch_size=4)
    slack = 4e-6 + np.spacing(abs(level))
    for windows, first in ((train.ordered(5), 0), (held, 18), (test, 26)):
        for name, offset in (("past", 0), ("future", 6)):
            found = _all(windows, name)
            assert found.dtype == np.float32
            for row, window in enumerate(found + windows.level):
                begin = first + row + offset
                expected = values[begin : begin + len(window)]
                np.testing.assert_allclose(window, expected, rtol=0, atol=slack)
            covered = values[first + offset : first + offset + len(found) + found.shape[1] - 1]
            assert len(np.unique(found[..., 0])) == len(np.unique(covered[:, 0]))


def test_a_high_level_is_taken_off_by_the_training_mean_and_said():
    values = 1e8 + np.sin(np.arange(200) / 5)[:, None]
    with pytest.warns(UserWarning, match="1 of 1 variables vary too little"):
        train, _, test = forecasting(_cut(values, 120, 160), 16, 8, batch_size=97)
    assert train.level.shape == (1, 1, 1)
    assert train.level.item() == pytest.approx(values[:120].mean(), abs=1e-7)
    batch = train[0]["past"]
    assert len(np.unique(np.asarray(batch).round(5))) == len(np.unique(values[:112].round(5)))
    with pytest.warns(UserWarning, match="vary too little"):
        higher, *_ = forecasting(_cut(values + 1, 120, 160), 16, 8, batch_size=97)
    np.testing.assert_allclose(higher[0]["past"], batch, atol=1e-6)
    assert higher.digest() != train.digest()
    assert jax.jit(lambda w: w[0]["past"])(train).dtype == jnp.float32
    assert train.ordered(7).level == test.level


def test_series_that_float32_holds_stay_in_their_units():
    for values in (np.arange(60.0), 16_000_000.0 + np.arange(60), np.full(60, 123_456_789.0)):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            train, *_ = forecasting(_cut(values[:, None], 30, 45), 6, 4, batch_size=21)
        assert train.level == 0
        np.testing.assert_allclose(train.ordered(21)[0]["past"][0, :, 0], values[:6], rtol=1e-7)


def test_each_series_of_a_panel_has_its_own_level():
    rng = np.random.default_rng(0)
    whole = [1e9 + rng.normal(size=16), rng.normal(size=13), -1e7 + 0.1 * rng.normal(size=12)]
    splits = Splits(
        pad_series([series[:-4] for series in whole]),
        {"values": np.stack([series[-4:-2] for series in whole])},
        {"values": np.stack([series[-2:] for series in whole])},
        INFO,
    )
    with pytest.warns(UserWarning, match="2 of 3 series"):
        train, held, test = panel_forecasting(splits, 4, 2, batch_size=3)
    assert train.level.shape == (train.size, 1)
    for windows, end in ((held, -2), (test, None)):
        assert windows.level.shape == (3, 1)
        for name, begin in (("past", -6), ("future", -2)):
            found = np.asarray(windows[0][name]) + windows.level
            stop = begin + (4 if name == "past" else 2)
            for row, series in enumerate(whole):
                known = series[:end]
                expected = known[begin : stop or None]
                np.testing.assert_allclose(found[row], expected, atol=2e-6)
    assert np.std(_all(train.ordered(50), "past")) < 2


def test_a_constant_training_part_does_not_hide_a_later_change():
    values = np.r_[np.full(30, 1e8), 1e8 + np.sin(np.arange(30.0))][:, None]
    with pytest.warns(UserWarning, match="vary too little"):
        _, _, test = forecasting(_cut(values, 30, 45), 6, 4, batch_size=3)
    assert len(np.unique(_all(test, "future"))) == 15


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({3: np.nan}, ("value-missing", "1 values of the train part", "row 3 of variable 0")),
        ({35: np.nan, 36: np.inf}, ("value-missing", "2 values of the validation part", "row 5 of variable 0")),
        ({50: np.inf}, ("value-missing", "1 values of the test part")),
        ({50: 1e39}, ("number-too-large", "float32")),
    ],
)  # fmt: skip
def test_no_missing_value_reaches_a_network(change, says):
    values = np.arange(60.0)[:, None]
    for row, value in change.items():
        values[row] = value
    with raises(*says):
        forecasting(_cut(values, 30, 45), 6, 4, batch_size=3)


def test_windows_never_run_across_a_gap_in_time():
    values, hours = np.arange(60.0)[:, None], np.arange(60).astype("datetime64[h]")
    forecasting(_cut(values, 30, 45, time=hours), 6, 4, batch_size=3)
    for wrong, says in (
        (
            np.r_[hours[:30], hours[30:] + np.timedelta64(1, "h")],
            ("times-uneven", "row 30:", "by 2 hours"),
        ),
        (hours[::-1], ("times-out-of-order", "row 1:")),
        (np.r_[hours[:1], hours[:-1]], ("times-repeat", "row 1:")),
    ):
        with raises(*says):
            forecasting(_cut(values, 30, 45, time=wrong), 6, 4, batch_size=3)


def test_parts_that_do_not_fit_each_other_are_named():
    series = np.arange(60.0)[:, None]
    whole = _cut(series, 30, 45)
    train, held, test = forecasting(Splits(whole.train, {}, whole.test, INFO), 6, 4, batch_size=3)
    assert held is None
    assert (train.size, test.size) == (21, 12)
    with raises("part-empty", "test part"):
        forecasting(Splits(whole.train, whole.test, {}, INFO), 6, 4, batch_size=3)
    other = {"values": np.zeros((20, 2))}
    with raises("variables-differ"):
        forecasting(Splits(whole.train, whole.test, other, INFO), 6, 4, batch_size=3)
    with raises("range", "horizon 0"):
        forecasting(whole, 6, 0, batch_size=3)
    panel = pad_series([np.arange(12.0), np.arange(9.0)])
    for future, says in (
        (np.zeros((3, 2)), ("panel-series-differ",)),
        (np.array([[1, np.nan], [1, 2]]), ("value-missing", "1 values of series 0")),
        (np.array([[1, 2], [np.inf, 2]]), ("value-missing", "1 values of series 1")),
    ):
        with raises(*says):
            panel_forecasting(Splits(panel, {}, {"values": future}, INFO), 5, 2, batch_size=1)


def test_windows_of_other_arrays_refuse_what_float32_would_merge():
    high = 1e8 + np.sin(np.arange(14.0))
    with raises("digits-lost", "'v'"):
        train_windows({"v": high}, FIELDS, 5)
    with raises("number-too-large", "int32"):
        train_windows({"v": np.arange(14) + 2**40}, FIELDS, 5)
    engines = _engines()
    with raises("digits-lost", "'sensors'"):
        unit_windows({**engines, "sensors": high[:7, None]}, 3)
    with raises("value-missing", "the sensors"):
        unit_windows({**engines, "sensors": np.full((7, 1), np.nan)}, 3)
