"""Runs as a function of values, and their tables."""

import math
import os
import signal
from pathlib import Path

import numpy as np
import pytest
from mistakes import raises

import dl
from dl.data.readers.files import data_folder, same_data_folder
from dl.runs import frames
from dl.runs.folder import RunFolder, read_json, write_json
from dl.runs.records import read_run
from dl.runs.scripts import load_script

TINY = Path(__file__).parents[1] / "scripts" / "tiny.py"
Config, build = load_script(TINY)
SHORT = Config(steps=12)


@pytest.fixture
def counted(monkeypatch):
    """How many runs and sweeps were really begun."""
    from dl.sweeps import objective

    begun = []

    def counting(name, honest):
        return lambda *args, **more: begun.append(name) or honest(*args, **more)

    for name in ("train", "carry_out"):
        monkeypatch.setattr(objective, name, counting(name, getattr(objective, name)))
    return begun


def objective(place, made=build, config=SHORT, **more):
    return dl.objective(made, config, runs=place, lanes="map", script=TINY, **more)


def test_values_give_the_score_of_their_run_once(tmp_path, counted):
    score = objective(tmp_path)
    first = score(learning_rate=1e-2)
    assert first == score(learning_rate=np.float64(1e-2)) == objective(tmp_path)(learning_rate=1e-2)
    assert counted == ["train"]
    place = score.run(learning_rate=1e-2)
    assert place.parent == tmp_path / "search"
    assert place.name.startswith("learning_rate=0.01-")
    solo = dl.train(
        build, Config(steps=12, learning_rate=1e-2), runs=tmp_path, progress=False, script=TINY
    )
    assert first == solo.result["selected"]["value"]
    assert dl.open_run(place, script=TINY).result["digest"] == solo.result["digest"]
    assert score(learning_rate=1e-2 + 1e-9) != math.inf  # another run, though its name reads alike
    assert counted == ["train", "train"]


def test_data_come_from_the_folder_that_is_given_from_the_first_build_on(tmp_path):
    seen = []

    def made(config):
        seen.append(data_folder())
        return build(config)

    with same_data_folder():
        objective(tmp_path / "runs", made, data_dir=tmp_path)
    assert set(seen) == {tmp_path}


def test_a_batch_is_one_program_of_lanes_that_are_the_solo_runs(tmp_path, counted):
    score = objective(tmp_path)
    alone = score(learning_rate=1e-3)
    many = [
        {"learning_rate": 1e-2},
        {"learning_rate": 1e-3},
        {"learning_rate": 3e-2},
        {"learning_rate": 1e-2},
    ]
    found = score.batch(many)
    assert counted == ["train", "carry_out"]
    assert found[1] == alone
    assert found[0] == found[3]
    (sweep,) = (tmp_path / "search").glob("batch-*")
    assert len(list((sweep / "lanes").iterdir())) == 2
    assert len(list(sweep.glob("group-*.json"))) == 1
    assert objective(tmp_path / "other")(learning_rate=3e-2) == found[2]
    again = objective(tmp_path)
    assert again.batch(many) == found
    assert again(learning_rate=3e-2) == found[2]
    assert counted == ["train", "carry_out", "train"]
    assert dl.open_run(again.run(learning_rate=3e-2), script=TINY).metrics
    assert score.batch([]) == []


def test_where_lower_is_better_the_sign_is_turned(tmp_path):
    import dataclasses

    def by_loss(config):
        return dataclasses.replace(build(config), select="-validation/loss")

    score = objective(tmp_path, by_loss)
    assert score() == -read_run(score.run()).value < 0
    with raises("objective-of-another-metric", "-validation/loss", "by validation/accuracy"):
        objective(tmp_path)  # whose scores would be losses


def test_a_loss_that_is_not_finite_is_the_worst_score_and_stays_so(tmp_path, counted):
    score = objective(tmp_path, config=Config(steps=12, optimizer="sgd"))
    assert score(learning_rate=1e30) == -math.inf
    good, bad = score.batch([{"learning_rate": 1e-2}, {"learning_rate": 2e30}])
    assert math.isfinite(good)
    assert bad == -math.inf
    again = objective(tmp_path, config=Config(steps=12, optimizer="sgd"))
    assert again.batch([{"learning_rate": 1e30}, {"learning_rate": 2e30}]) == [-math.inf] * 2
    assert counted == ["train", "carry_out"]


def test_a_run_that_was_stopped_goes_on(tmp_path):
    score = objective(tmp_path)
    whole = score(learning_rate=1e-2)
    folder = RunFolder(score.run(learning_rate=1e-2))
    digest = read_json(folder.result)["digest"]
    folder.result.unlink()
    again = objective(tmp_path)
    assert again(learning_rate=1e-2) == whole
    assert read_json(folder.result)["digest"] == digest


def test_ctrl_c_ends_the_search_and_the_run_goes_on_later(tmp_path):
    import dataclasses

    armed = [True]

    def interrupted(moment):
        if armed and moment.step == 6:
            armed.clear()
            os.kill(os.getpid(), signal.SIGINT)

    def hooked(config):
        return dataclasses.replace(build(config), hooks=(dl.Hook(interrupted, every=3),))

    with pytest.raises(KeyboardInterrupt):
        objective(tmp_path, hooked)(learning_rate=1e-2)
    whole = objective(tmp_path / "whole")(learning_rate=1e-2)
    assert objective(tmp_path, hooked)(learning_rate=1e-2) == whole


def test_mistakes_are_one_line(tmp_path, capsys):
    import dataclasses

    score = objective(tmp_path)
    with raises("unknown", "'learning_rat'", "'learning_rate'"):
        score(learning_rat=1.0)
    with raises("config-value", "steps", "1.5", "int"):
        score(steps=1.5)
    with raises("config-value", "learning_rate", '"high"', "float"):
        score.batch([{"learning_rate": "high"}])
    with raises("batch-of-values", "[values]"):
        score.batch({"learning_rate": 1e-3})
    with raises("batch-of-values", "[values]"):
        score.batch([1e-3])
    with raises("objective-without-select", "select="):
        objective(tmp_path, lambda config: dataclasses.replace(build(config), select=None))
    with raises("option-misplaced", "resume"):
        objective(tmp_path, resume=True)
    with raises("unknown", "'eval_evry'", "'eval_every'"):
        objective(tmp_path, eval_evry=3)
    assert not (tmp_path / "search").exists()
    score(widths=[8])  # a list will do for a tuple
    lock = RunFolder(score.run(widths=[8])).lock
    stored = read_json(lock)
    stored["environment"]["code"]["script"] = "0" * 64
    write_json(lock, stored)
    objective(tmp_path)
    assert "made by another script" in capsys.readouterr().err
    with raises("name-taken", lock.parent.name):
        objective(tmp_path / "search", name=lock.parent.name)


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    over = {"learning_rate": [1e-3, 1e-2], "widths": [(8,), (8, 8)]}
    place = tmp_path_factory.mktemp("runs")
    return dl.sweep(
        build, SHORT, over, lanes="map", runs=place, name="s", script=TINY, progress=False
    )


def test_a_sweep_is_a_table(swept):
    table = swept.table
    assert table.columns[:7] == [
        "lane",
        "learning_rate",
        "widths",
        "seed",
        "state",
        "steps",
        "value",
    ]
    assert table["learning_rate"].to_list() == [1e-3, 1e-3, 1e-2, 1e-2]
    assert table["widths"].to_list() == [[8], [8, 8], [8], [8, 8]]
    assert set(table["state"]) == {"done"}
    assert table["test/accuracy"].dtype.is_float()
    best = swept.best_by("test/accuracy")
    row = table["test/accuracy"].arg_max()
    assert table["test/accuracy"].max() == read_run(best).metrics["test/accuracy"]
    assert table["lane"].to_list().count(best.name) == 1
    assert row is not None
    low = swept.best_by("-test/loss")
    assert read_run(low).metrics["test/loss"] == table["test/loss"].min()
    with raises("unknown", "'test/los'", "test/loss"):
        swept.best_by("test/los")


def test_a_history_is_a_frame_of_what_is_installed(swept, monkeypatch):
    import importlib.util

    run = dl.open_run(swept.best, script=TINY)
    plain, table = run.history("eval"), run.history("eval", frame=True)
    assert table["step"].to_list() == plain["step"].tolist()
    assert set(table.columns) == set(plain)
    honest = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda n: None if n == "polars" else honest(n))
    assert type(swept.table).__module__.startswith("pandas")
    assert list(frames.frame({"a": [1, 2]})["a"]) == [1, 2]
    monkeypatch.setattr(importlib.util, "find_spec", lambda n: None)
    monkeypatch.setitem(__import__("sys").modules, "polars", None)
    with raises("package-missing", "a data frame", "frames"):
        frames.frame({"a": [1]})
