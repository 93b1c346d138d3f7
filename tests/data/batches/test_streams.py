"""Streams obey the contract of sets on the device, from any step, and fail with a clear word."""

import itertools
import os
import shutil
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from mistakes import raises

from dl.data.batches.resident import eval_batches, stream_rows, train_batches
from dl.data.batches.streams import (
    ArraySource,
    DecodeImage,
    StreamBatches,
    StreamEvalBatches,
    image_folder,
    open_arrays,
    source_digest,
)
from dl.data.batches.tokens import Chunks, Strided, crops, tracks
from dl.data.readers import files as sources
from dl.data.readers.files import sha256

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
    with raises("shard-impossible", "shard 0 of 3"):
        make(SOURCE, 16, shard=(0, 3))


def test_impossible_batches_are_named():
    with raises("batch-size-impossible", "choose 1 to 50"):
        StreamBatches(SOURCE, 51)


def test_a_traced_seed_is_refused_since_lanes_would_share_one_order():
    with raises("field-traced", "seed"):
        jax.eval_shape(lambda seed: StreamBatches(SOURCE, 8, seed).indices(0), np.int32(3))


def _broken(row):
    if row["x"] == 17:
        raise ValueError("bad picture")
    return row


def test_a_row_that_cannot_be_decoded_is_named():
    stream = StreamBatches(SOURCE, 10, decode=_broken)
    with raises("row-unreadable", "row 17", "ValueError: bad picture"):
        list(itertools.islice(stream.iterate(), 5))


def test_rows_of_different_shapes_or_of_words_ask_for_decoding():
    ragged = StreamBatches(SOURCE, 10, decode=lambda row: {"x": np.zeros(int(row["x"]) % 3)})
    with raises("row-shapes-differ"):
        ragged[0]
    words = StreamBatches(SOURCE, 10, decode=lambda row: {"x": "word"})
    with raises("column-not-numbers"):
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
    with raises("no-pictures"):
        image_folder(tmp_path / "cats")


def _picture(path, value=50, **options):
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 6), (value,) * 3).save(path, **options)


def test_what_is_no_class_and_no_picture_is_left_out_counted_and_named(tmp_path):
    endings = ("jpg", "JPEG", "png", "Bmp", "gif", "webp", "tif", "TIFF")
    for place, ending in enumerate(endings):
        _picture(tmp_path / "cat" / f"{place}.{ending}")
    _picture(tmp_path / "dog" / "kennel" / "_MG_1.jpg")
    for hidden in (".ipynb_checkpoints", "__MACOSX", "@eaDir", "_old", "cat/.thumbnails"):
        _picture(tmp_path / hidden / "a.jpg")
    for file in (".DS_Store", "cat/Thumbs.db", "cat/._0.jpg", "cat/notes.txt", "cat/README"):
        (tmp_path / file).write_bytes(b"no picture")
    _picture(tmp_path / "stray.png")
    (tmp_path / "Empty").mkdir()
    (tmp_path / "empty").mkdir()
    (tmp_path / "cat" / "gone.png").symlink_to(tmp_path / "nowhere")
    (tmp_path / "cat" / "again").symlink_to(tmp_path)
    (tmp_path / "dog" / "linked.png").symlink_to(tmp_path / "stray.png")
    with pytest.warns(UserWarning, match="left out") as warned:
        source, classes = image_folder(tmp_path)
    assert classes == ("Empty", "cat", "dog", "empty")
    names = [path.rsplit("/", 1)[1] for path in source.paths]
    assert names == [f"{i}.{ending}" for i, ending in enumerate(endings)] + [
        "_MG_1.jpg",
        "linked.png",
    ]
    assert source.labels == (1,) * 8 + (2, 2)
    (told,) = [str(item.message) for item in warned]
    for words in (
        "5 hidden folders (.ipynb_checkpoints, @eaDir, __MACOSX, ...)",
        "3 hidden files (.DS_Store, cat/._0.jpg, cat/Thumbs.db)",
        "1 files ending in .txt (cat/notes.txt)",
        "1 files without an ending (cat/README)",
        "1 pictures in no class's folder (stray.png)",
        "1 links to nothing (cat/gone.png)",
        "1 linked folders (cat/again)",
        "no picture in 2 of 4 classes (Empty, empty)",
        "differ in case alone (Empty, empty)",
        "1 pictures lie in folders inside a class (dog/kennel/_MG_1.jpg)",
    ):
        assert words in told
    decode = DecodeImage(4, 4)
    assert {decode(source[row])["image"].shape for row in range(len(source))} == {(4, 4, 3)}


def test_a_folder_without_oddities_warns_of_nothing(tmp_path, recwarn):
    _picture(tmp_path / "a" / "1.png")
    assert image_folder(tmp_path)[1] == ("a",)
    assert not recwarn


def test_a_folder_without_pictures_says_what_it_has(tmp_path):
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "1.heic").write_bytes(b"")
    with raises("no-pictures", "1 files ending in .heic"):
        image_folder(tmp_path)


def test_the_order_is_that_of_code_points_whatever_the_file_system_says(tmp_path, monkeypatch):
    for name in ("zebra", "Ant", "a\u0308pfel", "b"):  # the first letter of the third decomposed
        for file in ("10.png", "9.png", "A.png", "a.png"):
            _picture(tmp_path / name / file)
    listed = os.listdir
    monkeypatch.setattr(os, "listdir", lambda path: sorted(listed(path), reverse=True))
    source, classes = image_folder(tmp_path)
    assert classes == ("Ant", "b", "zebra", "\u00e4pfel")
    assert [path.rsplit("/", 1)[1] for path in source.paths[:4]] == [
        "10.png",
        "9.png",
        "A.png",
        "a.png",
    ]


@pytest.mark.parametrize("processes", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_a_damaged_picture_stops_the_reading_in_one_line_with_its_name(tmp_path, processes):
    for number in range(5):
        _picture(tmp_path / "cat" / f"{number}.png")
    broken = tmp_path / "cat" / "3.png"
    broken.write_bytes(broken.read_bytes()[:-30])
    source, _ = image_folder(tmp_path)
    stream = StreamEvalBatches(source, 5, decode=DecodeImage(4, 4), processes=processes)
    with raises("picture-damaged", "row 3", "3.png"):
        list(stream.iterate())


def test_a_digest_of_files_is_of_their_bytes_and_not_of_their_place(tmp_path):
    for place in ("one", "two"):
        for name in "ab":
            for number in range(70):
                _picture(tmp_path / place / name / f"{number}.png", value=number)
    one, two = (image_folder(tmp_path / place)[0] for place in ("one", "two"))
    before = one.digest()
    assert before == two.digest() == StreamBatches(one, 5).digest()
    changed = tmp_path / "two" / "a" / "33.png"
    data = bytearray(changed.read_bytes())
    data[-20] ^= 1
    changed.write_bytes(data)  # as many bytes, perhaps within one tick of the clock
    assert two.digest() != before
    shutil.move(tmp_path / "one" / "b" / "9.png", tmp_path / "one" / "a" / "99.png")
    assert image_folder(tmp_path / "one")[0].digest() != before
    (tmp_path / "one" / "a" / "1.png").unlink()
    with raises("file-read", "1.png"):
        one.digest()


def test_files_are_digested_once_and_again_after_a_change(tmp_path, monkeypatch):
    monkeypatch.setenv("DL_CACHE", str(tmp_path / "cache"))
    reads = []
    monkeypatch.setattr(sources, "sha256", lambda path: reads.append(path) or sha256(path))
    paths = [tmp_path / name for name in "abc"]
    for path in paths:
        path.write_bytes(path.name.encode())
    first = sources.digest_files(paths)
    assert sources.digest_files(paths) == first
    assert len(reads) == 6  # so young that a change might go unseen: read again
    later = time.time_ns() + 3 * 10**9
    monkeypatch.setattr(sources.time, "time_ns", lambda: later)
    assert [sources.digest_files(paths) for _ in range(3)] == [first] * 3
    assert len(reads) == 9
    paths[1].write_bytes(b"B")
    assert sources.digest_files(paths) != first
    assert len(reads) == 12
    monkeypatch.setenv("DL_CACHE", str(paths[0]))  # no folder: kept nowhere, and still right
    assert sources.digest_files(paths) == sources.digest_files(paths)
    assert sources.digest_files(paths[::-1]) != sources.digest_files(paths)


def test_a_digest_of_arrays_is_of_every_byte(tmp_path):
    array = np.zeros((1000, 3), np.uint8)
    paths = {"x": tmp_path / "x.npy", "y": tmp_path / "y.npy"}
    for path in paths.values():
        np.save(path, array)
    before = open_arrays(paths).digest()
    in_memory = source_digest(ArraySource({"x": array}))
    array[501, 1] = 1  # no row that a sample of 64 would meet
    np.save(paths["y"], array)
    assert open_arrays(paths).digest() != before
    assert source_digest(ArraySource({"x": array})) != in_memory
    assert source_digest(ArraySource({"x": np.array(["a", None], object)})) != source_digest(
        ArraySource({"x": np.array(["b", None], object)})
    )


def test_a_foreign_source_of_files_is_digested_by_their_content(tmp_path):
    class Foreign:
        def __len__(self):
            return 2

        def __getitem__(self, row):
            return {"file": str(tmp_path / f"{row}.bin"), "label": row}

    for row in range(2):
        (tmp_path / f"{row}.bin").write_bytes(b"one")
    before = source_digest(Foreign())
    (tmp_path / "1.bin").write_bytes(b"two")
    assert source_digest(Foreign()) != before


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
    with raises("file-read", "x.npy"):
        open_arrays({"x": tmp_path / "x.npy"})


def test_a_mapped_file_changed_while_it_is_read_is_told_and_no_sigbus(tmp_path):
    numbers = np.arange(9000) % 50
    np.save(tmp_path / "x.npy", numbers)
    numbers.astype("<u2").tofile(tmp_path / "x.bin")
    array = open_arrays({"x": tmp_path / "x.npy"})
    tokens = np.memmap(tmp_path / "x.bin", "<u2", "r")
    rows = np.arange(3)
    reads = (
        lambda: array[8999],
        lambda: array.take(rows),
        lambda: crops(tokens, 8, 4).source.take(rows),
        lambda: tracks(tokens, 8, 4)[0],
        lambda: Chunks(tokens, 8, 1, 2).take(rows),
        lambda: Strided(np.arange(9000), 8, 8, {"bytes": tokens}).take(rows),
    )
    for read in reads:
        read()
    before = [read() for read in reads]
    for name in ("x.npy", "x.bin"):  # another of that name, or none, is not the one that is mapped
        path = tmp_path / name
        path.rename(tmp_path / f"was-{name}")
        path.write_bytes(b"another")
    jax.tree.map(np.testing.assert_array_equal, before, [read() for read in reads])
    for mapped in (array, crops(tokens, 8, 4).source):  # nor is its digest theirs
        with raises("file-damaged", str(tmp_path / "x."), "is another", "new process"):
            mapped.digest()
    for name in ("x.npy", "x.bin"):
        (tmp_path / name).unlink()
    jax.tree.map(np.testing.assert_array_equal, before, [read() for read in reads])
    for name in ("x.npy", "x.bin"):
        (tmp_path / f"was-{name}").rename(tmp_path / name)
    times = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    for path, then in times.items():
        with open(path, "r+b") as file:
            file.seek(-2, os.SEEK_END)
            file.write(b"\7")
        os.utime(path, ns=(then, then + 10**7))  # a clock may tick slower than this test
    for read in reads:
        with raises("file-damaged", str(tmp_path / "x."), "was written to", "--resume"):
            read()
    for path in times:
        os.truncate(path, 100)
    for read in reads:
        with raises("file-damaged", str(tmp_path / "x."), "cut short", "to 100 of", "--resume"):
            read()


SCRIPT = """
import os, sys
import numpy as np
from dl.core.errors import UserError
from dl.data.batches.streams import ArraySource, StreamBatches

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


def test_small_batches_are_read_several_at_once_and_stay_in_order():
    source = ArraySource({"x": np.arange(103, dtype=np.int32)})
    batches, held = StreamBatches(source, 4, 5), StreamEvalBatches(source, 10)
    for step, batch in zip(range(7, 207), batches.iterate(7), strict=False):
        expected = stream_rows(step, 103, 4, np.uint32(5), np)
        np.testing.assert_array_equal(batch["x"], expected)
        np.testing.assert_array_equal(batches.indices(step), expected)
    read = list(held.iterate(3))
    assert len(read) == len(held) - 3
    np.testing.assert_array_equal(np.concatenate([b["x"] for b in read])[:73], np.arange(30, 103))
