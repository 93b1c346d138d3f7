"""Clips of one's own: a table with a row a moment becomes one row a clip."""

import numpy as np
import pandas as pd
import pytest
from mistakes import raises

import dl
from dl.data.sets.clips import official_split, padded, radar_frames, resampled
from dl.data.splits import Info, Splits


def shown(splits):
    return {line.name: f"{line.taken_for} {line.more}" for line in splits.info.details["lines"]}


@pytest.fixture
def moved():
    """Twenty clips of two kinds, of 5 to 9 frames, their rows shuffled."""
    rows = [
        (f"c{clip}", frame, ("fall", "rise")[clip % 2], (-1) ** (clip + 1) * frame + clip, 7.0, "x")
        for clip in range(20)
        for frame in range(5 + clip % 5)
    ]
    table = pd.DataFrame(rows, columns=["clip", "frame", "action", "x", "y", "note"])
    return table.sample(frac=1, random_state=0)


@pytest.mark.parametrize("form", ["csv", "parquet", "frame"])
def test_a_row_a_moment_is_a_row_a_sequence(tmp_path, moved, form):
    source = tmp_path / f"clips.{form}" if form != "frame" else moved
    if form != "frame":
        (moved.to_csv if form == "csv" else moved.to_parquet)(source, index=False)
    splits = dl.data.open(source, "clips", label="action")
    assert splits.info.classes == ("fall", "rise")
    assert [len(part["label"]) for part in splits.parts.values()] == [16, 2, 2]
    assert "20" in shown(splits)["clips"]
    assert "no numbers" in shown(splits)["note"]
    assert splits.info.details["values"] == ["x", "y"]
    for name, part in splits.parts.items():
        for row, called in enumerate(splits.info.details["row_names"][name]):
            clip, length = int(called[1:]), int(part["length"][row])
            assert length == 5 + clip % 5
            wanted = (-1) ** (clip + 1) * np.arange(length) + clip
            np.testing.assert_array_equal(part["values"][row, :length, 0], wanted)
            assert not part["values"][row, length:].any()
            assert part["label"][row] == clip % 2


def test_gaps_lie_on_a_line_and_are_told(moved):
    moved = moved.sort_values(["clip", "frame"]).reset_index(drop=True)
    inside = np.flatnonzero((moved["clip"] == "c4") & (moved.frame == 3))[0]
    moved.loc[inside, "x"] = np.nan
    splits = dl.data.open(moved, "clips", label="action", hold_out=(0.0, 0.0))
    row = list(splits.info.details["row_names"]["train"]).index("c4")
    np.testing.assert_allclose(splits.train["values"][row, 3, 0], 1.0)  # as it was
    assert "1 missing" in shown(splits)["values"]


def test_mistakes_are_one_line(moved):
    with raises("target-unnamed", "label"):
        dl.data.open(moved, "clips")
    with raises("column-unnamed", "clip"):
        dl.data.open(moved.rename(columns={"clip": "who"}), "clips", label="action")
    with raises("clip-torn", "action"):
        dl.data.open(moved.assign(clip="one"), "clips", label="action")
    with raises("cell-unreadable", "note", "--values"):
        dl.data.open(moved, "clips", label="action", values=("note",))
    with raises("column-unknown", "z"):
        dl.data.open(moved, "clips", label="action", values=("z",))
    with raises("series-no-variables", "numbers"):
        dl.data.open(moved[["clip", "frame", "action", "note"]], "clips", label="action")
    empty = moved.assign(action=moved.action.where(moved["clip"] != "c3"))
    with raises("label-missing", "1 "):
        dl.data.open(empty, "clips", label="action")


def test_groups_stay_whole_and_parts_are_kept(moved):
    who = moved.assign(who="p" + (moved["clip"].str[1:].astype(int) // 4).astype(str))
    splits = dl.data.open(who, "clips", label="action", group="who", hold_out=(0.2, 0.2))
    seen = [
        {int(name[1:]) // 4 for name in names}
        for names in splits.info.details["row_names"].values()
    ]
    assert sum(map(len, seen)) == 5
    part = np.where(moved["clip"].str[1:].astype(int) < 12, "train", "test")
    splits = dl.data.open(moved.assign(part=part), "clips", label="action", split="part")
    assert len(splits.test["label"]) == 8


def test_every_sequence_is_brought_to_as_many_moments():
    rows = np.arange(10, dtype=np.float32)[:, None]
    columns = padded(rows, np.array([0, 4, 10])) | {"label": np.array([0, 1])}
    np.testing.assert_array_equal(columns["length"], [4, 6])
    found = resampled(columns, 7)
    assert found["values"].shape == (2, 7, 1)
    np.testing.assert_allclose(found["values"][0, :, 0], np.linspace(0, 3, 7), rtol=1e-6)
    np.testing.assert_allclose(found["values"][1, :, 0], np.linspace(4, 9, 7), rtol=1e-6)
    assert found.keys() == {"values", "label"}


def test_official_splits_keep_their_test_rows_apart():
    test_in = np.stack([np.arange(40) % 4 == n for n in range(3)], 1).astype(np.uint8)
    rows = {"values": np.arange(40.0)[:, None], "label": np.arange(40) % 2, "test_in": test_in}
    whole = Splits(rows, {}, {}, Info("a", "a", "", "", "", ""))
    for number in (1, 2, 3):
        splits = official_split(whole, number)
        assert set(splits.test["values"][:, 0] % 4) == {number - 1}
        assert [len(part["label"]) for part in splits.parts.values()] == [27, 3, 10]
        together = np.concatenate([part["values"] for part in splits.parts.values()])
        assert len(np.unique(together)) == 40
    with raises("range", "official"):
        official_split(whole, 4)


def test_windows_of_one_session_stay_in_one_part():
    session = np.repeat(np.arange(40), 5)
    rows = {
        "values": np.arange(200.0)[:, None],
        "label": session % 2,
        "test_in": (session >= 30)[:, None].astype(np.uint8),
        "session": session,
    }
    splits = official_split(Splits(rows, {}, {}, Info("a", "a", "", "", "", "")), 1)
    seen = [set((part["values"][:, 0] // 5).astype(int).tolist()) for part in splits.parts.values()]
    assert [len(sessions) for sessions in seen] == [27, 3, 10]
    assert not seen[0] & seen[1]
    assert seen[2] == set(range(30, 40))


def test_a_frame_of_radar_tells_where_points_are_and_how_they_move():
    # Two frames, of three points and of one; a third is empty.
    x, y, z = (
        np.array([100, 200, 300, 50]),
        np.array([-99, 0, 99, 0]),
        np.array([-149, 0, 149, 500]),
    )
    frames = radar_frames(x, y, z, np.array([1, -2, 3, 4]), np.array([0, 3, 4, 4]))
    assert frames.shape == (3, 104)
    where = frames[:, :80].reshape(3, 8, 10)
    assert where.sum((1, 2)).tolist() == [3, 1, 0]
    assert where[0, 0, 0] == where[0, 4, 5] == where[0, 7, 9] == 1
    assert where[1, 4, 9] == 1  # beyond the highest field counts in it
    moved, pace, ahead = (frames[:, 80 + 8 * n : 88 + 8 * n] for n in range(3))
    assert moved[0].tolist() == [1, 0, 0, 0, -2, 0, 0, 3]
    assert pace[0].tolist() == [1, 0, 0, 0, 2, 0, 0, 3]
    assert ahead[0].tolist() == [-2, 0, 0, 0, 0, 0, 0, 2]  # of 200 cm in the mean, in half metres
    assert not frames[2].any()
