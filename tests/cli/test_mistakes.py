"""What a new user is likeliest to get wrong: one clear line with what to do, code 2, no harm done.

Each row of the tables is a mistake and what the answer must say.
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


def one_line(code, err, says):
    """Code 2 and one line that says this."""
    assert code == 2
    assert err.startswith("error: ")
    assert err.count("\n") == 1, err
    assert len(err) < 700
    assert says in err


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
        "evaluating 'validation' fails on image uint8[100, 6, 8, 1], label int32[100]",
    ),
    "pixels scaled to 0..1": (
        data(image=lambda x: x.astype(np.float32) / 255),
        "'image' holds float32 from 0 to 1, but is prepared as pixels 0..255: give the pixels",
    ),
    "texts as an array of objects": (data(image=lambda x: x.astype(object)), "encode or drop it"),
    "a label beyond the classes": (
        data(label=lambda x: x + 3),
        "in the training data, column 'label' holds 3 to 12, but the model tells 0 to 9 apart",
    ),
    "labels below zero": (data(label=lambda x: x - 1), "column 'label' holds -1 to 8"),
    "a bad label in the test set": (held_out(label=lambda x: x + 3), "in the test data, column"),
    "labels in a column of their own": (
        data(label=lambda x: x[:, None]),
        "column 'label' has [1] a row: give class numbers [batch], or probabilities [batch, 10]",
    ),
    "another column's name": (
        lambda e: dataclasses.replace(e, data=train_batches(renamed(), 50, 0)),
        "there is no column 'label'",
    ),
    "columns of different lengths": (
        data(label=lambda x: x[:-1]),
        "every column of a data set needs the same, non-zero length",
    ),
    "an empty set": (data(label=lambda x: x[:0], image=lambda x: x[:0]), "non-zero length"),
    "NaN in the data": (
        data(image=lambda x: np.where(np.arange(len(x))[:, None, None, None] < 9, np.nan, x)),
        "in the input column 'image' of row",
    ),
    "columns instead of batches": (
        lambda e: dataclasses.replace(e, data=columns()),
        "data must be endless training batches, such as train_batches(columns, 64), not dict",
    ),
    "evaluation batches to train on": (
        lambda e: dataclasses.replace(e, data=e.evals["validation"]),
        "such as train_batches(columns, 64), not EvalBatches",
    ),
    "training batches to evaluate on": (
        lambda e: dataclasses.replace(e, evals={"validation": e.data}),
        "the set 'validation' must be evaluation batches, such as eval_batches(columns, 500)",
    ),
    # the model and its task
    "a model that cannot take the batch": (
        fields(task=classification(Seven())),
        "initialising the model fails on image uint8[50, 8, 8, 1], label int32[50]: TypeError",
    ),
    "an output of one column": (
        fields(task=regression(Column(), inputs="image")),
        "a row's output has shape (1,), its 'label' ()",
    ),
    "a model beyond the memory": (
        fields(task=classification(Huge())),
        "GiB: make the model smaller",
    ),
    "outputs alone": (
        applied(lambda outputs, updates: outputs),
        "the task's apply must return (outputs, updates), updates a dict, not float32[50, 10]",
    ),
    "a loss for each row": (
        scored(lambda m: m | {"loss": Mean(jnp.ones(50) * m["loss"].total, m["loss"].weight)}),
        "the 'loss' of the task's score must be one float, not float32[50]: make it by",
    ),
    "a loss alone": (
        scored(lambda m: m["loss"].total),
        "the task's score must return a dict of means, not float32[]",
    ),
    "metrics without 'loss'": (
        scored(lambda m: {"error": m["loss"]}),
        "must hold 'loss' as dl.core.metrics.mean(losses), which knows how many examples it counts",
    ),
    "a metric that is a number": (
        scored(lambda m: m | {"error": m["loss"].total}),
        "the metric 'error' of the task's score must be made by dl.core.metrics.mean",
    ),
    "statistics forgotten": (
        applied(lambda outputs, updates: (outputs, {})),
        "returns no update of the collection 'batch_stats'",
    ),
    "padding counted": (without_mask, "does not look at batch['mask']"),
    # what the run is told
    "an optimizer's name": (
        fields(optimizer="adam"),
        "such as dl.optimizer('adam', 1e-3), not str",
    ),
    "an optimizer not called": (fields(optimizer=optax.adam), "not adam itself"),
    "no seed": (fields(seed=None), "seed must be from 0 to 2**32 - 1, not None"),
    "half a seed": (fields(seed=1.5), "seed must be from 0 to 2**32 - 1, not 1.5"),
    "NumPy's seed below zero": (fields(seed=np.int64(-3)), "seed must be from 0 to 2**32 - 1, not"),
    "half a step": (fields(steps=20.5), "steps must be 1 or more (a whole number), not 20.5"),
    "a metric that is not there": (
        fields(select="validation/acuracy"),
        "did you mean 'validation/accuracy'?",
    ),
    "a metric of no set": (fields(evals={}), "needs a set to evaluate: give evals="),
    "patience for nothing": (
        fields(select=None, patience=2),
        "patience needs a metric to wait for: give select='validation/accuracy'",
    ),
    "no patience at all": (fields(patience=0), "patience must be 1 or more evaluations"),
    "micro-batches that do not divide": (
        fields(micro_batches=3),
        "a batch of 50 cannot be cut into 3 micro-batches: choose a divisor of 50",
    ),
    "an augmentation by itself": (
        fields(augment=lambda key, batch: batch),
        "augment must be a tuple of functions (key, batch) -> batch",
    ),
    "a decay beyond one": (fields(ema=10.0), "must be in [0, 1), not 10.0"),
    "a task for an experiment": (
        lambda e: e.task,
        "build(config) must return a dl.Experiment, not Task(",
    ),
    "a build without return": (
        lambda e: None,
        "build(config) must return a dl.Experiment, not None",
    ),
}


@pytest.mark.parametrize("what", EXPERIMENTS)
def test_a_wrong_experiment_gets_one_line(exits, capfd, tmp_path, what):
    change, says = EXPERIMENTS[what]
    flags = ["--runs", str(tmp_path / "runs")]
    code, err, _ = answer(capfd, run_tiny, lambda config: change(tiny_build(config)), flags)
    one_line(code, err, says)
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
    "not frozen": (Thawed, "must be a frozen dataclass: write @dataclasses.dataclass(frozen=True)"),
    "no dataclass": (Plain, "must be a frozen dataclass"),
    "an instance": (Config(), "the config is given as its class, Config and not Config()"),
    "a field without default": (Lacking, "the field 'steps' of Lacking needs a default value"),
    "a field without type": (
        Untyped,
        "has no type, so it is no field and no flag: write widht: int",
    ),
    "a field called as a flag": (Taken, "'name' of Taken is a flag of every run: rename it"),
}


@pytest.mark.parametrize("what", CONFIGS)
def test_a_wrong_config_gets_one_line(exits, capfd, tmp_path, what):
    config, says = CONFIGS[what]
    flags = ["--runs", str(tmp_path / "runs")]
    one_line(*answer(capfd, run_tiny, lambda c: tiny_build(c), flags, config)[:2], says)
    assert not (tmp_path / "runs").exists()


# -- the command line --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder ``runs`` with a finished run ``a``, and other things."""
    place = tmp_path_factory.mktemp("mistakes")
    config, build = load_script(TINY)
    experiment = dl.core.experiment.built(build, config(steps=20))
    dl.train(experiment, TINY, runs=place / "runs", name="a", progress=False)
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
        "batch size 99999 is impossible with 1257 training examples: choose 1 to 1257",
    ),
    "no batch": (["--batch-size", "0"], "batch size 0 is impossible"),
    "no steps": (["--steps", "0"], "steps must be 1 or more"),
    "never logging": (["--log-every", "0"], "log_every must be 1 or more, not 0"),
    "an optimizer misspelt": (["--optimizer", "adm"], "did you mean 'adam'?"),
    "a rate below zero": (["--learning-rate", "-1"], "the learning rate must be 0 or more, not -1"),
    "a rate far too high": (["--learning-rate", "1e30"], "lower the learning rate, or clip"),
    "a dropout of everything": (["--dropout", "1.5"], "a dropout rate must be in [0, 1), not 1.5"),
    "a seed below zero": (["--seed", "-1"], "seed must be from 0 to 2**32 - 1, not -1"),
    "a name with a path": (["--name", "../b"], "a run's name is that of a folder in"),
    "a name that is taken": (["--name", "a"], "is there already: go on with it by --resume"),
    "another config resumed": (
        ["--name", "a", "--resume", "--steps", "30"],
        "was started with another configuration (config.steps: 20 then, 30 now",
    ),
    "nothing to resume": (["--resume", "--steps", "7"], "no unfinished run of this configuration"),
    "a folder of something else": (["--name", "notes"], "is not the folder of a run"),
    "runs under a file": (["--runs", "file"], "cannot make the run folder file/"),
    "a sweep of a field misspelt": (
        ["--sweep", "lerning_rate=1,2"],
        "did you mean 'learning_rate'?",
    ),
    "a sweep of no numbers": (["--sweep", "learning_rate=a,b"], "'a' is no float"),
    "a sweep with spaces": (["--sweep", "learning_rate"], "write field=value,value"),
    "a sweep of an impossible value": (
        ["--sweep", "batch_size=50,99999"],
        "batch size 99999 is impossible with",
    ),
    "draws of nothing": (["--trials", "3"], "--trials needs a random range"),
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
        one_line(code, err, says)
    assert snapshot(finished / "runs" / "a") == before


def test_two_writers(exits, capfd, monkeypatch, finished):
    monkeypatch.chdir(finished)
    flags = ["--name", "a", "--resume"]
    with RunFolder("runs/a").held():
        code, err, _ = answer(capfd, run_tiny, lambda config: tiny_build(config), flags)
    one_line(code, err, "is being written by another process: wait for it")


def test_a_checkpoint_of_another_model(exits, capfd, monkeypatch, finished):
    def build(config):
        return dataclasses.replace(tiny_build(config), optimizer=optax.sgd(0.1))

    monkeypatch.chdir(finished)
    code, err, _ = answer(capfd, run_tiny, build, ["--name", "a", "--resume"])
    one_line(code, err, "is of another model or optimiser: only one of them has state/opt_state")


def test_weights_without_safetensors_or_a_folder(exits, capfd, monkeypatch, tmp_path):
    config, build = load_script(IMAGES)
    flags = ["--runs", str(tmp_path / "runs"), "--weights", str(tmp_path)]
    one_line(
        *answer(capfd, dl.main, config, build, flags)[:2], "config.json is missing: give a folder"
    )
    (tmp_path / "config.json").write_text(
        '{"model_type": "resnet", "embedding_size": 4, "hidden_sizes": [4], "depths": [1], '
        '"layer_type": "basic"}'
    )
    one_line(*answer(capfd, dl.main, config, build, flags)[:2], "holds no model.safetensors")
    (tmp_path / "model.safetensors").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "safetensors", None)
    one_line(*answer(capfd, dl.main, config, build, flags)[:2], "pip install 'dl[interop]'")


@pytest.mark.parametrize("package", ["tensorboardX", "wandb"])
def test_a_missing_package(exits, capfd, monkeypatch, tmp_path, package):
    monkeypatch.setitem(sys.modules, package, None)  # as where it is not installed
    flag = {"tensorboardX": ["--tensorboard"], "wandb": ["--wandb", "project"]}[package]
    flags = ["--runs", str(tmp_path), *flag]
    code, err, _ = answer(capfd, run_tiny, lambda config: tiny_build(config), flags)
    one_line(code, err, f"pip install 'dl[{package.lower().rstrip('x')}]'")


def test_out_of_memory_while_running(exits, capfd, tmp_path):
    def measure(variables, name):
        raise MemoryError  # as NumPy does; devices say RESOURCE_EXHAUSTED

    def build(config):
        return dataclasses.replace(tiny_build(config), measure=measure)

    code, err, _ = answer(capfd, run_tiny, build, ["--runs", str(tmp_path)])
    one_line(code, err, "out of memory: lower --batch-size (50), or make the model smaller")


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
    "a set misspelt": ("mnits", no_set, "unknown data set 'mnits': did you mean 'mnist'?"),
    "a set that is not here": ("cifar10_jpeg", no_set, "put train.npz, test.npz into "),
    "a file of something else": ("cifar10_jpeg", garbage, "is damaged or not what it should be"),
    "a file cut off": ("mnist", cut_off, "is damaged or not what it should be"),
}


@pytest.mark.parametrize("what", SETS)
def test_a_wrong_data_set_gets_one_line(exits, capfd, tmp_path, what):
    name, prepare, says = SETS[what]
    prepare(tmp_path)
    config, build = load_script(IMAGES)
    flags = ["--data", name, "--data-dir", str(tmp_path), "--runs", str(tmp_path / "runs")]
    one_line(*answer(capfd, dl.main, config, build, flags)[:2], says)
    assert not (tmp_path / "runs").exists()


def test_a_damaged_picture_gets_one_line(exits, capfd, tmp_path):
    (tmp_path / "content.jpg").write_bytes(b"\xff\xd8\xff\xe0 and no more")
    config, build = load_script(ROOT / "experiments/style_transfer.py")
    flags = ["--content", str(tmp_path / "content.jpg"), "--runs", str(tmp_path / "runs")]
    code, err, _ = answer(capfd, dl.main, config, build, flags)
    one_line(code, err, "content.jpg is cut off or damaged")
    assert not (tmp_path / "runs").exists()


# -- the dl command ----------------------------------------------------------------------------------

SCRIPTS = {
    "broken.py": "def build(config)\n",
    "empty.py": "x = 1\n",
    "needs.py": "import a_package_that_is_not_there\n",
    "raises.py": "1 / 0\n",
}
COMMANDS = {
    "no command of that name": (["lsit"], "unknown command 'lsit': did you mean 'list'?"),
    "no run": (
        ["replay", "runs/none"],
        "runs/none/config.json is missing: is runs/none the folder",
    ),
    "no run, but a folder": (["replay", "runs/notes"], "is runs/notes the folder of a run?"),
    "no script": (["plan", "none.py"], "there is no experiment script none.py"),
    "a script that is not Python": (["plan", "broken.py"], "broken.py, line 1: expected ':'"),
    "a script of something else": (["verify", "empty.py"], "it needs a dataclass Config and build"),
    "a script that lacks a package": (
        ["plan", "needs.py"],
        "a_package_that_is_not_there, which is",
    ),
    "a script that fails": (["plan", "raises.py"], "cannot be imported: ZeroDivisionError"),
    "a set misspelt": (["data", "info", "mnits"], "did you mean 'mnist'?"),
    "no set": (["data", "prepare"], "needs the name of a data set"),
    "no such action": (["data", "lst"], "did you mean 'list'?"),
    "no experiments": (["list", "nowhere"], "no experiment scripts in nowhere/"),
    "no sweep": (["sweep", "report", "runs/a"], "runs/a"),
    "no run to export": (["export", "runs/none"], "is runs/none the folder"),
    "no such platform": (["export", "runs/a", "--platforms", "gpu"], "unknown platform 'gpu'"),
    "no table": (["reproduce", "mnist"], "results.toml is missing: run this in the project's"),
}


@pytest.mark.parametrize("what", COMMANDS)
def test_a_wrong_command_gets_one_line(exits, capfd, monkeypatch, finished, what):
    words, says = COMMANDS[what]
    for name, text in SCRIPTS.items():
        (finished / name).write_text(text)
    monkeypatch.chdir(finished)
    monkeypatch.setattr(sys, "argv", ["dl", *words])
    one_line(*answer(capfd, dl_command)[:2], says)


def test_a_scripts_flags_belong_after_dashes(exits, capfd, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["dl", "plan", "some.py", "--steps", "5"])
    code, err, _ = answer(capfd, dl_command)
    assert code == 2
    assert "the script's own flags follow after --: dl plan some.py -- --steps 5" in err


def test_a_folder_without_access_is_named(exits, capfd, tmp_path):
    def build(config):
        raise PermissionError(errno.EACCES, "Permission denied", "some/file")

    code, err, _ = answer(capfd, run_tiny, build, ["--runs", str(tmp_path)])
    one_line(
        code, err, "Permission denied: some/file. Make it accessible, or choose another folder"
    )


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
    "config.json": ("{'half", "config.json is not valid JSON"),
    "run.lock.json": ("", "run.lock.json is not valid JSON"),
    "metrics.jsonl": ('{"event": "tr\n{}\n', "metrics.jsonl is damaged in line 1"),
    "result.json": ("[1, 2", "result.json is not valid JSON"),  # read by --resume alone
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
    one_line(code, err, says)
