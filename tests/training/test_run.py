"""What a run leaves behind, what it selects, and how it answers mistakes."""

import dataclasses
import errno
import json
import math
import shutil
from pathlib import Path

import flax.linen as nn
import jax
import numpy as np
import optax
import pytest
from learning import as_made
from mistakes import raises

import dl
from dl.core.digests import KIND, LANES, SHA
from dl.core.experiment import built
from dl.core.state import init_state
from dl.data.batches import eval_batches, train_batches
from dl.data.batches.streams import ArraySource, StreamEvalBatches
from dl.proofs.replay import replay_run
from dl.report.runs import write_page
from dl.runs.compare import first_difference, leaves
from dl.runs.folder import RunFolder
from dl.runs.readers import read_baselines
from dl.runs.records import read_run
from dl.runs.scripts import load_script
from dl.tasks.regression import regression
from dl.training.compiled import Compiled
from dl.training.evaluation import Evaluation
from dl.training.prediction import Predictor
from dl.training.selection import Selection

SCRIPT = Path(__file__).parents[1] / "scripts" / "tiny.py"
OPTIONS = {"log_every": 5, "eval_every": 10, "progress": False}
pytestmark = pytest.mark.usefixtures("alone")


def door(**changes):
    """``(build, config)`` of the tiny experiment."""
    config, build = load_script(SCRIPT)
    return build, config(**{"steps": 20, **changes})


def tiny(**changes):
    return built(*door(**changes))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return dl.train(*door(), runs=tmp_path_factory.mktemp("runs"), name="first", **OPTIONS)


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
    with raises("unknown", "event 'evals'", "eval"):
        run.history("evals")


def test_rivals_are_fitted_once_and_stand_beside_the_figures(tmp_path, capfd):
    fitted = []

    def build(config):
        def baselines():
            fitted.append(config)
            return {"most frequent": {"validation/accuracy": 0.1, "test/accuracy": 0.12}}

        return dataclasses.replace(door()[0](config), baselines=baselines)

    options = {"runs": tmp_path, **OPTIONS, "progress": True}
    run = dl.train(build, door()[1], name="a", **options)
    assert dl.train(build, door()[1], name="a", resume=True, **options).ended == "done"
    assert len(fitted) == 1
    assert read_baselines(run.folder.path)["most frequent"]["test/accuracy"] == 0.12
    assert "(most frequent)" in capfd.readouterr().out
    labels = [line.get_label() for axes in run.plot().axes for line in axes.lines]
    assert labels.count("most frequent") == 1
    file = tmp_path / "page.html"
    write_page([read_run(run.folder.path)], {}, file)
    assert "test/accuracy, most frequent" in file.read_text()


def test_a_rival_that_fails_stops_nothing(tmp_path, capfd):
    def build(config):
        return dataclasses.replace(door()[0](config), baselines=lambda: 1 / 0)

    assert dl.train(build, door()[1], runs=tmp_path, **OPTIONS).ended == "done"
    assert "no baseline to compare with: ZeroDivisionError" in capfd.readouterr().err


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


def test_a_run_whose_optimiser_traced_a_decay_of_zero_opens_again(tmp_path):
    @dataclasses.dataclass(frozen=True)
    class Config(dl.Recipe):
        optimizer: str = "adam"

    def build(config):
        made = tiny()
        return config.experiment(made.task, made.data, steps=4, tests=made.tests)

    run = dl.train(build, Config(), runs=tmp_path, name="x", progress=False)
    again = dl.open_run(run.folder.path, build, Config())
    images = tiny().tests["test"].arrays["image"][:5]
    np.testing.assert_array_equal(run.predict(images), again.predict(images))


PREDICTIONS = {
    "pixels scaled to 0..1": (
        lambda x: x / 255.0,
        ("pixels-range", "'image'", "float64 from 0 to 1", "0..255", "give the pixels"),
    ),
    "pixels scaled to -1..1": (lambda x: x / 127.5 - 1, ("pixels-range", "'image'", "0..255")),
    "pixels standardised": (
        lambda x: (x - x.mean()) / x.std(),
        ("pixels-range", "'image'", "0..255", "give the pixels"),
    ),
    "pixels of 16 bits": (
        lambda x: x.astype(np.uint16) * 257,
        ("pixels-range", "'image'", "uint16 from 0 to 6"),
    ),
    "truth values": (lambda x: x > 127, ("pixels-range", "'image'", "bool")),
    "NaN": (
        lambda x: np.where(x > 128, np.nan, x.astype(np.float32)),
        ("infinity", "'image'", "none was in training"),
    ),
    "complex numbers": (lambda x: x * 1j, ("column-not-numbers", "'image'", "complex128")),
    "another column": (
        lambda x: {"imgae": x},
        ("column-missing", "'image' is missing", "given is 'imgae'"),
    ),
    "a column beside it": (
        lambda x: {"image": x, "lable": x[:, 0, 0, 0]},
        ("unknown", "column 'lable'", "did you mean 'label'?"),
    ),
    "columns of two lengths": (
        lambda x: {"image": x, "mask": np.ones(4)},
        ("column-lengths", "'image' 5, 'mask' 4"),
    ),
    "a list of two sizes": (
        lambda x: [x[0], x[1, :5]],
        ("row-shapes-differ", "'image'"),
    ),
    "one picture": (lambda x: x[0], ("not-a-batch", "[8, 8, 1]", "give a batch of one, x[None]")),
    "no channels": (lambda x: x[..., 0], ("not-a-batch", "[batch, 8, 8, 1]", "[5, 8, 8]")),
    "texts": (lambda x: x.astype(str), ("column-not-numbers", "'image'", "<U3")),
    "another size": (
        lambda x: x[:, :5],
        (
            "column-unlike-training",
            "'image'",
            "whole numbers [batch, 5, 8, 1]",
            "whole numbers [batch, 8, 8, 1]",
        ),
    ),
}


@pytest.mark.parametrize("what", PREDICTIONS)
def test_what_training_refuses_is_not_predicted(run, what):
    change, says = PREDICTIONS[what]
    with raises(*says):
        run.predict(change(np.array(tiny().tests["test"].arrays["image"][:5])))


def test_predict_takes_lists_black_pictures_and_traces(run):
    images = np.array(tiny().tests["test"].arrays["image"][:5])
    logits = run.predict(images)
    np.testing.assert_array_equal(run.predict(list(images)), logits)
    np.testing.assert_array_equal(run.predict({"image": images}), logits)
    np.testing.assert_array_equal(run.predict(images.astype(np.float32)), logits)
    np.testing.assert_allclose(jax.jit(run.predict)(images), logits, rtol=1e-5, atol=1e-5)
    black = np.zeros((1, 8, 8, 1))
    np.testing.assert_array_equal(run.predict(black), run.predict(black.astype(np.uint8)))


def test_predict_checks_inputs_of_several_columns():
    def check(variables, batch, columns):
        if columns["a"].min() < 0 or columns["c"].min() < 0:
            raise dl.UserError("below-zero", "there are values below zero")

    batch = {name: np.ones((4, *([2] * place))) for place, name in enumerate("abc")}
    task = dataclasses.replace(
        tiny().task, predict=lambda variables, x: x["a"], columns=("a", "b"), check=check
    )
    predict = Predictor(task, {}, batch)
    good = {"a": np.ones(3), "b": np.ones((3, 2))}
    np.testing.assert_array_equal(predict(good), good["a"])
    for wrong, says in (
        ({"a": -np.ones(3)}, ("below-zero", "below zero")),
        ({"b": np.ones(3)}, ("not-a-batch", "'b' as [batch, 2]", "[3]")),
    ):
        with raises(*says):
            predict({**good, **wrong})
    with raises("column-missing", "'a', 'b'", "'b' is missing"):
        predict({"a": np.ones(3)})


def test_replay_says_identical_and_refuses_other_conditions(run, capsys):
    assert replay_run(run.folder.path)
    assert "identical" in capsys.readouterr().out
    lock = json.loads(run.folder.lock.read_text())
    honest = json.dumps(lock)
    lock["environment"]["packages"]["jax"] = "0.1.0"
    run.folder.lock.write_text(json.dumps(lock))
    with raises("conditions-changed", "packages.jax: 0.1.0 then", "--force"):
        replay_run(run.folder.path)
    assert replay_run(run.folder.path, force=True)
    # Of another machine, whose mesh cannot be had here: what differs, and no advice on meshes.
    lock = json.loads(honest)
    lock["environment"]["devices"] |= {"kind": "NVIDIA H100", "count": 64, "mesh": "data=64"}
    run.folder.lock.write_text(json.dumps(lock))
    with raises("conditions-changed", "devices.count: 64 then", "data=64 then, None now"):
        replay_run(run.folder.path)
    run.folder.lock.write_text(honest)


def test_a_run_of_before_keeps_its_digests_goes_on_and_is_replayed(run, tmp_path, capsys):
    """It recorded SHA-256 of its states' bytes, and its lock said nothing of that."""

    def train(**options):
        return dl.train(*door(), runs=tmp_path, name="old", **OPTIONS, **options).folder

    token = KIND.set(SHA)
    folder = train()
    KIND.reset(token)
    locked = json.loads(folder.lock.read_text())
    assert locked.pop("digests") == SHA
    folder.lock.write_text(json.dumps(locked))
    folder.result.unlink()
    shutil.rmtree(folder.checkpoints / "20")
    folder = train(resume=True)
    whole = run.folder
    assert first_difference(folder, folder) is None
    assert "two kinds, lanes and sha256" in first_difference(folder, whole)
    assert {len(d) for line in leaves(folder).values() for d in line.values()} == {64}
    assert {d[:6] for line in leaves(whole).values() for d in line.values()} == {"lanes:"}
    assert json.loads(whole.lock.read_text())["digests"] == LANES
    capsys.readouterr()
    assert replay_run(folder.path, script=SCRIPT)
    assert "identical" in capsys.readouterr().out


def test_replay_names_the_first_difference(run, capsys):
    lines = run.folder.metrics.read_text()
    record = next(r for r in run.folder.records() if r["event"] == "train" and r["step"] == 10)
    value = record["metrics"]["train/loss"]
    run.folder.metrics.write_text(lines.replace(str(value), str(value + 1e-6)))
    assert not replay_run(run.folder.path)
    assert "step 10: train/loss" in capsys.readouterr().out
    run.folder.metrics.write_text(lines)


def test_the_selected_state_is_the_best_by_validation(tmp_path):
    changed = door(learning_rate=0.5)  # so high that the last state is not the best
    run = dl.train(*changed, runs=tmp_path, name="x", eval_every=2, progress=False)
    history = run.history("eval")
    scores = history["validation/accuracy"]
    best = int(history["step"][np.flatnonzero(scores == scores.max())[-1]])  # the last of equals
    assert run.result["selected"]["step"] == best == int(run.state.step)


def test_patience_stops_early(tmp_path):
    experiment = dataclasses.replace(tiny(learning_rate=0.0, steps=40), patience=2)
    run = dl.train(*as_made(experiment), runs=tmp_path, name="x", eval_every=5, progress=False)
    assert run.ended == "early"
    assert run.result["steps"] < 40


def test_a_non_finite_loss_names_step_place_and_rows(tmp_path):
    experiment = tiny(steps=30)
    images = np.array(experiment.data.arrays["image"], np.float32)
    images[7] = np.nan
    arrays = {**experiment.data.arrays, "image": images}
    experiment = dataclasses.replace(experiment, data=train_batches(arrays, 50, 0))
    with raises("loss-not-finite", "column 'image'") as caught:
        dl.train(*as_made(experiment), runs=tmp_path, name="x", **OPTIONS)
    step = next(s for s in range(30) if 7 in np.asarray(experiment.data.indices(s)))
    assert isinstance(caught.value, dl.NonFiniteError)
    assert f"at step {step}," in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"measure": lambda *_: 3.0}, ("measure-return", "dict of single numbers", "3.0")),
        ({"measure": lambda *_: {"tau": np.ones(3)}}, ("measure-return", "single numbers")),
        ({"views": lambda _: [1]}, ("views-return", "list")),
        ({"views": lambda _: {"one": np.ones((8, 8))}}, ("views-return", "'one'", "[n, height")),
    ],
)
def test_what_measure_and_views_return_is_asked_for(tmp_path, fields, says):
    experiment = dataclasses.replace(tiny(steps=2), **fields)
    with raises(*says):
        dl.train(*as_made(experiment), runs=tmp_path, progress=False)


def test_batches_that_no_program_can_read_are_told(tmp_path):
    class Host:
        size, batch_size = 8, 4
        __getitem__ = lambda self, step: {"image": np.zeros((4, 8, 8, 1)), "label": np.zeros(4)}  # noqa: E731
        indices = lambda self, step: np.arange(4)  # noqa: E731
        digest = lambda self: "0"  # noqa: E731

    experiment = dataclasses.replace(tiny(), data=Host(), evals={}, tests={}, select=None)
    with raises("batches-not-traceable", "Host", "flax.struct.dataclass", "iterate(start)"):
        dl.train(*as_made(experiment), runs=tmp_path, progress=False)


def test_measure_and_views_are_part_of_the_run(tmp_path, capfd):
    experiment = dataclasses.replace(
        tiny(),
        measure=lambda predictor, columns, name: {
            "leaves": float(len(predictor.variables["params"])),
            "loss": 7.0,  # which the task has, too
        },
        views=lambda predictor: {"note": "hello", "grid": np.zeros((4, 3, 3, 1))},
    )
    run = dl.train(*as_made(experiment), runs=tmp_path, name="x", **OPTIONS)
    assert run.metrics["validation/leaves"] == run.metrics["test/leaves"] == 3
    assert run.metrics["validation/loss"] == run.metrics["test/loss"] == 7
    assert capfd.readouterr().err.count("loss is 7 by the experiment's measure, which counts") == 1
    assert (run.folder.path / "views" / "note-20.txt").read_text() == "hello\n"
    assert (run.folder.path / "views" / "grid-20.png").exists()


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ({}, {"name": "first"}, ("name-taken", "first", "--resume")),
        (
            {"steps": 30},
            {"name": "first", "resume": True},
            ("config-changed", "config.steps: 20 then, 30 now"),
        ),
        ({}, {"resume": True, "steps_per": 3}, ("unknown", "option 'steps_per'")),
        ({"learning_rate": 1.0}, {"resume": True}, ("nothing-to-resume", "run", "--resume")),
        ({}, {"eval_every": -1}, ("range", "eval_every", "1 or more", "-1")),
        ({}, {"log_every": 1.5}, ("range", "log_every", "1 or more", "1.5")),
    ],
)
def test_mistakes_get_one_clear_line(run, changes, options, message):
    with raises(*message):
        dl.train(*door(**changes), runs=run.folder.path.parent, **{**OPTIONS, **options})


def test_a_folder_is_written_by_one_process_at_a_time(run):
    with run.folder.held(), raises("run-in-use", "first"):
        dl.train(*door(), runs=run.folder.path.parent, name="first", resume=True, **OPTIONS)


def test_a_mounted_drive_that_knows_no_locks_takes_a_run(tmp_path, monkeypatch):
    def flock(file, how):
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr("fcntl.flock", flock)
    with RunFolder(tmp_path / "drive" / "first").held():
        assert (tmp_path / "drive" / "first").is_dir()


def test_another_models_checkpoint_is_refused(run):
    other = dataclasses.replace(tiny(), optimizer=optax.sgd(0.1))
    with raises("checkpoint-of-another-model", "checkpoint 20"):
        dl.open_run(run.folder.path, lambda config: other, run.experiment.config)


def test_selection_is_pure_bookkeeping():
    chosen = Selection("-validation/loss")
    for step, value in [(1, 3.0), (2, 1.0), (3, math.nan), (4, 1.0)]:
        chosen = chosen.update(step, {"validation/loss": value})
    assert (chosen.best, chosen.step, chosen.waited) == (1.0, 4, 2)  # the last of equals
    assert chosen.exhausted(2)
    assert not chosen.exhausted(None)
    with raises("unknown", "'validation/los'", "did you mean 'validation/loss'"):
        Selection("-validation/los").update(1, {"validation/loss": 1.0})


def test_sinks_get_the_same_scalars(tmp_path):
    pytest.importorskip("tensorboardX")
    run = dl.train(*door(), runs=tmp_path, name="x", tensorboard=True, **OPTIONS)
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
    run = dl.train(
        *as_made(experiment), runs=tmp_path, name="x", log_every=5, eval_every=5, progress=False
    )
    assert run.result["selected"] == {"rule": "validation/rare", "step": 10, "value": None}
    assert int(run.state.step) == 10
    assert "rare was nan" in " ".join(capsys.readouterr().err.split())
    assert math.isnan(run.metrics["validation/rare"])
    assert np.isnan(run.history("eval")["validation/rare"]).all()


class AsGiven(nn.Module):
    @nn.compact
    def __call__(self, x, *, train: bool = False):
        return x + self.param("nothing", nn.initializers.zeros, ())


def test_evaluation_of_many_batches_is_exact_and_the_same_piece_by_piece():
    """float32 sums of so many batches would be wrong by 4e-5."""
    columns = {"x": np.full(20_001, 0.1, np.float32), "label": np.zeros(20_001, np.float32)}
    task, sets = regression(AsGiven(), inputs="x"), {"validation": eval_batches(columns, 4)}
    data, optimizer = train_batches(columns, 4, 0), optax.sgd(0.1)
    experiment = dl.Experiment(task, data, optimizer, 1, evals=sets)
    state = init_state(task, optimizer, data[0], 0, False)
    evaluate = Evaluation(Compiled(experiment))
    (whole,) = evaluate(state, sets)
    (pieces,) = evaluate(state, {"read": StreamEvalBatches(ArraySource(columns), 4)})
    assert whole["validation/mae"] == pytest.approx(float(np.float32(0.1)), rel=1e-6)
    assert [*whole.values()] == [*pieces.values()]
