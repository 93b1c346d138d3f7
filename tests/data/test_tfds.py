"""TFDS sets prepared beforehand are read without TensorFlow; what cannot be had is explained."""

import importlib.util
import io

import numpy as np
import pytest

import dl.data
from dl.core.errors import UserError
from dl.data.streams import StreamBatches
from dl.data.tfds import open_source

tfds = pytest.importorskip("tensorflow_datasets")


def _png(height: int, width: int, value: int) -> io.BytesIO:
    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (width, height), (value, value, value)).save(file, "PNG")
    file.seek(0)
    return file


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A small set, prepared in the format that needs no TensorFlow."""
    folder = tmp_path_factory.mktemp("data")

    class DlTiny(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")
        pkg_dir_path = folder / "package"
        pkg_dir_path.mkdir()

        def _info(self):
            features = tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Tensor(shape=(4, 4, 1), dtype=np.uint8),
                    "label": tfds.features.ClassLabel(names=["cat", "dog"]),
                    "note": tfds.features.Text(),
                    "odd": tfds.features.Image(encoding_format="png"),
                    "more": {"place": tfds.features.Scalar(np.int64)},
                }
            )
            return tfds.core.DatasetInfo(builder=self, features=features)

        def _split_generators(self, manager):
            return {"train": self._generate_examples(20), "test": self._generate_examples(6)}

        def _generate_examples(self, count):
            for number in range(count):
                image = np.full((4, 4, 1), number, np.uint8)
                yield (
                    number,
                    {
                        "image": image,
                        "label": number % 2,
                        "note": f"n{number}",
                        "odd": _png(8 + number % 3, 6, number),
                        "more": {"place": number},
                    },
                )

    DlTiny(data_dir=str(folder / "tfds"), file_format="array_record").download_and_prepare()
    return folder


def test_a_prepared_set_loads_as_columns(prepared):
    splits = dl.data.load("tfds:dl_tiny@4", prepared)
    assert splits.info.classes == ("cat", "dog")
    assert splits.info.sizes == {"train": 18, "validation": 2, "test": 6}
    for part in (splits.train, splits.validation, splits.test):
        np.testing.assert_array_equal(part["image"][:, 0, 0, 0] % 2, part["label"])
        assert [f"n{image[0, 0, 0]}" for image in part["image"]] == part["note"].tolist()
    assert splits.validation["label"].tolist() in ([0, 1], [1, 0])
    assert splits.train["label"].dtype == np.int32
    np.testing.assert_array_equal(splits.train["more/place"], splits.train["odd"][:, 3, 3, 0])
    assert splits.train["odd"].shape == (18, 4, 4, 3)
    assert "fitted to 4 x 4" in splits.info.description


def test_pictures_of_different_sizes_ask_for_one(prepared):
    with pytest.raises(UserError, match=r"'odd' differs in shape .* tfds:NAME@64"):
        dl.data.load("tfds:dl_tiny", prepared)
    with pytest.raises(UserError, match="size in pixels"):
        dl.data.load("tfds:dl_tiny@big", prepared)


def test_a_prepared_set_streams_by_random_access(prepared):
    def decode(row):
        return {"image": row["image"], "label": row["label"]}

    stream = StreamBatches(open_source("dl_tiny", "train", prepared), 5, decode=decode)
    for _, batch in zip(range(4), stream.iterate(), strict=False):
        np.testing.assert_array_equal(batch["image"][:, 0, 0, 0] % 2, batch["label"])


def test_a_set_is_described_without_being_there():
    info = dl.data.describe("tfds:mnist")
    assert info.classes == tuple("0123456789")
    assert "handwritten digits" in info.description


def test_an_unknown_name_gets_suggestions(tmp_path):
    with pytest.raises(UserError, match=r"no set 'mnst': did you mean mnist"):
        dl.data.load("tfds:mnst", tmp_path)


def test_a_set_out_of_reach_is_explained_at_once(tmp_path, monkeypatch):
    def unknown_host(*_):
        raise OSError("no network")

    monkeypatch.setattr("socket.getaddrinfo", unknown_host)
    with pytest.raises(UserError, match=r"tfds:mnist is not prepared .* cannot be reached"):
        dl.data.load("tfds:mnist", tmp_path)


@pytest.mark.skipif(importlib.util.find_spec("tensorflow") is not None, reason="has TensorFlow")
def test_a_missing_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("dl.data.tfds._out_of_reach", lambda builder: None)

    def needs_tensorflow(self, **_):
        import tensorflow  # noqa: F401

    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", needs_tensorflow)
    with pytest.raises(UserError, match=r"not here \(tensorflow\): pip install 'dl\[tfds\]'"):
        dl.data.load("tfds:mnist", tmp_path)
