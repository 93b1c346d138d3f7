"""Runs that begin with another's variables: what they take, say and lock, and what a resume needs."""

import dataclasses
import json
import shutil

import flax.linen as nn
import jax
import numpy as np
import pytest
from mistakes import raises

import dl
from dl.core.state import path_name
from dl.data import load
from dl.models.layers import Dropout
from dl.runs.folder import RunFolder, read_json
from dl.tasks.classification import classification
from dl.training import starting
from dl.training.starting import Start, fitted, read_start

QUICK = {"log_every": 4, "eval_every": 4, "save_every": 4, "progress": False}


@dataclasses.dataclass(frozen=True)
class Config(dl.Recipe):
    steps: int = 12
    batch_size: int = 20
    learning_rate: float = 1e-2
    weight_decay: float = 1e-2
    classes: int = 10
    members: int = 1
    ema: float | None = 0.9


class Net(nn.Module):
    classes: int

    @nn.compact
    def __call__(self, x, *, train: bool = False):
        x = x.reshape(x.shape[0], -1)
        for layer in range(2):
            x = nn.Dense(12, name=f"layer_{layer}")(x)
            x = nn.relu(nn.BatchNorm(use_running_average=not train)(x))
        return nn.Dense(self.classes, name="head")(Dropout(0.1)(x, train=train))


def build(config):
    splits = load("digits")
    task = dl.ensemble(classification(Net(config.classes)), config.members)
    data = dl.train_batches(splits.train, config.batch_size, config.seed)
    return config.experiment(task, data, **dl.held_out(splits, 100))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def first(place):
    return dl.train(build, Config(), runs=place, name="first", **QUICK)


def flat(tree):
    return {
        path_name(p): np.asarray(
            jax.random.key_data(x) if x.dtype == jax.random.key(0).dtype else x
        )
        for p, x in jax.tree_util.tree_leaves_with_path(tree)
    }


def same(a, b):
    a, b = flat(a), flat(b)
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def broken_at(call):
    """A build whose run breaks off at so many evaluations, unless the list of calls is empty."""
    calls = [0]

    def measure(predictor, columns, name):
        if calls:
            calls[0] += 1
            if calls[0] == call:
                raise RuntimeError
        return {}

    return lambda config: dataclasses.replace(build(config), measure=measure), calls


def test_it_takes_what_agrees_and_says_so(first, place, capsys):
    start = str(first.folder.path)
    config = Config(start=start, freeze=("^layer_", "^BatchNorm"), layer_decay=None, classes=12)
    run = dl.train(build, config, runs=place, name="wider", log_every=4, eval_every=4)
    captured = capsys.readouterr()
    said = " ".join((captured.out + captured.err).split())
    began, params = first.state.eval_variables["params"], run.state.variables["params"]
    for name in ("layer_0", "layer_1", "BatchNorm_0"):
        same(began[name], params[name])
    assert params["head"]["kernel"].shape == (12, 12)
    locked = read_json(run.folder.lock)["start"]
    assert (locked["run"], locked["step"]) == (start, 12)
    assert locked["digest"] == dl.digest(first.state.eval_variables)
    assert f"begins with {start}: took 12 of 14 arrays" in said
    assert "fresh: params/head/bias ([10] there), params/head/kernel ([12, 10] there)" in said
    assert "frozen: 8 of 10 arrays" in said


def test_a_resume_needs_no_start_and_ends_in_the_same_bits(first, place):
    gone = shutil.copytree(first.folder.path, place / "gone")
    config = Config(start=str(gone), layer_decay=0.5, freeze=("bias",))
    whole = dl.train(build, config, runs=place, name="whole", **QUICK)

    breaking, calls = broken_at(3)
    with pytest.raises(RuntimeError):
        dl.train(breaking, config, runs=place, name="broken", **QUICK)
    shutil.rmtree(gone)
    calls.clear()
    again = dl.train(breaking, config, runs=place, name="broken", resume=True, **QUICK)
    same(again.state, whole.state)
    with raises("start-missing", str(gone)):
        dl.train(build, config, runs=place, name="none", **QUICK)
    assert not (place / "none").exists()


def test_adapters_are_kept_alone_and_a_resume_ends_in_the_same_bits(first, place):
    base = shutil.copytree(first.folder.path, place / "base")

    def thin(config):
        plain = build(config)
        return dataclasses.replace(plain, task=dl.lora(plain.task, 2, whole=("^head/",)))

    config = Config(start=str(base))
    whole = dl.train(thin, config, runs=place, name="thin", **QUICK)
    saved = whole.folder.checkpoints / "12"
    lent = json.loads((saved / "meta" / "metadata").read_text())["lent"]
    wanted = {f"state/{kind}/base/layer_0/kernel" for kind in ("variables", "ema")}
    assert wanted <= set(lent)
    assert "layer_0/kernel/a" in (saved / "state" / "_METADATA").read_text().replace(".", "/")
    for name in lent:
        assert name not in (saved / "state" / "_METADATA").read_text()
    assert read_json(whole.folder.lock)["start"]["digest"] == dl.digest(first.state.eval_variables)
    same(dl.open_run(whole.folder.path, thin, config).state, whole.state)
    given = read_start(whole.folder.path).variables  # of adapters on adapters
    np.testing.assert_array_equal(
        given["base/layer_0/kernel"], whole.state.ema["base"]["layer_0"]["kernel"]
    )

    calls = [0]

    def measure(predictor, columns, name):
        calls[0] += 1
        if calls[0] == 3:
            raise RuntimeError
        return {}

    def breaking(config):
        return dataclasses.replace(thin(config), measure=measure)

    with pytest.raises(RuntimeError):
        dl.train(breaking, config, runs=place, name="thin-broken", **QUICK)
    again = dl.train(breaking, config, runs=place, name="thin-broken", resume=True, **QUICK)
    same(again.state, whole.state)

    other = dl.train(build, Config(seed=3, steps=4), runs=place, name="another", **QUICK)
    shutil.rmtree(base)
    with raises("base-missing", "thin", str(base), "cannot be read"):
        dl.open_run(whole.folder.path, thin, config)
    shutil.copytree(other.folder.path, base)
    shutil.move(base / "checkpoints" / "4", base / "checkpoints" / "12")
    with raises("base-missing"):
        dl.open_run(whole.folder.path, thin, config)


def test_before_the_first_checkpoint_a_changed_start_is_told(first, place):
    copy = shutil.copytree(first.folder.path, place / "copy")

    breaking, calls = broken_at(1)
    config = Config(start=str(copy))
    late = QUICK | {"save_every": 12}
    for _ in range(2):
        calls.clear()
        calls.append(0)
        with pytest.raises(RuntimeError):
            dl.train(breaking, config, runs=place, name="early", resume=True, **late)
    other = dl.train(build, Config(seed=1), runs=place, name="other", **QUICK)
    shutil.rmtree(copy)
    shutil.copytree(other.folder.path, copy)
    with raises("start-changed", str(copy), "--name"):
        dl.train(breaking, config, runs=place, name="early", resume=True, **late)


@pytest.mark.parametrize("mode", ["map", "vmap"])
def test_lanes_begin_so_too(first, place, mode):
    rule = "adamw" if mode == "map" else "sgd"
    config = Config(start=str(first.folder.path), layer_decay=0.7, optimizer=rule)
    swept = dl.sweep(
        build, config, {"learning_rate": [1e-3, 1e-2]}, lanes=mode, runs=place, name=mode, **QUICK
    )
    alone = dl.train(build, config, runs=place, name=f"alone-{mode}", **QUICK)
    lane = sorted((place / mode / "lanes").iterdir())[1]
    locked = read_json(lane / "run.lock.json")["start"]
    assert locked["digest"] == dl.digest(first.state.eval_variables)
    found = dl.open_run(lane, build, dataclasses.replace(config, learning_rate=1e-2))
    if mode == "map":
        same(found.state, alone.state)
    else:
        one, other = flat(found.state.variables), flat(alone.state.variables)
        for name, value in one.items():
            np.testing.assert_allclose(value, other[name], rtol=1e-3, atol=1e-4, err_msg=name)
    assert len(swept.settings) == 2


def test_every_member_of_an_ensemble_begins_so(first, place):
    config = Config(start=str(first.folder.path), members=2, freeze=("^layer_0/",))
    run = dl.train(build, config, runs=place, name="members", **QUICK)
    began = first.state.eval_variables["params"]["layer_0"]["kernel"]
    for member in run.state.variables["params"]["layer_0"]["kernel"]:
        np.testing.assert_array_equal(member, began)


def test_a_fork_of_such_a_run_begins_where_it_did(first, place):
    run = dl.train(build, Config(start=str(first.folder.path)), runs=place, name="to-fork", **QUICK)
    branch = run.fork(0, "branch", learning_rate=1e-2)
    same(branch.state.variables, run.state.variables)


def test_a_body_lies_within_a_module_or_was_taken_out_of_one():
    body = {"params/layer_0/kernel": np.ones((3, 3)), "params/output/bias": np.zeros(4)}
    whole = {f"params/encoder/layer_0/{n}": np.ones((3, 3)) for n in ("kernel",)}
    whole |= {"params/head/bias": np.zeros(2)}
    given, said = fitted(whole, Start({"run": "runs/a"}, body))
    assert list(given) == ["params/encoder/layer_0/kernel"]
    assert "not taken: params/output/bias" in said
    given, _ = fitted(body, Start({"run": "runs/a"}, whole))
    assert list(given) == ["params/layer_0/kernel"]
    with raises("weights-of-another-model", "runs/a"):
        fitted({"params/a": np.ones(2)}, Start({"run": "runs/a"}, {"params/a": np.ones(3)}))


def test_a_lock_that_leads_back_to_its_own_run_is_damage(tmp_path, monkeypatch):
    class Lends(starting.Checkpoints):
        def restore(self, *_):
            return self.base()

    monkeypatch.setattr(starting, "Checkpoints", Lends)
    for name, other in (("a", "b"), ("b", "a")):
        said = {"start": {"run": str(tmp_path / other), "digest": "0"}}
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.lock.json").write_text(json.dumps(said))
    for path in (tmp_path / "a", tmp_path / "b"):
        with raises("base-missing", "names a run that comes of this one"):
            starting.base_of(RunFolder(path))()


def test_adapters_are_merged_for_a_model_that_has_none():
    plain = classification(Net(3))
    batch = {"image": np.zeros((2, 4, 4, 1), np.uint8), "label": np.zeros(2, np.int32)}
    task = dl.distill(dl.lora(plain, 2), dl.Predictor(plain, plain.init(jax.random.key(1), batch)))
    learned = jax.tree.map(lambda x: x + 1, task.init(jax.random.key(0), batch))
    start = Start({"run": "runs/a"}, flat(learned))
    given, said = fitted(flat(plain.init(jax.random.key(2), batch)), start)
    same(flat(dl.merge(learned))["params/head/kernel"], given["params/head/kernel"])
    assert "took 14 of 14" in said
    assert "not taken" not in said
    given, _ = fitted(flat(dl.lora(plain, 2).init(jax.random.key(2), batch)), start)
    assert {"params/head/kernel/a", "base/head/bias", "lora/scale"} <= set(given)


def test_the_scale_of_adapters_comes_with_them_alone():
    plain = classification(Net(3))
    batch = {"image": np.zeros((2, 4, 4, 1), np.uint8), "label": np.zeros(2, np.int32)}
    start = Start(
        {"run": "runs/a"}, flat(dl.lora(plain, 2, alpha=8.0).init(jax.random.key(0), batch))
    )
    given, said = fitted(flat(dl.lora(plain, 1).init(jax.random.key(2), batch)), start)
    assert "base/head/kernel" in given
    assert "lora/scale" not in given
    assert "lora/scale" in said.partition("fresh: ")[2]


def test_a_teacher_that_the_task_moves_is_begun_with():
    own = {"params/w": np.ones(2), "teacher/w": np.ones(2)}
    start = Start({"run": "runs/a"}, own)
    assert fitted(own, start)[0].keys() == own.keys()
    assert list(fitted(own, start, given=("teacher",))[0]) == ["params/w"]


def test_weights_in_another_layout_are_a_start_too(place):
    pytest.importorskip("safetensors")
    from dl.models.transformer import Transformer
    from dl.models.vit import ViT

    body = Transformer(8, 2, 2)
    model = ViT(3, body, pool="first")
    variables = model.init(jax.random.key(0), np.zeros((1, 8, 8, 3), np.float32))
    dl.interop.save(place / "vit", model, variables)
    start = read_start(place / "vit")
    assert set(start.source) == {"weights", "digest"}
    given, _ = fitted(flat(variables), start)
    assert given.keys() == flat(variables).keys()


def test_options_of_the_recipes_optimizer_go_with_no_other():
    splits = load("digits")
    data = dl.train_batches(splits.train, 20)
    with raises("options-exclusive", "--freeze"):
        Config(freeze=("a",)).experiment(
            classification(Net(10)), data, optimizer=dl.optimizer("sgd", 0.1)
        )
