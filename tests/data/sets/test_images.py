"""Image files are read to the same pixels their format says."""

import gzip
import io
import tarfile

import numpy as np
import pytest
from mistakes import raises

import dl.data
from dl.data.sets.images import overlapping, parse_idx, read_picture


def _idx(array: np.ndarray) -> bytes:
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    return header + array.tobytes()


def _mnist(folder, seed=0):
    random = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    arrays = {}
    for prefix, count in (("train", 40), ("t10k", 10)):
        image = random.integers(0, 256, (count, 28, 28), np.uint8)
        label = (np.arange(count) % 10).astype(np.uint8)
        for kind, array in (("images-idx3", image), ("labels-idx1", label)):
            data = gzip.compress(_idx(array))
            (folder / f"{prefix}-{kind}-ubyte.gz").write_bytes(data)
        arrays[prefix] = image
    return arrays


def test_idx_round_trip_and_damage():
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    np.testing.assert_array_equal(parse_idx(_idx(array)), array)
    for damaged in (b"", b"\x00\x00\x0d\x01", _idx(array)[:-1]):
        with pytest.raises(ValueError, match=r"IDX|bytes for shape"):
            parse_idx(damaged)


def test_mnist_files_of_the_user_are_read(tmp_path):
    arrays = _mnist(tmp_path / "mnist")
    splits = dl.data.load("mnist", tmp_path, validation=10)
    np.testing.assert_array_equal(splits.test["image"][..., 0], arrays["t10k"])
    np.testing.assert_array_equal(np.bincount(splits.validation["label"]), np.ones(10))
    assert len(splits.info.digests) == 4


def test_a_damaged_mnist_file_is_named(tmp_path):
    _mnist(tmp_path / "mnist")
    path = tmp_path / "mnist" / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:100])
    with raises("file-damaged", "train-images"):
        dl.data.load("mnist", tmp_path, validation=10)


def test_cifar10_binary_records(tmp_path):
    (tmp_path / "cifar10").mkdir()
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (30, 32, 32, 3), np.uint8)
    labels = (np.arange(30) % 10).astype(np.uint8)
    planes = images.transpose(0, 3, 1, 2).reshape(30, -1)
    records = np.concatenate([labels[:, None], planes], 1)
    with tarfile.open(tmp_path / "cifar10" / "cifar-10-binary.tar.gz", "w:gz") as archive:
        for name, rows in (("data_batch_1", records[:20]), ("test_batch", records[20:])):
            entry = tarfile.TarInfo(f"cifar-10-batches-bin/{name}.bin")
            entry.size = rows.nbytes
            archive.addfile(entry, io.BytesIO(rows.tobytes()))
    splits = dl.data.load("cifar10", tmp_path, validation=0)
    np.testing.assert_array_equal(splits.train["image"], images[:20])
    np.testing.assert_array_equal(splits.test["label"], labels[20:])


def _jpeg_set(folder, count=12, damaged=None):
    from PIL import Image

    folder.mkdir()
    for name in ("train", "test"):
        files = []
        for value in range(count):
            buffer = io.BytesIO()
            Image.fromarray(np.full((32, 32, 3), value * 20, np.uint8)).save(buffer, "JPEG")
            files.append(buffer.getvalue()[: 300 if value == damaged else None])
        offsets = np.cumsum([0, *map(len, files)])
        np.savez(
            folder / f"{name}.npz",
            jpeg=np.frombuffer(b"".join(files), np.uint8),
            offsets=offsets,
            label=np.arange(count) % 10,
        )


def test_jpeg_copies_are_decoded_once_and_cached(tmp_path, monkeypatch):
    monkeypatch.setenv("DL_CACHE", str(tmp_path / "cache"))
    _jpeg_set(tmp_path / "cifar10_jpeg")
    splits = dl.data.load("cifar10_jpeg", tmp_path, validation=0)
    expected = np.broadcast_to((np.arange(12) * 20)[:, None, None, None], (12, 32, 32, 3))
    assert np.abs(splits.train["image"].astype(int) - expected).max() <= 2
    assert len(list((tmp_path / "cache" / "decoded").iterdir())) == 1  # both files are equal
    monkeypatch.setattr("dl.data.sets.images.decode_images", None)  # a second decoding would fail
    again = dl.data.load("cifar10_jpeg", tmp_path, validation=0)
    np.testing.assert_array_equal(again.train["image"], splits.train["image"])


def test_a_damaged_picture_of_an_archive_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("DL_CACHE", str(tmp_path / "cache"))
    _jpeg_set(tmp_path / "cifar10_jpeg", damaged=7)
    with raises("picture-damaged", "train.npz, picture 7"):
        dl.data.load("cifar10_jpeg", tmp_path, validation=0)


def test_arrays_that_would_need_pickle_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("DL_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cifar10_jpeg").mkdir()
    for name in ("train", "test"):
        objects = np.array([{"unsafe": 1}], object)
        np.savez(
            tmp_path / "cifar10_jpeg" / f"{name}.npz", jpeg=objects, offsets=[0], label=objects
        )
    with raises("file-damaged", "train.npz"):
        dl.data.load("cifar10_jpeg", tmp_path)


def test_a_picture_is_read_at_the_height_asked_for():
    flower = read_picture("flower.jpg", 40)
    assert flower.shape == (40, 60, 3)
    assert read_picture("china.jpg", 40, 32).shape == (40, 32, 3)
    with raises("file-missing", "'rose.jpg'"):
        read_picture("rose.jpg", 40)


def test_a_picture_of_the_users_is_read_as_people_see_it(tmp_path):
    from PIL import Image

    stored = np.zeros((80, 160, 3), np.uint8)
    stored[:, :80] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # upright it is 160 tall, white on top
    Image.fromarray(stored).save(tmp_path / "a.png", exif=exif)
    seen = read_picture(str(tmp_path / "a.png"), 160)
    np.testing.assert_array_equal(seen, np.rot90(stored, -1))
    (tmp_path / "b.jpg").write_bytes((tmp_path / "a.png").read_bytes()[:100])
    with raises("picture-damaged", "b.jpg"):
        read_picture(str(tmp_path / "b.jpg"), 160)


def test_overlapping_squares_lie_in_rows():
    image = np.arange(5 * 7 * 2).reshape(5, 7, 2)
    squares = overlapping(image, 3, 2)
    assert squares.shape == (2 * 3, 3, 3, 2)
    np.testing.assert_array_equal(squares[4], image[2:5, 2:5])
