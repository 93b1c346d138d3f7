"""Boxes and masks keep their place on the picture."""

import numpy as np
import pytest

import dl.data
from dl.data.annotated import pad_boxes, parse_voc, resize

NOTE = b"""<annotation><object><name>RBC</name><bndbox><xmin>1</xmin><ymin>11</ymin><xmax>10</xmax>
<ymax>30</ymax></bndbox></object><object><name>WBC</name><bndbox><xmin>5</xmin><ymin>5</ymin>
<xmax>5</xmax><ymax>9</ymax></bndbox></object></annotation>"""


def test_voc_boxes_become_half_open_from_zero_and_empty_ones_go():
    boxes, labels = parse_voc(NOTE, ("RBC", "WBC"))
    np.testing.assert_array_equal(boxes, [[0, 10, 10, 30]])
    np.testing.assert_array_equal(labels, [0])


def test_voc_refuses_unknown_classes_and_entities():
    with pytest.raises(ValueError, match="unknown class"):
        parse_voc(NOTE, ("WBC",))
    with pytest.raises(ValueError, match="no place"):
        parse_voc(b'<!DOCTYPE a [<!ENTITY x "y">]>' + NOTE, ("RBC", "WBC"))


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


@pytest.mark.data
def test_blood_cells_as_published(data_dir):
    splits = dl.data.load("bccd", data_dir)
    labels = np.concatenate([p["label"] for p in (splits.train, splits.validation, splits.test)])
    boxes = np.concatenate([p["boxes"] for p in (splits.train, splits.validation, splits.test)])
    real = labels >= 0
    # The files hold 4,155 red cells, 372 white and 361 platelets; two of the red have no area.
    assert np.bincount(labels[real]).tolist() == [4153, 372, 361]
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
