"""What is logged beside a task's metrics: it is right, and changes no bit."""

import dataclasses
import gzip
import json

import faults
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from mistakes import raises

import dl
import dl.core.lanes
import dl.core.step
import dl.training.compiled
from dl.core.experiment import built
from dl.core.step import train_step
from dl.models.mlp import MLP
from dl.runs.folder import RunFolder
from dl.tasks.classification import classification
from dl.training import lane as lanes

QUICK = {"progress": False, "log_every": 5, "eval_every": 10}
DIGITS = dl.load("digits")


@dataclasses.dataclass(frozen=True)
class Config(dl.Recipe):
    steps: int = 30
    batch_size: int = 16
    learning_rate: float = 1e-2
    weight_decay: float = 0.1


def build(config: Config, **more) -> dl.Experiment:
    return config.experiment(
        classification(MLP((8, 10))),
        dl.train_batches(DIGITS.train, config.batch_size, config.seed),
        evals={"validation": dl.eval_batches(DIGITS.validation, 500)},
        **more,
    )


def of(folder, event):
    return [line for line in RunFolder(folder).records() if line["event"] == event]


def test_rates_and_norms_are_those_of_the_steps(tmp_path, monkeypatch):
    monkeypatch.setattr(lanes, "LOOK", 10)
    run = dl.train(build, Config(), runs=tmp_path, name="a", **QUICK)
    experiment = built(build, Config())
    step = jax.jit(train_step(experiment.task, experiment.optimizer))
    halves = train_step(experiment.task, experiment.optimizer)
    state = dl.init_state(experiment.task, experiment.optimizer, experiment.data[0], 0)
    norms, moved, ratio = [], [], []
    for number in range(30):
        grads, _ = jax.jit(halves.gradients)(state, experiment.data[number])
        norms.append(float(optax.global_norm(grads)))
        before = state.variables["params"]
        state, _ = step(state, experiment.data[number])
        apart = jax.tree.map(jnp.subtract, state.variables["params"], before)
        moved.append(float(optax.global_norm(apart)))
        ratio.append(moved[-1] / float(optax.global_norm(before)))
    history = run.history()
    wanted = norms[4::5]
    np.testing.assert_allclose(history["train/gradient_norm"], wanted, rtol=1e-4)
    rate = dl.schedule("cosine", 1e-2, 30, warmup=1)
    rates = [float(rate(number - 1)) for number in range(5, 31, 5)]
    np.testing.assert_allclose(history["train/learning_rate"], rates, rtol=1e-5)
    looked = run.history("update")
    np.testing.assert_array_equal(looked["step"], [10, 20, 30])
    np.testing.assert_allclose(looked["train/update_norm"], np.array(moved)[[9, 19, 29]], rtol=1e-3)
    np.testing.assert_allclose(
        looked["train/update_ratio"], np.array(ratio)[[9, 19, 29]], rtol=1e-3
    )
    clock = of(run.folder.path, "train")[-1]["time"]
    assert clock["step_seconds"] > 0
    assert clock["peak_memory_bytes"] > 0
    assert "input_wait_seconds" in clock


@pytest.mark.parametrize("fields", [{}, {"clip": None}, {"optimizer": "sgd", "weight_decay": 0.0}])
def test_what_is_logged_changes_no_bit(tmp_path, monkeypatch, fields):
    def hooked(config):
        return build(config, hooks=(dl.Hook(lambda moment: {"step": moment.step}, 3, "often"),))

    monkeypatch.setattr(lanes, "LOOK", 5)
    told = dl.train(hooked, Config(**fields), runs=tmp_path, name="told", **QUICK)
    monkeypatch.setattr(lanes, "LOOK", 10**6)
    for module in (dl.training.compiled, dl.core.lanes):
        monkeypatch.setattr(module, "logged", lambda *_: dl.core.step.unlogged)

    def plain(config):
        return dataclasses.replace(build(config), scalars=None)

    silent = dl.train(plain, Config(**fields), runs=tmp_path, name="silent", **QUICK)
    assert told.result["digest"] == silent.result["digest"]
    assert "train/gradient_norm" not in silent.history()


def test_a_killed_run_and_a_sweeps_lanes_log_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(lanes, "LOOK", 10)
    whole = dl.train(build, Config(), runs=tmp_path, name="whole", **QUICK)
    with faults.at("step", 19), pytest.raises(faults.Crash):
        dl.train(build, Config(), runs=tmp_path, name="killed", **QUICK)
    dl.train(build, Config(), runs=tmp_path, name="killed", resume=True, **QUICK)
    dl.sweep(build, Config(), seeds=2, lanes="map", runs=tmp_path, name="swept", **QUICK)
    (lane,) = (p for p in (tmp_path / "swept" / "lanes").iterdir() if p.name.endswith("0"))
    for event in ("train", "update"):
        wanted = [(line["step"], line["metrics"]) for line in of(whole.folder.path, event)]
        for place in (tmp_path / "killed", lane):
            found = [(line["step"], line["metrics"]) for line in of(place, event)]
            assert [step for step, _ in found] == [step for step, _ in wanted]
            for (_, one), (_, other) in zip(found, wanted, strict=True):
                assert one == (other if place.name == "killed" else pytest.approx(other, rel=1e-5))


def test_scalars_of_ones_own(tmp_path):
    def own(state):
        return {"bias": jnp.abs(state.variables["params"]["Dense_1"]["bias"]).max()}

    run = dl.train(lambda c: build(c, scalars=own), Config(), runs=tmp_path, name="a", **QUICK)
    history = run.history()
    largest = np.abs(run.state.variables["params"]["Dense_1"]["bias"]).max()
    assert history["train/bias"][-1] == pytest.approx(float(largest))
    assert len(history["train/learning_rate"]) == 6
    clock = of(run.folder.path, "train")[-1]["time"]
    assert history["time/step_seconds"][-1] == clock["step_seconds"]
    for given, code, word in (
        (3.0, "not-a-function", "scalars"),
        (lambda state: 3.0, "scalars-not-numbers", "float32[]"),
        (lambda state: {"a": jnp.ones(3)}, "scalars-not-numbers", "'a' as float32[3]"),
        (lambda state: {"loss": state.step}, "scalar-twice", "'loss'"),
        (lambda state: {"a": float(state.step)}, "own-code-fails", "the scalars"),
    ):
        with raises(code, word):
            dl.train(
                lambda c, g=given: dataclasses.replace(build(c), scalars=g),
                Config(),
                runs=tmp_path,
                name="b",
            )
    assert not (tmp_path / "b").exists()


# -- hooks -------------------------------------------------------------------------------------------


def hooked(calls):
    """An experiment whose hooks note in ``calls`` what they were called for."""

    def judge(moment):
        calls.append(("judge", moment.step, moment.metrics["validation/accuracy"]))
        with pytest.raises(ValueError, match="read-only"):
            moment.state.variables["params"]["Dense_0"]["kernel"][:] = 0
        assert moment.predictor(DIGITS.test["image"][:3]).shape == (3, 10)

    def often(moment):
        calls.append(("often", moment.step, None))
        return {"largest": float(np.abs(moment.state.variables["params"]["Dense_0"]["bias"]).max())}

    return lambda config: build(config, hooks=(judge, dl.Hook(often, every=4)))


@pytest.mark.parametrize("kill", [("step", 17), ("checkpoint", 20), ("evaluate", 20), ("step", 25)])
def test_hooks_survive_a_kill_and_are_called_once(tmp_path, kill):
    calls, whole = [], []
    dl.train(hooked(whole), Config(), runs=tmp_path, name="whole", **QUICK)
    with faults.at(*kill), pytest.raises(faults.Crash):
        dl.train(hooked(calls), Config(), runs=tmp_path, name="a", **QUICK)
    run = dl.train(hooked(calls), Config(), runs=tmp_path, name="a", resume=True, **QUICK)
    assert sorted(calls, key=str) == sorted(whole, key=str)
    assert {step for name, step, _ in calls if name == "often"} == {*range(4, 31, 4)}
    assert {step for name, step, _ in calls if name == "judge"} == {10, 20, 30}
    lines = [(line["step"], line["metrics"]) for line in of(run.folder.path, "hook")]
    assert lines == [(x["step"], x["metrics"]) for x in of(tmp_path / "whole", "hook")]
    assert [step for step, _ in lines] == [*range(4, 31, 4)]


def test_a_torn_note_of_a_hook_is_no_call(tmp_path):
    calls = []
    with faults.at("step", 25), pytest.raises(faults.Crash):
        dl.train(hooked(calls), Config(), runs=tmp_path, name="a", **QUICK)
    notes = tmp_path / "a" / "hooks.jsonl"
    notes.write_bytes(notes.read_bytes()[:-9])
    dl.train(hooked(calls), Config(), runs=tmp_path, name="a", resume=True, **QUICK)
    assert calls.count(("often", 24, None)) == 2
    assert [json.loads(line)["step"] for line in notes.read_text().splitlines()][-1] == 30


def test_a_hook_that_fails_is_told_and_stops_nothing(tmp_path, capsys):
    def odd(moment):
        return {"x": [1, 2]} if moment.step == 10 else 1 / 0

    def now_and_then(moment):
        return {"late": moment.step} if moment.step > 15 else {"early": 1.0}

    hooks = (odd, dl.Hook(now_and_then, every=15))
    run = dl.train(lambda c: build(c, hooks=hooks), Config(), runs=tmp_path, name="a", **QUICK)
    np.testing.assert_equal(
        run.history("hook"),
        {
            "step": [15, 30],
            "now_and_then/early": [1.0, np.nan],
            "now_and_then/late": [np.nan, 30.0],
        },
    )
    said = capsys.readouterr()
    assert run.ended == "done"
    assert "the hook 'odd' failed at step 10" in said.err + said.out
    assert "ZeroDivisionError" in said.err + said.out


def test_mistakes_in_hooks_and_profiles_are_one_line(tmp_path):
    for hooks, code, words in (
        ((3,), "not-a-function", "3"),
        (print, "not-a-function", "(hook,)"),
        ((print, print), "hook-twice", "print"),
        ((dl.Hook(print, 0),), "range", "print"),
    ):
        with raises(code, words):
            dl.train(lambda c, h=hooks: build(c, hooks=h), Config(), runs=tmp_path, name="a")
    for given in ("50", "5:5", "9:8", "20:31", "a:b"):
        with raises("range", f"--profile {given}", "50:60"):
            dl.train(build, Config(), runs=tmp_path, name="a", profile=given)
    assert not (tmp_path / "a").exists()


def test_a_profile_is_a_trace_that_viewers_open(tmp_path):
    plain = dl.train(build, Config(), runs=tmp_path, name="plain", **QUICK)
    run = dl.train(build, Config(), runs=tmp_path, name="a", profile="12:14", **QUICK)
    assert run.result["digest"] == plain.result["digest"]
    assert list((tmp_path / "a" / "profile").rglob("*.xplane.pb"))  # of XProf
    (trace,) = (tmp_path / "a" / "profile").rglob("perfetto_trace.json.gz")
    assert json.loads(gzip.decompress(trace.read_bytes()))["traceEvents"]
