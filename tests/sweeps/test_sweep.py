"""A lane is a run: same bits under map, nearly the same under vmap, and nothing lost on the way."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import faults
import numpy as np
import pytest
from mistakes import raises

import dl
from dl.core.experiment import built
from dl.core.lanes import traceable_fields
from dl.proofs.replay import replay_run
from dl.report.sweeps import print_report, read_lanes, settings, write_report
from dl.runs.compare import first_difference
from dl.runs.folder import RunFolder
from dl.runs.options import Options
from dl.runs.scripts import load_script
from dl.sweeps.groups import Sweep
from dl.sweeps.search_space import lane_overrides, parse_field
from dl.sweeps.sweep import SweepRun, planned, run_sweep
from dl.training.halving import kept_at, kept_on_average, rungs
from dl.training.lane import Cadence
from dl.training.selection import Selection

SCRIPT = Path(__file__).parents[1] / "scripts" / "tiny.py"
CONFIG, BUILD = load_script(SCRIPT)
TYPES = {"learning_rate": float, "dropout": float, "widths": lambda t: (int(t),), "seed": int}
CADENCE = {"log_every": 4, "eval_every": 8}


def sweep(runs, name="s", config=None, resume=False, **wishes):
    options = Options(name=name, runs=runs, progress=False, resume=resume, **CADENCE)
    config = config or CONFIG(steps=24)
    convert = lambda n, t: TYPES[n](t)  # noqa: E731
    return run_sweep(BUILD, config, Sweep(**wishes), options, convert, script=SCRIPT).folder


def lanes(place):
    return sorted((place / "lanes").iterdir())


@pytest.fixture(scope="module")
def mapped(tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    fields = ("learning_rate=1e-3,1e-2", "dropout=0.0,0.2")
    return sweep(runs, lanes="map", seeds=2, sweep=fields)


def test_every_lane_is_a_full_run(mapped):
    assert len(lanes(mapped)) == 8
    for lane in lanes(mapped):
        result = json.loads((lane / "result.json").read_text())
        assert result["ended"] == "done"
        assert {"test/accuracy", "validation/loss"} <= set(result["metrics"])


def test_a_mapped_lane_has_the_bits_of_the_solo_run(mapped, tmp_path):
    config = CONFIG(steps=24, learning_rate=1e-2, dropout=0.2, seed=1)
    solo = dl.train(BUILD, config, runs=tmp_path, name="solo", progress=False, **CADENCE)
    (lane,) = [x for x in lanes(mapped) if "0.01-dropout=0.2-seed=1" in x.name]
    assert first_difference(solo.folder, RunFolder(lane)) is None


def test_lanes_that_end_early_leave_what_a_solo_run_leaves(tmp_path):
    def build(config):
        return dataclasses.replace(BUILD(config), patience=1)

    rates = [3e-3, 1e-5]
    options = {"runs": tmp_path, "eval_every": 3, "log_every": 3, "progress": False}
    swept = dl.sweep(build, CONFIG(steps=30), {"learning_rate": rates}, lanes="map", **options)
    ended = set()
    for rate, lane in zip(rates, lanes(swept.folder), strict=True):
        solo = dl.train(build, CONFIG(steps=30, learning_rate=rate), name=str(rate), **options)
        assert first_difference(solo.folder, RunFolder(lane)) is None
        found = json.loads((lane / "result.json").read_text())
        assert (found["digest"], found["steps"]) == (solo.result["digest"], solo.result["steps"])
        ended.add(found["ended"])
    assert "early" in ended


def test_the_best_run_of_a_sweep_opens(mapped):
    swept = SweepRun(mapped)
    assert swept.best.parent == mapped / "lanes"
    found = settings(read_lanes(mapped))[0]
    assert swept.best.name in {lane["name"] for lane in found["lanes"]}
    assert dl.open_run(swept.best).folder.path == swept.best
    with raises("not-a-run", "is a sweep, whose runs lie in", "lanes"):
        dl.open_run(mapped)


def test_without_a_select_no_setting_is_called_the_best(mapped, tmp_path, capsys):
    place = shutil.copytree(mapped, tmp_path / "s")
    for file in place.glob("lanes/*/result.json"):
        result = json.loads(file.read_text())
        result["selected"] |= {"rule": None, "value": None}
        file.write_text(json.dumps(result))
    swept = SweepRun(place)
    given = dict.fromkeys(json.dumps({**lane["fields"], "seed": 0}) for lane in read_lanes(place))
    assert [json.dumps({**s["fields"], "seed": 0}) for s in swept.settings] == list(given)
    with raises("best-unselected", "select=", "swept.best_by"):
        _ = swept.best
    print_report(place)
    words = " ".join(capsys.readouterr().out.split())
    page = write_report(place)[-1].read_text()
    for text in (words, repr(swept), swept._repr_html_(), page):
        assert "in the order given" in text
        assert "best" not in text


def test_a_lane_replays_and_predicts_like_any_run(mapped):
    lane = lanes(mapped)[3]
    assert replay_run(lane)
    run = dl.open_run(lane)
    images = run.experiment.tests["test"].arrays["image"][:4]
    assert np.isfinite(run.predict(images)).all()


def test_a_lane_of_vmap_replays_with_those_it_was_computed_with(tmp_path, capsys):
    place = sweep(tmp_path, lanes="vmap", seeds=3)
    lane = lanes(place)[1]
    how = json.loads((lane / "run.lock.json").read_text())["computed"]
    assert (how["mode"], how["lanes"]) == ("vmap", [x.name for x in lanes(place)])
    assert replay_run(lane)
    said = capsys.readouterr().out
    assert "a lane computed by vmap among 3: all of them run again" in said
    assert "identical" in said
    alone = tmp_path / "alone" / lane.name
    shutil.copytree(lane, alone)
    with raises("lane-missing", str(alone), "put it back among the sweep's lanes"):
        replay_run(alone)


@pytest.mark.slow
def test_auto_decides_once_and_every_lock_says_how(tmp_path):
    place = sweep(tmp_path, lanes="auto", seeds=2)
    settled = json.loads((place / "group-0.json").read_text())["mode"]
    for lane in lanes(place):
        assert json.loads((lane / "run.lock.json").read_text())["computed"]["mode"] == settled


@pytest.mark.slow
def test_lanes_that_ended_among_others_replay_to_where_they_ended(tmp_path):
    options = Options(name="s", runs=tmp_path, progress=False, eval_every=6)
    fields = Sweep(lanes="map", halve=2, sweep=("learning_rate=1e-3,1e38,1e-2,3e-3",))
    convert = lambda n, t: TYPES[n](t)  # noqa: E731
    place = run_sweep(BUILD, CONFIG(steps=24), fields, options, convert, script=SCRIPT).folder
    ended = {}
    for lane in lanes(place):
        ended[json.loads((lane / "result.json").read_text())["ended"]] = lane
    assert {"done", "halved", "non-finite"} <= set(ended)
    assert replay_run(ended["halved"])
    assert replay_run(ended["non-finite"])


def test_a_config_without_a_traced_field_is_swept_all_the_same(tmp_path, capfd):
    @dataclasses.dataclass(frozen=True)
    class Plain:
        widths: tuple[int, ...] = (4,)
        averaged: bool = False

    def build(config):
        made = BUILD(CONFIG(steps=4, widths=config.widths))
        return dataclasses.replace(made, ema=0.9 if config.averaged else None)

    over = {"widths": [(4,), (6,)], "averaged": [True, False]}
    found = dl.sweep(build, Plain(), over, runs=tmp_path, name="s", lanes="vmap", progress=False)
    assert len(lanes(found.folder)) == len(found.settings) == 4
    assert "has no field that can be traced" in capfd.readouterr().err


def test_one_seed_run_twice_is_no_spread_of_seeds():
    def lane(number, value, **fields):
        chosen = {"rule": "-x", "value": value}
        result = {"ended": "done", "selected": chosen, "metrics": {"x": value}}
        return {"name": str(number), "path": None, "fields": fields, "result": result}

    # By hand: seed 0 twice (1, 3: mean 2), seed 1 once (4): mean 3, sd of (2, 4) is sqrt 2.
    (found,) = settings([lane(0, 1.0, seed=0), lane(1, 3.0, seed=0), lane(2, 4.0, seed=1)])
    assert found["metrics"]["x"] == (3.0, pytest.approx(2**0.5), 2)
    assert found["value"] == 3.0
    (found,) = settings([lane(0, 1.0, seed=0), lane(1, 1.0, seed=0)])
    assert found["metrics"]["x"] == (1.0, 0.0, 1)


@pytest.mark.parametrize(
    ("over", "options", "message"),
    [
        ({"learning_rate": "1,2"}, {}, ("sweep-not-list", "learning_rate")),
        ({"learning_rate": 0.1}, {}, ("sweep-not-list", "learning_rate")),
        ({"learning_rate": np.array(0.1)}, {}, ("sweep-not-list", "learning_rate", "[0.1]")),
        ({"learning_rate": np.ones((1, 2))}, {}, ("sweep-value", "learning_rate", "[1.0, 1.0]")),
        ({}, {"folds": 3}, ("option-misplaced", "Config(folds=5)")),
        ({"learning_rate": []}, {}, ("sweep-empty", "learning_rate")),
        ({"learning_rate": ["0.1"]}, {}, ("sweep-value", "learning_rate", "'0.1'")),
        (
            {"learning_rate": [0.1, True]},
            {},
            ("sweep-value", "learning_rate", "True"),
        ),
        ({"learning_rate": [np.float32("nan")]}, {}, ("sweep-value", "learning_rate", "nan")),
        ({"seed": [0, None]}, {}, ("sweep-value", "seed", "None")),
        ({"seed": [1, 2]}, {"seeds": 2}, ("swept-twice", "seed", "--seeds 2")),
        ({}, {"seeds": 0}, ("range", "--seeds 0", "1 or more")),
        ({}, {"seeds": "3"}, ("config-value", "seeds", "int")),
        ({}, {"seeds": 2, "halve": 2.5}, ("config-value", "halve", "int")),
        ([1, 2], {}, ("sweep-not-list", "[1, 2]")),
        ({}, {"seeds": 2, "trials": 3}, ("unknown", "option 'trials'")),
        ({}, {"seeds": 2, "lanes": "vamp"}, ("unknown", "'vamp'", "did you mean 'vmap'")),
        ({}, {"seeds": 2, "name": "../x"}, ("name-malformed", "a sweep's name", "'../x'")),
    ],
)
def test_mistakes_in_a_sweep_from_python_get_one_line(tmp_path, over, options, message):
    with raises(*message):
        dl.sweep(BUILD, CONFIG(), over, runs=tmp_path / "runs", **options)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("trials", [0, 3])
def test_seeds_and_draws_begin_at_a_number(trials):
    config = dataclasses.replace(CONFIG(), seed=None)
    over = ("learning_rate=1e-3:1e-2",) if trials else ()
    wish = Sweep(seeds=1 if trials else 2, sweep=over, trials=trials)
    with raises("seed-not-whole", "whole number", "None"):
        planned(config, wish, lambda name, text: float(text), print)


def test_equal_values_from_python_are_one_lane(tmp_path, capfd):
    over = {"learning_rate": [1e-3, np.float32(1e-3), 1e-3, 1]}
    found = dl.sweep(BUILD, CONFIG(steps=4), over, runs=tmp_path, lanes="map", progress=False)
    stored = [json.loads((x / "config.json").read_text())["config"] for x in lanes(found.folder)]
    # The shortest number that float32 rounds to the same, as NumPy shows it: no lane of its own.
    assert [c["learning_rate"] for c in stored] == [1e-3, 1.0]
    assert "some are equal, and each is run once" in capfd.readouterr().err


def test_lanes_are_tracked_as_runs_are(tmp_path):
    pytest.importorskip("tensorboardX")
    options = {"runs": tmp_path, "lanes": "map", "tensorboard": True, "progress": False}
    found = dl.sweep(BUILD, CONFIG(steps=4), seeds=2, **options)
    for lane in lanes(found.folder):
        assert list((lane / "tensorboard").glob("events*"))
        assert json.loads((lane / "result.json").read_text())["peak_memory_bytes"] > 1e6


@pytest.mark.slow
def test_vmap_agrees_within_rounding(tmp_path):
    # Not by Adam, which blows up what rounding leaves in gradients that are zero.
    config = CONFIG(steps=24, optimizer="momentum")
    wishes = {"config": config, "seeds": 2, "sweep": ("learning_rate=1e-2,1e-1",)}
    places = [sweep(tmp_path, name=mode, lanes=mode, **wishes) for mode in ("map", "vmap")]
    for a, b in zip(*map(lanes, places), strict=True):
        x, y = ([r["metrics"] for r in RunFolder(f).records() if r["metrics"]] for f in (a, b))
        for mine, theirs in zip(x, y, strict=True):
            for name in mine:
                if name.endswith("loss"):
                    np.testing.assert_allclose(mine[name], theirs[name], rtol=1e-3)


@pytest.mark.parametrize(("phase", "step"), [("step", 10), ("evaluate", 16)])
def test_a_killed_sweep_goes_on_exactly(mapped, tmp_path, phase, step):
    fields = ("learning_rate=1e-3,1e-2", "dropout=0.0,0.2")
    with faults.at(phase, step), pytest.raises(faults.Crash):
        sweep(tmp_path, lanes="map", seeds=2, sweep=fields, name="killed")
    for lane in lanes(tmp_path / "killed"):  # begun with another release
        locked = json.loads((lane / "run.lock.json").read_text())
        locked["environment"]["packages"]["optax"] = "0.0.1"
        (lane / "run.lock.json").write_text(json.dumps(locked))
    resumed = sweep(tmp_path, lanes="map", seeds=2, sweep=fields, name="killed", resume=True)
    for a, b in zip(lanes(mapped), lanes(resumed), strict=True):
        assert first_difference(RunFolder(a), RunFolder(b)) is None
        (noted,) = json.loads((b / "run.lock.json").read_text())["resumed"]
        assert noted["step"] == 8
        assert noted["changed"][0].startswith("packages.optax: 0.0.1 then, ")


@pytest.mark.parametrize("mode", ["map", "vmap"])
def test_a_lane_that_diverges_stops_alone(tmp_path, mode):
    place = sweep(tmp_path, lanes=mode, sweep=("learning_rate=1e-3,1e38",))
    calm, wild = (json.loads((x / "result.json").read_text()) for x in lanes(place))
    assert calm["ended"] == "done"
    assert wild["ended"] == "non-finite"
    assert "the loss became" in wild["note"]
    assert np.isfinite(calm["metrics"]["test/loss"])


@pytest.mark.slow
def test_a_sweep_says_which_signal_stopped_it(tmp_path, capsys, monkeypatch):
    """As a scheduler asks: it queues again what SIGTERM stopped."""
    flags = ["--steps", "24", "--seeds", "2", "--lanes", "map", "--runs", str(tmp_path), "--name"]
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *flags, "s", "--no-progress"])
    stop = faults.at("step", 10, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with stop, pytest.raises(SystemExit) as left:
        dl.main(CONFIG, BUILD)
    assert left.value.code == 128 + signal.SIGTERM
    assert "--name s --resume" in capsys.readouterr().out


def test_structural_fields_are_found_and_grouped(tmp_path, capsys):
    options = Options(name="s", runs=tmp_path, **CADENCE)
    fields = Sweep(lanes="map", sweep=("widths=8,12", "learning_rate=1e-3,1e-2"))
    run_sweep(BUILD, CONFIG(steps=8), fields, options, lambda n, t: TYPES[n](t), script=SCRIPT)
    said = capsys.readouterr().out
    assert "4 lanes in 2 compiled programs" in said
    assert "structural, so compiled one by one: widths" in said


def test_floats_and_the_seed_are_liftable():
    assert set(traceable_fields(built(BUILD, CONFIG())).values) == {
        "learning_rate",
        "dropout",
        "seed",
    }


def test_a_field_that_python_branches_on_is_structural():
    def build(config):
        if config.dropout > 0.05:  # needs the value itself
            return BUILD(config)
        return BUILD(config)

    assert set(traceable_fields(built(build, CONFIG())).values) == {"learning_rate", "seed"}


def test_halving_keeps_the_best(tmp_path):
    options = Options(name="s", runs=tmp_path, progress=False, eval_every=6)
    wish = Sweep(lanes="map", halve=2, seeds=4)
    place = run_sweep(BUILD, CONFIG(steps=24), wish, options, lambda n, t: t, script=SCRIPT).folder
    ended = [json.loads((x / "result.json").read_text())["ended"] for x in lanes(place)]
    assert sorted(ended) == ["done", "halved", "halved", "halved"]


def test_lanes_with_nothing_to_select_keep_their_last_state_and_say_so(tmp_path, capsys):
    def build(config):
        lost = {"measure": lambda predictor, columns, name: {"rare": float("nan")}}
        return dataclasses.replace(BUILD(config), select="-validation/rare", **lost)

    options = Options(name="s", runs=tmp_path, progress=False, **CADENCE)
    wish = Sweep(lanes="map", seeds=2)
    place = run_sweep(build, CONFIG(steps=8), wish, options, lambda n, t: t, script=SCRIPT).folder
    for lane in lanes(place):
        result = json.loads((lane / "result.json").read_text())
        assert result["selected"] == {"rule": "-validation/rare", "step": 8, "value": None}
    assert "rare was nan" in " ".join(capsys.readouterr().err.split())


def test_halving_drops_what_could_not_be_scored():
    alive = [Selection("-validation/x", best) for best in (None, 2.0, 1.0, None)]
    cadence = Cadence(16, 4, 8, 16)
    assert kept_at(8, cadence, 2, alive) == [False, True, True, False]
    assert all(kept_at(16, cadence, 2, alive))  # no rung
    assert all(kept_at(8, cadence, None, alive))


def test_rungs_stand_where_halving_drops():
    assert rungs(900, 10, 3) == [10, 30, 100, 300]
    assert rungs(100, 50, 2) == [50]
    assert kept_on_average(9, 900, 300, 3) == pytest.approx((9 * 300 + 3 * 600) / (9 * 900))
    assert kept_on_average(9, 900, 300, None) == 1.0


@pytest.mark.slow
def test_lanes_that_do_not_fit_run_in_chunks(mapped, tmp_path, monkeypatch, capsys):
    from dl.sweeps import running as module

    need = module._compiled_bytes(built(BUILD, CONFIG(steps=24)))
    monkeypatch.setattr(module, "_memory", lambda: 3 * need)
    options = Options(name="s", runs=tmp_path, **CADENCE)
    fields = ("learning_rate=1e-3,1e-2", "dropout=0.0,0.2")
    wish = Sweep(lanes="map", seeds=2, sweep=fields)
    place = run_sweep(
        BUILD, CONFIG(steps=24), wish, options, lambda n, t: TYPES[n](t), SCRIPT
    ).folder
    assert "run in chunks of 3" in capsys.readouterr().out
    for a, b in zip(lanes(mapped), lanes(place), strict=True):
        assert first_difference(RunFolder(a), RunFolder(b)) is None


def test_report_groups_seeds_and_draws(mapped):
    found = settings(read_lanes(mapped))
    assert len(found) == 4
    assert found[0]["value"] == max(g["value"] for g in found)
    assert all(g["metrics"]["test/accuracy"][2] == 2 for g in found)
    assert all(path.stat().st_size > 1000 for path in write_report(mapped))


def test_points_ranges_and_draws():
    known = ["learning_rate", "dropout", "seed"]
    assert parse_field("dropout=0:0.5:3", known).points == ("0.0", "0.25", "0.5")
    assert parse_field("learning-rate=1e-4:1e-2:3:log", known).points == ("0.0001", "0.001", "0.01")
    draws = lane_overrides(
        [parse_field("learning_rate=1e-4:1e-2:log", known)], 0, 2, 5, lambda n, t: float(t)
    )
    assert len(draws) == 10
    assert all(1e-4 <= d["learning_rate"] <= 1e-2 for d in draws)
    assert [d["seed"] for d in draws[:2]] == [0, 1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lerning_rate=1,2", ("unknown", "'lerning_rate'", "did you mean 'learning_rate'")),
        ("dropout", ("sweep-malformed", "--sweep dropout", "write field=value,value")),
        ("dropout=0:x:3", ("sweep-range", "dropout=0:x:3", "low:high:count")),
        ("dropout=0:1:3:log", ("sweep-range", "dropout=0:1:3:log", "above 0")),
    ],
)
def test_bad_fields_are_explained(text, message):
    with raises(*message):
        parse_field(text, ["learning_rate", "dropout", "seed"])


@pytest.mark.slow
def test_a_sweep_from_the_command_line_ends_with_a_table(tmp_path):
    command = [sys.executable, SCRIPT, "--steps", "8", "--seeds", "2", "--sweep", "dropout=0,0.3"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "lanes by" in done.stdout
    assert "best by validation first" in done.stdout
    assert "dl sweep report" in done.stdout
