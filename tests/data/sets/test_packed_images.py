"""Sets that come as one npz file: the parts are those that the catalogue tells of."""

import io

import numpy as np
from mistakes import raises
from PIL import Image

import dl
from dl.data.splits import Info, Splits

DRAW = np.random.default_rng(0)


def saved(folder, name, **arrays):
    folder.mkdir()
    np.savez(folder / name, **arrays)


def test_faces_are_cut_by_shot(tmp_path):
    images = DRAW.integers(0, 256, (40, 6, 4), np.uint8)
    person, shot = np.repeat(np.arange(4), 10), np.tile(np.arange(10), 4)
    saved(tmp_path / "orl_faces", "orl_faces.npz", images=images, person=person, shot=shot)
    splits = dl.data.load("orl_faces", tmp_path)
    for part, shots in (
        (splits.train, range(4)),
        (splits.validation, [4]),
        (splits.test, range(5, 10)),
    ):
        rows = np.isin(shot, [*shots])
        np.testing.assert_array_equal(part["image"][..., 0], images[rows])
        np.testing.assert_array_equal(part["label"], person[rows])


def test_xrays_keep_their_parts(tmp_path):
    made = {}
    for part, count in (("train", 6), ("val", 3), ("test", 4)):
        made[f"{part}_images"] = DRAW.integers(0, 256, (count, 5, 5), np.uint8)
        made[f"{part}_labels"] = (np.arange(count) % 2).astype(np.uint8)
    saved(tmp_path / "pneumoniamnist", "pneumoniamnist.npz", **made)
    splits = dl.data.load("pneumoniamnist", tmp_path)
    np.testing.assert_array_equal(splits.validation["image"][..., 0], made["val_images"])
    np.testing.assert_array_equal(splits.test["label"], [0, 1, 0, 1])
    del made["val_labels"]
    np.savez(tmp_path / "pneumoniamnist" / "pneumoniamnist.npz", **made)
    with raises("file-damaged", "pneumoniamnist.npz"):
        dl.data.load("pneumoniamnist", tmp_path)


def test_land_is_cut_by_odd_and_even_numbers(tmp_path, monkeypatch):
    monkeypatch.setenv("DL_CACHE", str(tmp_path / "cache"))
    files = []
    for value in range(80):
        buffer = io.BytesIO()
        Image.fromarray(np.full((8, 8, 3), value * 3, np.uint8)).save(buffer, "JPEG")
        files.append(buffer.getvalue())
    number = np.tile(np.arange(1, 41), 2)
    saved(
        tmp_path / "rsscn7", "rsscn7_64.npz",
        jpeg=np.frombuffer(b"".join(files), np.uint8),
        offsets=np.cumsum([0, *map(len, files)]),
        label=np.repeat([0, 1], 40), number=number,
    )  # fmt: skip
    splits = dl.data.load("rsscn7", tmp_path)
    assert {name: len(part["label"]) for name, part in splits.parts.items()} == {
        **{"train": 36, "validation": 4, "test": 40},
    }
    shown = np.round(splits.test["image"].mean((1, 2, 3)) / 3).astype(int)
    assert (number[shown] % 2 == 0).all()
    np.testing.assert_array_equal(splits.test["label"], shown // 40)


def test_parts_by_class_share_none():
    label = np.repeat(np.arange(20), 3)
    rows = {"image": np.arange(60.0), "label": label}
    some = {name: x[::2] for name, x in rows.items()}, {name: x[1::2] for name, x in rows.items()}
    info = Info("a", "a", "", "", "", "", tuple(map(str, range(20))))
    splits = Splits(some[0], some[1], {}, info).by_class()
    seen = [set(part["label"].tolist()) for part in splits.parts.values()]
    assert seen == [{*range(14)}, {14, 15}, {16, 17, 18, 19}]
    together = np.concatenate([part["image"] for part in splits.parts.values()])
    assert sorted(together) == list(range(60))
    with raises("class-too-few", "20"):
        Splits(*some, {}, Info("a", "a", "", "", "", "", ("a", "b"))).by_class()
