"""Pictures that lie within Parquet and Arrow tables: the columns of the Hugging Face hub, and plain bytes."""

import io
import json
import pickle
import re

import numpy as np
import pyarrow as pa
import pytest
from mistakes import raises
from PIL import Image
from pyarrow import parquet

import dl
from dl.data.own.kinds import guessed_kind

RNG = np.random.default_rng(0)


def encoded(count, size=(6, 5), kind="PNG", mode="RGB"):
    """Files of pictures, as bytes."""
    found = []
    for _ in range(count):
        file, shape = io.BytesIO(), (*size, 3) if mode == "RGB" else size
        Image.fromarray(RNG.integers(0, 256, shape, np.uint8), mode).save(file, kind)
        found.append(file.getvalue())
    return found


def hub(files, labels, names=("cat", "dog", "ant"), **more):
    """A table as ``datasets`` writes it: ``{bytes, path}``, class numbers, and their names in the schema."""
    cells = [{"bytes": file, "path": f"{row}.png"} for row, file in enumerate(files)]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    features = {"image": {"_type": "Image"}, "label": {"names": list(names), "_type": "ClassLabel"}}
    noted = json.dumps({"info": {"features": features}})
    table = pa.table({"image": pa.array(cells, kind), "label": labels, **more})
    return table.replace_schema_metadata({"huggingface": noted})


def pixels(file):
    return np.asarray(Image.open(io.BytesIO(file)))


def rows(splits):
    """Every picture's bytes and class, whatever the part."""
    return {
        (image.tobytes(), splits.info.classes[label])
        for part in splits.parts.values()
        for image, label in zip(part["image"], part["label"], strict=True)
    }


def test_shards_by_part_keep_the_hubs_numbers(tmp_path, capsys):
    files, place = encoded(24), tmp_path / "data"
    place.mkdir()
    for name, some in {
        "train-00000-of-00002": range(10),
        "train-00001-of-00002": range(10, 18),
        "test-00000-of-00001": range(18, 24),
    }.items():
        labels = [row % 3 for row in some]
        parquet.write_table(hub([files[row] for row in some], labels), place / f"{name}.parquet")
    assert guessed_kind(str(tmp_path)) == "pictures"
    splits = dl.data.open(tmp_path, "pictures", hold_out=(0.2, 0))
    assert splits.info.classes == ("cat", "dog", "ant")
    assert splits.info.sizes["test"] == 6
    np.testing.assert_array_equal(splits.test["image"], [pixels(file) for file in files[18:]])
    np.testing.assert_array_equal(splits.test["label"], [row % 3 for row in range(18, 24)])
    assert rows(splits) == {
        (pixels(file).tobytes(), ("cat", "dog", "ant")[row % 3]) for row, file in enumerate(files)
    }
    assert "not here" not in capsys.readouterr().err
    (place / "train-00000-of-00002.parquet").unlink()
    assert len(rows(dl.data.open(place, "pictures", hold_out=(0.2, 0)))) == 14
    assert re.search(r"train +1 of 2 files +by their names", capsys.readouterr().err)


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_plain_bytes_and_classes_in_words_stream_to_the_same_bits(tmp_path, kind):
    files = encoded(40, kind="JPEG") + encoded(2, mode="L")
    labels = pa.array([("b", "a")[row % 2] for row in range(42)]).dictionary_encode()
    table = pa.table(
        {"picture": pa.array(files, pa.large_binary()), "kind": labels, "x": range(42)}
    )
    path = tmp_path / f"all.{kind}"
    if kind == "parquet":
        parquet.write_table(table, path, row_group_size=5)
    else:
        with pa.ipc.new_file(path, table.schema) as file:
            file.write_table(table, max_chunksize=7)
    whole, stream = (
        dl.data.open(path, "pictures", stream=stream, label="kind") for stream in (False, True)
    )
    assert whole.info.classes == ("a", "b")
    assert whole.info.digests.keys() == {path.name}
    read = stream.train.read()
    for name in ("image", "label"):
        np.testing.assert_array_equal(whole.train[name], read[name])
    batches, again = (dl.train_batches(part.train, 8) for part in (whole, stream))
    for step in (0, 3, 5):
        for name, value in batches[step].items():
            np.testing.assert_array_equal(value, again[step][name])
    elsewhere = pickle.loads(pickle.dumps(stream.train))  # as processes that decode get it
    np.testing.assert_array_equal(elsewhere[3]["image"], stream.train[3]["image"])
    assert stream.train.digest() == elsewhere.digest() != stream.validation.digest()
    reopened = dl.data.open(path, "pictures", stream=True, label="kind", size=(4,))
    assert len(pickle.dumps(stream.train)) < 20_000  # places, no pictures
    assert reopened.train.digest() != stream.train.digest()


def test_rows_without_a_picture_or_a_class_are_skipped(tmp_path):
    files = encoded(30)
    files[4] = None
    labels = [row % 3 for row in range(30)]
    labels[7] = -1  # as the hub's test parts have it
    parquet.write_table(hub(files, labels), tmp_path / "all.parquet")
    splits = dl.data.open(tmp_path / "all.parquet", "pictures")
    assert sum(splits.info.sizes.values()) == 28
    skipped = next(line for line in splits.info.details["lines"] if line.name == "skipped")
    assert skipped.taken_for == "2 rows"


def test_what_is_amiss_is_told(tmp_path):
    files, path = encoded(12), tmp_path / "all.parquet"
    labels = [row % 3 for row in range(12)]
    damaged = [*files[:5], files[5][:40], *files[6:]]
    parquet.write_table(hub(damaged, labels), path)
    with raises("picture-damaged", "5", "replace it"):
        dl.data.open(path, "pictures")
    parquet.write_table(hub(files, labels, mask=pa.array(files)), path)
    with raises("column-unnamed", "image, mask", "--image"):
        dl.data.open(path, "pictures")
    assert dl.data.open(path, "pictures", image="mask").info.classes == ("cat", "dog", "ant")
    parquet.write_table(pa.table({"image": pa.array(files)}), path)
    with raises("column-unnamed", "classes", "--label"):
        dl.data.open(path, "pictures")
    (tmp_path / "parts").mkdir()
    parquet.write_table(hub(files, labels), tmp_path / "parts" / "train.parquet")
    parquet.write_table(pa.table({"label": labels}), tmp_path / "parts" / "test.parquet")
    with raises("table-columns-differ", "test.parquet", "image"):
        dl.data.open(tmp_path / "parts", "pictures")
    path.write_bytes(path.read_bytes()[:-9])
    with raises("file-damaged"):
        dl.data.open(path, "pictures")


def test_bytes_that_are_no_pictures_are_no_pictures(tmp_path):
    """Text that other programs write as bytes without a type."""
    path = tmp_path / "all.parquet"
    table = pa.table({"a": pa.array([b"one", b"two"] * 20), "b": [0.5, 1.5] * 20})
    parquet.write_table(table, path)
    assert guessed_kind(str(path)) != "pictures"
