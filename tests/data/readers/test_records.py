"""ArrayRecord files: as tables and texts some at a time, and as records by number."""

import json

import numpy as np
import pytest
from mistakes import raises

import dl
from dl.data import open as open_data
from dl.data.batches.streams import StreamBatches
from dl.data.own.token_writing import write_tokens
from dl.data.readers.frames import read_frame
from dl.data.readers.records import Records
from dl.testing import check_batches

writer = pytest.importorskip("array_record.python.array_record_module").ArrayRecordWriter


def records(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    out = writer(str(path), "group_size:1")
    for row in rows:
        out.write(row if isinstance(row, bytes) else row.encode())
    out.close()
    return path


@pytest.fixture(autouse=True)
def _little_at_once(monkeypatch, tmp_path):
    monkeypatch.setattr("dl.data.readers.records._AT_ONCE", 7)
    monkeypatch.setenv("DL_DATA_DIR", str(tmp_path / "cache"))


ROWS = [
    {
        "age": n % 30,
        "town": f"town {n % 3}",
        "note": None if n < 9 else f"note {n}",
        "bought": "yn"[n % 2],
    }
    for n in range(40)
]


def test_objects_are_a_table(tmp_path):
    path = records(tmp_path / "a.array_record", map(json.dumps, ROWS))
    frame = read_frame(path)
    assert frame.columns.to_pylist() == ROWS
    splits = open_data(path, "table", target="bought")
    lines = tmp_path / "a.jsonl"
    lines.write_text("\n".join(map(json.dumps, ROWS)))
    same = open_data(lines, "table", target="bought")
    for name, column in same.train.items():
        np.testing.assert_array_equal(splits.train[name], column)


@pytest.mark.parametrize(
    "name", ["a.array_record", "a.arrayrecord", "a.array_record-00000-of-00001"]
)
@pytest.mark.parametrize("stream", [False, True])
def test_texts_are_a_corpus(tmp_path, name, stream):
    texts = [f"document {n}\nof größer cats" for n in range(20)]
    plain = records(tmp_path / name, texts)
    objects = records(tmp_path / "b" / name, (json.dumps({"text": t}) for t in texts))
    for path in (plain, objects):
        splits = open_data(path, "corpus", stream=stream, in_order=False)
        said = ["".join(part["text"]) for part in splits.parts.values()]
        assert sorted("".join(said).split("\n")) == sorted("\n".join([*texts, ""]).split("\n"))
    said = write_tokens([str(plain)], tmp_path / "out")
    assert said["count"] > sum(map(len, texts))


def test_mistakes_are_one_line(tmp_path):
    with raises("records-unread", "a.array_record", "record 0", "Records"):
        read_frame(records(tmp_path / "a.array_record", [b"\xff\xfe"]))
    with raises("table-empty", "b.array_record"):
        read_frame(records(tmp_path / "b.array_record", []))
    good = records(tmp_path / "c.array_record", map(json.dumps, ROWS)).read_bytes()
    (tmp_path / "c.array_record").write_bytes(good[: len(good) // 2])
    with raises("file-damaged", "c.array_record"):
        read_frame(tmp_path / "c.array_record")
    mixed = [*map(json.dumps, ROWS), json.dumps({**ROWS[0], "age": {"b": 1}})]
    with raises("json-unreadable", "d.array_record", "records 35 to 40"):
        read_frame(records(tmp_path / "d.array_record", mixed))


def test_records_by_number_stream(tmp_path):
    arrays = np.arange(60, dtype=np.float32).reshape(20, 3)
    paths = [
        records(tmp_path / f"{n}.array_record", [row.tobytes() for row in some])
        for n, some in enumerate((arrays[:13], arrays[13:]))
    ]

    def decode(row):
        return {"x": np.frombuffer(row["record"], np.float32)}

    source = Records(paths)
    assert len(source) == 20
    batches = StreamBatches(source, 4, 3, decode)
    check_batches(batches)
    held = dl.train_batches({"x": arrays}, 4, 3)
    for step in (0, 9):
        np.testing.assert_array_equal(batches[step]["x"], held[step]["x"])
    (tmp_path / "0.array_record").write_bytes(b"no records")
    with raises("file-damaged", "other.array_record"):
        (tmp_path / "other.array_record").write_bytes(b"no records" * 10)
        len(Records([tmp_path / "other.array_record"]))
