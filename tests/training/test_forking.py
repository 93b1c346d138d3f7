"""A fork takes the steps that a run of its values takes in the state it begins in."""

import dataclasses
import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import faults
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from mistakes import raises

import dl
from dl.core.experiment import built
from dl.core.state import TrainState, with_given
from dl.core.step import train_step
from dl.proofs.replay import replay_run
from dl.runs import lock
from dl.runs.compare import first_difference
from dl.runs.folder import RunFolder, read_json
from dl.runs.scripts import load_script
from dl.training.compiled import Compiled
from dl.training.forking import _check_alike, fork, state_at
from dl.training.leaves import digests, flatten
from dl.training.prefetch import prefetch

SCRIPT = Path(__file__).parents[1] / "scripts" / "tiny.py"
CONFIG, BUILD = load_script(SCRIPT)
QUICK = {"log_every": 3, "eval_every": 4, "progress": False}
QUIET = {"progress": False, "say": lambda _: None}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A finished run of 24 steps, which keeps some of its states."""
    place, calls = tmp_path_factory.mktemp("runs"), []

    def build(config):
        calls.append(config)
        return BUILD(config)

    run = dl.train(build, CONFIG(steps=24), script=SCRIPT, runs=place, name="whole", **QUICK)
    # The experiment, a trace of what may be traced, the first state, the step, and an evaluation for each of two
    # shapes of batches: `build` may read data.
    assert len(calls) == 6
    return run


def last(run):
    """The digests of the last state's leaves."""
    return list(RunFolder(run.folder.path).records(run.folder.digests))[-1]


@pytest.mark.parametrize("at", [20, 10, 0])
def test_of_the_same_values_it_ends_in_the_same_bits(whole, at):
    kept = {int(p.name) for p in whole.folder.checkpoints.glob("[0-9]*")}
    assert 10 not in kept  # which is computed again
    branch = fork(whole, at, values={}, **QUIET)
    assert last(branch) == last(whole)
    lines = [(x["step"], x["metrics"]) for x in whole.folder.records() if x["event"] == "eval"]
    again = [(x["step"], x["metrics"]) for x in branch.folder.records() if x["event"] == "eval"]
    assert again == [line for line in lines if line[0] > at]
    locked = read_json(branch.folder.lock)["ancestor"]
    assert (locked["run"], locked["step"]) == (str(whole.folder.path), at)
    known = {x["step"]: x["digest"] for x in whole.folder.records() if x["event"] == "checkpoint"}
    assert locked["digest"] == known.get(at, locked["digest"])


def test_with_another_rate_it_is_the_continuation_by_hand(whole):
    config = CONFIG(steps=24, learning_rate=1e-2)
    branch = fork(whole, 10, "other-rate", {"learning_rate": 1e-2}, **QUIET)
    experiment = built(BUILD, config)
    # By the library's own step, compiled as a run has it: every number of the config traced.
    step, state = state_at(whole, 10, lambda _: None)
    compiled = Compiled.alone(experiment)
    source = prefetch(experiment.data, step)
    program = compiled.step(state, source.at(step)[0], log_every=3)
    for number in range(step, 24):
        state, _, _ = program(state, program.zeros(), source.at(number)[0], 1)
    found = digests({n: np.asarray(x) for n, x in flatten({"state": state}).items()})
    wanted = {n: x for n, x in last(branch)["leaves"].items() if n.startswith("state/")}
    assert found == wanted
    assert wanted != {n: x for n, x in last(whole)["leaves"].items() if n.startswith("state/")}
    assert first_difference(whole.folder, branch.folder).startswith("step 12: ")
    # And by a step written by hand, as near as another program rounds.
    _, by_hand = state_at(whole, 10, lambda _: None)
    one = jax.jit(
        train_step(
            experiment.task, experiment.optimizer, augment=experiment.augment, ema=experiment.ema
        )
    )
    for number in range(10, 24):
        by_hand, _ = one(by_hand, experiment.data[number])
    for a, b in zip(
        jax.tree.leaves(by_hand.variables), jax.tree.leaves(state.variables), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=2e-3, atol=1e-4)


def test_a_finished_run_is_made_longer_and_a_fork_forked(whole):
    with raises("fork-at-end", "24 of 24", "--at"):
        fork(whole, **QUIET)
    longer = fork(whole, name="longer", values={"steps": 36}, **QUIET)
    assert longer.result["steps"] == 36
    assert [x["step"] for x in longer.folder.records() if x["event"] == "eval"] == [28, 32, 36]
    with raises("range", "--at 3", "24 to 36"):
        fork(longer, 3, **QUIET)
    for path in longer.folder.checkpoints.glob("24"):  # so that its beginning is asked of the first
        shutil.rmtree(path)
    again = fork(longer, 24, "again", {}, **QUIET)
    assert last(again)["leaves"] == last(longer)["leaves"]


@pytest.mark.parametrize("moment", [("step", 17), ("checkpoint", 16), ("step", 12)])
def test_a_killed_fork_goes_on_exactly(whole, moment):
    name = f"killed-{'-'.join(map(str, moment))}"
    values = {"learning_rate": 5e-3}
    with faults.at(*moment), pytest.raises(faults.Crash):
        fork(whole, 10, name, values, **QUIET)
    given = {
        n: read_json(whole.folder.config)[n] for n in ("log_every", "eval_every", "save_every")
    }
    config = dataclasses.replace(whole.experiment.config, **values)
    runs = whole.folder.path.parent
    resumed = dl.train(
        BUILD, config, script=SCRIPT, runs=runs, name=name, resume=True, progress=False, **given
    )
    straight = fork(whole, 10, f"straight-{name}", values, **QUIET)
    assert first_difference(resumed.folder, straight.folder) is None
    for event in ("train", "eval"):
        one, other = (
            [(x["step"], x["metrics"]) for x in run.folder.records() if x["event"] == event]
            for run in (resumed, straight)
        )
        assert one == other


def test_a_fork_is_replayed_from_its_ancestor(whole, capsys):
    branch = fork(whole, 10, "replayed", {"learning_rate": 2e-3}, **QUIET)
    assert replay_run(branch.folder.path)
    assert "identical" in capsys.readouterr().out


def test_another_seed_is_that_of_the_new_run(whole):
    branch = fork(whole, 20, "seeded", {"seed": 5}, **QUIET)
    key = jax.random.key_data(branch.state.key)
    np.testing.assert_array_equal(key, jax.random.key_data(jax.random.key(5)))


def test_mistakes_are_one_line(whole, monkeypatch):
    runs = whole.folder.path.parent
    before = len(list(runs.iterdir()))
    with raises("unknown", "'learning_rat'", "learning_rate"):
        fork(whole, 10, values={"learning_rat": 1.0}, **QUIET)
    with raises("range", "--at 99", "0 to 24"):
        fork(whole, 99, **QUIET)
    for at in (True, 10.0):
        with raises("range", f"--at {at}"):
            fork(whole, at, **QUIET)
    with raises("config-value", "learning_rate", "float"):
        fork(whole, 10, values={"learning_rate": "1e-3"}, **QUIET)
    with raises("unknown", "'evel_every'", "eval_every"):
        fork(whole, 10, evel_every=5, **QUIET)
    with raises("range", "eval_every must be 1 or more, not 0"):
        fork(whole, 10, eval_every=0, **QUIET)
    told = []  # of what can be known before, no step is computed again
    with raises("name-taken", "whole"):
        fork(whole, 10, "whole", say=told.append)
    with raises("fork-of-another-model", "state cannot be gone on from", "--start"):
        fork(whole, 10, values={"optimizer": "sgd"}, say=told.append)
    assert not told
    monkeypatch.setattr(lock, "_devices", lambda: {"platform": "tpu", "kind": "TPU v5e"})
    with raises("range", "--at 99"):
        fork(whole, 99, say=told.append)
    assert "computed on another machine" in told[0]
    assert "devices.kind: cpu then, TPU v5e now" in told[0]
    assert len(list(runs.iterdir())) == before


def test_a_fork_is_carried_out_as_its_options_say(whole, capfd):
    done = fork(whole, 20, "apart", deterministic=True, mesh="data=1", eval_every=2, progress=False)
    stored, locked = (read_json(file) for file in (done.folder.config, done.folder.lock))
    assert (stored["deterministic"], stored["eval_every"]) == (True, 2)
    assert locked["environment"]["devices"]["mesh"] == "data=1"
    assert "resumed on other devices" not in capfd.readouterr().err


def test_a_refused_resume_offers_the_fork(whole):
    config = CONFIG(steps=24, learning_rate=0.5)
    options = {"script": SCRIPT, "runs": whole.folder.path.parent, "name": "whole", **QUICK}
    with raises("config-changed", "config.learning_rate", "dl fork", "--at 12 learning_rate=0.5"):
        dl.train(BUILD, config, resume=True, **options)
    with raises("config-changed", "its last state", "whole steps=36"):
        dl.train(BUILD, CONFIG(steps=36), resume=True, **options)
    with raises("config-changed", "config.optimizer") as told:
        dl.train(BUILD, CONFIG(steps=36, optimizer="sgd"), resume=True, **options)
    assert "dl fork" not in str(told.value)  # which would be refused: the state is another
    locked = json.loads(whole.folder.lock.read_text())
    try:
        whole.folder.lock.write_text(json.dumps({**locked, "script": None}))  # as of a notebook
        with raises("config-changed", "config.learning_rate") as told:
            dl.train(BUILD, config, resume=True, **options)
        assert "dl fork" not in str(told.value)
    finally:
        whole.folder.lock.write_text(json.dumps(locked))


def test_what_the_config_gives_is_that_of_the_fork():
    optimizer = optax.inject_hyperparams(optax.sgd)(0.1)
    one = {"params": np.ones(2), "lora": {"scale": np.ones(())}, "teacher": {"w": np.ones(3)}}
    other = {"params": np.zeros(2), "lora": {"scale": np.zeros(())}, "teacher": {"w": np.zeros(3)}}
    old = TrainState(5, one, optimizer.init(one["params"]), one, 1)
    new = TrainState(
        0, other, optax.inject_hyperparams(optax.sgd)(0.2).init(other["params"]), other, 2
    )
    found = with_given(old, new, ("lora", "teacher"))
    assert (found.step, found.key) == (5, 1)
    for variables in (found.variables, found.ema):
        np.testing.assert_array_equal(variables["params"], 1)
        np.testing.assert_array_equal(variables["lora"]["scale"], 0)
        np.testing.assert_array_equal(variables["teacher"]["w"], 0)
    np.testing.assert_allclose(found.opt_state.hyperparams["learning_rate"], 0.2)


def test_an_optimisers_memory_of_another_precision_is_refused():
    params, key = {"w": jnp.ones(2)}, jax.random.key(0)
    whole, halved = (
        TrainState(
            jnp.int32(0), {"params": params}, optax.adam(0.1, mu_dtype=x).init(params), None, key
        )
        for x in ("float32", "bfloat16")
    )
    with raises("fork-of-another-model", "mu/w is float32[2] there and bfloat16[2] here"):
        _check_alike(whole, halved, Path("runs/a"))


def test_what_steps_change_is_kept_whatever_its_name():
    params = {"hyperparams": {"kernel": np.ones(2)}}  # a module of that name
    one = {"params": params, "teacher": {"w": np.ones(3)}}  # an average that the task moves
    other = jax.tree.map(np.zeros_like, one)
    old, new = (TrainState(0, x, optax.adam(0.1).init(x["params"]), x, 1) for x in (one, other))
    found = with_given(old, new, ())
    jax.tree.map(np.testing.assert_array_equal, found.variables, one)
    jax.tree.map(np.testing.assert_array_equal, found.ema, one)


def dl_command(*words):
    command = ["-c", "from dl.cli.main import main; main()", *words]
    return subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_the_command_forks(whole):
    place = whole.folder.path.parent / "branches"  # the run may lie where nothing can be written
    words = ["--at", "20", "--name", "typed", "--runs", str(place), "learning_rate=1e-4"]
    done = dl_command("fork", str(whole.folder.path), *words)
    assert done.returncode == 0, done.stderr
    stored = read_json(place / "typed" / "config.json")
    assert stored["config"]["learning_rate"] == 1e-4
    for words, code in (
        (["learning_rate"], "fork-value"),
        (["learning_rat=1"], "unknown"),
        (["learning_rate=fast"], "sweep-value"),
    ):
        done = dl_command("fork", str(whole.folder.path), *words)
        assert done.returncode == 2
        assert done.stderr.splitlines()[-1].endswith(f"[{code}]"), shlex.join(words) + done.stderr
