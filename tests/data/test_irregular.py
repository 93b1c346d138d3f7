"""Irregular series: what is known of an hour hangs on no later one, and nothing after the last is looked at."""

import numpy as np
import pytest
from mistakes import raises

import dl
from dl.data.irregular import SUMMARIES, filled, hourly, summaries, table
from dl.data.splits import Info, Splits

NAN = float("nan")
INFO = Info("made", "made", "", "", "classification", "", ("a", "b"))


def grid(seed=0, rows=6):
    draw = np.random.default_rng(seed)
    values = draw.normal(size=(rows, 8, 3)).astype(np.float32)
    values[draw.random(values.shape) < 0.6] = NAN
    static = draw.normal(size=(rows, 2)).astype(np.float32)
    static[0, 0] = NAN
    return {"values": values, "static": static, "label": np.arange(rows) % 2}


def test_the_last_value_of_an_hour_counts_and_none_after_the_last_hour():
    row, hour = np.array([0, 0, 0, 1, 1]), np.array([0.5, 0.2, 3.0, 3.01, -1.0])
    found = hourly(row, hour, np.zeros(5, int), np.arange(5.0), (2, 3, 1))
    np.testing.assert_array_equal(found[0, :, 0], [0, NAN, 2])  # 3.0 is the very end
    assert np.isnan(found[1]).all()


def test_masks_and_gaps_are_those_of_the_paper():
    values = np.array([[[1.0], [NAN], [NAN], [3.0], [NAN]]], np.float32)
    columns = {"values": values, "static": np.ones((1, 1), np.float32), "label": np.zeros(1, int)}
    found = filled(Splits(columns, {}, {}, INFO)).train
    np.testing.assert_array_equal(found["seen"][0, :, 0], [1, 0, 0, 1, 0])
    np.testing.assert_array_equal(found["gap"][0, :, 0], [0, 1, 2, 3, 1])
    np.testing.assert_allclose(found["values"][0, :, 0], [-1, 0, 0, 1, 0], atol=0.01)
    np.testing.assert_allclose(found["last"][0, :, 0], [0, -1, -1, -1, 1], atol=0.01)


def test_what_is_to_come_changes_nothing_of_what_is_known_before():
    train, test = grid(), grid(1)
    later = {**test, "values": test["values"].copy()}
    later["values"][:, 5:] = 100.0
    one, other = (filled(Splits(train, {}, part, INFO)).test for part in (test, later))
    for name in ("values", "seen"):
        np.testing.assert_array_equal(one[name][:, :5], other[name][:, :5])
    for name in ("last", "gap"):  # of the sixth hour too
        np.testing.assert_array_equal(one[name][:, :6], other[name][:, :6])


def test_summaries_are_those_of_what_is_seen():
    columns = grid()
    found = summaries(columns).reshape(6, len(SUMMARIES), 3)
    for row, variable in ((0, 0), (3, 2), (5, 1)):
        seen = columns["values"][row, :, variable]
        seen = seen[~np.isnan(seen)]
        told = [
            seen[0],
            seen[-1],
            seen.min(),
            seen.max(),
            seen.mean(),
            seen.std(),
            np.log1p(len(seen)),
        ]
        np.testing.assert_allclose(found[row, :, variable], told, rtol=1e-5)
    never = {**columns, "values": np.full_like(columns["values"], NAN)}
    assert np.isnan(summaries(never)[:, :-3]).all()
    assert table(Splits(columns, {}, {}, INFO)).train["numerical"].shape == (6, 23)


def write(folder, more=""):
    events = [
        f"{stay},{hour},{name},{stay + hour}"
        for stay in range(20)
        for hour in (1, 30)
        for name in ("hr", "map")
    ]
    (folder / "events.csv").write_text(
        "patient,hour,variable,value\n" + "\n".join(events) + "\n" + more
    )
    stays = [f"{stay},{40 + stay},{'yes' if stay % 3 else 'no'}" for stay in range(20)]
    (folder / "stays.csv").write_text("patient,age,outcome\n" + "\n".join(stays) + "\n")


def test_a_folder_of_ones_own_is_read_and_hours_to_come_are_not(tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    for folder, more in ((one, ""), (other, "3,48.5,hr,999\n99,1,hr,5\n")):
        folder.mkdir()
        write(folder, more)
    splits, later = (dl.data.open(folder, "records") for folder in (one, other))
    assert splits.info.details["variables"] == ("hr", "map")
    assert splits.info.details["static"] == ("age",)
    assert splits.info.classes == ("no", "yes")
    for name, column in splits.train.items():
        np.testing.assert_array_equal(column, later.train[name])
    shown = {line.name: line.taken_for for line in later.info.details["lines"]}
    assert shown["skipped"] == "2 events"
    assert dl.data.open(one).info.details["kind"] == "records"


def test_stays_of_a_group_are_in_one_part_and_parts_are_kept(tmp_path):
    write(tmp_path, "3,-1,hr,5\n3,,hr,5\n3,2,,5\n3,2,hr,\n")
    head, *rows = (tmp_path / "stays.csv").read_text().splitlines()
    ward = [f"{row},w{n % 6},n{n}" for n, row in enumerate(rows)]
    (tmp_path / "stays.csv").write_text("\n".join([f"{head},ward,note", *ward]))
    splits = dl.data.open(tmp_path, "records", group="ward", hold_out=(0.2, 0.2))
    wards = [{int(age - 40) % 6 for age in part["static"][:, 0]} for part in splits.parts.values()]
    assert all(wards)
    assert sum(map(len, wards)) == 6
    shown = {line.name: (line.taken_for, line.more) for line in splits.info.details["lines"]}
    assert shown["skipped"][0] == "4 events"
    assert shown["left out"] == ("1 column", "note")
    said = [f"{row},{('train', 'val', 'test', 'fit')[n % 4]}" for n, row in enumerate(rows)]
    (tmp_path / "stays.csv").write_text("\n".join([f"{head},split", *said]))
    parts = dl.data.open(tmp_path, "records").parts.values()
    which = [{int(age - 40) % 4 for age in part["static"][:, 0]} for part in parts]
    assert which == [{0, 3}, {1}, {2}]


@pytest.mark.parametrize(
    ("broken", "code", "words"),
    [
        ({"stays.csv": "patient,outcome\n1,yes\n2,\n"}, "label-missing", ("outcome",)),
        ({"stays.csv": None}, "file-missing", ("stays.csv",)),
        ({"stays.csv": "patient,outcome\n1,yes\n1,no\n"}, "stays-twice", ("1 stays",)),
        (
            {"events.csv": "patient,when,variable,value\n1,2,hr,3\n"},
            "column-unknown",
            ("hour", "rename"),
        ),
        (
            {"events.csv": "patient,hour,variable,value\n1,soon,hr,3\n1,late,hr,3\n"},
            "cell-unreadable",
            ("hour",),
        ),
    ],
)
def test_what_is_amiss_with_a_folder_is_said(tmp_path, broken, code, words):
    write(tmp_path)
    for name, text in broken.items():
        (tmp_path / name).write_text(text) if text else (tmp_path / name).unlink()
    with raises(code, *words):
        dl.data.open(tmp_path, "records")
