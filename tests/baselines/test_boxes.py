"""Boxes said of every picture are worth what pictures have in common."""

import numpy as np
import pytest

from dl.baselines.boxes import usual_boxes
from dl.data.batches.streams import FileRows
from dl.data.splits import Info, Splits


def part(size, seed, spread):
    """Two boxes a picture, of a class each, within ``spread`` pixels of a place; the third place is empty."""
    shift = np.random.default_rng(seed).uniform(-spread, spread, (size, 3, 1))
    boxes = np.array([[10, 10, 30, 30], [60, 50, 90, 90], [0, 0, 0, 0]]) + shift
    label = np.tile(np.array([0, 1, -1], np.int32), (size, 1))
    return {"boxes": boxes.astype(np.float32), "label": label}


def splits(spread, test):
    info = Info("", "", "", "", "", "", classes=("cell", "plate", "none of these"))
    return Splits(part(40, 0, spread), part(10, 1, spread), test, info)


def test_boxes_that_lie_where_they_always_do_are_all_found():
    scores = usual_boxes(splits(1.0, part(10, 2, 1.0)))
    assert scores["validation/map_50"] == scores["test/map_50"] == pytest.approx(1.0)
    assert scores["test/ap_50_plate"] == pytest.approx(1.0)
    assert usual_boxes(splits(60.0, {}))["validation/map_50"] < 0.5


def test_a_part_that_streams_is_not_read():
    def unread(row):
        raise AssertionError("a picture was read")

    held = splits(1.0, FileRows(part(10, 2, 1.0), unread))
    assert usual_boxes(held)["test/map_50"] == pytest.approx(1.0)
