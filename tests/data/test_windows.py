"""Windows are the slices they claim to be, and none is lost."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dl.data
from dl.core.errors import UserError
from dl.data.series import pad_series
from dl.data.splits import Info, Splits
from dl.data.windows import (
    Field,
    eval_windows,
    forecasting,
    panel_forecasting,
    train_windows,
    unit_windows,
)

INFO = Info("x", "x", "x", "x", "x", "x")
FIELDS = (Field("past", "v", 0, 3), Field("next", "v", 3, 2))


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
    with pytest.raises(UserError, match="beyond the sequence"):
        eval_windows({"v": np.arange(14)}, FIELDS, 2, starts=starts)


def test_a_sequence_that_is_too_short_is_an_error():
    with pytest.raises(UserError, match="the sequence is 1 too short"):
        train_windows({"v": np.arange(4)}, FIELDS, 1)


def test_forecasts_lie_in_their_part_and_look_back_before_it():
    values = np.arange(60.0)[:, None]
    parts = [{"values": part} for part in np.split(values, [30, 45])]
    train, held, test = forecasting(Splits(*parts, INFO), 6, 4, batch_size=3, eval_batch_size=5)
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
    with pytest.raises(UserError, match="shortest series has 9"):
        panel_forecasting(splits, 8, 2, batch_size=1)


def _engines():
    unit = np.repeat([1, 2], [5, 2])
    return {
        "unit": unit,
        "sensors": np.arange(7.0)[:, None] + 10 * unit[:, None],
        "rul": np.array([4.0, 3, 2, 1, 0, 1, 0]),
    }


def test_unit_windows_end_at_their_label():
    arrays, starts, labels = unit_windows(_engines(), 3, cap=1.5)
    windows = eval_windows(arrays, (Field("w", "sensors", 0, 3),), 9, starts=starts, labels=labels)
    batch = windows[0]
    np.testing.assert_array_equal(
        batch["w"][..., 0], [[10, 11, 12], [11, 12, 13], [12, 13, 14], [25, 25, 26]]
    )
    np.testing.assert_array_equal(batch["rul"], [1.5, 1, 0, 0])
    np.testing.assert_array_equal(batch["unit"], [1, 1, 1, 2])


def test_only_last_windows_for_the_test():
    arrays, starts, labels = unit_windows(_engines(), 3, last_only=True)
    assert labels["rul"].tolist() == [0, 0]
    assert arrays["sensors"][starts + 2, 0].tolist() == [14, 26]


def test_windows_may_ride_through_transformations():
    windows = train_windows({"v": jnp.arange(14)}, FIELDS, 5, seed=jnp.uint32(3))
    leaves, tree = jax.tree.flatten(windows)
    np.testing.assert_array_equal(jax.tree.unflatten(tree, leaves)[1]["past"], windows[1]["past"])
