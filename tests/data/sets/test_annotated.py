"""Boxes and masks keep their place on the picture."""

import io
import tarfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mistakes import raises
from pycocotools import mask as coco_masks

import dl.data
from dl.data.sets.annotated import pad_boxes, parse_voc, read_voc, resize

NOTE = b"""<annotation><object><name>RBC</name><bndbox><xmin>1</xmin><ymin>11</ymin><xmax>10</xmax>
<ymax>30</ymax></bndbox></object><object><name>WBC</name><bndbox><xmin>5</xmin><ymin>5</ymin>
<xmax>5</xmax><ymax>9</ymax></bndbox></object></annotation>"""


def _note(*objects, size=(100, 80), more="") -> bytes:
    """An annotation of objects ``(name, xmin, ymin, xmax, ymax)``."""
    inner = "".join(
        f"<object><name>{name}</name>{more}<bndbox><xmin>{a}</xmin><ymin>{b}</ymin><xmax>{c}</xmax>"
        f"<ymax>{d}</ymax></bndbox></object>"
        for name, a, b, c, d in objects
    )
    width, height = size
    sizes = f"<size><width>{width}</width><height>{height}</height></size>"
    return f"<annotation>{sizes}{inner}</annotation>".encode()


def test_voc_boxes_become_half_open_from_zero():
    boxes, labels = parse_voc(NOTE, ("RBC", "WBC"))
    np.testing.assert_array_equal(boxes, [[0, 10, 10, 30], [4, 4, 5, 9]])  # inclusive: 1 x 5
    np.testing.assert_array_equal(labels, [0, 1])


@settings(max_examples=60, deadline=None, derandomize=True)
@given(*[st.integers(-8, 28) for _ in range(4)])
def test_voc_boxes_hold_the_pixels_that_the_standard_counts(xmin, ymin, xmax, ymax):
    """Against a mask painted pixel by pixel, from 1 and inclusive, whose box pycocotools finds."""
    width, height = 20, 15
    mask = np.zeros((height, width), np.uint8)
    for y in range(1, height + 1):
        for x in range(1, width + 1):
            mask[y - 1, x - 1] = xmin <= x <= xmax and ymin <= y <= ymax
    found = read_voc(_note(("a", xmin, ymin, xmax, ymax), size=(width, height)), ("a",))
    if not mask.any():
        assert found.boxes.shape == (0, 4)
        assert found.outside + found.reversed == 1
        return
    left, top, across, down = coco_masks.toBbox(coco_masks.encode(np.asfortranarray(mask)))
    np.testing.assert_array_equal(found.boxes, [[left, top, left + across, top + down]])
    assert across * down == mask.sum()
    inside = xmin >= 1 and ymin >= 1 and xmax <= width and ymax <= height
    assert found.cut == (not inside)


def test_odd_voc_boxes_are_cut_or_left_out_and_counted():
    boxes = [
        (5, 5, 5, 25),
        (-5, -5, 150, 90),
        (-15, -15, -5, -5),
        (101, 1, 120, 9),
        (30, 5, 10, 25),
    ]
    note = _note(*[("a", *edges) for edges in boxes], more="<difficult>1</difficult>")
    found = read_voc(note, ("a",))
    np.testing.assert_array_equal(found.boxes, [[4, 4, 5, 25], [0, 0, 100, 80]])
    assert (found.cut, found.outside, found.reversed) == (1, 2, 1)
    assert found.difficult.tolist() == [True, True]
    with pytest.warns(
        UserWarning,
        match="edge: 1; left out, outside the picture: 2; left out, ending before they begin: 1; "
        "marked difficult, taken as any other: 2",
    ):
        parse_voc(note, ("a",))
    unknown = read_voc(_note(("a", -5, -5, 150, 90), size=(0, 0)), ("a",))
    np.testing.assert_array_equal(unknown.boxes, [[0, 0, 150, 90]])


def test_the_pictures_own_size_counts():
    note = _note(("a", 1, 1, 100, 100), size=(0, 0))
    np.testing.assert_array_equal(read_voc(note, ("a",), (50, 40)).boxes, [[0, 0, 50, 40]])
    with pytest.raises(ValueError, match="of 100 x 80 pixels, where there are 80 x 100"):
        read_voc(_note(("a", 1, 1, 9, 9)), ("a",), (80, 100))  # turned by EXIF, say


@pytest.mark.parametrize("edge", ["nan", "inf", "", "left"])
def test_edges_that_are_no_numbers_are_refused(edge):
    with pytest.raises(ValueError, match=r"xmax = .* no number"):
        read_voc(_note(("a", 1, 1, edge, 9)), ("a",))


def test_voc_refuses_unknown_classes_and_entities():
    with pytest.raises(ValueError, match="unknown class"):
        parse_voc(NOTE, ("WBC",))
    with pytest.raises(ValueError, match="no place"):
        parse_voc(b'<!DOCTYPE a [<!ENTITY x "y">]>' + NOTE, ("RBC", "WBC"))
    with pytest.raises(ValueError, match="no place"):
        parse_voc('<!DOCTYPE a [<!ENTITY x "y">]><a/>'.encode("utf-16"), ("RBC",))
    with pytest.raises(ValueError, match="not an XML file"):
        parse_voc(NOTE[:-20], ("RBC", "WBC"))


def _bccd(folder, notes: dict[str, bytes], pictures: dict[str, bytes] | None = None) -> None:
    """An archive of the set's layout with one picture a part."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.new("RGB", (100, 80), (9, 9, 9)).save(buffer, "JPEG")
    files = {f"set/JPEGImages/{n}.jpg": buffer.getvalue() for n in ("B_0", "B_1", "B_2")}
    files |= {f"set/JPEGImages/{n}.jpg": data for n, data in (pictures or {}).items()}
    plain = _note(("RBC", 1, 1, 9, 9))
    files |= {f"set/Annotations/B_{i}.xml": notes.get(f"B_{i}", plain) for i in range(3)}
    for number, part in enumerate(("train", "val", "test")):
        files[f"set/ImageSets/Main/{part}.txt"] = f"B_{number}\n".encode()
    (folder / "bccd").mkdir()
    with tarfile.open(folder / "bccd" / "bccd.tar.gz", "w:gz") as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))


def test_a_set_counts_its_odd_boxes_once(tmp_path):
    _bccd(tmp_path, {"B_1": _note(("WBC", 90, 70, 101, 90), ("RBC", 200, 5, 210, 9))})
    with pytest.warns(UserWarning, match=r"BCCD blood cells cut .*: 1; left out, outside .*: 1$"):
        splits = dl.data.load("bccd", tmp_path)
    np.testing.assert_array_equal(splits.validation["boxes"], [[[89, 69, 100, 80]]])
    np.testing.assert_array_equal(splits.train["boxes"], [[[0, 0, 9, 9]]])


def test_boxes_lie_on_the_pixels_as_stored_whatever_exif_says(tmp_path):
    from PIL import Image

    exif = Image.Exif()
    exif[0x0112] = 6
    stored = np.zeros((80, 100, 3), np.uint8)
    stored[9:30, 49:70] = 255  # xmin 50, ymin 10, xmax 70, ymax 30
    buffer = io.BytesIO()
    Image.fromarray(stored).save(buffer, "PNG", exif=exif)
    _bccd(tmp_path, {"B_2": _note(("RBC", 50, 10, 70, 30))}, {"B_2": buffer.getvalue()})
    test = dl.data.load("bccd", tmp_path).test
    left, top, right, bottom = test["boxes"][0, 0].astype(int)
    assert (test["image"][0, top:bottom, left:right] == 255).all()
    assert test["image"].sum() == 255 * 3 * (right - left) * (bottom - top)


@pytest.mark.parametrize(
    ("notes", "pictures", "says"),
    [
        (
            {"B_2": _note(("RBC", 1, 1, "nan", 9))},
            {},
            ("file-damaged", "B_2.xml: a box has xmax = 'nan'"),
        ),
        ({"B_2": b"<annotation>"}, {}, ("file-damaged", "B_2.xml: not an XML file")),
        ({"B_2": _note(size=(80, 100))}, {}, ("file-damaged", "B_2.xml", "80 x 100")),
        ({}, {"B_1": b"no picture"}, ("picture-damaged", "bccd.tar.gz, B_1.jpg")),
        ({}, {"B_1": b""}, ("picture-damaged", "B_1.jpg is empty")),
    ],
)
def test_a_damaged_member_of_a_set_is_named(tmp_path, notes, pictures, says):
    _bccd(tmp_path, notes, pictures)
    with raises(*says):
        dl.data.load("bccd", tmp_path)


def test_padding_of_boxes():
    columns = pad_boxes([np.ones((2, 4)), np.zeros((0, 4))], [np.array([1, 2]), np.array([], int)])
    np.testing.assert_array_equal(columns["label"], [[1, 2], [-1, -1]])
    assert columns["boxes"].shape == (2, 2, 4)


def test_resizing_moves_boxes_and_masks_with_the_picture():
    image = np.zeros((1, 8, 12, 3), np.uint8)
    image[0, 2:4, 6:9] = 200
    columns = {
        "image": image,
        "segments": (image[..., 0] > 0).astype(np.uint8),
        "boxes": np.array([[[6, 2, 9, 4]]], np.float32),
    }
    small = resize(columns, 4, 4)
    np.testing.assert_array_equal(small["boxes"], [[[2, 1, 3, 2]]])
    assert small["image"][0, 1, 2].tolist() == [200, 200, 200]
    assert small["image"].sum() == 600
    np.testing.assert_array_equal(small["segments"], small["image"][..., 0] > 0)


def test_a_picture_one_pixel_high_keeps_its_channels():
    columns = {"image": np.full((2, 1, 6, 3), (10, 20, 30), np.uint8)}
    np.testing.assert_array_equal(
        resize(columns, 1, 3)["image"], np.full((2, 1, 3, 3), (10, 20, 30), np.uint8)
    )


@pytest.mark.data
def test_blood_cells_as_published(data_dir):
    splits = dl.data.load("bccd", data_dir)
    labels = np.concatenate([p["label"] for p in (splits.train, splits.validation, splits.test)])
    boxes = np.concatenate([p["boxes"] for p in (splits.train, splits.validation, splits.test)])
    real = labels >= 0
    # Two of the red cells are one pixel large.
    assert np.bincount(labels[real]).tolist() == [4155, 372, 361]
    assert (boxes[real][:, 2:] > boxes[real][:, :2]).all()
    assert (boxes[real].max(0) <= [640, 480, 640, 480]).all()
    assert (boxes[~real] == 0).all()
    numbers = [set(p["number"]) for p in (splits.train, splits.validation, splits.test)]
    assert len(set.union(*numbers)) == sum(map(len, numbers)) == 364


@pytest.mark.data
def test_membranes_come_in_blocks_of_the_stack(data_dir):
    splits = dl.data.load("isbi_membrane", data_dir)
    assert set(np.unique(splits.train["segments"])) == {0, 1}
    assert 0.7 < splits.train["segments"].mean() < 0.85  # most of the picture is inside cells
    wider = dl.data.load("isbi_membrane", data_dir, validation=6)
    np.testing.assert_array_equal(wider.validation["image"][2:], splits.validation["image"])
    np.testing.assert_array_equal(wider.test["segments"], splits.test["segments"])
