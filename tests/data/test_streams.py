"""Streams obey the contract of sets on the device, from any step, and fail with a clear word."""

import itertools
import os
import subprocess
import sys

import numpy as np
import pytest

from dl.core.errors import UserError
from dl.data.batches import eval_batches, stream_rows, train_batches
from dl.data.streams import (
    ArraySource,
    DecodeImage,
    StreamBatches,
    StreamEvalBatches,
    image_folder,
    open_arrays,
    source_digest,
)

SOURCE = ArraySource({"x": np.arange(50), "y": np.arange(50) * 0.5})


def twice(row):
    return {"x": row["x"] * 2}


def test_rows_are_those_of_a_set_on_the_device():
    stream = StreamBatches(SOURCE, 8, seed=4)
    resident = train_batches(dict(SOURCE.arrays), 8, seed=4)
    for step in (0, 6, 1000):
        for name in ("x", "y"):
            np.testing.assert_array_equal(stream[step][name], resident[step][name])
        np.testing.assert_array_equal(
            stream.indices(step), stream_rows(step, 50, 8, np.uint32(4), np)
        )


@pytest.mark.parametrize("start", [0, 5])
def test_reading_goes_on_from_any_step_in_order(start):
    stream = StreamBatches(SOURCE, 8, seed=1, decode=twice, threads=3, prefetch=2)
    for step, batch in zip(range(start, start + 20), stream.iterate(start), strict=False):
        np.testing.assert_array_equal(batch["x"], stream[step]["x"])
        np.testing.assert_array_equal(batch["x"], stream.indices(step) * 2)


def test_evaluation_is_padded_masked_and_ends():
    stream, resident = StreamEvalBatches(SOURCE, 16), eval_batches(dict(SOURCE.arrays), 16)
    batches = list(stream.iterate())
    assert len(batches) == len(stream) == len(resident) == 4
    for index, batch in enumerate(batches):
        for name in ("x", "y", "mask"):
            np.testing.assert_array_equal(batch[name], resident[index][name])
    assert len(list(stream.iterate(3))) == 1


@pytest.mark.parametrize("make", [StreamBatches, StreamEvalBatches])
def test_shards_are_the_pieces_of_the_whole_batch(make):
    whole = make(SOURCE, 16)[2]
    parts = [make(SOURCE, 16, shard=(i, 4))[2] for i in range(4)]
    for name in whole:
        np.testing.assert_array_equal(np.concatenate([p[name] for p in parts]), whole[name])
    with pytest.raises(UserError, match="shard 0 of 3 is impossible"):
        make(SOURCE, 16, shard=(0, 3))


def test_impossible_batches_are_named():
    with pytest.raises(UserError, match="choose 1 to 50"):
        StreamBatches(SOURCE, 51)


def _broken(row):
    if row["x"] == 17:
        raise ValueError("bad picture")
    return row


def test_a_row_that_cannot_be_decoded_is_named():
    stream = StreamBatches(SOURCE, 10, decode=_broken)
    with pytest.raises(UserError, match="reading row 17 failed: ValueError: bad picture"):
        list(itertools.islice(stream.iterate(), 5))


def test_rows_of_different_shapes_or_of_words_ask_for_decoding():
    ragged = StreamBatches(SOURCE, 10, decode=lambda row: {"x": np.zeros(int(row["x"]) % 3)})
    with pytest.raises(UserError, match="rows of different shapes"):
        ragged[0]
    words = StreamBatches(SOURCE, 10, decode=lambda row: {"x": "word"})
    with pytest.raises(UserError, match="not numbers"):
        words[0]


def test_digests_tell_sets_apart_cheaply():
    other = ArraySource({**SOURCE.arrays, "x": np.arange(50) + 1})
    assert source_digest(SOURCE) == StreamBatches(SOURCE, 5).digest()
    assert source_digest(SOURCE) == StreamEvalBatches(SOURCE, 7).digest()
    assert source_digest(SOURCE) != source_digest(other)
    assert source_digest(SOURCE) != source_digest(ArraySource({"x": np.arange(51)}))


def test_pictures_in_folders(tmp_path):
    from PIL import Image

    for name, value in (("cats", 50), ("dogs", 200)):
        (tmp_path / name).mkdir()
        for place, size in enumerate([(30, 20), (16, 16), (9, 40)]):
            Image.new("RGB", size, (value, value, value)).save(tmp_path / name / f"{place}.png")
    (tmp_path / "cats" / "notes.txt").write_text("no picture")
    source, classes = image_folder(tmp_path)
    assert classes == ("cats", "dogs")
    (batch,) = StreamEvalBatches(source, 6, decode=DecodeImage(8, 12)).iterate()
    assert batch["image"].shape == (6, 8, 12, 3)
    np.testing.assert_array_equal(batch["image"][:, 4, 4, 0], np.repeat([50, 200], 3))
    np.testing.assert_array_equal(batch["label"], np.repeat([0, 1], 3))
    with pytest.raises(UserError, match="no pictures"):
        image_folder(tmp_path / "cats")


def _anonymous_kib() -> int:
    with open("/proc/self/status", encoding="utf-8") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("RssAnon"))


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="measures memory by /proc")
def test_a_mapped_file_streams_at_constant_memory(tmp_path):
    path = tmp_path / "big.npy"
    big = np.lib.format.open_memmap(path, "w+", np.uint8, (4096, 1024, 1024))  # 4 GiB, sparse
    big[1234] = 7
    del big
    source = open_arrays({"x": path})
    stream = StreamBatches(source, 4, seed=0)
    before = _anonymous_kib()
    for _, batch in zip(range(60), stream.iterate(), strict=False):
        assert batch["x"].shape == (4, 1024, 1024)
    assert _anonymous_kib() - before < 200 * 1024
    assert (source[1234]["x"] == 7).all()


def test_a_file_that_is_no_array_is_named(tmp_path):
    (tmp_path / "x.npy").write_bytes(b"something else")
    with pytest.raises(UserError, match="cannot map"):
        open_arrays({"x": tmp_path / "x.npy"})


SCRIPT = """
import os, sys
import numpy as np
from dl.core.errors import UserError
from dl.data.streams import ArraySource, StreamBatches

def decode(row):
    if sys.argv[1] == "die" and row["x"] == 17:
        os._exit(9)
    return {"x": row["x"] * 2}

if __name__ == "__main__":
    stream = StreamBatches(ArraySource({"x": np.arange(50)}), 8, decode=decode, processes=2)
    try:
        for step, batch in zip(range(20), stream.iterate()):
            assert (batch["x"] == stream.indices(step) * 2).all()
        print("read")
    except UserError as error:
        print(error)
"""


@pytest.mark.parametrize(("fate", "words"), [("live", "read"), ("die", "a reading process died")])
def test_processes_read_the_same_and_their_death_is_told(tmp_path, fate, words):
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, str(tmp_path / "script.py"), fate]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert words in result.stdout, result.stderr
