"""Sets of pictures with masks: framed, in their own parts, under one light."""

import io
import tarfile

import numpy as np
from mistakes import raises
from PIL import Image

import dl
from dl.data.sets.masked import framed, good_alone, labelled, levelled
from dl.data.splits import Info, Splits

DRAW = np.random.default_rng(0)


def packed(path, files):
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path, "w:gz") as archive:
        for name, pixels in files.items():
            buffer = io.BytesIO()
            kind = "JPEG" if name.endswith("jpg") else "PNG"
            Image.fromarray(pixels).save(
                buffer, kind, **({"quality": 100} if kind == "JPEG" else {})
            )
            member = tarfile.TarInfo(name)
            member.size = buffer.tell()
            archive.addfile(member, io.BytesIO(buffer.getvalue()))


def test_scenes_keep_the_official_lists_and_void_counts_for_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("DL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("DL_DATA_DIR", str(tmp_path))
    files, masks = {}, {}
    for part, count in (("train", 3), ("val", 2), ("test", 1)):
        for row in range(count):
            grey = np.full((20, 32, 3), 40 * row + 10, np.uint8)
            masks[part, row] = DRAW.integers(0, 12, (20, 32), np.uint8)
            files[f"CamVid/{part}/{row}.jpg"] = grey
            files[f"CamVid/{part}annot/{row}.png"] = masks[part, row]
    packed(tmp_path / "camvid" / "camvid.tar.gz", files)
    splits = dl.data.load("camvid", tmp_path)
    assert splits.info.sizes == {"train": 3, "validation": 2, "test": 1}
    for row in range(2):
        truth = masks["val", row].astype(int)
        whole = splits.validation["segments"][row]
        np.testing.assert_array_equal(whole[6:26], np.where(truth == 11, -1, truth))
        assert (whole[:6] == -1).all()
        assert (whole[26:] == -1).all()
        assert abs(splits.validation["image"][row].astype(int) - (40 * row + 10)).max() <= 2
    with raises("split-fixed", "parts of its own"):
        dl.data.load("camvid", tmp_path, validation=0.2)
    with raises("split-fixed", "--folds"):
        dl.data.open("camvid", "masks", folds=3, fold=0)
    del files["CamVid/valannot/1.png"]
    packed(tmp_path / "camvid" / "camvid.tar.gz", files)
    with raises("file-damaged", "camvid.tar.gz"):
        dl.data.load("camvid", tmp_path)


def test_tiles_are_cut_by_their_groups_file(tmp_path, monkeypatch):
    monkeypatch.setenv("DL_CACHE", str(tmp_path / "cache"))
    files, lines = {}, ["picture,group,split"]
    for row, (kind, part) in enumerate((("Free", "train"), ("Crack", "val"), ("Uneven", "test"))):
        mask = np.zeros((10 + row, 7), bool)
        mask[2:4, 3] = kind != "Free"
        files[f"{kind}/exp1_num_{row}.jpg"] = np.full((10 + row, 7), 90, np.uint8)
        files[f"{kind}/exp1_num_{row}.png"] = mask
        lines.append(f"{kind}/exp1_num_{row},{row + 5},{part}")
    packed(tmp_path / "magnetic_tile" / "magnetic_tile.tar.gz", files)
    (tmp_path / "magnetic_tile" / "groups.csv").write_text("\n".join(lines))
    splits = dl.data.load("magnetic_tile", tmp_path)
    assert [int(part["label"][0]) for part in splits.parts.values()] == [0, 3, 5]
    assert [int(part["group"][0]) for part in splits.parts.values()] == [5, 6, 7]
    assert splits.test["image"].shape == (1, 16, 16, 1)
    assert (splits.test["segments"] == 5).sum() == 2
    assert (splits.test["segments"] >= 0).sum() == 12 * 7


def test_a_frame_holds_each_picture_in_its_middle():
    columns = framed(
        [np.full((5, 20, 1), 7, np.uint8), np.full((16, 3, 1), 9, np.uint8)],
        [np.ones((5, 20), np.int8), np.zeros((16, 3), np.int8)],
    )
    assert columns["image"].shape == (2, 16, 32, 1)
    assert [(columns["segments"][row] >= 0).sum() for row in (0, 1)] == [100, 48]
    assert (columns["segments"][0, 5:10, 6:26] == 1).all()
    assert set(np.unique(columns["image"][1])) == {9}  # the edge goes on


def test_parts_are_labelled_by_their_masks_and_come_under_one_light():
    segments = np.full((3, 8, 8), -1)
    segments[:, 2:6] = 0
    segments[1, 2, 2], segments[2, 3] = 1, 2
    segments[2, 2, 0] = 1
    image = DRAW.integers(60, 90, (3, 8, 8, 1), np.uint8)
    image[1] = image[0] // 2
    columns = labelled({"image": image, "segments": segments})
    assert columns["label"].tolist() == [0, 1, 2]
    assert labelled(columns) is columns
    level = levelled(columns)["image"].astype(float)
    for row in range(3):
        real = level[row][segments[row] >= 0]
        np.testing.assert_allclose([real.mean(), real.std()], [128, 40], atol=1)
    assert np.abs(level[0] - level[1]).mean() < 4
    splits = Splits(columns, columns, {}, Info("a", "a", "a", "a", "a", "a", ("g", "b", "c")))
    alone = good_alone(splits)
    assert alone.info.classes == ("good", "defect")
    assert alone.train["label"].tolist() == [0]
    assert alone.validation["label"].tolist() == [0, 1, 1]
    assert alone.validation["segments"].max() == 1
