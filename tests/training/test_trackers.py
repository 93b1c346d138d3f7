"""What other tools are given is what metrics.jsonl holds."""

import dataclasses
import functools
import json
import struct
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import optax
import pytest
from mistakes import raises
from PIL import Image

import dl
from dl.core.errors import UserError
from dl.models.mlp import MLP
from dl.runs.folder import RunFolder
from dl.runs.options import Options
from dl.tasks.regression import regression
from dl.training.lane import Lane
from dl.training.selection import Selection
from dl.training.trackers import FILE, MLflow, Patient, TensorBoard, Trackio, WandB


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
    lane.sync()  # as before a checkpoint: nothing is lost in a kill after it
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


@pytest.mark.parametrize(("step", "void"), [(5, 6), (0, 0)])  # 0: no checkpoint was whole
def test_what_tensorboard_was_given_after_the_step_of_a_resume_is_void(tmp_path, step, void):
    pytest.importorskip("tensorboardX")
    for begin in (0, step):
        sink = TensorBoard(tmp_path)
        sink.go_on(begin)
        sink.write(10, {"train/loss": 1.0})
        sink.close()
    files = sorted((tmp_path / "tensorboard").glob("events.out.tfevents.*"))
    begun = [
        event.step for file in files for event in events(file) if event.HasField("session_log")
    ]
    assert begun == [void]


def drawn(tmp_path):
    """A picture and a text, as views leave them."""
    Image.fromarray(np.full((4, 6, 3), 90, np.uint8)).save(tmp_path / "strip-5.png")
    (tmp_path / "said-5.txt").write_text("to be\n", "utf-8")
    return tmp_path / "strip-5.png", tmp_path / "said-5.txt"


def test_tensorboard_shows_what_views_drew(tmp_path):
    pytest.importorskip("tensorboardX")
    picture, text = drawn(tmp_path)
    sink = TensorBoard(tmp_path)
    sink.show(5, "strip", picture)
    sink.show(5, "said", text)
    sink.close()
    (file,) = (tmp_path / "tensorboard").glob("events.out.tfevents.*")
    values = {v.tag: (e.step, v) for e in events(file) for v in e.summary.value}
    step, value = values["strip"]
    assert (step, value.image.height, value.image.width) == (5, 4, 6)
    assert (
        b"to be" in next(v for tag, (_, v) in values.items() if "said" in tag).tensor.string_val[0]
    )


class Told:
    """A library of a tracker that notes what it is told."""

    def __init__(self):
        self.calls, self.info, self.run_id, self.id = [], self, "7", "7"
        self.entities = SimpleNamespace(Metric=lambda *given: given)

    def __getattr__(self, name):
        def call(*args, **more):
            self.calls.append((name, args, more))
            return None if name == "get_experiment_by_name" else self

        return call

    def of(self, name):
        return [args + tuple(more.values()) for called, args, more in self.calls if called == name]


@pytest.mark.parametrize(
    ("name", "kind"), [("wandb", WandB), ("mlflow", MLflow), ("trackio", Trackio)]
)
def test_other_tools_get_the_scalars_and_the_pictures(tmp_path, monkeypatch, name, kind):
    told = Told()
    monkeypatch.setitem(sys.modules, name, told)
    place = tmp_path / "swept" / "lanes" / "seed-0"
    place.mkdir(parents=True)
    sink = kind(place, "digits", {"config": {"width": 3}, "steps": 5})
    assert any("swept-seed-0" in str(call) for call in told.calls)
    assert any("width" in str(call) for call in told.calls)
    sink.go_on(0)
    sink.write(5, {"train/loss": 2.0})
    assert "train/loss" in str(told.calls[-1])
    picture, text = drawn(tmp_path)
    sink.show(5, "strip", picture)
    assert "strip" in str(told.calls[-1])
    sink.show(5, "said", text)
    sink.close()
    assert told.calls[-1][0] in ("finish", "set_terminated")


NAME = """Anna's "first" #1 50%"""


def test_mlflow_goes_on_with_the_run_of_that_folder(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow.set_tracking_uri((tmp_path / "kept").as_uri())
    for place, step in (("one", 5), ("one", 10), ("other", 5)):
        (tmp_path / place / NAME).mkdir(parents=True, exist_ok=True)
        sink = MLflow(tmp_path / place / NAME, "digits", {"config": {"width": 3}})
        for at in range(5, step + 1, 5):  # the resumed run comes by step 5 again
            sink.write(at, {"train/loss": 3.0 / at, "test/'a, b'": 1.0})
        sink.close()
    client = mlflow.MlflowClient()
    place = client.get_experiment_by_name("digits").experiment_id
    runs = client.search_runs([place], order_by=["attributes.start_time"])
    assert [run.info.run_name for run in runs] == [NAME, NAME]
    assert runs[0].data.params == {"width": "3"}
    found = [
        (m.step, m.value) for m in client.get_metric_history(runs[0].info.run_id, "train/loss")
    ]
    assert found == [(5, 0.6), (10, 0.3)]
    assert "test/_a_ b_" in runs[0].data.metrics


def test_trackio_goes_on_with_the_run_of_that_folder(tmp_path, monkeypatch):
    pytest.importorskip("trackio")
    for module in ("trackio.utils", "trackio.sqlite_storage", "trackio"):
        monkeypatch.setattr(f"{module}.TRACKIO_DIR", tmp_path / "kept", raising=False)
    for place, step in (("one", 5), ("one", 10), ("other", 5)):
        (tmp_path / place / NAME).mkdir(parents=True, exist_ok=True)
        sink = Trackio(tmp_path / place / NAME, "digits", {"config": {"width": 3}})
        for at in range(5, step + 1, 5):
            sink.write(at, {"train/loss": 3.0 / at})
        sink.close()
    from trackio.sqlite_storage import SQLiteStorage

    names = [Path(tmp_path / place / NAME / FILE) for place in ("one", "other")]
    one, other = (json.loads(file.read_text())["trackio"] for file in names)
    assert one != other
    lines = SQLiteStorage.get_logs("digits", NAME, run_id=one)
    assert [(line["step"], line["train/loss"]) for line in lines] == [(5, 0.6), (10, 0.3)]


def test_a_tool_that_is_away_stops_no_run_and_gets_all_when_it_is_back(tmp_path, monkeypatch):
    class Away:
        def __init__(self):
            self.given, self.away = [], False

        def write(self, step, metrics):
            if self.away:
                raise ConnectionError("no route\nto host")
            self.given.append(step)

        def close(self):
            self.given.append("closed")

    sink, said = Away(), []
    patient = Patient(sink, "MLflow", said.append)
    patient.write(1, {"x": 1.0})
    patient.write(1, {})
    sink.away = True
    for step in (2, 3, 4):
        patient.write(step, {"x": 1.0})
    sink.away = False
    patient.write(5, {"x": 1.0})
    assert sink.given == [1]  # it is not asked again at once
    patient.close()
    assert sink.given == [1, 2, 3, 4, 5, "closed"]
    assert said == ["MLflow takes nothing (no route to host): the run goes on, and tries it again"]


@pytest.mark.parametrize("name", ["mlflow", "trackio"])
def test_a_tracker_that_is_not_installed_is_asked_for_first(monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    with raises("package-missing", f"--{name}", f"pip install -e '.[{name}]'"):
        Options(**{name: "digits"}).find_packages()


def test_a_server_that_is_not_there_is_one_line(tmp_path, monkeypatch):
    class Gone:
        def MlflowClient(self):
            raise ConnectionError("no route\nto host")

    monkeypatch.setitem(sys.modules, "mlflow", Gone())
    with raises("tracker-unavailable", "MLflow", "no route to host", "MLFLOW_TRACKING_URI"):
        MLflow(tmp_path, "digits", {"config": {}})


@dataclasses.dataclass(frozen=True)
class Config:
    seed: int = 0


def build(config: Config) -> dl.Experiment:
    rows = {"x": np.ones((4, 1), np.float32), "label": np.ones((4, 1), np.float32)}
    task = regression(MLP((1,)), inputs="x")
    return dl.Experiment(task, dl.train_batches(rows, 2), optax.sgd(0.1), 2, config.seed)


def test_a_tracker_that_is_away_at_the_start_leaves_the_name_free(tmp_path, monkeypatch):
    def away(*_, **__):
        raise UserError("tracker-unavailable", "no route to host")

    for module in ("training.train", "sweeps.running"):
        monkeypatch.setattr(f"dl.{module}.trackers", away)
    for start in (dl.train, functools.partial(dl.sweep, seeds=2, lanes="map")):
        for _ in range(2):
            with raises("tracker-unavailable"):
                start(build, Config(), runs=tmp_path, name="first", progress=False)
    assert not [*tmp_path.iterdir()]
