"""Boxes of one's own: COCO, Pascal VOC and YOLO say the same of the same pictures, and mistakes are named."""

import json
from pathlib import Path

import numpy as np
import pytest
from mistakes import raises
from PIL import Image
from told import told

import dl
from dl.data.batches.streams import FileRows

# (width, height) of a picture, and its objects: a class, left, top, right, bottom.
SCENES = {
    "a": ((100, 80), [("cat", 10, 20, 30, 40), ("dog", 0, 0, 100, 80)]),
    "b": ((100, 80), []),
    "c": ((100, 80), [("dog", 50, 60, 51, 61)]),
    "d": ((100, 80), [("cat", 5, 5, 25, 35)]),
}
PARTS = {"train": "ab", "val": "c", "test": "d"}


def picture(path, size=(100, 80), mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(size[0]).integers(0, 255, (*size[::-1], 3), np.uint8)
    Image.fromarray(noise).convert(mode).save(path)


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def coco(root, parts=PARTS, scenes=SCENES, more=()):
    kinds = [{"id": 7, "name": "cat"}, {"id": 9, "name": "dog"}, {"id": 0, "name": "animal"}]
    for part, stems in parts.items():
        images, notes = [], list(more)
        for number, stem in enumerate(stems):
            size, objects = scenes[stem]
            picture(root / "images" / f"{stem}.jpg", size)
            images.append({"id": number, "file_name": f"{stem}.jpg", "width": 1, "height": 1})
            for kind, left, top, right, bottom in objects:
                box = [left, top, right - left, bottom - top]
                category = {"cat": 7, "dog": 9}[kind]
                notes.append({"image_id": number, "category_id": category, "bbox": box})
        said = {"images": images, "annotations": notes, "categories": kinds}
        write(root / "annotations" / f"instances_{part}2017.json", json.dumps(said))
    return root


def voc(root, parts=PARTS, scenes=SCENES):
    for part, stems in parts.items():
        write(root / "ImageSets" / "Main" / f"{part}.txt", "".join(f"{stem}\n" for stem in stems))
        for stem in stems:
            (width, height), objects = scenes[stem]
            picture(root / "JPEGImages" / f"{stem}.JPG", (width, height))
            inner = "".join(
                f"<object><name>{kind}</name><bndbox><xmin>{a + 1}</xmin><ymin>{b + 1}</ymin>"
                f"<xmax>{c}</xmax><ymax>{d}</ymax></bndbox></object>"
                for kind, a, b, c, d in objects
            )
            size = f"<size><width>{width}</width><height>{height}</height></size>"
            write(root / "Annotations" / f"{stem}.xml", f"<annotation>{size}{inner}</annotation>")
    write(root / "ImageSets" / "Main" / "trainval.txt", "a\nb\nc\n")
    return root


def yolo_line(kind, a, b, c, d, width=100, height=80):
    x, y, wide, tall = (a + c) / 2 / width, (b + d) / 2 / height, (c - a) / width, (d - b) / height
    return f"{kind} {x:.6f} {y:.6f} {wide:.6f} {tall:.6f}"


def yolo(root, parts=PARTS, scenes=SCENES, names="names:\n  0: cat  # small\n  1: 'dog'\n"):
    write(root / "data.yaml", f"train: ../train/images\n\n{names}nc: 2\n")
    write(root / "README.txt", "Made by hand.\n")
    for part, stems in parts.items():
        for stem in stems:
            size, objects = scenes[stem]
            picture(root / part / "images" / f"{stem}.png", size)
            if objects:
                rows = [yolo_line(["cat", "dog"].index(kind), *box) for kind, *box in objects]
                write(root / part / "labels" / f"{stem}.txt", "\r\n".join(rows))
    return root


def open_boxes(source, **fields):
    return dl.data.open(source, "boxes", **fields)


@pytest.mark.parametrize("layout", [coco, voc, yolo], ids=lambda layout: layout.__name__)
def test_every_layout_says_the_same(tmp_path, layout):
    splits = open_boxes(layout(tmp_path))
    assert splits.info.classes == ("cat", "dog")
    assert splits.info.sizes == {"train": 2, "validation": 1, "test": 1}
    assert splits.train["image"].shape == (2, 80, 100, 3)
    np.testing.assert_array_equal(splits.train["label"], [[0, 1], [-1, -1]])
    empty = [[0] * 4] * 2
    boxes = [[[10, 20, 30, 40], [0, 0, 100, 80]], empty]
    np.testing.assert_allclose(splits.train["boxes"], boxes, atol=1e-3)
    np.testing.assert_allclose(splits.validation["boxes"][0, 0], [50, 60, 51, 61], atol=1e-3)
    assert "odd" not in told(splits)
    assert told(splits)["boxes"] == "4 | 2 at most in one picture, 1 picture without any"


@pytest.mark.parametrize(
    ("height", "width", "left", "top"), [(40, 50, 0, 0), (40, 70, 10, 0), (60, 50, 0, 10)]
)
def test_boxes_go_with_their_pictures_to_another_size(tmp_path, height, width, left, top):
    splits = open_boxes(voc(tmp_path), height=height, width=width)
    assert splits.train["image"].shape == (2, height, width, 3)
    box = np.add([5, 10, 15, 20], [left, top] * 2)
    np.testing.assert_allclose(splits.train["boxes"][0, 0], box)
    grey = (splits.train["image"] == 127).all((0, 3))
    assert grey[:top].all()
    assert grey[:, :left].all()
    assert ("amid grey" in told(splits)["size"]) == (left + top > 0)


def test_pictures_of_several_sizes_come_to_the_median(tmp_path):
    scenes = SCENES | {"c": ((30, 60), [("dog", 0, 0, 30, 60)])}
    splits = open_boxes(voc(tmp_path, scenes=scenes))
    assert splits.train["image"].shape[1:3] == (80, 100)
    np.testing.assert_allclose(splits.validation["boxes"][0, 0], [30, 0, 70, 80])
    assert "height 60 to 80, median 80; width 30 to 100" in told(splits)["image"]


def test_classes_can_be_chosen_and_ordered(tmp_path):
    splits = open_boxes(yolo(tmp_path), classes=["dog"])
    assert splits.info.classes == ("dog",)
    np.testing.assert_array_equal(splits.train["label"], [[0], [-1]])
    assert told(splits)["left out"] == "2 boxes | of other classes: cat"
    assert open_boxes(tmp_path, classes=("dog", "cat")).train["label"][0].tolist() == [1, 0]
    with raises("unknown", "'dgo'", "'dog'"):
        open_boxes(tmp_path, classes=("dgo",))


def test_one_json_file_is_cut_by_seed(tmp_path):
    root = coco(tmp_path, {"everything": "abcd"})
    splits = open_boxes(root / "annotations" / "instances_everything2017.json")
    assert sum(splits.info.sizes.values()) == 4
    assert "by seed" in told(splits)["parts"]
    (root / "annotations" / "more.json").write_bytes(
        (root / "annotations" / "instances_everything2017.json").read_bytes()
    )
    with raises("annotations-unclear", "more.json"):
        open_boxes(root)


def test_crowds_and_boxes_beyond_the_picture_are_told(tmp_path):
    crowd = {"image_id": 0, "category_id": 7, "bbox": [0, 0, 9, 9], "iscrowd": 1}
    scenes = {**SCENES, "a": ((100, 80), [("cat", -5, 0, 20, 20), ("dog", 7, 7, 7, 9)])}
    splits = open_boxes(coco(tmp_path, scenes=scenes, more=[crowd]))
    assert told(splits)["left out"].startswith("3 boxes | around crowds")
    assert "edge: 1; left out, ending before they begin: 1" in told(splits)["odd"]
    np.testing.assert_array_equal(splits.train["boxes"][0], [[0, 0, 20, 20]])


def test_outlines_of_yolo_are_taken_for_boxes_and_lists_for_parts(tmp_path):
    root = yolo(tmp_path, {".": "abcd"}, names="names: ['cat', \"dog\", fish]\n")
    write(root / "labels" / "d.txt", "2 0.1 0.5 0.2 0.25 0.3 0.5\n")
    write(root / "train.txt", "./images/a.png\n./images/b.png\n")
    write(root / "val.txt", "./images/d.png\n")
    splits = open_boxes(root / "data.yaml")
    assert splits.info.classes == ("cat", "dog", "fish")
    assert splits.info.sizes == {"train": 2, "validation": 1}
    np.testing.assert_allclose(splits.validation["boxes"][0, 0], [10, 20, 30, 40])
    assert told(splits)["polygons"].startswith("1 |")
    assert told(splits)["left out"].startswith("1 picture")


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        ("-1 .5 .5 .2 .2", "file-damaged", "below 0"),
        ("0 nan .5 .2 .2", "file-damaged", "no number"),
        ("cat .5 .5 .2 .2", "file-damaged", "'cat'"),
        ("nan .5 .5 .2 .2", "file-damaged", "'nan'"),
        (".5 .5 .2", "file-damaged", "2 numbers after the class"),
        ("999999999999 .5 .5 .2 .2", "class-out-of-range", "999999999999"),
    ],
)
@pytest.mark.parametrize("named", [True, False])
def test_a_first_line_of_yolo_that_is_no_box_is_named(tmp_path, line, code, words, named):
    root = yolo(tmp_path, {".": "abcd"})
    write(root / "labels" / "a.txt", line)
    if not named:
        (root / "data.yaml").unlink()
    with raises(code, words):
        open_boxes(root)


def test_mistakes_in_files_of_boxes_are_named(tmp_path):
    write(
        yolo(tmp_path / "y") / "train" / "labels" / "a.txt",
        "0 0.5 0.5 0.1 0.1\n1 0.5 half 0.1 0.1\n",
    )
    with raises("file-damaged", "a.txt", "line 2", "half"):
        open_boxes(tmp_path / "y")
    write(tmp_path / "y" / "train" / "labels" / "a.txt", "5 0.5 0.5 0.1 0.1\n")
    with raises("class-out-of-range", "number 5", "data.yaml names 2"):
        open_boxes(tmp_path / "y")
    (voc(tmp_path / "v") / "JPEGImages" / "a.JPG").unlink()
    with raises("file-missing", "a.xml", "picture a"):
        open_boxes(tmp_path / "v")
    (coco(tmp_path / "c") / "images" / "a.jpg").unlink()
    with raises("file-missing", "instances_train2017.json", "a.jpg"):
        open_boxes(tmp_path / "c")
    write(
        tmp_path / "c" / "annotations" / "instances_train2017.json",
        '{"annotations": [], "x": "bbox"}',
    )
    with raises("file-damaged", "no COCO file", "categories"):
        open_boxes(tmp_path / "c" / "annotations" / "instances_train2017.json")
    empty = '{"images": [], "annotations": [], "categories": [{"id": 1, "name": "x"}], "y": "bbox"}'
    write(tmp_path / "c" / "annotations" / "instances_train2017.json", empty)
    with raises("no-boxes", "name no picture"):
        open_boxes(tmp_path / "c" / "annotations" / "instances_train2017.json")
    picture(tmp_path / "p" / "a.png")
    with raises("no-boxes", "neither"):
        open_boxes(tmp_path / "p")
    write(tmp_path / "p" / "a.txt", "")
    with raises("no-boxes", "not one box"):
        open_boxes(tmp_path / "p")
    with raises("option-misplaced", "--split"):
        open_boxes(tmp_path / "p", split="part")
    with raises("range", "--height"):
        open_boxes(tmp_path / "p", height=0)


def changed(root, change):
    """COCO's training file with one thing changed."""
    path = root / "annotations" / "instances_train2017.json"
    said = json.loads(path.read_text())
    change(said)
    write(path, json.dumps(said))
    return root


@pytest.mark.parametrize(
    "change",
    [
        lambda said: said["annotations"][0].update(bbox=[10**400, 1, 1, 1]),
        lambda said: said["annotations"][0].update(bbox=[float("nan"), 1, 1, 1]),
        lambda said: said["annotations"][0].update(bbox=[1e308, 1, 1e308, 1]),
        lambda said: said["images"].append(said["images"][0] | {"id": 99}),
        lambda said: said["images"].append(said["images"][0] | {"file_name": "x.jpg"}),
    ],
)
def test_a_coco_file_that_says_odd_things_is_named(tmp_path, change):
    with raises("file-damaged", "instances_train2017.json"):
        open_boxes(changed(coco(tmp_path), change))


def test_classes_that_only_other_parts_have_are_told(tmp_path):
    assert "check" not in told(open_boxes(coco(tmp_path / "a")))
    splits = open_boxes(coco(tmp_path / "b", {"train": "d", "val": "c", "test": "ab"}))
    assert "dog" in told(splits)["check"]


def test_names_are_of_the_digest(tmp_path):
    root = yolo(tmp_path, {"train": "ab", "val": "cd"})
    before = open_boxes(root).info.digests
    write(root / "data.yaml", "names: [dog, cat]\n")
    assert open_boxes(root).info.digests != before


def test_boxes_of_no_picture_are_counted(tmp_path):
    more = {"image_id": 99, "category_id": 7, "bbox": [1, 1, 5, 5]}
    splits = open_boxes(changed(coco(tmp_path), lambda said: said["annotations"].append(more)))
    assert told(splits)["left out"].startswith("1 box")


def test_classes_have_one_name_each_and_pictures_one_part(tmp_path):
    with raises("file-damaged", "data.yaml", "one name"):
        open_boxes(yolo(tmp_path / "y", names="names: [cat, cat]\n"))
    with raises("options-exclusive", "--classes cat cat"):
        open_boxes(coco(tmp_path / "c"), classes=("cat", "cat"))
    root = voc(tmp_path / "v")
    write(root / "ImageSets" / "Main" / "test.txt", "a\nd\n")
    with raises("parts-overlap", "such as a"):
        open_boxes(root)
    sheet = voc(tmp_path / "n") / "Annotations" / "a.xml"
    text = sheet.read_text()
    for bad, words in (
        (text.replace("<name>cat</name>", "<name> </name>", 1), "no name"),
        (f'<?xml version="1.0" encoding="klingon"?>{text}', "klingon"),
    ):
        write(sheet, bad)
        with raises("file-damaged", "a.xml", words):
            open_boxes(tmp_path / "n")


def test_boxes_stream_with_the_rows_in_memory(tmp_path):
    whole = open_boxes(coco(tmp_path), height=40, width=60)
    stream = open_boxes(tmp_path, height=40, width=60, stream=True)
    for name, columns in whole.parts.items():
        assert isinstance(stream.parts[name], FileRows)
        for column, values in stream.parts[name].read().items():
            np.testing.assert_array_equal(values, columns[column])


@pytest.mark.data
def test_blood_cells_as_ones_own_are_those_of_the_name(data_dir, tmp_path, monkeypatch):
    import tarfile

    with tarfile.open(Path(data_dir) / "bccd" / "bccd.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    monkeypatch.setenv("DL_DATA_DIR", str(data_dir))
    named = open_boxes("bccd", height=60, width=80)
    own = open_boxes(tmp_path, classes=("RBC", "WBC", "Platelets"), height=60, width=80)
    assert own.info.classes == named.info.classes
    for name, columns in named.parts.items():
        for column, values in columns.items():
            np.testing.assert_array_equal(own.parts[name][column], values)
