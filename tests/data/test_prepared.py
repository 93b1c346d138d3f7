"""What a script prepares is kept by the fields that it read, and never made of a traced one."""

import dataclasses
import functools
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mistakes import raises

import dl
from dl.core.experiment import built
from dl.core.lanes import traceable_fields
from dl.data import prepared, use_data_folder
from dl.data.batches import train_batches
from dl.data.prepared import KEPT
from dl.data.readers.files import data_folder
from dl.models.mlp import MLP
from dl.tasks.regression import regression


@dataclasses.dataclass(frozen=True)
class Config(dl.Recipe):
    size: int = 3
    scale: float = 2.0
    words: tuple[str, ...] = ("a", "b")
    kind: str = "plain"
    learning_rate: float = 1e-2

    @property
    def area(self):
        return self.size**2

    @functools.cached_property
    def length(self):
        return len(self.words)

    def sized(self, factor):
        return factor * self.size


@pytest.fixture
def calls():
    return []


def keeping(calls, read):
    """A prepared function that notes its calls."""

    @prepared
    def prepare(config):
        calls.append(1)
        return read(config)

    return prepare


def test_fields_that_are_not_read_do_not_matter(calls):
    prepare = keeping(calls, lambda config: np.arange(config.size))
    first = prepare(Config())
    assert prepare(Config(scale=9.0, seed=4, words=())) is first
    assert prepare(dataclasses.replace(Config(), kind="other")) is first
    assert len(calls) == 1
    assert prepare(Config(size=5)).shape == (5,)
    assert len(calls) == 2


@pytest.mark.parametrize(
    "read",
    [
        lambda config: config.area,
        lambda config: config.sized(4),
        lambda config: getattr(config, "size") + 1,  # noqa: B009
        lambda config: dataclasses.asdict(config)["size"],
        lambda config: dataclasses.replace(config, kind="x").size,
        lambda config: config.length + config.size,
    ],
)
def test_a_field_counts_however_it_is_read(calls, read):
    prepare = keeping(calls, read)
    assert prepare(Config()) == read(Config())
    assert prepare(Config(size=7)) == read(Config(size=7))
    assert prepare(Config()) == read(Config())
    assert len(calls) == 2


def test_the_config_is_of_its_class_and_cannot_be_written_to():
    @prepared
    def prepare(config):
        assert isinstance(config, Config)
        with pytest.raises(dataclasses.FrozenInstanceError):
            config.size = 4
        return config.experiment

    assert callable(prepare(Config()))


def test_of_a_changed_config_only_what_it_took_over_counts(calls):
    prepare = keeping(calls, lambda config: dataclasses.replace(config, seed=config.size).seed)
    assert prepare(Config()) == 3
    assert prepare(Config(seed=11)) == 3
    assert len(calls) == 1


def test_branches_read_what_they_need(calls):
    def read(config):
        return config.scale if config.kind == "scaled" else config.size

    prepare = keeping(calls, read)
    assert prepare(Config()) == 3
    assert prepare(Config(scale=5.0)) == 3
    assert len(calls) == 1
    assert prepare(Config(kind="scaled")) == 2.0
    assert prepare(Config(kind="scaled", size=8)) == 2.0
    assert len(calls) == 2
    assert (
        jax.jit(lambda scale: prepare(Config(scale=scale)))(1.0) == 3
    )  # the branch that reads it not
    with raises("field-traced", "'scale'"):
        jax.jit(lambda scale: prepare(Config(scale=scale, kind="scaled")))(1.0)


def test_1_and_true_and_1_0_are_three(calls):
    prepare = keeping(calls, lambda config: type(config.size).__name__)
    assert [prepare(Config(size=size)) for size in (1, True, 1.0)] == ["int", "bool", "float"]


def test_a_prepared_function_counts_by_what_those_it_calls_read(calls):
    inner = keeping(calls, lambda config: config.size)
    outer = keeping(calls, lambda config: inner(config) * config.scale)
    assert outer(Config()) == 6.0
    inner(Config(size=4))
    assert outer(Config(size=4)) == 8.0  # though the inner one had it
    assert outer(Config(size=4, seed=1)) == 8.0
    assert len(calls) == 4


def test_few_results_are_kept(calls):
    prepare = keeping(calls, lambda config: config.size)
    for size in range(KEPT + 1):
        prepare(Config(size=size))
    prepare(Config(size=1))  # so that it is not the next to go
    prepare(Config(size=0))
    prepare(Config(size=1))
    assert len(calls) == KEPT + 2


def test_an_error_is_not_kept(calls):
    def read(config):
        if len(calls) == 1:
            raise dl.UserError("file-missing", "no such file")
        return config.size

    prepare = keeping(calls, read)
    with raises("file-missing", "no such file"):
        prepare(Config())
    assert prepare(Config()) == 3


def test_another_data_folder_is_other_data(calls, tmp_path, monkeypatch):
    prepare = keeping(calls, lambda config: os.fspath(data_folder()))
    monkeypatch.setenv("DL_DATA_DIR", str(tmp_path / "a"))
    assert prepare(Config()).endswith("a")
    monkeypatch.setenv("DL_DATA_DIR", str(tmp_path / "b"))
    assert prepare(Config()).endswith("b")
    use_data_folder(tmp_path / "c")
    try:
        assert prepare(Config()).endswith("c")
    finally:
        use_data_folder(None)
    assert prepare(Config()).endswith("b")
    assert len(calls) == 3


def test_it_leaves_the_data_folder_as_it_found_it(tmp_path):
    @prepared
    def prepare(config):
        use_data_folder(tmp_path)  # as reopening another run does
        return data_folder()

    before = data_folder()
    assert prepare(Config()) == tmp_path
    assert data_folder() == before


def test_a_traced_field_is_refused_in_one_line():
    @prepared
    def prepare(config):
        return np.zeros(int(config.scale))

    prepare(Config())
    with raises("field-traced", "prepare(config)", "'scale'", "plain value"):
        jax.jit(lambda scale: prepare(Config(scale=scale)).sum())(2.0)


def test_reading_after_it_returned_is_refused():
    scaled = prepared(lambda config: lambda x: x * config.scale)
    with raises("config-read-late", "'scale'"):
        scaled(Config())(3)


def test_inside_a_trace_values_are_computed(calls):
    def read(config):
        key = jax.random.key(config.size)
        return np.asarray(jax.jit(jax.random.normal)(key)), jnp.sum(jnp.arange(config.size))

    prepare = keeping(calls, read)

    def traced(x):
        draw, total = prepare(Config(scale=x))
        return x * draw + total

    under = {
        "jit": jax.jit(traced)(1.0),
        "vmap": jax.vmap(traced)(jnp.ones(2))[0],
        "map": jax.lax.map(traced, jnp.ones(2))[0],
        "grad": jax.value_and_grad(traced)(1.0)[0],
    }
    assert len(calls) == 1
    assert {float(value) for value in under.values()} == {float(traced(1.0))}


@prepared
def noisy(config):
    draw = np.random.default_rng(0)
    x = draw.normal(size=(8, 2)).astype(np.float32)
    return {"x": x, "label": (config.scale * x.sum(1, keepdims=True)).astype(np.float32)}


def build(config):
    model = MLP((1,))
    task = regression(model, inputs="x")
    return config.experiment(task, train_batches(noisy(config), 4, config.seed), steps=3)


def test_in_a_sweep_a_field_that_data_are_prepared_by_is_structural(tmp_path):
    fields = traceable_fields(built(build, Config())).values
    assert "scale" not in fields
    assert {"learning_rate", "seed", "weight_decay"} <= set(fields)
    options = {"runs": tmp_path, "progress": False, "lanes": "map"}
    found = dl.sweep(
        build, Config(), {"scale": [1.0, 3.0], "learning_rate": [1e-2, 1e-1]}, name="s", **options
    )
    lanes = {path.name: path for path in (found.folder / "lanes").iterdir()}
    assert len(lanes) == 4
    assert len(list(found.folder.glob("group-*.json"))) == 2
    chosen = Config(scale=3.0, learning_rate=1e-1)
    alone = dl.train(build, chosen, name="alone", runs=tmp_path, progress=False)
    (lane,) = (path for name, path in lanes.items() if "scale=3" in name and "0.1" in name)
    digest = dl.runs.folder.read_json(lane / "result.json")["digest"]
    assert digest == alone.result["digest"]


def test_configs_of_two_kinds_share_nothing():
    @dataclasses.dataclass(frozen=True)
    class One:
        size: int = 1
        weights: str | None = None

    @dataclasses.dataclass(frozen=True)
    class Other:
        size: int = 1

    def made(config):
        return config.size, getattr(config, "weights", "none")

    said = {One: (1, None), Other: (1, "none")}
    for first, second in ((One, Other), (Other, One)):
        kept = prepared(made)
        for kind in (first, second, first):
            assert kept(kind()) == said[kind]
