"""What other tools are given is what metrics.jsonl holds."""

import struct

import pytest

from dl.runs.folder import RunFolder
from dl.training.lane import Lane
from dl.training.selection import Selection
from dl.training.trackers import TensorBoard


def masked_crc(data: bytes) -> int:
    """The checksum of a TFRecord: CRC-32C, rotated and shifted (TensorFlow's ``masked_crc32c``)."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 & -(crc & 1))
    crc ^= 0xFFFFFFFF
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def events(path):
    """Every event of a file, its framing and checksums verified."""
    proto = pytest.importorskip("tensorboardX.proto.event_pb2")
    data, place = path.read_bytes(), 0
    while place < len(data):
        head = data[place : place + 8]
        (length,) = struct.unpack("<Q", head)
        (check,) = struct.unpack("<I", data[place + 8 : place + 12])
        assert check == masked_crc(head)
        body = data[place + 12 : place + 12 + length]
        (check,) = struct.unpack("<I", data[place + 12 + length : place + 16 + length])
        assert check == masked_crc(body)
        yield proto.Event.FromString(body)
        place += length + 16


def test_tensorboards_files_hold_every_logged_scalar(tmp_path):
    pytest.importorskip("tensorboardX")
    folder, sink = RunFolder(tmp_path), TensorBoard(tmp_path)
    lane = Lane(folder, Selection(None), [sink])
    for step in (5, 10):
        lane.record("train", step, {"train/loss": 3.0 / step, "train/text": "no"})
    lane.record("eval", 10, {"validation/accuracy": 0.75})
    sink.close()
    (file,) = (tmp_path / "tensorboard").glob("events.out.tfevents.*")
    read = [
        (event.step, value.tag, pytest.approx(value.simple_value))
        for event in events(file)
        for value in event.summary.value
    ]
    logged = [
        (record["step"], name, value)
        for record in folder.records()
        for name, value in record["metrics"].items()
        if isinstance(value, float)
    ]
    assert logged == read
    assert len(read) == 3


def test_what_tensorboard_was_given_after_the_step_of_a_resume_is_void(tmp_path):
    pytest.importorskip("tensorboardX")
    for step in (0, 5):
        sink = TensorBoard(tmp_path)
        sink.go_on(step)
        sink.write(10, {"train/loss": 1.0})
        sink.close()
    files = sorted((tmp_path / "tensorboard").glob("events.out.tfevents.*"))
    begun = [
        event.step for file in files for event in events(file) if event.HasField("session_log")
    ]
    assert begun == [6]
