"""Every named set loads to what its published description says."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from mistakes import raises

import dl.data
from dl.data.sets import catalogue

SIZES = {  # train, validation, test, as published or as each set's Info promises
    "mnist": (55000, 5000, 10000),
    "bccd": (205, 87, 72),
    "isbi_membrane": (20, 4, 6),
    "camvid": (367, 101, 233),
    "magnetic_tile": (802, 271, 271),
    "tinyshakespeare": (1003854, 111540, None),
    "sst2": (6920, 872, 1821),
    "multi30k": (29000, 1014, 1000),
    "fsdd": (2400, 300, 300),
    "ett": (8640, 2880, 2880),
    "m4_hourly": (414, 414, 414),
    "movielens_100k": (98114, 943, 943),
    "adult": (26048, 6513, 16281),
    "german": (640, 160, 200),
    "mammography": (7157, 1789, 2237),
    "pima": (491, 123, 154),
}


@pytest.mark.data
@pytest.mark.parametrize("name", SIZES)
def test_sizes_of_real_sets(name, data_dir):
    splits = dl.data.load(name, data_dir)
    sizes = splits.info.sizes
    assert (sizes["train"], sizes["validation"], sizes.get("test")) == SIZES[name]
    for part in (splits.train, splits.validation, splits.test):
        assert len({len(column) for column in part.values()}) <= 1
        assert all(column.dtype != object for column in part.values())
    assert all(len(digest) == 64 for digest in splits.info.digests.values())


def test_digits_need_no_file_and_are_the_same_every_time(tmp_path):
    first, again, other = (dl.data.load("digits", tmp_path, seed=seed) for seed in (0, 0, 1))
    assert first.info.sizes == {"train": 1257, "validation": 180, "test": 360}
    assert first.train["image"].shape == (1257, 8, 8, 1)
    assert (first.train["image"].dtype, first.train["image"].max()) == (np.uint8, 255)
    np.testing.assert_array_equal(first.test["image"], again.test["image"])
    assert (first.test["label"] != other.test["label"]).any()


def test_digits_parts_do_not_overlap_and_together_are_whole(tmp_path):
    splits = dl.data.load("digits", tmp_path, validation=0.2)
    parts = (splits.train, splits.validation, splits.test)
    images = np.concatenate([part["image"] for part in parts]).reshape(1797, 64)
    from sklearn.datasets import load_digits

    whole = np.round(load_digits().data * (255 / 16)).astype(np.uint8)
    order, reference = np.lexsort(images.T), np.lexsort(whole.T)
    np.testing.assert_array_equal(images[order], whole[reference])
    assert len(splits.validation["label"]) == round(0.2 * 1437)


def test_validation_may_be_left_out(tmp_path):
    splits = dl.data.load("digits", tmp_path, validation=0)
    assert splits.validation == {}
    assert splits.info.sizes == {"train": 1437, "test": 360}


def test_every_file_of_sets_is_in_the_catalogue():
    files = Path(catalogue.__file__).parent.glob("*.py")
    with_sets = {file.stem for file in files if "\nSETS = " in file.read_text()}
    assert with_sets == set(catalogue._ROOMS)


def test_every_name_is_described():
    for name in dl.data.names():
        info = dl.data.describe(name)
        assert info.name == name
        assert info.title
        assert info.source
        assert info.licence
        assert info.description


def test_an_unknown_name_gets_a_suggestion():
    with raises("unknown", "did you mean 'mnist'"):
        dl.data.load("minst")


def test_a_wish_for_too_much_validation_is_one_clear_error(tmp_path):
    with raises("hold-out-impossible", "5000 of 1437"):
        dl.data.load("digits", tmp_path, validation=5000)


def test_importing_stays_light():
    heavy = (
        "sklearn",
        "tensorflow_datasets",
        "tensorflow",
        "PIL",
        "soundfile",
        "grain",
        "tokenizers",
        "rich",
    )
    code = f"import sys, dl.data; print([m for m in {heavy} if m in sys.modules])"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


@pytest.mark.data
def test_mnist_validation_is_shuffled_over_the_classes(data_dir):
    splits = dl.data.load("mnist", data_dir)
    counts = np.bincount(splits.validation["label"], minlength=10)
    share = np.bincount(splits.train["label"], minlength=10) / 11
    assert np.abs(counts - share).max() < 2
    pixels = splits.train["image"] / 255
    assert abs(pixels.mean() - 0.1307) < 1e-3
    assert abs(pixels.std() - 0.3081) < 1e-3


@pytest.mark.data
def test_test_rows_are_the_same_whatever_is_held_out(data_dir):
    for name in ("mnist", "fsdd", "sst2"):
        first, other = (
            dl.data.load(name, data_dir),
            dl.data.load(name, data_dir, validation=7, seed=3),
        )
        for column, values in first.test.items():
            np.testing.assert_array_equal(values, other.test[column])
        assert other.info.sizes["validation"] == 7
