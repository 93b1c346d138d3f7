"""Sizes are looked at before memory is taken: what a small file promises or unfolds to fills no machine."""

import gzip
import io
import json
import os
import struct
import tarfile
import zipfile

import numpy as np
import pyarrow as pa
import pytest
import soundfile
from mistakes import raises
from pyarrow import parquet

import dl.data
from dl.data.own import token_files
from dl.data.readers import arrow_tables, files
from dl.data.readers.files import members, read
from dl.data.readers.frames import read_frame
from dl.data.readers.on_disk import batches, stored_table
from dl.data.sets import recordings
from dl.data.sets.images import jpeg_columns, parse_idx
from dl.data.sets.recordings import read_wav
from dl.interop import folder as weights

ZEROS = bytes(8 * 2**20)
TOO_LARGE = ("unpacked-too-large", "bytes and unpacks to more than", "unpack it yourself")


@pytest.fixture
def little(monkeypatch):
    """Small files may unfold to 64 KiB, so that the test's bombs are small too."""
    monkeypatch.setattr(files, "_LITTLE", 2**16)


def packed(path, kind):
    if kind == "gz":
        path.write_bytes(gzip.compress(ZEROS))
    elif kind == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("a.txt", ZEROS)
    elif kind == "npz":
        np.savez_compressed(path, label=np.zeros(2**20))
    else:
        with tarfile.open(path, kind) as archive:
            for number in range(4):
                member = tarfile.TarInfo(f"{number}.txt")
                member.size = len(ZEROS) // 4
                archive.addfile(member, io.BytesIO(ZEROS))
    return path


@pytest.mark.usefixtures("little")
def test_a_gzip_bomb(tmp_path):
    with raises(TOO_LARGE[0], "a.csv.gz", *TOO_LARGE[1:]):
        read(packed(tmp_path / "a.csv.gz", "gz"))
    with raises(TOO_LARGE[0], "a.csv.gz"):
        dl.data.open(tmp_path / "a.csv.gz", "table")


@pytest.mark.usefixtures("little")
@pytest.mark.parametrize("kind", ["zip", "gz", "bz2", "xz"])
def test_an_archive_that_unfolds(tmp_path, kind):
    path = packed(tmp_path / "a", kind if kind == "zip" else f"w:{kind}")
    with raises(*TOO_LARGE):
        list(members(path, ".txt"))
    assert list(members(path, ".csv")) == []  # what is not asked for is not unfolded


@pytest.mark.usefixtures("little")
def test_an_npz_that_unfolds(tmp_path):
    with raises(*TOO_LARGE):
        jpeg_columns(packed(tmp_path / "a.npz", "npz"))


@pytest.mark.usefixtures("little")
@pytest.mark.parametrize("kind", ["parquet", "arrow", "stream"])
def test_a_table_with_types_that_unfolds(tmp_path, kind):
    table, path = pa.table({"x": np.zeros(2**20), "y": np.ones(2**20)}), tmp_path / f"a.{kind}"
    if kind == "parquet":
        parquet.write_table(table, path)
    else:
        writer = pa.ipc.new_file if kind == "arrow" else pa.ipc.new_stream
        with writer(path, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as out:
            out.write_table(table, 2**16)
    with raises(TOO_LARGE[0], path.name, *TOO_LARGE[1:]):
        read_frame(path)
    with raises(TOO_LARGE[0], path.name):
        stored_table(batches(path))


@pytest.mark.usefixtures("little")
def test_rows_of_json_that_have_no_name_in_common(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text("".join(f'{{"{row}": 1}}\n' for row in range(2000)))
    with raises(TOO_LARGE[0], "a.jsonl", *TOO_LARGE[1:]):
        read_frame(path)


def test_an_npz_that_promises_more_than_it_has(tmp_path):
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (10000000000000,), }"
    head = b"\x93NUMPY\x01\x00" + struct.pack("<H", 118) + header.ljust(117) + b"\n"
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("label.npy", head + bytes(80))
    with raises("file-damaged", "a.npz"):
        jpeg_columns(tmp_path / "a.npz")


def test_what_is_packed_well_is_read(tmp_path):
    text = b"1,2,3\n" * 200_000  # 1.2 MB from some kilobytes
    (tmp_path / "a.gz").write_bytes(gzip.compress(text))
    assert read(tmp_path / "a.gz") == text


def test_an_idx_file_that_promises_more(tmp_path):
    for shape in [(2**32 - 1,) * 2, (2**32 - 1,) * 4, (2**31, 2**31, 4)]:  # wraps to 0
        data = struct.pack(f">BBBB{len(shape)}I", 0, 0, 8, len(shape), *shape)
        with pytest.raises(ValueError, match="shape"):
            parse_idx(data)


@pytest.mark.parametrize("kind", ["FLAC", "RF64", "W64", "WAV"])
def test_a_recording_that_promises_terabytes(tmp_path, kind):
    path = tmp_path / "a"
    soundfile.write(path, np.zeros(2000), 8000, format=kind)
    data = bytearray(path.read_bytes())
    if kind == "FLAC":  # 36 bits of its first block count the samples
        data[21] |= 0x0F
        data[22:26] = b"\xff" * 4
    else:
        place = data.index(b"ds64" if kind == "RF64" else b"data")
        large = struct.pack("<I", 0x7FFF0000) if kind == "WAV" else struct.pack("<Q", 2**43)
        place += {"RF64": 16, "W64": 16, "WAV": 4}[kind]
        data[place : place + len(large)] = large
    path.write_bytes(data)
    if kind == "FLAC":
        with raises("recording-unreadable", "a"):
            read_wav(path)
    else:  # a program that writes to a pipe cannot know the size, and promises as much
        assert len(read_wav(path)[0]) == 2000


def test_a_recording_of_too_many_samples(tmp_path, monkeypatch):
    monkeypatch.setattr(recordings, "LONGEST", 5000)
    monkeypatch.setattr(recordings, "_BLOCK", 1000)
    for length in (4999, 9000):
        soundfile.write(tmp_path / f"{length}.flac", np.arange(length) / 30000, 8000)
    found, rate = read_wav(tmp_path / "4999.flac")  # in five blocks
    assert rate == 8000
    assert (np.diff(found) >= 0).all()
    assert len(found) == 4999
    with raises("recording-too-large", "9000.flac has more than 5,000 samples", "shorter"):
        read_wav(tmp_path / "9000.flac")


@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
def test_a_table_of_a_million_columns(tmp_path, mark):
    path = tmp_path / "a.csv"
    path.write_text((mark.join(["1"] * 1_000_000) + "\n") * 2)
    most = f"{arrow_tables.WIDEST:,}"
    with raises("table-wide", "a.csv has 1,000,000 columns", most, "keep those that matter"):
        read_frame(path)


@pytest.mark.parametrize(
    "name",
    [
        "9" * 5000,
        "a\0b",
        "../a.safetensors",
        "/etc/passwd",
        "a/../../b",
        "",
        "..",
        "link",
        3,
        None,
        "sub/x",
    ],
)
def test_an_index_of_weights_opens_files_beside_it_alone(tmp_path, name):
    place, outside = tmp_path / "model", tmp_path / "a.safetensors"
    (place / "sub").mkdir(parents=True)
    outside.write_bytes(b"secret")
    (place / "link").symlink_to(outside)
    (place / "config.json").write_text("{}")
    index = {"weight_map": {"w": name}}
    (place / weights.INDEX).write_text(json.dumps(index))
    code = (
        "weights-missing" if name in (3, None, "") else "weights-outside"
    )  # no such file beside it
    with raises(code):
        weights.stamps(place)


@pytest.mark.parametrize(
    "text", ["", "[]", "{", "{}", '{"weight_map": 3}', '{"weight_map": {}}', "[" * 10**5]
)
def test_an_index_of_weights_that_is_none(tmp_path, text):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / weights.INDEX).write_text(text)
    with raises("weights-config", weights.INDEX):
        weights.stamps(tmp_path)


def test_the_links_of_a_cache_are_followed(tmp_path):
    """As Hugging Face's cache lays it out: ``snapshots/REVISION`` has links to ``blobs``."""
    place, blobs = tmp_path / "snapshots" / "abc", tmp_path / "blobs"
    place.mkdir(parents=True)
    blobs.mkdir()
    (place / "config.json").write_text("{}")
    (place / weights.INDEX).write_text(json.dumps({"weight_map": {"w": "a.safetensors"}}))
    (blobs / "123").write_bytes(b"")
    (place / "a.safetensors").symlink_to("../../blobs/123")
    assert [path.name for path, _ in weights.stamps(place)] == ["config.json", "a.safetensors"]


def test_json_of_every_kind_of_file_has_a_limit(tmp_path):
    for name, code, reader in (
        ("config.json", "weights-config", lambda: weights.read_config(tmp_path)),
        ("vocabulary.json", "tokenizer-file", lambda: token_files.load_tokenizer(tmp_path)),
        ("tokenizer.json", "tokenizer-file", lambda: token_files.load_tokenizer(tmp_path)),
        ("tokens.json", "tokens-foreign", lambda: token_files._read(tmp_path)),
    ):
        (tmp_path / name).touch()
        os.truncate(tmp_path / name, 2**40)
        with raises(code, name, "1,099,511,627,776 bytes"):
            reader()
        for odd in ("[" * 100_000, "5", '"symbols"', "NaN"):
            (tmp_path / name).write_text(odd)
            with raises(code, name):
                reader()
