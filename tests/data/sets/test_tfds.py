"""TFDS sets prepared beforehand are read without TensorFlow; what cannot be had is explained."""

import importlib.util
import io
import pickle
from pathlib import Path

import numpy as np
import pytest
from mistakes import raises

import dl.data
from dl.data.batches.streams import StreamBatches
from dl.data.sets.tfds import open_source

tfds = pytest.importorskip("tensorflow_datasets")

PALETTE = np.random.default_rng(0).integers(0, 256, (256, 3))


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
    with raises("row-shapes-differ", "'odd'", "tfds:NAME@64"):
        dl.data.load("tfds:dl_tiny", prepared)
    with raises("tfds-picture-size", "'big'"):
        dl.data.load("tfds:dl_tiny@big", prepared)


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """Sets with pictures that EXIF turns: one of pictures alone, one with a label image and a box."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("labelled")
    picture = np.zeros((6, 9, 3), np.uint8)
    picture[:, :4] = 200
    numbers = np.where(picture[..., 0] > 0, 200, 0).astype(np.uint8)
    indexed = Image.fromarray(numbers, "P")
    indexed.putpalette(PALETTE.reshape(-1).tolist())
    exif = Image.Exif()
    exif[0x0112] = 6

    def encoded(image, **options):
        file = io.BytesIO()
        image.save(file, "PNG", **options)
        return file.getvalue()

    photograph, palette = encoded(Image.fromarray(picture), exif=exif), encoded(indexed)
    see_through = encoded(Image.fromarray(np.zeros((6, 9, 4), np.uint8)))
    features = tfds.features
    alone = {
        "image": features.Image(),
        "icon": features.Image(),
        "odd": features.Image(shape=(None, None, 1)),
    }
    beside = {
        "image": features.Image(),
        "more": {"mask": features.Image(shape=(None, None, 1), use_colormap=True)},
        "object": {"bbox": features.BBoxFeature()},
    }

    class Base(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
        VERSION = tfds.core.Version("1.0.0")
        pkg_dir_path = folder / "package"

        def _split_generators(self, manager):
            return {
                name: self._generate_examples(count) for name, count in (("train", 4), ("test", 2))
            }

    class DlTurned(Base):
        def _info(self):
            return tfds.core.DatasetInfo(builder=self, features=features.FeaturesDict(alone))

        def _generate_examples(self, count):
            for number in range(count):
                yield number, {"image": photograph, "icon": see_through, "odd": palette}

    class DlBeside(Base):
        def _info(self):
            return tfds.core.DatasetInfo(builder=self, features=features.FeaturesDict(beside))

        def _generate_examples(self, count):
            box = features.BBox(0.0, 0.0, 1.0, 0.5)
            for number in range(count):
                yield (
                    number,
                    {"image": photograph, "more": {"mask": palette}, "object": {"bbox": box}},
                )

    Base.pkg_dir_path.mkdir()
    for make in (DlTurned, DlBeside):
        make(data_dir=str(folder / "tfds"), file_format="array_record").download_and_prepare()
    return folder, picture, numbers


def test_pictures_come_upright_over_white_and_label_images_as_stored(labelled):
    folder, picture, numbers = labelled
    alone = dl.data.load("tfds:dl_turned", folder).test
    np.testing.assert_array_equal(alone["image"][0], np.rot90(picture, -1))
    assert (alone["icon"] == 255).all()
    colours = PALETTE @ [0.299, 0.587, 0.114]  # grey by ITU-R BT.601
    np.testing.assert_allclose(alone["odd"][0, ..., 0], colours[numbers], atol=1)
    beside = dl.data.load("tfds:dl_beside", folder).test
    np.testing.assert_array_equal(beside["image"][0], picture)  # as its box and its labels lie
    np.testing.assert_array_equal(beside["more/mask"][0, ..., 0], numbers)


def test_fitted_label_images_get_no_new_numbers_and_boxes_are_spoken_of(labelled):
    with pytest.warns(UserWarning, match="object/bbox are of the whole pictures"):
        test = dl.data.load("tfds:dl_beside@5", labelled[0]).test
    assert test["image"].shape == (2, 5, 5, 3)
    assert set(np.unique(test["more/mask"])) == {0, 200}


def test_a_stream_is_digested_by_its_files_and_part(labelled):
    whole, part = (open_source("dl_beside", split, labelled[0]) for split in ("train", "train[:2]"))
    assert len(part) == 2
    assert whole.digest() == open_source("dl_beside", "train", labelled[0]).digest()
    assert whole.digest() != part.digest()
    pickle.dumps(whole.rows.decoders)  # as reading processes get them
    file = Path(whole.files[0])
    data = bytearray(file.read_bytes())
    before = whole.digest()
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    assert whole.digest() != before


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
    with raises("unknown", "'mnst'", "did you mean mnist"):
        dl.data.load("tfds:mnst", tmp_path)


def test_a_set_out_of_reach_is_explained_at_once(tmp_path, monkeypatch):
    def unknown_host(*_):
        raise OSError("no network")

    monkeypatch.setattr("socket.getaddrinfo", unknown_host)
    with raises("tfds-not-prepared", "tfds:mnist", "cannot be reached"):
        dl.data.load("tfds:mnist", tmp_path)


@pytest.mark.skipif(importlib.util.find_spec("tensorflow") is not None, reason="has TensorFlow")
def test_a_missing_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("dl.data.sets.tfds._out_of_reach", lambda builder: None)

    def needs_tensorflow(self, **_):
        import tensorflow  # noqa: F401

    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", needs_tensorflow)
    with raises("package-missing", "(tensorflow)", "pip install -e '.[tfds]'"):
        dl.data.load("tfds:mnist", tmp_path)
