"""What a new user is likeliest to get wrong: one clear line with what to do, code 2, no harm done.

Each row of the tables is a mistake, its code, and what the answer must name.
"""

import dataclasses
import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from mistakes import one_line

import dl
from dl.cli.main import main as dl_command
from dl.core.metrics import Mean
from dl.data import load
from dl.data.batches import eval_batches, train_batches
from dl.runs.folder import RunFolder
from dl.runs.scripts import load_script
from dl.tasks.classification import classification
from dl.tasks.regression import regression

ROOT = Path(__file__).parents[2]
TINY, IMAGES = ROOT / "tests" / "scripts" / "tiny.py", ROOT / "experiments/image_classification.py"
Config, tiny_build = load_script(TINY)


@pytest.fixture
def exits(monkeypatch):
    """Let the command line's way out of the process be seen from inside it."""

    def leave(code):
        raise SystemExit(code)

    monkeypatch.setattr(os, "_exit", leave)
    monkeypatch.delenv("DL_TRACEBACK", raising=False)


def answer(capfd, call, *args):
    """``(exit code, what was said)`` of a command."""
    with pytest.raises(SystemExit) as left:
        call(*args)
    said = capfd.readouterr()
    assert "Traceback" not in said.err + said.out
    return left.value.code, said.err, said.out


def run_tiny(build, flags, config=Config):
    build.__module__ = Config.__module__
    dl.main(config, build, ["--steps", "20", "--no-progress", *flags])


def refused(left, err, code, *words):
    """Exit code 2 and one line, not too long, of this error code with these words."""
    assert left == 2
    assert len(err) < 700
    one_line(err, code, *words)


# -- what build returns ------------------------------------------------------------------------------


def columns(part="train", **changes):
    found = dict(getattr(load("digits"), part))
    return {name: changes.get(name, lambda x: x)(np.array(x)) for name, x in found.items()}


def data(**changes):
    return lambda e: dataclasses.replace(e, data=train_batches(columns(**changes), 50, 0))


def held_out(**changes):
    sets = {"test": eval_batches(columns("test", **changes), 100)}
    return lambda e: dataclasses.replace(e, tests=sets)


def fields(**changes):
    return lambda e: dataclasses.replace(e, **changes)


def applied(change):
    """The task with its ``(outputs, updates)`` changed."""

    def changed(task):
        return dataclasses.replace(task, apply=lambda *args: change(*task.apply(*args)))

    return lambda e: dataclasses.replace(e, task=changed(e.task))


def scored(change):
    """The task with its metrics changed."""

    def changed(task):
        return dataclasses.replace(task, score=lambda *args: change(task.score(*args)))

    return lambda e: dataclasses.replace(e, task=changed(e.task))


def without_mask(e):
    def score(outputs, batch, train):
        return e.task.score(outputs, {k: v for k, v in batch.items() if k != "mask"}, train)

    return dataclasses.replace(e, task=dataclasses.replace(e.task, score=score))


class Seven(nn.Module):
    """Flattens to a size that the pictures do not have."""

    @nn.compact
    def __call__(self, x, *, train=False):
        return nn.Dense(10)(x.reshape(len(x), 7))


class Huge(nn.Module):
    """More parameters than any machine holds."""

    @nn.compact
    def __call__(self, x, *, train=False):
        return nn.Dense(10)(nn.Dense(10**12)(x.reshape(len(x), -1)))


class Column(nn.Module):
    """Gives [batch, 1] where [batch] is due."""

    @nn.compact
    def __call__(self, x, *, train=False):
        return nn.Dense(1)(x.reshape(len(x), -1).astype(jnp.float32))


def renamed():
    found = columns()
    return {"image": found["image"], "labels": found["label"]}


EXPERIMENTS = {
    # the data
    "pictures of another size": (
        lambda e: dataclasses.replace(
            e, evals={"validation": eval_batches(columns(image=lambda x: x[:, :6]), 100)}
        ),
        ("own-code-fails", "'validation'", "image uint8[100, 6, 8, 1], label int32[100]"),
    ),
    "pixels scaled to 0..1": (
        data(image=lambda x: x.astype(np.float32) / 255),
        ("pixels-range", "'image'", "float32 from 0 to 1", "0..255", "give the pixels"),
    ),
    "texts as an array of objects": (
        data(image=lambda x: x.astype(object)),
        ("column-not-numbers", "encode or drop it"),
    ),
    "a label beyond the classes": (
        data(label=lambda x: x + 3),
        ("class-out-of-range", "training data", "'label'", "3 to 12", "0 to 9"),
    ),
    "labels below zero": (
        data(label=lambda x: x - 1),
        ("class-out-of-range", "'label'", "-1 to 8"),
    ),
    "a bad label in the test set": (
        held_out(label=lambda x: x + 3),
        ("class-out-of-range", "test data", "column"),
    ),
    "labels in a column of their own": (
        data(label=lambda x: x[:, None]),
        ("label-shape", "'label'", "[1]", "class numbers [batch]", "probabilities [batch, 10]"),
    ),
    "another column's name": (
        lambda e: dataclasses.replace(e, data=train_batches(renamed(), 50, 0)),
        ("own-code-fails", "no column 'label'"),
    ),
    "columns of different lengths": (
        data(label=lambda x: x[:-1]),
        ("column-lengths", "every column", "same, non-zero length"),
    ),
    "an empty set": (
        data(label=lambda x: x[:0], image=lambda x: x[:0]),
        ("column-lengths", "non-zero length"),
    ),
    "NaN in the data": (
        data(image=lambda x: np.where(np.arange(len(x))[:, None, None, None] < 9, np.nan, x)),
        ("loss-not-finite", "column 'image'", "row"),
    ),
    "columns instead of batches": (
        lambda e: dataclasses.replace(e, data=columns()),
        ("not-training-batches", "data", "train_batches(columns, 64)", "dict"),
    ),
    "evaluation batches to train on": (
        lambda e: dataclasses.replace(e, data=e.evals["validation"]),
        ("not-training-batches", "train_batches(columns, 64)", "EvalBatches"),
    ),
    "training batches to evaluate on": (
        lambda e: dataclasses.replace(e, evals={"validation": e.data}),
        ("not-evaluation-batches", "'validation'", "eval_batches(columns, 500)"),
    ),
    # the model and its task
    "a model that cannot take the batch": (
        fields(task=classification(Seven())),
        (
            "own-code-fails",
            "initialising the model",
            "image uint8[50, 8, 8, 1], label int32[50]",
            "TypeError",
        ),
    ),
    "an output of one column": (
        fields(task=regression(Column(), inputs="image")),
        ("output-shape", "(1,)", "'label' ()"),
    ),
    "a model beyond the memory": (
        fields(task=classification(Huge())),
        ("model-too-large", "GiB", "make the model smaller"),
    ),
    "outputs alone": (
        applied(lambda outputs, updates: outputs),
        ("apply-return", "(outputs, updates)", "dict", "float32[50, 10]"),
    ),
    "a loss for each row": (
        scored(lambda m: m | {"loss": Mean(jnp.ones(50) * m["loss"].total, m["loss"].weight)}),
        ("loss-shape", "'loss'", "float32[50]", "make it by dl.core.metrics.mean(losses)"),
    ),
    "a loss alone": (
        scored(lambda m: m["loss"].total),
        ("score-return", "dict", "float32[]"),
    ),
    "metrics without 'loss'": (
        scored(lambda m: {"error": m["loss"]}),
        ("loss-missing", "'loss'", "dl.core.metrics.mean(losses)", "there are error"),
    ),
    "a metric that is a number": (
        scored(lambda m: m | {"error": m["loss"].total}),
        ("metric-not-mean", "'error'", "dl.core.metrics.mean"),
    ),
    "statistics forgotten": (
        applied(lambda outputs, updates: (outputs, {})),
        ("update-missing", "'batch_stats'"),
    ),
    "padding counted": (without_mask, ("mask-ignored", "batch['mask']")),
    # what the run is told
    "an optimizer's name": (
        fields(optimizer="adam"),
        ("not-an-optimizer", "dl.optimizer('adam', 1e-3)", "str"),
    ),
    "an optimizer not called": (fields(optimizer=optax.adam), ("not-an-optimizer", "adam itself")),
    "no seed": (fields(seed=None), ("range", "seed", "0 to 2**32 - 1", "None")),
    "half a seed": (fields(seed=1.5), ("range", "seed", "0 to 2**32 - 1", "1.5")),
    "NumPy's seed below zero": (
        fields(seed=np.int64(-3)),
        ("range", "seed", "0 to 2**32 - 1", "-3"),
    ),
    "half a step": (fields(steps=20.5), ("range", "steps", "1 or more", "whole number", "20.5")),
    "a metric that is not there": (
        fields(select="validation/acuracy"),
        ("unknown", "'validation/acuracy'", "did you mean 'validation/accuracy'?"),
    ),
    "a metric of no set": (fields(evals={}), ("select-without-evals", "give evals=")),
    "patience for nothing": (
        fields(select=None, patience=2),
        ("patience-without-select", "give select='validation/accuracy'"),
    ),
    "no patience at all": (fields(patience=0), ("range", "patience", "1 or more")),
    "micro-batches that do not divide": (
        fields(micro_batches=3),
        ("micro-batches-uneven", "50", "3 micro-batches", "choose a divisor of 50"),
    ),
    "an augmentation by itself": (
        fields(augment=lambda key, batch: batch),
        ("augment-not-functions", "augment", "tuple", "(key, batch) -> batch"),
    ),
    "a decay beyond one": (fields(ema=10.0), ("range", "ema", "[0, 1)", "10.0")),
    "a task for an experiment": (
        lambda e: e.task,
        ("build-not-experiment", "Task("),
    ),
    "a build without return": (
        lambda e: None,
        ("build-not-experiment", "None"),
    ),
}


@pytest.mark.parametrize("what", EXPERIMENTS)
def test_a_wrong_experiment_gets_one_line(exits, capfd, tmp_path, what):
    change, says = EXPERIMENTS[what]
    flags = ["--runs", str(tmp_path / "runs")]
    code, err, _ = answer(capfd, run_tiny, lambda config: change(tiny_build(config)), flags)
    refused(code, err, *says)
    # Known before anything was written; but for what only a step's numbers can tell.
    assert not (tmp_path / "runs").exists() or what == "NaN in the data"


# -- the config --------------------------------------------------------------------------------------


@dataclasses.dataclass
class Thawed:
    steps: int = 20


@dataclasses.dataclass(frozen=True)
class Lacking:
    steps: int


@dataclasses.dataclass(frozen=True)
class Untyped:
    steps: int = 20
    widht = 3


@dataclasses.dataclass(frozen=True)
class Taken:
    steps: int = 20
    name: str = "x"


class Plain:
    steps = 20


CONFIGS = {
    "not frozen": (
        Thawed,
        ("config-not-dataclass", "Thawed", "write @dataclasses.dataclass(frozen=True)"),
    ),
    "no dataclass": (Plain, ("config-not-dataclass", "Plain")),
    "an instance": (Config(), ("config-not-class", "Config and not Config()")),
    "a field without default": (Lacking, ("config-no-default", "'steps' of Lacking")),
    "a field without type": (
        Untyped,
        ("config-no-type", "'widht' of Untyped", "write widht: int = 3"),
    ),
    "a field called as a flag": (
        Taken,
        ("field-is-flag", "'name' of Taken", "leave it out, or rename it"),
    ),
}


@pytest.mark.parametrize("what", CONFIGS)
def test_a_wrong_config_gets_one_line(exits, capfd, tmp_path, what):
    config, says = CONFIGS[what]
    flags = ["--runs", str(tmp_path / "runs")]
    refused(*answer(capfd, run_tiny, lambda c: tiny_build(c), flags, config)[:2], *says)
    assert not (tmp_path / "runs").exists()


# -- the command line --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder ``runs`` with a finished run ``a``, and other things."""
    place = tmp_path_factory.mktemp("mistakes")
    config, build = load_script(TINY)
    dl.train(build, config(steps=20), script=TINY, runs=place / "runs", name="a", progress=False)
    (place / "runs" / "notes").mkdir()
    (place / "runs" / "notes" / "todo.txt").write_text("buy milk")
    (place / "file").write_text("not a folder")
    return place


def snapshot(folder):
    files = (p for p in folder.rglob("*") if p.is_file() and p.name != ".writer")
    return {str(p): p.read_bytes() for p in files}


FLAGS = {
    "a value of the wrong type": (["--steps", "many"], "--steps"),
    "a flag misspelt": (["--lerning-rate", "1"], "--learning-rate"),
    "a batch larger than the data": (
        ["--batch-size", "99999"],
        ("batch-size-impossible", "99999", "1257 training examples", "choose 1 to 1257"),
    ),
    "no batch": (["--batch-size", "0"], ("batch-size-impossible", "batch size 0")),
    "no steps": (["--steps", "0"], ("range", "steps", "1 or more")),
    "never logging": (["--log-every", "0"], ("range", "log_every", "1 or more", "0")),
    "an optimizer misspelt": (["--optimizer", "adm"], ("unknown", "'adm'", "did you mean 'adam'?")),
    "a rate below zero": (["--learning-rate", "-1"], ("range", "learning rate", "0 or more", "-1")),
    "a rate far too high": (
        ["--learning-rate", "1e30"],
        ("loss-not-finite", "lower the learning rate, or clip"),
    ),
    "a dropout of everything": (
        ["--dropout", "1.5"],
        ("range", "dropout rate", "0 or more", "below 1", "1.5"),
    ),
    "a seed below zero": (["--seed", "-1"], ("range", "seed", "0 to 2**32 - 1", "-1")),
    "a name with a path": (["--name", "../b"], ("name-malformed", "a run's name", "'../b'")),
    "a name that is taken": (["--name", "a"], ("name-taken", "runs/a", "--resume")),
    "another config resumed": (
        ["--name", "a", "--resume", "--steps", "30"],
        ("config-changed", "runs/a", "config.steps: 20 then, 30 now"),
    ),
    "another config resumed, that cannot be built": (
        ["--name", "a", "--resume", "--dropout", "1.5"],
        ("config-changed", "runs/a", "config.dropout: 0.1 then, 1.5 now"),
    ),
    "a run resumed as a sweep": (
        ["--name", "a", "--resume", "--seeds", "2"],
        ("config-changed", "runs/a is one run", "without --seeds"),
    ),
    "nothing to resume": (["--resume", "--steps", "7"], ("nothing-to-resume", "run", "runs/")),
    "a folder of something else": (
        ["--name", "notes"],
        ("folder-not-empty", "runs/notes", "--name"),
    ),
    "runs under a file": (["--runs", "file"], ("file-write", "file/")),
    "a sweep of a field misspelt": (
        ["--sweep", "lerning_rate=1,2"],
        ("unknown", "'lerning_rate'", "did you mean 'learning_rate'?"),
    ),
    "a sweep of no numbers": (
        ["--sweep", "learning_rate=a,b"],
        ("sweep-value", "learning_rate", "'a' is no float"),
    ),
    "a sweep with spaces": (
        ["--sweep", "learning_rate"],
        ("sweep-malformed", "--sweep learning_rate", "write field=value,value"),
    ),
    "a sweep of an impossible value": (
        ["--sweep", "batch_size=50,99999"],
        ("batch-size-impossible", "99999"),
    ),
    "draws of nothing": (["--trials", "3"], ("trials-without-range", "--trials")),
}
BOXED = ("a flag misspelt", "a value of the wrong type")  # the parser's own answer, in a frame


@pytest.mark.parametrize("what", FLAGS)
def test_a_wrong_flag_gets_one_line(exits, capfd, monkeypatch, finished, what):
    flags, says = FLAGS[what]
    monkeypatch.chdir(finished)
    before = snapshot(finished / "runs" / "a")
    code, err, out = answer(capfd, run_tiny, lambda config: tiny_build(config), flags)
    if what in BOXED:
        assert code == 2
        assert says in err + out
    else:
        refused(code, err, *says)
    assert snapshot(finished / "runs" / "a") == before


def test_two_writers(exits, capfd, monkeypatch, finished):
    monkeypatch.chdir(finished)
    flags = ["--name", "a", "--resume"]
    with RunFolder("runs/a").held():
        code, err, _ = answer(capfd, run_tiny, lambda config: tiny_build(config), flags)
    refused(code, err, "run-in-use", "runs/a", "wait for it")


def test_a_checkpoint_of_another_model(exits, capfd, monkeypatch, finished):
    def build(config):
        return dataclasses.replace(tiny_build(config), optimizer=optax.sgd(0.1))

    monkeypatch.chdir(finished)
    code, err, _ = answer(capfd, run_tiny, build, ["--name", "a", "--resume"])
    refused(code, err, "checkpoint-of-another-model", "checkpoint 20", "state/opt_state")


def test_weights_without_safetensors_or_a_folder(exits, capfd, monkeypatch, tmp_path):
    config, build = load_script(IMAGES)
    flags = ["--runs", str(tmp_path / "runs"), "--weights", str(tmp_path)]
    told = answer(capfd, dl.main, config, build, flags)[:2]
    refused(*told, "weights-missing", "config.json", "give a folder")
    (tmp_path / "config.json").write_text(
        '{"model_type": "resnet", "embedding_size": 4, "hidden_sizes": [4], "depths": [1], '
        '"layer_type": "basic"}'
    )
    told = answer(capfd, dl.main, config, build, flags)[:2]
    refused(*told, "weights-missing", "model.safetensors")
    (tmp_path / "model.safetensors").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "safetensors", None)
    told = answer(capfd, dl.main, config, build, flags)[:2]
    refused(*told, "package-missing", "pip install -e '.[interop]'")


@pytest.mark.parametrize("package", ["tensorboardX", "wandb"])
def test_a_missing_package(exits, capfd, monkeypatch, tmp_path, package):
    monkeypatch.setitem(sys.modules, package, None)  # as where it is not installed
    flag = {"tensorboardX": ["--tensorboard"], "wandb": ["--wandb", "project"]}[package]
    flags = ["--runs", str(tmp_path), *flag]
    code, err, _ = answer(capfd, run_tiny, lambda config: tiny_build(config), flags)
    refused(code, err, "package-missing", f"pip install -e '.[{package.lower().rstrip('x')}]'")


def test_out_of_memory_while_running(exits, capfd, tmp_path):
    def measure(predictor, columns, name):
        raise MemoryError  # as NumPy does; devices say RESOURCE_EXHAUSTED

    def build(config):
        return dataclasses.replace(tiny_build(config), measure=measure)

    code, err, _ = answer(capfd, run_tiny, build, ["--runs", str(tmp_path)])
    refused(code, err, "out-of-memory", "lower --batch-size (50), or make the model smaller")


def test_ctrl_c_before_the_first_step(exits, capfd, tmp_path):
    def build(config):
        raise KeyboardInterrupt

    code, err, _ = answer(capfd, run_tiny, build, ["--runs", str(tmp_path)])
    assert (code, err) == (130, "interrupted\n")


# -- data sets ---------------------------------------------------------------------------------------


def no_set(folder):
    pass


def garbage(folder):
    (folder / "cifar10_jpeg").mkdir()
    for name in ("train.npz", "test.npz"):
        (folder / "cifar10_jpeg" / name).write_bytes(b"no archive at all" * 9)


def cut_off(folder):
    import gzip

    (folder / "mnist").mkdir()
    for part in ("train", "t10k"):
        for kind in ("images-idx3", "labels-idx1"):
            packed = gzip.compress(b"\0\0\x08\x01\0\0\0\x09123456789")[:-12]
            (folder / "mnist" / f"{part}-{kind}-ubyte.gz").write_bytes(packed)


SETS = {
    "a set misspelt": ("mnits", no_set, ("data-unknown", "'mnits'", "did you mean 'mnist'?")),
    "a set that is not here": (
        "cifar10_jpeg",
        no_set,
        ("data-missing", "put train.npz, test.npz into "),
    ),
    "a file of something else": (
        "cifar10_jpeg",
        garbage,
        ("file-damaged", "train.npz", "delete or replace it"),
    ),
    "a file cut off": (
        "mnist",
        cut_off,
        ("file-damaged", "train-images-idx3-ubyte.gz", "delete or replace it"),
    ),
}


@pytest.mark.parametrize("what", SETS)
def test_a_wrong_data_set_gets_one_line(exits, capfd, tmp_path, what):
    name, prepare, says = SETS[what]
    prepare(tmp_path)
    config, build = load_script(IMAGES)
    flags = ["--data", name, "--data-dir", str(tmp_path), "--runs", str(tmp_path / "runs")]
    refused(*answer(capfd, dl.main, config, build, flags)[:2], *says)
    assert not (tmp_path / "runs").exists()


def test_a_damaged_picture_gets_one_line(exits, capfd, tmp_path):
    (tmp_path / "content.jpg").write_bytes(b"\xff\xd8\xff\xe0 and no more")
    config, build = load_script(ROOT / "experiments/style_transfer.py")
    flags = ["--content", str(tmp_path / "content.jpg"), "--runs", str(tmp_path / "runs")]
    code, err, _ = answer(capfd, dl.main, config, build, flags)
    refused(code, err, "picture-damaged", "content.jpg")
    assert not (tmp_path / "runs").exists()


# -- the dl command ----------------------------------------------------------------------------------

SCRIPTS = {
    "broken.py": "def build(config)\n",
    "empty.py": "x = 1\n",
    "needs.py": "import a_package_that_is_not_there\n",
    "raises.py": "1 / 0\n",
}
COMMANDS = {
    "no command of that name": (["lsit"], ("unknown", "'lsit'", "did you mean 'list'?")),
    "no run": (
        ["replay", "runs/none"],
        ("not-a-run", "runs/none/config.json", "is runs/none the folder"),
    ),
    "no run, but a folder": (["replay", "runs/notes"], ("not-a-run", "is runs/notes the folder")),
    "no script": (["plan", "none.py"], ("file-missing", "none.py")),
    "a script that is not Python": (
        ["plan", "broken.py"],
        ("script-syntax", "broken.py, line 1", "expected ':'"),
    ),
    "a script of something else": (
        ["verify", "empty.py"],
        ("script-without-build", "empty.py", "Config", "build(config)"),
    ),
    "a script that lacks a package": (
        ["plan", "needs.py"],
        ("script-import", "needs.py", "a_package_that_is_not_there"),
    ),
    "a script that fails": (
        ["plan", "raises.py"],
        ("script-fails", "raises.py", "ZeroDivisionError"),
    ),
    "a set misspelt": (["data", "info", "mnits"], ("unknown", "'mnits'", "did you mean 'mnist'?")),
    "no set": (["data", "prepare"], ("data-set-unnamed", "dl data prepare", "dl data list")),
    "two sets": (["data", "info", "mnist", "pima"], ("option-misplaced", "pima")),
    "no folder for tokens": (["data", "tokens", "a.txt"], ("data-set-unnamed", "--out FOLDER")),
    "a tokenizer where none is made": (
        ["data", "show", "a.txt", "--tokenizer", "bpe"],
        ("option-misplaced", "--tokenizer is for dl data tokens"),
    ),
    "no such action": (["data", "lst"], ("unknown", "'lst'", "did you mean 'list'?")),
    "no experiments": (["list", "nowhere"], ("no-scripts", "nowhere/")),
    "no sweep": (["sweep", "report", "runs/a"], ("not-a-sweep", "runs/a")),
    "no run to export": (["export", "runs/none"], ("not-a-run", "is runs/none the folder")),
    "no such platform": (["export", "runs/a", "--platforms", "gpu"], ("unknown", "'gpu'")),
    "no table": (
        ["reproduce", "mnist", "--experiments", "nowhere"],
        ("file-missing", "results.toml", "project's checkout"),
    ),
}


@pytest.mark.parametrize("what", COMMANDS)
def test_a_wrong_command_gets_one_line(exits, capfd, monkeypatch, finished, what):
    words, says = COMMANDS[what]
    for name, text in SCRIPTS.items():
        (finished / name).write_text(text)
    monkeypatch.chdir(finished)
    monkeypatch.setattr(sys, "argv", ["dl", *words])
    refused(*answer(capfd, dl_command)[:2], *says)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("plan some.py --steps 5", "dl plan some.py -- --steps 5"),
        ("submit some.py --name a --here", "dl submit some.py --here -- --name a"),
        ("plan some.py --steps=5 -- --width 3", "dl plan some.py -- --steps=5 --width 3"),
        ("data show x --label y --kind texts", "dl data show x --kind texts -- --label y"),
        ("plan some.py --largest-batch --device", None),
    ],
)
def test_a_scripts_flags_belong_after_dashes(exits, capfd, monkeypatch, given, meant):
    monkeypatch.setattr(sys, "argv", ["dl", *given.split()])
    code, err, _ = answer(capfd, dl_command)
    assert code == 2
    hints = [
        line.partition("follow after --: ")[2]
        for line in err.splitlines()
        if "follow after" in line
    ]
    assert hints == [meant] * (meant is not None)


def test_a_scripts_flags_that_stand_after_dashes_are_where_they_belong(exits, capfd, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["dl", "plan", str(TINY), "--", "--stepz", "5"])
    code, err, _ = answer(capfd, dl_command)
    assert (code, "--stepz" in err, "follow after" in err) == (2, True, False)


def test_a_folder_without_access_is_named(exits, capfd, tmp_path):
    def build(config):
        raise PermissionError(errno.EACCES, "Permission denied", "some/file")

    code, err, _ = answer(capfd, run_tiny, build, ["--runs", str(tmp_path)])
    told = "Permission denied: some/file. Make it accessible, or choose another folder"
    refused(code, err, "system-refuses", told, "[DL_TRACEBACK=1 shows where]")


def test_dl_alone_shows_its_help_and_version(capfd, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["dl"])
    with pytest.raises(SystemExit) as left:
        dl_command()
    assert left.value.code == 0
    assert "replay" in capfd.readouterr().out
    monkeypatch.setattr(sys, "argv", ["dl", "--version"])
    dl_command()
    assert capfd.readouterr().out == f"dl {dl.__version__}\n"


def test_a_reader_that_has_seen_enough_is_no_error():
    command = "import sys; sys.argv = ['dl', 'data', 'list']; from dl.cli.main import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-u", "-c", command], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdout.close()  # as head does
    assert process.stderr.read() == b""
    process.wait()


DAMAGE = {
    "config.json": ("{'half", ("record-damaged", "config.json")),
    "run.lock.json": ("", ("record-damaged", "run.lock.json")),
    "metrics.jsonl": ('{"event": "tr\n{}\n', ("record-damaged", "metrics.jsonl", "line 1")),
    "result.json": ("[1, 2", ("record-damaged", "result.json")),  # read by --resume alone
}


@pytest.mark.parametrize("file", DAMAGE)
def test_a_damaged_file_of_a_run_is_named(exits, capfd, monkeypatch, tmp_path, finished, file):
    content, says = DAMAGE[file]
    shutil.copytree(finished / "runs" / "a", tmp_path / "a")
    (tmp_path / "a" / file).write_text(content)
    monkeypatch.setattr(sys, "argv", ["dl", "replay", str(tmp_path / "a"), "--force"])
    if file == "result.json":
        flags = ["--runs", str(tmp_path), "--name", "a", "--resume"]
        code, err, _ = answer(capfd, run_tiny, lambda config: tiny_build(config), flags)
    else:
        code, err, _ = answer(capfd, dl_command)
    refused(code, err, *says)
