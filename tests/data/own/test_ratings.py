"""Ratings of one's own: who rated what is coded, and the last of each user is held out."""

import dataclasses
import gzip

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


def test_a_fold_takes_some_of_each_users_ratings(rated):
    parts = [dl.data.open(rated, "ratings", fold=fold) for fold in range(5)]
    held = np.concatenate([part.test["user"] * 100 + part.test["item"] for part in parts])
    assert len(held) == len(np.unique(held)) == 50
    assert [part.info.sizes["validation"] for part in parts] == [4] * 5
    assert set(np.bincount(parts[0].test["user"])) == {1}
    with raises("range", "--fold", "0 to 4"):
        dl.data.open(rated, "ratings", fold=5)
    with raises("options-exclusive", "--fold", "--in-order"):
        dl.data.open(rated, "ratings", fold=0, in_order=True)


@pytest.mark.data
def test_movielens_by_name_holds_the_last_ones_or_an_official_fold_out(data_dir, monkeypatch):
    monkeypatch.setenv("DL_DATA_DIR", str(data_dir))
    last = dl.data.open("movielens_100k", "ratings")
    for part, other in (("test", last.before("test")), ("validation", last.train)):
        held = last.parts[part]
        order = np.argsort(held["user"])
        newest = np.zeros(943)
        np.maximum.at(newest, other["user"], other["time"])
        assert (held["user"][order] == np.arange(943)).all()
        assert (held["time"][order] >= newest).all()
    assert last.info.details["titles"][49] == "Star Wars (1977)"
    folds = [dl.data.open("movielens_100k", "ratings", fold=fold) for fold in range(5)]
    assert [fold.info.sizes["test"] for fold in folds] == [20_000] * 5
    assert folds[0].test["user"].max() == 461  # u1.test ends with user 462
    whole = [dataclasses.replace(fold, train=fold.before("test"), validation={}) for fold in folds]
    rmse = np.mean([bias_scores(fold)["test/rmse"] for fold in whole])
    assert rmse == pytest.approx(0.942, abs=5e-4)  # what means of users and items are known to have
    with raises("range", "--fold", "0 to 4"):
        dl.data.open("movielens_100k", "ratings", fold=7)
    with raises("option-misplaced", "--user", "movielens_100k"):
        dl.data.open("movielens_100k", "ratings", user="u")


@pytest.mark.data
def test_the_official_files_give_the_folds_too(data_dir, tmp_path, monkeypatch):
    place = tmp_path / "movielens_100k"
    place.mkdir()
    for name in ("u.data.gz", "u.item.gz"):
        (place / name).symlink_to(data_dir / "movielens_100k" / name)
    cells = gzip.decompress((place / "u.data.gz").read_bytes()).decode().splitlines()
    with np.load(data_dir / "movielens_100k" / "splits.npz") as arrays:
        of_row = arrays["u_test_fold"]
    for fold in range(1, 6):
        rows = sorted(cells[row] for row in np.flatnonzero(of_row == fold))
        (place / f"u{fold}.test").write_text("\n".join(rows))
    found = []
    for folder in (data_dir, tmp_path):
        monkeypatch.setenv("DL_DATA_DIR", str(folder))
        found.append(dl.data.open("movielens_100k", "ratings", fold=3))
    assert digest_arrays(found[0].test) == digest_arrays(found[1].test)


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


def test_a_column_has_one_use(tmp_path):
    path = tmp_path / "r.csv"
    path.write_text("user,item,rating\n" + "".join(f"{n},{n % 3},1\n" for n in range(9)))
    with raises("column-twice", "--user and --item both name item"):
        dl.data.open(path, "ratings", user="item")
