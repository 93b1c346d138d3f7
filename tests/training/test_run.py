"""What a run leaves behind, what it selects, and how it answers mistakes."""

import dataclasses
import json
import math
from pathlib import Path

import flax.linen as nn
import jax
import numpy as np
import optax
import pytest

import dl
from dl.core.experiment import built
from dl.core.state import init_state
from dl.data.batches import eval_batches, train_batches
from dl.proofs.replay import replay_run
from dl.runs.scripts import load_script
from dl.tasks.regression import regression
from dl.training.checks import check_inputs
from dl.training.evaluation import Evaluation
from dl.training.selection import Selection

SCRIPT = Path(__file__).parents[1] / "scripts" / "tiny.py"
OPTIONS = {"log_every": 5, "eval_every": 10, "progress": False}


def tiny(**changes):
    config, build = load_script(SCRIPT)
    chosen = config(**{"steps": 20, **changes})
    return built(build, chosen)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return dl.train(tiny(), runs=tmp_path_factory.mktemp("runs"), name="first", **OPTIONS)


def test_the_folder_holds_the_whole_story(run):
    files = {path.name for path in run.folder.path.iterdir()}
    assert {"config.json", "run.lock.json", "metrics.jsonl", "result.json", "checkpoints"} <= files
    assert json.loads(run.folder.config.read_text())["config"]["steps"] == 20
    locked = json.loads(run.folder.lock.read_text())["environment"]
    assert set(locked["data"]) == {"train", "validation", "test"}
    assert {"jax", "flax", "optax"} <= set(locked["packages"])
    result = run.result
    assert result["selected"]["rule"] == "validation/accuracy"
    assert {"test/accuracy", "test/loss", "validation/accuracy"} <= set(result["metrics"])
    assert result["digest"]
    assert result["wall_seconds"] > 0
    assert result["peak_memory_bytes"] > 1e6


def test_history_gives_the_curves(run):
    history = run.history("eval")
    np.testing.assert_array_equal(history["step"], [10, 20])
    assert history["validation/accuracy"].shape == (2,)
    assert list(run.history()["step"]) == [5, 10, 15, 20]


def test_a_run_tells_a_notebook_of_itself(run):
    count = sum(x.size for x in jax.tree.leaves(run.state.variables["params"]))
    assert run.summary().parameters == count
    assert "first" in repr(run)
    for shown in (run._repr_html_(), run.summary()._repr_html_()):
        assert shown.startswith("<table>")
    accuracy = f"<td>{run.metrics['test/accuracy']:.4g}</td>"
    assert accuracy in run._repr_html_()


def test_an_opened_run_predicts_the_same(run):
    again = dl.open_run(run.folder.path)
    images = tiny().tests["test"].arrays["image"][:5]
    np.testing.assert_array_equal(run.predict(images), again.predict(images))


PREDICTIONS = {
    "pixels scaled to 0..1": (
        lambda x: x / 255.0,
        "column 'image' holds float64 from 0 to 1, but is prepared as pixels 0..255: give the pixels",
    ),
    "pixels scaled to -1..1": (lambda x: x / 127.5 - 1, "prepared as pixels 0..255"),
    "pixels standardised": (
        lambda x: (x - x.mean()) / x.std(),
        "is prepared as pixels 0..255: give the pixels",
    ),
    "pixels of 16 bits": (lambda x: x.astype(np.uint16) * 257, "'image' holds uint16 from 0 to 6"),
    "truth values": (lambda x: x > 127, "column 'image' holds bool"),
    "NaN": (
        lambda x: np.where(x > 128, np.nan, x.astype(np.float32)),
        "values that are missing or infinite, and none was in training",
    ),
    "complex numbers": (lambda x: x * 1j, "predict takes numbers, and 'image' is complex128"),
    "a dict": (
        lambda x: {"image": x},
        "predict takes 'image' alone, as an array, and this is a dict",
    ),
    "a list of two sizes": (
        lambda x: [x[0], x[1, :5]],
        "the examples in this list differ in shape",
    ),
    "one picture": (lambda x: x[0], "and this is [8, 8, 1]: give a batch of one, x[None]"),
    "no channels": (lambda x: x[..., 0], "as [batch, 8, 8, 1], and this is [5, 8, 8]"),
    "texts": (lambda x: x.astype(str), "predict takes numbers, and 'image' is <U3"),
    "another size": (lambda x: x[:, :5], "predicting fails on inputs uint8[5, 5, 8, 1]"),
}


@pytest.mark.parametrize("what", PREDICTIONS)
def test_what_training_refuses_is_not_predicted(run, what):
    change, says = PREDICTIONS[what]
    with pytest.raises(dl.UserError) as caught:
        run.predict(change(np.array(tiny().tests["test"].arrays["image"][:5])))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_predict_takes_lists_black_pictures_and_traces(run):
    images = np.array(tiny().tests["test"].arrays["image"][:5])
    logits = run.predict(images)
    np.testing.assert_array_equal(run.predict(list(images)), logits)
    np.testing.assert_array_equal(run.predict(images.astype(np.float32)), logits)
    np.testing.assert_allclose(jax.jit(run.predict)(images), logits, rtol=1e-5, atol=1e-5)
    black = np.zeros((1, 8, 8, 1))
    np.testing.assert_array_equal(run.predict(black), run.predict(black.astype(np.uint8)))


def test_predict_checks_inputs_of_several_columns():
    def check(variables, batch, columns):
        if columns["a"].min() < 0 or columns["c"].min() < 0:
            raise dl.UserError("below zero")

    batch = {name: np.ones((4, *([2] * place))) for place, name in enumerate("abc")}
    task = dataclasses.replace(
        tiny().task, inputs=lambda batch: {name: batch[name] for name in "ab"}, check=check
    )
    good = {"a": np.ones(3), "b": np.ones((3, 2))}
    check_inputs(task, {}, good, batch)
    for wrong, says in (
        ({"a": -np.ones(3)}, "below zero"),
        ({"b": np.ones(3)}, r"'b' as \[batch, 2\], and this is \[3\]"),
    ):
        with pytest.raises(dl.UserError, match=says):
            check_inputs(task, {}, {**good, **wrong}, batch)
    with pytest.raises(dl.UserError, match="predict needs 'a', 'b', and 'b' is missing"):
        check_inputs(task, {}, {"a": np.ones(3)}, batch)


def test_replay_says_identical_and_refuses_other_conditions(run, capsys):
    assert replay_run(run.folder.path)
    assert "identical" in capsys.readouterr().out
    lock = json.loads(run.folder.lock.read_text())
    honest = json.dumps(lock)
    lock["environment"]["packages"]["jax"] = "0.1.0"
    run.folder.lock.write_text(json.dumps(lock))
    with pytest.raises(dl.UserError, match=r"packages\.jax: 0\.1\.0 then"):
        replay_run(run.folder.path)
    assert replay_run(run.folder.path, force=True)
    run.folder.lock.write_text(honest)


def test_replay_names_the_first_difference(run, capsys):
    lines = run.folder.metrics.read_text()
    record = next(r for r in run.folder.records() if r["event"] == "train" and r["step"] == 10)
    value = record["metrics"]["train/loss"]
    run.folder.metrics.write_text(lines.replace(str(value), str(value + 1e-6)))
    assert not replay_run(run.folder.path)
    assert "step 10: train/loss" in capsys.readouterr().out
    run.folder.metrics.write_text(lines)


def test_the_selected_state_is_the_best_by_validation(tmp_path):
    experiment = tiny(learning_rate=0.5)  # so high that the last state is not the best
    run = dl.train(experiment, runs=tmp_path, name="x", eval_every=2, progress=False)
    history = run.history("eval")
    scores = history["validation/accuracy"]
    best = int(history["step"][np.flatnonzero(scores == scores.max())[-1]])  # the last of equals
    assert run.result["selected"]["step"] == best == int(run.state.step)


def test_patience_stops_early(tmp_path):
    experiment = dataclasses.replace(tiny(learning_rate=0.0, steps=40), patience=2)
    run = dl.train(experiment, runs=tmp_path, name="x", eval_every=5, progress=False)
    assert run.ended == "early"
    assert run.result["steps"] < 40


def test_a_non_finite_loss_names_step_place_and_rows(tmp_path):
    experiment = tiny(steps=30)
    images = np.array(experiment.data.arrays["image"], np.float32)
    images[7] = np.nan
    arrays = {**experiment.data.arrays, "image": images}
    experiment = dataclasses.replace(experiment, data=train_batches(arrays, 50, 0))
    with pytest.raises(dl.NonFiniteError, match=r"input column 'image'") as caught:
        dl.train(experiment, runs=tmp_path, name="x", **OPTIONS)
    step = next(s for s in range(30) if 7 in np.asarray(experiment.data.indices(s)))
    assert f"at step {step}," in str(caught.value)


def test_measure_and_views_are_part_of_the_run(tmp_path):
    experiment = dataclasses.replace(
        tiny(),
        measure=lambda variables, name: {"leaves": float(len(variables["params"]))},
        views=lambda variables: {"note": "hello", "grid": np.zeros((4, 3, 3, 1))},
    )
    run = dl.train(experiment, runs=tmp_path, name="x", **OPTIONS)
    assert run.metrics["validation/leaves"] == run.metrics["test/leaves"] == 3
    assert (run.folder.path / "views" / "note-20.txt").read_text() == "hello\n"
    assert (run.folder.path / "views" / "grid-20.png").exists()


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ({}, {"name": "first"}, "is there already: go on with it by --resume"),
        ({"steps": 30}, {"name": "first", "resume": True}, r"config\.steps: 20 then, 30 now"),
        ({}, {"resume": True, "steps_per": 3}, "unknown option 'steps_per'"),
        ({"learning_rate": 1.0}, {"resume": True}, "no unfinished run of this configuration"),
        ({}, {"eval_every": -1}, "eval_every must be 1 or more"),
        ({}, {"log_every": 1.5}, r"log_every must be 1 or more, not 1\.5"),
    ],
)
def test_mistakes_get_one_clear_line(run, changes, options, message):
    with pytest.raises(dl.UserError, match=message):
        dl.train(tiny(**changes), runs=run.folder.path.parent, **{**OPTIONS, **options})


def test_a_folder_is_written_by_one_process_at_a_time(run):
    with run.folder.held(), pytest.raises(dl.UserError, match="being written by another process"):
        dl.train(tiny(), runs=run.folder.path.parent, name="first", resume=True, **OPTIONS)


def test_another_models_checkpoint_is_refused(run):
    other = dataclasses.replace(tiny(), optimizer=optax.sgd(0.1))
    with pytest.raises(dl.UserError, match="another model or optimiser"):
        dl.open_run(run.folder.path, build=lambda config: other)


def test_selection_is_pure_bookkeeping():
    chosen = Selection("-validation/loss")
    for step, value in [(1, 3.0), (2, 1.0), (3, math.nan), (4, 1.0)]:
        chosen = chosen.update(step, {"validation/loss": value})
    assert (chosen.best, chosen.step, chosen.waited) == (1.0, 4, 2)  # the last of equals
    assert chosen.exhausted(2)
    assert not chosen.exhausted(None)
    with pytest.raises(dl.UserError, match="did you mean 'validation/loss'"):
        Selection("-validation/los").update(1, {"validation/loss": 1.0})


def test_sinks_get_the_same_scalars(tmp_path):
    pytest.importorskip("tensorboardX")
    run = dl.train(tiny(), runs=tmp_path, name="x", tensorboard=True, **OPTIONS)
    assert list((run.folder.path / "tensorboard").glob("events*"))


def test_an_experiment_changed_by_hand_is_not_rebuilt():
    assert tiny().build is not None
    assert dataclasses.replace(tiny(), patience=3).build is None


def test_nothing_is_selected_by_nan():
    chosen = Selection("validation/iou")
    for step, value in [(1, "nan"), (2, math.inf), (3, math.nan)]:  # as stored, and as computed
        chosen = chosen.update(step, {"validation/iou": value})
    assert (chosen.best, chosen.step, chosen.waited) == (None, None, 3)
    assert chosen.nothing().startswith("validation/iou was nan or infinite at every evaluation")
    assert chosen.update(4, {"validation/iou": -1.0}).nothing() is None
    assert Selection(None).nothing() is None


def test_a_metric_that_is_nan_throughout_leaves_the_last_state_and_says_so(tmp_path, capsys):
    measured = {"rare": math.nan, "seen": 1.0}
    experiment = dataclasses.replace(
        tiny(steps=10), measure=lambda *_: measured, select="validation/rare"
    )
    run = dl.train(experiment, runs=tmp_path, name="x", log_every=5, eval_every=5, progress=False)
    assert run.result["selected"] == {"rule": "validation/rare", "step": 10, "value": None}
    assert int(run.state.step) == 10
    assert "rare was nan" in " ".join(capsys.readouterr().err.split())
    assert math.isnan(run.metrics["validation/rare"])
    assert np.isnan(run.history("eval")["validation/rare"]).all()


class AsGiven(nn.Module):
    @nn.compact
    def __call__(self, x, *, train: bool = False):
        return x + self.param("nothing", nn.initializers.zeros, ())


def test_evaluation_of_many_batches_is_exact_and_the_same_batch_by_batch():
    """float32 sums of so many batches would be wrong by 4e-5."""
    columns = {"x": np.full(20_001, 0.1, np.float32), "label": np.zeros(20_001, np.float32)}
    task, sets = regression(AsGiven(), inputs="x"), {"validation": eval_batches(columns, 4)}
    data, optimizer = train_batches(columns, 4, 0), optax.sgd(0.1)
    experiment = dl.Experiment(task, data, optimizer, 1, evals=sets)
    state = init_state(task, optimizer, data[0], 0, False)
    (whole,) = Evaluation(experiment)(state, sets)
    (single,) = Evaluation(experiment)(state, sets, between=lambda: None)
    assert whole["validation/mae"] == pytest.approx(float(np.float32(0.1)), rel=1e-6)
    assert whole == single
