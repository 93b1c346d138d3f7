"""A run whose machine loses power goes on from what was synced, and ends with the same bits."""

import json
import shutil
import threading
from pathlib import Path

import faults
import pytest
from mistakes import raises
from power import Power

import dl
from dl.runs.compare import first_difference
from dl.runs.folder import RunFolder
from dl.runs.scripts import load_script

SCRIPTS = Path(__file__).parents[1] / "scripts"
OPTIONS = {"log_every": 4, "eval_every": 10, "save_every": 10, "progress": False}


def train(runs, name="a"):
    config, build = load_script(SCRIPTS / "tiny.py")
    return dl.train(build, config(steps=30), runs=runs, name=name, resume=True, **OPTIONS)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return train(tmp_path_factory.mktemp("runs"), "whole")


def lines(file):
    return [{**json.loads(line), "time": None} for line in file.read_text().splitlines()]


def compared(whole, resumed):
    assert first_difference(whole.folder, resumed.folder) is None
    for name in ("metrics.jsonl", "digests.jsonl"):
        assert lines(resumed.folder.path / name) == lines(whole.folder.path / name)
    assert resumed.metrics == whole.metrics
    assert resumed.result["digest"] == whole.result["digest"]


@pytest.mark.parametrize(
    "moment", [("step", 3), ("step", 17), ("evaluate", 20), ("checkpoint", 20), ("checkpoint", 30)]
)
def test_power_lost_at_any_phase(whole, tmp_path, moment):
    cut = []

    def die():
        cut.append(len(power.moments) - 1)
        if threading.current_thread() is threading.main_thread():
            raise faults.Crash

    with Power() as power, faults.at(*moment, die), pytest.raises(faults.Crash):  # type: ignore[call-arg]
        train(tmp_path)
    power.lost(tmp_path, tmp_path / "left", cut[0])
    if moment[0] == "checkpoint":  # the one before was whole when this one was begun
        assert RunFolder(tmp_path / "left" / "a").saved() >= moment[1] - 10
    compared(whole, train(tmp_path / "left"))


def test_power_lost_at_any_sync(whole, tmp_path):
    with Power() as power:
        train(tmp_path)
    count = len(power.moments)
    for place, moment in enumerate({*range(0, count, max(count // 7, 1)), count - 2, count - 1}):
        left = tmp_path / f"left-{place}"
        power.lost(tmp_path, left, moment)
        compared(whole, train(left))
        shutil.rmtree(left)


def test_what_was_logged_before_a_checkpoint_is_digested_in_it(tmp_path):
    with faults.at("step", 25), pytest.raises(faults.Crash):
        train(tmp_path)
    file = tmp_path / "a" / "metrics.jsonl"
    honest = file.read_text()
    event = next(x for x in honest.splitlines() if '"eval", "step": 10' in x)
    other = json.loads(event)
    other["metrics"]["validation/accuracy"] += 0.1
    file.write_text(honest.replace(event, json.dumps(other)))
    with raises("log-changed", "metrics.jsonl", "step 20"):
        train(tmp_path)
    other = json.loads(event) | {"time": {"elapsed": 3}}
    file.write_text(honest.replace(event, json.dumps(other)))  # a clock may have gone wrong
    assert train(tmp_path).ended == "done"


def test_a_sweep_s_checkpoints_outlast_a_loss_of_power(tmp_path):
    config, build = load_script(SCRIPTS / "tiny.py")
    with Power() as power, faults.at("step", 25), pytest.raises(faults.Crash):
        dl.sweep(build, config(steps=30), seeds=2, lanes="map", runs=tmp_path, name="s", **OPTIONS)
    power.lost(tmp_path, tmp_path / "left")
    left = tmp_path / "left" / "s"
    assert {f.name for f in (left / "checkpoints" / "0-0").iterdir()} >= {"10", "20"}
    logged = [lines(file)[-1]["step"] for file in left.glob("lanes/*/metrics.jsonl")]
    assert min(logged) >= 20
    assert len(logged) == 2
