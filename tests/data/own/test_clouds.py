"""Clouds of points of one's own, of every form that is read."""

import struct

import numpy as np
import pytest
from mistakes import raises

import dl
from dl.data.readers.clouds import fitted, read_cloud
from dl.data.sets.shapes import surface_points

DRAW = np.random.default_rng(0)
POINTS = DRAW.normal(size=(30, 3)).astype(np.float32)


def written(path, points):
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = path.suffix
    if kind == ".npy":
        np.save(path, np.c_[points, points])
    elif kind == ".bin":
        np.c_[points, points[:, :1]].astype("<f4").tofile(path)
    elif kind == ".off":
        path.write_text(
            f"OFF\n{len(points)} 0 0\n"
            + "\n".join(" ".join(map(repr, map(float, p))) for p in points)
        )
    elif kind == ".ply":
        head = f"ply\nformat binary_little_endian 1.0\nelement vertex {len(points)}\n"
        head += "property uchar red\nproperty float x\nproperty double y\nproperty float z\n"
        rows = b"".join(struct.pack("<Bfdf", 7, *point) for point in points)
        path.write_bytes((head + "element face 0\nend_header\n").encode() + rows)
    else:
        mark = "," if kind == ".txt" else " "
        path.write_text(
            "# x y z\n" + "\n".join(mark.join(map(repr, map(float, p))) for p in points) + "\n"
        )
    return path


@pytest.mark.parametrize("kind", [".xyz", ".txt", ".npy", ".bin", ".off", ".ply"])
def test_files_of_any_form_hold_the_same_points(tmp_path, kind):
    np.testing.assert_allclose(
        read_cloud(written(tmp_path / f"a{kind}", POINTS)), POINTS, rtol=1e-6
    )


def test_points_of_faces_lie_on_them_and_are_always_the_same(tmp_path):
    file = tmp_path / "square.off"
    file.write_text("OFF4 1 0\n0 0 1\n2 0 1\n2 2 1\n0 2 1\n4 0 1 2 3\n")
    points = read_cloud(file)
    assert points.shape == (2048, 3)
    assert (points[:, 2] == 1).all()
    assert points[:, :2].min() >= 0
    assert points[:, :2].max() <= 2
    quarter = ((points[:, 0] > 1) & (points[:, 1] > 1)).mean()
    assert 0.2 < quarter < 0.3
    np.testing.assert_array_equal(read_cloud(file), points)


def test_text_ply_has_its_axes_by_name(tmp_path):
    file = tmp_path / "a.ply"
    head = "ply\nformat ascii 1.0\ncomment x\nelement vertex 2\n"
    head += "property float z\nproperty float x\nproperty float y\n"
    file.write_text(head + "end_header\n3 1 2\n6 4 5\n")
    np.testing.assert_array_equal(read_cloud(file), [[1, 2, 3], [4, 5, 6]])


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.xyz", ""),
        ("a.xyz", "1 2\n3 4\n"),
        ("a.xyz", "1 2 three\n"),
        ("a.xyz", "1 2 nan\n"),
        ("a.off", "OFF\n9 0 0\n1 2 3\n"),
        ("a.ply", "ply\n"),
        ("a.ply", "ply\nformat ascii 1.0\nelement face 1\nend_header\n"),
        ("a.npy", "no array"),
        ("a.bin", "abc"),
    ],
)
def test_a_damaged_file_is_named(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    with raises("file-damaged", name):
        read_cloud(tmp_path / name)


def test_a_folder_a_class(tmp_path):
    for row in range(20):
        name = ("ball", "box")[row % 2]
        written(
            tmp_path / "shapes" / name / f"{row}{('.xyz', '.off', '.npy')[row % 3]}",
            POINTS[: 10 + row % 5],
        )
    splits = dl.data.open(tmp_path / "shapes", "clouds", points=16)
    assert splits.info.classes == ("ball", "box")
    assert splits.train["points"].shape == (16, 16, 3)
    assert np.linalg.norm(splits.train["points"], axis=-1).max() <= 1 + 1e-6
    with raises("option-misplaced", "--group"):
        dl.data.open(tmp_path / "shapes", "clouds", group="who")
    for row in range(8):  # of arrays alone too
        written(tmp_path / "arrays" / "ab"[row % 2] / f"{row}.npy", POINTS)
    assert dl.data.open(tmp_path / "arrays", "clouds", points=8).info.classes == ("a", "b")
    assert dl.data.open(tmp_path / "shapes").info.classes == ("ball", "box")  # as it looks
    for part in ("train", "test"):
        for name in ("ball", "box"):
            written(tmp_path / "parts" / part / name / "a.xyz", POINTS)
            written(tmp_path / "parts" / part / name / "b.xyz", POINTS)
    splits = dl.data.open(tmp_path / "parts", "clouds", hold_out=(0.0, 0.1))
    assert [len(part["label"]) for part in splits.parts.values()] == [4, 4]
    with raises("no-clouds", "folder"):
        dl.data.open(written(tmp_path / "one.xyz", POINTS), "clouds")
    (tmp_path / "empty").mkdir()
    with raises("no-clouds", "empty"):
        dl.data.open(tmp_path / "empty", "clouds")
    with raises("range", "points"):
        dl.data.open(tmp_path / "shapes", "clouds", points=2)


def test_as_many_points_as_asked_for_in_a_ball():
    few, many = fitted(POINTS, 100), fitted(POINTS, 10)
    assert few.shape == (100, 3)
    assert len(np.unique(few, axis=0)) == 30
    assert len(np.unique(many, axis=0)) == 10
    assert np.linalg.norm(few, axis=1).max() == pytest.approx(1, rel=1e-6)
    moved = fitted(3 * POINTS + 5, 100)
    np.testing.assert_allclose(moved, few, atol=1e-5)


def test_the_surface_of_voxels_is_what_has_an_empty_neighbour():
    cells = np.zeros((32, 32, 32), np.uint8)
    cells[4:9, 4:9, 4:9] = 1
    found = surface_points(np.packbits(cells.ravel()))
    assert len(found) == 5**3 - 3**3
    assert found.min() == 4
    assert found.max() == 8
    np.testing.assert_array_equal(surface_points(np.zeros(4096, np.uint8)), [[16, 16, 16]])
