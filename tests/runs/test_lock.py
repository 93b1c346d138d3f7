"""A run is what its folder says it was, whichever door it is entered by."""

import dataclasses
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import optax
import pytest
from mistakes import raises

import dl
from dl.cli.commands import export, replay
from dl.cli.commands import report as report_command
from dl.core.errors import UserError
from dl.core.experiment import built
from dl.data.batches import eval_batches, train_batches
from dl.data.transforms import images as augment
from dl.models.cnn import CNN
from dl.parallel import processes
from dl.proofs.replay import replay_run
from dl.runs import lock
from dl.runs.folder import RunFolder, read_json
from dl.runs.lock import script_digest
from dl.runs.options import Options
from dl.runs.revisions import revision
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
    run = dl.train(build, kind(file=str(file)), runs=tmp_path / "runs", name="a", **OPTIONS)
    return run, file, script


@dataclasses.dataclass(frozen=True)
class Config:
    rate: float = 1e-3
    seed: int = 0
    steps: int = 6
    batch: int = 8
    dropout: float = 0.1
    b2: float = 0.999
    patience: int | None = None
    select: str | None = None
    ema: float | None = None
    micro_batches: int = 1
    crop: bool = False


@dataclasses.dataclass
class Thawed:
    rate: float = 1e-3


def experiment(config: Config, data: int = 0) -> dl.Experiment:
    found = columns(data)
    return dl.Experiment(
        task=classification(CNN(2, widths=(4,), dropout=config.dropout)),
        data=train_batches(found, config.batch, config.seed),
        optimizer=optax.adam(optax.cosine_decay_schedule(config.rate, 100), b2=config.b2),
        steps=config.steps,
        seed=config.seed,
        evals={"validation": eval_batches(found, 16)},
        augment=(augment.random_crop(padding=1),) if config.crop else (),
        **{n: getattr(config, n) for n in ("patience", "select", "ema", "micro_batches")},
    )


def train(runs, build=experiment, **options):
    chosen = options.pop("config", Config())
    return dl.train(build, chosen, runs=runs, **{**OPTIONS, "name": "a", **options})


# -- resuming through Python -------------------------------------------------------------------------

OTHERS = {
    "another rate": ({"rate": 1e-2}, "config.rate: 0.001 then, 0.01 now"),
    "another seed": ({"seed": 1}, "config.seed: 0 then, 1 now"),
    "more steps": ({"steps": 7}, "config.steps: 6 then, 7 now"),
    "another batch size": ({"batch": 4}, "config.batch: 8 then, 4 now"),
    "another dropout": ({"dropout": 0.2}, "config.dropout: 0.1 then, 0.2 now"),
    "another optimizer": ({"b2": 0.9}, "config.b2: 0.999 then, 0.9 now"),
    "patience": (
        {"patience": 2, "select": "-validation/loss"},
        "config.patience: None then, 2 now",
    ),
    "an average": ({"ema": 0.9}, "config.ema: None then, 0.9 now"),
    "augmentation": ({"crop": True}, "config.crop: False then, True now"),
    "micro-batches": ({"micro_batches": 2}, "config.micro_batches: 1 then, 2 now"),
}


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    train(runs)
    return runs


@pytest.fixture(params=[True, False], ids=["finished", "unfinished"])
def stood(plain, request):
    """The runs with ``a`` as it ended, or as it was before its result was written."""
    result = plain / "a" / "result.json"
    kept = result.read_text()
    if not request.param:
        result.unlink()
    yield plain
    result.write_text(kept)


@pytest.mark.parametrize("what", OTHERS)
def test_other_settings_are_refused_by_name(stood, what):
    changes, says = OTHERS[what]
    with raises("config-changed", says, "start anew under another --name"):
        train(stood, config=Config(**changes), resume=True)
    # Without a name it is passed over.
    with raises("nothing-to-resume", "run"):
        train(stood, config=Config(**changes), resume=True, name=None)


def test_other_data_are_refused_by_name(stood):
    with raises("data-changed", "data.train: ", "start anew under another --name"):
        train(stood, lambda config: experiment(config, data=1), resume=True)


def test_what_build_reads_beside_its_config_is_refused_by_the_program(plain):
    # As a notebook's cell does that reads a global.
    power = 2.0

    def build(config):
        made = experiment(config)
        rate = lambda step: config.rate / (1.0 + step) ** power  # noqa: E731
        return dataclasses.replace(made, optimizer=optax.adam(rate))

    train(plain, build, name="reads")
    (plain / "reads" / "result.json").unlink()
    for place in (plain / "reads" / "checkpoints").glob("[0-9]*"):
        shutil.rmtree(place)  # killed before the first
    power = 3.0
    with raises("program-changed", "runs", "Make it a field"):
        train(plain, build, name="reads", resume=True)
    power = 2.0
    assert train(plain, build, name="reads", resume=True).ended == "done"


@pytest.mark.parametrize(
    ("field", "other", "says"),
    [
        ("seed", 3, "experiment.seed: 0 then, 3 now"),
        ("data", 5, "experiment.data_seed: 0 then, 5 now"),
        ("select", "-validation/loss", "experiment.select: None then, -validation/loss now"),
        ("micro_batches", 2, "experiment.micro_batches: 1 then, 2 now"),
    ],
)
def test_what_build_says_beside_its_config_is_refused_by_name(stood, field, other, says):
    def build(config):
        made = experiment(config)
        value = train_batches(columns(), config.batch, other) if field == "data" else other
        return dataclasses.replace(made, **{field: value})

    with raises("config-changed", says):
        train(stood, build, resume=True)


class Holder:
    pass


@pytest.mark.parametrize("value", [Holder(), (Holder(),)])
def test_what_no_folder_can_keep_is_refused_before_there_is_one(tmp_path, value):
    kind = dataclasses.make_dataclass("Odd", [("f", object, value)], bases=(Config,), frozen=True)
    with raises("config-not-dataclass", "cannot keep", "'f'"):
        train(tmp_path, config=kind())
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"remat": "maybe"}, ("remat", "'all'")),
        ({"precision": "float64"}, ("precision",)),
        ({"mesh": {"data": 1}}, ("mesh", "str")),
        ({"eval_every": "5"}, ("eval_every", "int")),
        ({"profile": 5}, ("profile", "str")),
        ({"data_dir": 5}, ("data_dir", "Path")),
        ({"resume": "no"}, ("resume", "bool")),
    ],
)
def test_an_option_of_another_type_is_refused(tmp_path, options, words):
    with raises("config-value", *words):
        train(tmp_path, **options)


@pytest.mark.parametrize(
    ("build", "config", "says"),
    [
        (
            experiment(Config()),
            Config(),
            ("build-not-function", "(build, Config())", "what they made"),
        ),
        (experiment(Config()), None, ("build-not-function", "(build, Config())", "what they made")),
        (experiment, Thawed(), ("config-not-dataclass", "frozen", "dataclass(frozen=True)")),
        (experiment, None, ("config-not-dataclass", "Config()", "None")),
        (experiment, Config, ("config-not-dataclass", "class Config", "Config()")),
        (lambda config: None, Config(), ("build-not-experiment", "None")),
    ],
)
def test_the_front_door_takes_build_and_config(tmp_path, build, config, says):
    with raises(*says):
        dl.train(build, config, runs=tmp_path / "runs")
    with raises(*says):
        dl.sweep(build, config, {"rate": [1e-3]}, runs=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_processes_that_were_not_started_alike_are_told(monkeypatch):
    kind, build = load_script(TINY)
    alike, other = (built(build, kind(learning_rate=rate)) for rate in (0.1, 0.2))
    said = []

    def of_the_first(function):
        said.append(function())
        return said[0]

    monkeypatch.setattr("jax.process_count", lambda: 2)
    monkeypatch.setattr(processes, "on_first_process", of_the_first)
    monkeypatch.setattr(processes, "smallest", lambda same: [int(same)])
    for _ in range(2):
        lock.check_alike(alike, Options(), TINY)
    with raises("processes-differ", "config.learning_rate: 0.1 in the first, 0.2 here"):
        lock.check_alike(other, Options(), TINY)
    with raises("processes-differ", "eval_every"):
        lock.check_alike(alike, Options(eval_every=3), TINY)


def test_a_run_resumed_under_other_conditions_may_go_back(plain, capfd):
    train(plain, name="moves")
    folder = plain / "moves"
    file, locked = folder / "run.lock.json", json.loads((folder / "run.lock.json").read_text())

    def again():
        (folder / "result.json").unlink()
        for place in (folder / "checkpoints").glob("[0-9]*"):
            shutil.rmtree(place)
        return train(plain, name="moves", resume=True).ended

    elsewhere = json.loads(json.dumps(locked))
    elsewhere["environment"]["packages"]["optax"], elsewhere["program"] = "0.0.1", "0" * 64
    file.write_text(json.dumps(elsewhere))
    assert again() == "done"
    found = json.loads(file.read_text())
    assert found["program"] == "0" * 64  # that of the run's own conditions
    assert [noted["step"] for noted in found["resumed"]] == [0]
    assert found["resumed"][0]["changed"][0].startswith("packages.optax: 0.0.1 then, ")
    file.write_text(json.dumps({**locked, "resumed": found["resumed"]}))
    assert again() == "done"
    assert [len(noted["changed"]) for noted in json.loads(file.read_text())["resumed"]] == [1, 0]


def test_the_same_settings_go_on(plain, capfd):
    assert train(plain, resume=True).ended == "done"
    assert capfd.readouterr().err == ""


def test_an_upgrade_is_a_warning(plain, capfd):
    # Another version may make another program of the same config: that alone is no other setting.
    file = plain / "a" / "run.lock.json"
    honest = file.read_text()
    locked = json.loads(honest)
    locked["environment"]["packages"]["optax"] = "0.0.1"
    locked["program"] = "0" * 64
    file.write_text(json.dumps(locked))
    result = plain / "a" / "result.json"
    kept = result.read_text()
    result.unlink()
    try:
        train(plain, resume=True)
    finally:
        file.write_text(honest)
        result.write_text(kept)
    assert "packages.optax: 0.0.1 then" in capfd.readouterr().err


# -- reopening ---------------------------------------------------------------------------------------


def test_changed_data_are_refused_at_every_door(from_file, capfd, tmp_path):
    run, file, _ = from_file
    image = columns()["image"]
    logits = dl.open_run(run.folder.path).predict(image)
    assert capfd.readouterr().err == ""  # nothing changed, nothing said
    np.savez(file, **columns(1))
    again = {"build": run.experiment.build, "config": run.experiment.config}
    doors = {
        "open_run(..., force=True)": (
            lambda: dl.open_run(run.folder.path),
            lambda: export(run.folder.path),
        ),
        "another --name": (lambda: train(tmp_path / "runs", **again, resume=True),),
    }
    for remedy, door in [(remedy, door) for remedy, several in doors.items() for door in several]:
        with raises("data-changed", "(data.train: ", remedy):
            door()
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


def test_data_that_moved_are_said_to_be_the_run_s_own(from_file, tmp_path):
    run, file, _ = from_file
    moved = shutil.move(file, tmp_path / "elsewhere.npz")
    for door in (dl.open_run, lambda place: replay_run(place)):
        with pytest.raises(Exception, match=r"data\.npz"):
            door(run.folder.path)
    told = raises("file-missing", "runs/a: its experiment is built again", "lay then")
    with told, lock.reopening(run.folder):
        raise UserError("file-missing", f"no {file}")
    shutil.move(moved, file)
    assert dl.open_run(run.folder.path).ended == "done"


def test_cores_that_a_process_may_use_are_part_of_the_world(from_file, monkeypatch):
    run, _, _ = from_file
    assert lock.world_apart(run.folder, run.experiment) == []
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(999)), raising=False)
    (apart,) = lock.world_apart(run.folder, run.experiment)
    assert re.search(r"^devices\.cpu: .* then, .* x999 now$", apart)


def test_one_changed_set_is_named(from_file):
    run, _, _ = from_file

    def build(config):
        sets = {"validation": eval_batches(columns(1), 16)}
        more = (
            run.experiment.steps + 1
        )  # follows from the data, and is not the mistake that is told
        return dataclasses.replace(run.experiment, evals=sets, steps=more)

    with raises("data-changed") as told:
        dl.open_run(run.folder.path, build, run.experiment.config)
    assert re.search(r"\(data\.validation: \w+… then, \w+… now\)", str(told.value))


def test_another_config_is_refused_by_name(from_file):
    run, file, script = from_file
    kind, build = load_script(script)
    with raises("config-changed", "config.steps: 4 then, 5 now"):
        dl.open_run(run.folder.path, build, kind(steps=5, file=str(file)))
    own = dl.open_run(run.folder.path, build, kind).experiment.config  # with the run's values
    assert own == kind(**dataclasses.asdict(run.experiment.config))


def test_a_run_whose_config_no_script_knows_needs_its_build(tmp_path):
    run = train(tmp_path / "runs")  # its lock names this file, which is no experiment
    with raises("script-without-build", ".py"):
        dl.open_run(run.folder.path)
    with raises("config-not-given", "config= beside build="):
        dl.open_run(run.folder.path, experiment)
    again = dl.open_run(run.folder.path, experiment, Config())
    image = columns()["image"]
    np.testing.assert_array_equal(again.predict(image), run.predict(image))
    with raises("file-missing", "none.py"):
        train(tmp_path / "others", script=tmp_path / "none.py")


def test_a_run_of_before_configs_were_asked_for_says_so(tmp_path):
    run = train(tmp_path / "runs")
    stored = json.loads(run.folder.config.read_text())
    run.folder.config.write_text(json.dumps({**stored, "config": None}))
    locked = json.loads(run.folder.lock.read_text())
    locked["environment"]["code"] |= script_digest(TINY)
    run.folder.lock.write_text(json.dumps({**locked, "script": str(TINY)}))
    with raises("config-not-recorded", "give open_run build= and config="):
        dl.open_run(run.folder.path)
    again = dl.open_run(run.folder.path, experiment, Config())
    assert int(again.state.step) == 6


def test_an_edited_script_runs_where_the_user_says_so(from_file, capfd):
    run, _, script = from_file
    script.write_text(SCRIPT + "\n# a remark\n")
    with raises("script-untrusted", "reads.py", "not as it was", "--script", "--trust"):
        dl.open_run(run.folder.path)
    for trusted, told in (({"trust": True}, True), ({"script": script}, False)):  # once a process
        dl.open_run(run.folder.path, **trusted)
        assert ("code.script" in capfd.readouterr().err) == told
    script.rename(script.with_name("moved.py"))  # as of a run that comes from another machine
    for trust in (False, True):
        with raises("file-missing", "reads.py", "is not here", "--script", "script=FILE"):
            dl.open_run(run.folder.path, trust=trust)
    script.with_name("moved.py").rename(script)
    script.write_text(SCRIPT)
    dl.open_run(run.folder.path)
    assert capfd.readouterr().err == ""


def test_a_sweep_goes_on_only_with_its_own_data_and_cadence(tmp_path):
    kind, build = load_script(TINY)
    options = {"runs": tmp_path, "name": "s", "progress": False}
    swept = dl.sweep(build, kind(steps=4), seeds=2, lanes="map", **options)
    again = {**options, "resume": True}
    with raises("config-changed", "eval_every: 1 then, 3 now"):
        dl.sweep(build, kind(steps=4), seeds=2, lanes="map", eval_every=3, **again)
    with raises("config-changed", "(config.steps: 4 then, 5 now)"):
        dl.sweep(build, kind(steps=5), seeds=2, lanes="map", **again)
    with raises("config-changed", "(swept seed: 0, 1 then, 0, 1, 2 now)"):
        dl.sweep(build, kind(steps=4), seeds=3, lanes="map", **again)
    with raises("config-changed", "config.dropout: 0.1 then, 1.5 now"):  # before it is built
        dl.sweep(build, kind(steps=4, dropout=1.5), seeds=2, lanes="map", **again)
    first, second = (
        read_json(f)["experiment"] for f in sorted(swept.folder.glob("lanes/*/*lock*"))
    )
    assert first == {**second, "seed": 0, "data_seed": 0, "ema": 0.9}
    changed = lambda config: dataclasses.replace(build(config), select="-validation/loss")  # noqa: E731
    says = "experiment.select: validation/accuracy then, -validation/loss now"
    with raises("config-changed", says):
        dl.sweep(changed, kind(steps=4), seeds=2, lanes="map", **again)
    with raises("config-changed", f"{swept.folder} is a sweep", "--seeds"):
        dl.train(build, kind(steps=4), **again)
    many = [0.01 * n for n in range(40)]
    with raises("config-changed", "swept learning_rate: not there then, 0.0, 0.01, "):
        dl.sweep(build, kind(steps=4), {"learning_rate": many}, seeds=2, **again)
    with raises("config-changed", "--lanes map, not vmap"):
        dl.sweep(build, kind(steps=4), seeds=2, lanes="vmap", **again)
    lanes = sorted(swept.folder.glob("lanes/*"))
    lanes[1].rename(tmp_path / "kept")
    shutil.copytree(lanes[0], lanes[1])  # whole, and its seal too
    with raises("config-changed", lanes[1].name, "config.seed: 0 then, 1 now"):
        dl.sweep(build, kind(steps=4), seeds=2, lanes="map", **again)
    shutil.rmtree(lanes[1]), (tmp_path / "kept").rename(lanes[1])
    for place in lanes:
        (place / "result.json").unlink()
    shutil.rmtree(swept.folder / "checkpoints")  # killed before the first

    def clipped(config):
        return dataclasses.replace(build(config), optimizer=dl.optimizer("adam", 1e-3, clip=2.0))

    with raises("program-changed", "lanes", "Make it a field"):
        dl.sweep(clipped, kind(steps=4), seeds=2, lanes="map", **again)
    for file in swept.folder.glob("lanes/*/run.lock.json"):
        locked = json.loads(file.read_text())
        locked["environment"]["data"]["train"] = "0" * 64
        file.write_text(json.dumps(locked))
    with raises("data-changed", "(data.train"):
        dl.sweep(build, kind(steps=4), seeds=2, lanes="map", **again)


# -- whose code runs -----------------------------------------------------------------------------------


@pytest.fixture
def marked(from_file, tmp_path):
    """``(run, script, mark)``: a script that leaves a mark where it runs."""
    run, _, _ = from_file
    trap = tmp_path / "trap.py"
    trap.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n{SCRIPT}")
    return run, trap, tmp_path / "ran"


def _named_by(run, script, digest=None):
    locked = json.loads(run.folder.lock.read_text())
    if digest is not None:
        locked["environment"]["code"]["script"] = digest
    run.folder.lock.write_text(json.dumps({**locked, "script": str(script)}))


def test_a_script_of_another_digest_runs_nowhere(marked, capfd):
    run, trap, ran = marked
    _named_by(run, trap)
    for door in (dl.open_run, export, replay, replay_run):
        with raises("script-untrusted", "trap.py", "is not as it was"):
            door(run.folder.path)
    report_command((run.folder.path,))
    assert "Not rebuilt: " in (run.folder.path / "report.html").read_text()
    assert not ran.exists()
    report_command((run.folder.path,), trust=True)
    assert ran.exists()
    assert "Not rebuilt: " not in (run.folder.path / "report.html").read_text()


def test_a_file_named_as_the_script_that_would_fill_the_memory_is_not_read(marked):
    run, trap, _ = marked
    _named_by(run, trap)
    os.truncate(trap, 2**40)  # as /proc/kcore says of itself
    with raises("script-untrusted", "trap.py", "is not as it was"):
        dl.open_run(run.folder.path)


@pytest.mark.parametrize(
    "named",
    ["trap.py", "../{}/trap.py", "//proc/self/cwd/trap.py", "/var/run/../proc/self/cwd/trap.py"],
)
def test_a_script_that_is_found_from_wherever_one_stands_runs_nowhere(marked, monkeypatch, named):
    run, trap, ran = marked  # beside the run, as in a stranger's archive that was unpacked here
    monkeypatch.chdir(trap.parent)
    if not Path(named := named.format(trap.parent.name)).is_file():
        pytest.skip("needs /proc")
    _named_by(run, named, script_digest(trap)["script"])
    with raises("script-untrusted", "trap.py", "is no full path"):
        dl.open_run(run.folder.path)
    assert not ran.exists()
    _named_by(run, "/" + "x" * 5000)
    with raises("file-read", "name too long"):
        dl.open_run(run.folder.path)


@pytest.mark.parametrize("place", ["run", "sweep", "link in", "link out"])
def test_a_script_within_the_run_runs_nowhere(marked, place):
    run, trap, ran = marked
    digest, inside = script_digest(trap)["script"], run.folder.path / "x.py"
    if place == "link out":
        inside.symlink_to(trap)
    else:
        trap.rename(inside)
    if place == "link in":
        trap.symlink_to(inside)
        inside = trap
    if place == "sweep":
        lanes = run.folder.path.parent / "s" / "lanes"
        lanes.mkdir(parents=True)
        inside.rename(lanes.parent / "x.py")
        inside = lanes.parent / "x.py"
        run.folder.path.rename(lanes / "a")
        run.folder = RunFolder(lanes / "a")
    _named_by(run, inside, digest)
    with raises("script-untrusted", "lies in the run's own folder"):
        dl.open_run(run.folder.path)
    assert not ran.exists()


def test_a_lock_that_no_run_writes_is_damage(from_file):
    run, _, script = from_file
    honest = json.loads(run.folder.lock.read_text())
    for odd in (
        *({"script": x} for x in (7, [])),
        *({"environment": x} for x in (None, [], {"code": None}, {"data_dir": 7})),
        *({"computed": x} for x in ([], {"lanes": ["../../x"]}, {"lanes": [".."]}, {"mode": "x"})),
        *({"computed": {"lanes": x, "mode": "map"}} for x in (7, [run.folder.name] * 2)),
        *({"resumed": x} for x in ({}, [7], [{"step": 1}], [{"step": 1, "changed": [2]}])),
        *({n: x} for n in ("start", "ancestor") for x in ([], {}, {"run": 7, "digest": "0"})),
        *({n: {"run": "a", "step": "1", "digest": "0"}} for n in ("start", "ancestor")),
        {"environment": honest["environment"] | {"devices": {"mesh": 5}}},
    ):
        run.folder.lock.write_text(json.dumps(honest | odd))
        with raises("record-damaged", "run.lock.json"):
            replay_run(run.folder.path, script=script, force=True, say=lambda _: None)
    assert not (run.folder.path.parent / "x").exists()


def test_a_config_that_no_run_writes_is_damage(from_file):
    run, _, _ = from_file
    honest = json.loads(run.folder.config.read_text())
    for odd in (7, [], "steps"):
        run.folder.config.write_text(json.dumps(honest | {"config": odd}))
        with raises("record-damaged", "config.json"):
            dl.open_run(run.folder.path)
    for odd in ([1, 2], {}, "x"):
        said = {**honest["config"], "steps": odd}
        run.folder.config.write_text(json.dumps(honest | {"config": said}))
        with raises("record-damaged", f"{odd!r} in place of int"):
            dl.open_run(run.folder.path)


def test_opening_a_run_changes_nothing_in_its_folder(from_file):
    run, _, _ = from_file
    (run.folder.checkpoints / "9.orbax-checkpoint-tmp-1").mkdir()  # being written

    def seen():
        files = sorted(run.folder.path.rglob("*"))
        return [(path, path.lstat().st_mtime_ns, path.lstat().st_ino) for path in files]

    before = seen()
    dl.open_run(run.folder.path).predict(columns()["image"])
    assert replay_run(run.folder.path, say=lambda _: None)
    assert seen() == before
    shutil.rmtree(run.folder.checkpoints)
    with raises("checkpoint-missing"):
        dl.open_run(run.folder.path)
    assert not run.folder.checkpoints.exists()


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_a_repository_of_a_stranger_s_starts_no_program(tmp_path):
    place, own = tmp_path / "r", ["-c", "user.name=a", "-c", "user.email=a@b"]
    place.mkdir()

    def git(*words, at=place):
        return subprocess.run(["git", "-C", at, *words], capture_output=True, text=True).stdout

    def commit(at):
        (at / "x.py").write_text("old")
        git("init", "-q", at=at), git("add", ".", at=at), git(*own, "commit", "-qm", "x", at=at)
        git("config", "core.fsmonitor", f"touch {tmp_path}/monitor-{at.name} #", at=at)

    (place / ".gitattributes").write_text("x.py filter=f\n")
    (place / "sub").mkdir()
    commit(place / "sub"), commit(place)
    for kind in ("clean", "process"):
        git("config", f"filter.f.{kind}", f"touch {tmp_path}/{kind}")
        git("config", "filter.f.required", "true")
        hook = place / ".git" / "hooks" / "post-index-change"
        hook.parent.mkdir(exist_ok=True)
        hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/hook\n")
        hook.chmod(0o755)
        (place / "x.py").write_text("new")  # as long: git looks into it
        assert str(revision(place)).endswith("+")
        assert [path.name for path in tmp_path.iterdir()] == ["r"]
    git("status"), git("config", "core.fsmonitor", ""), git("status")
    git("config", "--unset", "filter.f.process"), git("status")
    traps = {"process", "clean", "hook", "monitor-r", "monitor-sub"}
    assert traps <= {path.name for path in tmp_path.iterdir()}  # they work
    for left in tmp_path.glob("?*[!r]*"):
        left.unlink()
    # One whose objects are said to lie with a remote, which a program of its own speaks to.
    (
        git("config", "core.repositoryformatversion", "1"),
        git("config", "extensions.partialClone", "o"),
    )
    git("config", "remote.o.promisor", "true"), git("config", "remote.o.url", "ssh://x/y")
    git("config", "core.sshCommand", f"touch {tmp_path}/ssh #")
    tree = git("rev-parse", "HEAD^{tree}").strip()
    (place / ".git" / "objects" / tree[:2] / tree[2:]).unlink()
    revision(place)
    assert [path.name for path in tmp_path.iterdir()] == ["r"]
    # A name of odd bytes is that of a filter too.
    attributes = place / ".git" / "info" / "attributes"
    attributes.parent.mkdir(exist_ok=True)
    attributes.write_bytes(b"x.py filter=\xff\n")
    git("config", b"filter.\xff.clean", f"touch {tmp_path}/odd")
    (place / "x.py").write_text("odd")
    revision(place)
    assert [path.name for path in tmp_path.iterdir()] == ["r"]
    git("status")
    assert (tmp_path / "odd").exists()  # it works
    git("config", "filter.f=.clean", "true")
    assert len(str(revision(place))) == 40
