"""Ratings of one's own: who rated what is coded, and the last of each user is held out."""

import numpy as np
import pandas as pd
import pytest
from mistakes import raises

import dl
from dl.baselines.popularity import bias_scores
from dl.data.batches.resident import digest_arrays


def shown(splits):
    return {line.name: f"{line.taken_for} {line.more}" for line in splits.info.details["lines"]}


@pytest.fixture
def rated(tmp_path):
    """Ten users who rate five items each, in turn."""
    rows = [(u, (u + n) % 7, 1 + (u * n) % 5, 1000 * n + u) for n in range(5) for u in range(1, 11)]
    return pd.DataFrame(rows, columns=["userId", "movieId", "rating", "timestamp"])


@pytest.mark.parametrize("form", ["csv", "data", "dat", "parquet", "frame"])
def test_files_of_any_form_are_one(tmp_path, rated, form):
    source = tmp_path / f"ratings.{form}"
    if form == "csv":
        rated.to_csv(source, index=False)
    elif form == "parquet":
        rated.to_parquet(source)
    elif form == "frame":
        source = rated
    else:
        mark = "\t" if form == "data" else "::"
        source.write_text(
            "\n".join(mark.join(map(str, row)) for row in rated.itertuples(index=False))
        )
    splits = dl.data.open(source, "ratings")
    assert [len(part["user"]) for part in splits.parts.values()] == [30, 10, 10]
    details = splits.info.details
    assert details["users"] == tuple(map(str, range(1, 11)))  # 10 after 9
    assert details["items"] == tuple(map(str, range(7)))
    assert splits.test["user"].dtype == splits.test["item"].dtype == np.int32
    assert splits.test["value"].dtype == np.float32
    assert splits.test["time"].min() > splits.validation["time"].max() > splits.train["time"].max()
    row = int(np.flatnonzero(splits.test["user"] == 3)[0])  # the user called 4
    assert (splits.test["item"][row], splits.test["value"][row]) == ((4 + 4) % 7, 1 + 16 % 5)
    assert "10" in shown(splits)["users"]
    assert "leave-one-out" in shown(splits)["parts"]


def test_other_ways_to_cut(rated):
    by_time = dl.data.open(rated, "ratings", in_order=True)
    assert [len(part["user"]) for part in by_time.parts.values()] == [40, 5, 5]
    assert by_time.test["time"].min() >= by_time.train["time"].max()
    at_random = dl.data.open(rated, "ratings", leave_one_out=False, hold_out=(0.2, 0.2))
    assert [len(part["user"]) for part in at_random.parts.values()] == [30, 10, 10]
    users = dl.data.open(rated, "ratings", group="userId")
    assert not set(users.train["user"]) & set(users.test["user"])
    said = rated.assign(part=["train"] * 40 + ["val"] * 5 + ["test"] * 5)
    assert len(dl.data.open(said, "ratings").test["user"]) == 5


def test_without_times_or_values_and_with_holes(rated):
    splits = dl.data.open(rated[["userId", "movieId"]], "ratings")
    assert set(splits.train["value"]) == {1.0}
    assert "time" not in splits.train
    assert "drawn by seed" in shown(splits)["parts"]
    holes = rated.assign(rating=[np.nan, *rated["rating"][1:]])
    assert "1 row" in shown(dl.data.open(holes, "ratings"))["skipped"]
    twice = pd.concat([rated, rated[:3]])
    assert "3 rows" in shown(dl.data.open(twice, "ratings"))["repeated"]


def test_the_only_column_left_is_of_the_items(rated):
    splits = dl.data.open(rated.rename(columns={"movieId": "what"}), "ratings")
    assert "item proposed: --item names another" in shown(splits)["column what"]
    assert len(splits.info.details["items"]) == 7


def test_mistakes_are_named(rated):
    with raises("column-unnamed", "users", "--user", "who"):
        dl.data.open(rated.rename(columns={"userId": "who", "movieId": "what"}), "ratings")
    with raises("column-unknown", "--item", "did you mean 'movieId'"):
        dl.data.open(rated, "ratings", item="movieid")
    with raises("cell-unreadable", "'rating'", "good"):
        dl.data.open(rated.assign(rating="good"), "ratings")
    with raises("times-not-dates", "--time"):
        dl.data.open(rated.assign(timestamp="soon"), "ratings")


@pytest.mark.data
def test_movielens_is_as_others_found(data_dir):
    path = data_dir / "movielens_100k" / "u.data.gz"
    splits = dl.data.open(path, "ratings", leave_one_out=False)
    assert sum(len(part["user"]) for part in splits.parts.values()) == 100_000
    assert (len(splits.info.details["users"]), len(splits.info.details["items"])) == (943, 1682)
    # Biases alone reach 0.94 on random tenths (Koren 2008 and later).
    assert bias_scores(splits)["validation/rmse"] == pytest.approx(0.945, abs=0.02)


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_cells_on_disk_are_read_as_those_in_memory(tmp_path, rated, form, monkeypatch):
    monkeypatch.setattr("dl.data.readers.on_disk._BLOCK", 300)
    source = tmp_path / f"a.{form}"
    rated.to_csv(source, index=False) if form == "csv" else rated.to_parquet(source)
    whole, disk = (dl.data.open(source, "ratings", stream=stream) for stream in (False, True))
    assert "cells on disk" in shown(disk)["memory"]
    assert whole.info.details["users"] == disk.info.details["users"]
    for name, columns in whole.parts.items():
        assert digest_arrays(disk.parts[name]) == digest_arrays(columns)
