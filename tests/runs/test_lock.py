"""A run is what its folder says it was, whichever door it is entered by."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import optax
import pytest

import dl
from dl.cli.commands import export
from dl.cli.commands import report as report_command
from dl.core.experiment import built
from dl.data.batches import eval_batches, train_batches
from dl.data.transforms import images as augment
from dl.models.cnn import CNN
from dl.runs import lock
from dl.runs.scripts import load_script
from dl.tasks.classification import classification

TINY = Path(__file__).parents[1] / "scripts" / "tiny.py"
OPTIONS = {"log_every": 5, "eval_every": 10, "progress": False}

SCRIPT = """
import dataclasses
import numpy as np
import dl
from dl.data.batches import eval_batches, train_batches
from dl.models.cnn import CNN
from dl.tasks.classification import classification

@dataclasses.dataclass(frozen=True)
class Config:
    steps: int = 4
    file: str = ""

def build(config):
    columns = dict(np.load(config.file))
    return dl.Experiment(
        task=classification(CNN(2, widths=(4,))), data=train_batches(columns, 8),
        optimizer=dl.optimizer("adam", 1e-3), steps=config.steps,
        evals={"validation": eval_batches(columns, 16)},
    )
"""


def columns(seed=0):
    draw = np.random.default_rng(seed)
    return {
        "image": draw.integers(0, 256, (16, 4, 4, 1), np.uint8),
        "label": draw.integers(0, 2, 16),
    }


@pytest.fixture
def from_file(tmp_path):
    """A finished run of a script that reads a file, and that file."""
    file, script = tmp_path / "data.npz", tmp_path / "reads.py"
    np.savez(file, **columns())
    script.write_text(SCRIPT)
    kind, build = load_script(script)
    experiment = built(build, kind(file=str(file)))
    return dl.train(experiment, runs=tmp_path / "runs", name="a", **OPTIONS), file, script


def experiment(rate=1e-3, seed=0, steps=6, batch=8, data=0, dropout=0.1, optimizer=None, **fields):
    """One that no config describes."""
    found = columns(data)
    schedule = optax.cosine_decay_schedule(rate, 100)
    return dl.Experiment(
        task=classification(CNN(2, widths=(4,), dropout=dropout)),
        data=train_batches(found, batch, seed),
        optimizer=optimizer or optax.adam(schedule),
        steps=steps,
        seed=seed,
        evals={"validation": eval_batches(found, 16)},
        **fields,
    )


def train(runs, made, **options):
    return dl.train(made, runs=runs, **{**OPTIONS, "name": "a", **options})


# -- resuming through Python -------------------------------------------------------------------------

OTHERS = {
    "another rate": ({"rate": 1e-2}, "init_value: 0.001 then, 0.01 now"),
    "another seed": ({"seed": 1}, "seed: 0 then, 1 now"),
    "more steps": ({"steps": 7}, "steps: 6 then, 7 now"),
    "another batch size": ({"batch": 4}, "data.batch_size: 8 then, 4 now"),
    "other data": ({"data": 1}, "data.train: "),
    "another dropout": ({"dropout": 0.2}, "dropout: 0.1 then, 0.2 now"),
    "another optimizer": ({"optimizer": optax.adam(1e-3, b2=0.9)}, "optimizer"),
    "patience": ({"patience": 2, "select": "-validation/loss"}, "patience: None then, 2 now"),
    "an average": ({"ema": 0.9}, "ema: None then, 0.9 now"),
    "augmentation": (
        {"augment": (augment.random_crop(padding=1),)},
        "augment.0: None then, random_crop",
    ),
    "micro-batches": ({"micro_batches": 2}, "micro_batches: 1 then, 2 now"),
}


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    train(runs, experiment())
    return runs


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize("what", OTHERS)
def test_other_settings_are_refused_by_name(plain, what, finished):
    changes, says = OTHERS[what]
    result = plain / "a" / "result.json"
    kept = result.read_text()
    if not finished:
        result.unlink()
    try:
        with pytest.raises(dl.UserError) as caught:
            train(plain, experiment(**changes), resume=True)
        # Without a name it is passed over; but for its data, which may have changed under it.
        with pytest.raises(dl.UserError, match=r"no unfinished run|data\.train: "):
            train(plain, experiment(**changes), resume=True, name=None)
    finally:
        result.write_text(kept)
    assert says in str(caught.value)
    assert "start anew under another --name" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_same_settings_go_on(plain, capfd):
    again = train(plain, experiment(), resume=True)
    assert again.ended == "done"
    assert capfd.readouterr().err == ""


def test_an_upgrade_is_a_warning(plain, capfd):
    # Another library may hold its numbers in other closures: that alone is no other setting.
    file = plain / "a" / "run.lock.json"
    honest = file.read_text()
    locked = json.loads(honest)
    locked["environment"]["packages"]["optax"] = "0.0.1"
    locked["settings"] = {"optimizer.elsewhere": 1}
    file.write_text(json.dumps(locked))
    result = plain / "a" / "result.json"
    kept = result.read_text()
    result.unlink()
    try:
        train(plain, experiment(), resume=True)
    finally:
        file.write_text(honest)
        result.write_text(kept)
    assert "packages.optax: 0.0.1 then" in capfd.readouterr().err


def test_settings_are_the_same_in_every_build():
    first, second = (json.dumps(lock.settings(experiment(seed=3))) for _ in range(2))
    assert first == second
    assert "0x" not in first


def test_settings_see_closures_defaults_partials_and_arrays():
    def captured(rate, weights, late=2.0):
        import functools

        inner = functools.partial(lambda x, y, z=0.5: x * rate, weights, y=3)
        return lambda x, power=late: inner(x) ** power

    def held(*args, **options):
        task = classification(CNN(2), prepare=captured(*args, **options))
        return lock.settings(dataclasses.replace(experiment(), task=task))

    base = held(0.1, np.arange(3))
    assert base == held(0.1, np.arange(3))
    for other in (held(0.2, np.arange(3)), held(0.1, np.arange(4)), held(0.1, np.arange(3), 3.0)):
        assert base != other
        assert base.keys() == other.keys()


# -- reopening ---------------------------------------------------------------------------------------


def test_changed_data_are_refused_at_every_door(from_file, capfd, tmp_path):
    run, file, _ = from_file
    image = columns()["image"]
    logits = dl.open_run(run.folder.path).predict(image)
    assert capfd.readouterr().err == ""  # nothing changed, nothing said
    np.savez(file, **columns(1))
    now = built(run.experiment.build, run.experiment.config)
    doors = {
        "open_run(..., force=True)": (
            lambda: dl.open_run(run.folder.path),
            lambda: export(run.folder.path),
        ),
        "another --name": (lambda: train(tmp_path / "runs", now, resume=True),),
    }
    says = r"changed since it was started \(data\.train: "
    for remedy, door in [(remedy, door) for remedy, several in doors.items() for door in several]:
        with pytest.raises(dl.UserError, match=says) as e:
            door()
        assert remedy in str(e.value)
        assert "\n" not in str(e.value)
    opened = dl.open_run(run.folder.path, force=True)
    assert "data.train: " in capfd.readouterr().err
    np.testing.assert_array_equal(opened.predict(image), logits)


def test_a_report_shows_that_the_data_changed(from_file, capfd, tmp_path):
    run, file, _ = from_file
    np.savez(file, **columns(1))
    report_command((run.folder.path,), tmp_path / "page.html")
    assert "data.train" in capfd.readouterr().err
    page = (tmp_path / "page.html").read_text()
    assert "changed since it was started (data.train: " in page


def test_one_changed_set_is_named(from_file):
    run, _, _ = from_file

    def build(config):
        sets = {"validation": eval_batches(columns(1), 16)}
        return dataclasses.replace(run.experiment, evals=sets)

    with pytest.raises(dl.UserError, match=r"\(data\.validation: \w+… then, \w+… now\)"):
        dl.open_run(run.folder.path, build, run.experiment.config)


def test_another_config_is_refused_by_name(from_file):
    run, file, script = from_file
    kind, build = load_script(script)
    with pytest.raises(dl.UserError, match=r"config\.steps: 4 then, 5 now"):
        dl.open_run(run.folder.path, build, kind(steps=5, file=str(file)))


def test_a_run_without_a_config_needs_its_build(tmp_path):
    script = tmp_path / "reads.py"
    script.write_text(SCRIPT)
    made = experiment()
    run = dl.train(made, script, runs=tmp_path / "runs", name="a", **OPTIONS)
    with pytest.raises(dl.UserError, match="give open_run build= and config="):
        dl.open_run(run.folder.path)
    with pytest.raises(dl.UserError, match=r"build needs a config .*: pass config= beside build="):
        dl.open_run(run.folder.path, lambda config: dataclasses.replace(made, steps=config.steps))
    again = dl.open_run(run.folder.path, lambda config: made, None)
    image = columns()["image"]
    np.testing.assert_array_equal(again.predict(image), run.predict(image))
    with pytest.raises(dl.UserError, match="there is no script"):
        dl.train(made, tmp_path / "none.py", runs=tmp_path / "runs", **OPTIONS)


def test_an_edited_script_is_a_warning(from_file, capfd):
    run, _, script = from_file
    script.write_text(SCRIPT + "\n# a remark\n")
    dl.open_run(run.folder.path)
    assert "code.script" in capfd.readouterr().err


def test_a_sweep_goes_on_only_with_its_own_data_and_cadence(tmp_path):
    kind, build = load_script(TINY)
    options = {"runs": tmp_path, "name": "s", "progress": False}
    swept = dl.sweep(build, kind(steps=4), seeds=2, lanes="map", **options)
    again = {**options, "resume": True}
    with pytest.raises(dl.UserError, match=r"eval_every: 1 then, 3 now"):
        dl.sweep(build, kind(steps=4), seeds=2, lanes="map", eval_every=3, **again)
    for file in swept.folder.glob("lanes/*/run.lock.json"):
        locked = json.loads(file.read_text())
        locked["environment"]["data"]["train"] = "0" * 64
        file.write_text(json.dumps(locked))
    with pytest.raises(dl.UserError, match=r"changed since it was started \(data\.train"):
        dl.sweep(build, kind(steps=4), seeds=2, lanes="map", **again)
