"""A run as one program, loaded where neither dl nor flax is."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mistakes import raises

import dl
from dl.core.experiment import Experiment
from dl.core.state import init_state
from dl.data.batches import train_batches
from dl.interop import export
from dl.models.clouds import VoxelNetwork
from dl.models.embedding import PlacedCNN
from dl.models.forecasters import TSMixer
from dl.models.language import LanguageModel
from dl.models.transformer import Transformer
from dl.runs.scripts import load_script
from dl.tasks.language_modeling import language_modeling

ROOT = Path(__file__).parents[2]
TINY = ROOT / "tests" / "scripts" / "tiny.py"


def run_alone(code, cwd):
    """The output of ``code`` in a process that has jax and numpy, and no dl."""
    check = "\nimport sys\nassert not {'dl', 'flax', 'optax'} & set(sys.modules)\n"
    done = subprocess.run(
        [sys.executable, "-c", code + check], cwd=cwd, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_an_exported_run_predicts_the_same_without_dl(tmp_path):
    config, build = load_script(TINY)
    run = dl.train(build, config(steps=20), script=TINY, runs=tmp_path, name="a", progress=False)
    command = [
        sys.executable,
        "-c",
        "from dl.cli.main import main; main()",
        "export",
        tmp_path / "a",
    ]
    done = subprocess.run(
        [*command, "--to", "p.jaxexport"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "for cpu, cuda, rocm, tpu" in done.stdout
    assert (tmp_path / "p.stablehlo").read_bytes()
    snippet = done.stdout.split("it is loaded by")[1].strip()
    images = np.arange(7 * 64).reshape(7, 8, 8, 1) % 16  # a batch size that training never saw
    np.save(tmp_path / "x.npy", images.astype(np.uint8))
    code = f"{snippet}\nnp.save('y.npy', predict({{'image': np.load('x.npy')}}))"
    assert "[[" in run_alone(code, tmp_path)
    wanted = run.predict(images.astype(np.uint8))
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), wanted, rtol=1e-4, atol=1e-5)


class Trained:
    def __init__(self, task, columns):
        data = train_batches(columns, 4)
        self.experiment = Experiment(task, data, dl.optimizer("sgd", 0.1), 1)
        self.state = init_state(task, self.experiment.optimizer, data[0])


def test_a_language_model_exports_with_any_batch(tmp_path):
    body = Transformer(8, 1, 2, causal=True)
    tokens = np.arange(60, dtype=np.int32).reshape(10, 6) % 9
    run = Trained(
        language_modeling(LanguageModel(9, body, 6)), {"inputs": tokens, "targets": tokens}
    )
    os.mkfifo(tmp_path / "lm.stablehlo")  # in a folder that is a stranger's
    (tmp_path / "lm").symlink_to(tmp_path / "victim")
    done = export(run, tmp_path / "lm", platforms=["cpu"])
    assert not (tmp_path / "victim").exists()
    assert done.fixed is None
    program = jax.export.deserialize(bytearray(done.path.read_bytes()))
    wanted = run.experiment.task.predict(run.state.variables, {"inputs": tokens})
    np.testing.assert_allclose(program.call({"inputs": tokens}), wanted, atol=1e-5)


def test_a_model_that_needs_its_batch_size_says_so_and_named_tuples_become_dicts(tmp_path):
    run = Trained(_task(lambda x: jnp.zeros(int(x.shape[0])) + x.sum()), {"x": np.ones((8, 3))})
    done = export(run, tmp_path / "p", platforms=["cpu"])
    assert done.fixed
    task = _task(lambda x: x.reshape(len(x), -1).sum() + jnp.zeros(x.shape[0]))
    counted = Trained(task, {"x": np.ones((8, 3))})
    assert "x.shape[0] does not" in export(counted, tmp_path / "q", platforms=["cpu"]).fixed
    out = jax.export.deserialize(bytearray(done.path.read_bytes())).call(
        {"x": np.ones((4, 3), np.float32)}
    )
    assert set(out) == {"value", "size"}
    np.testing.assert_allclose(out["value"], np.full(4, 12.0))


@pytest.mark.parametrize(
    ("model", "row"),
    [
        (PlacedCNN((4,)), (8, 8, 1)),
        (TSMixer(2), (6, 3)),
        (VoxelNetwork(3, 8, (4, 4, 4), 4), (9, 3)),
    ],
)
def test_models_take_any_number_of_rows(model, row):
    (rows,) = jax.export.symbolic_shape("b")
    variables = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, *row)))
    given = jax.ShapeDtypeStruct((rows, *row), jnp.float32)
    assert jax.eval_shape(model.apply, variables, given).shape[0] == rows


def _task(value):
    from typing import NamedTuple

    class Out(NamedTuple):
        value: jax.Array
        size: jax.Array

    def predict(variables, columns):
        x = columns["x"]
        rows = jnp.zeros(x.shape[0], jnp.int32)
        return Out(
            value(x), variables["params"]["w"][rows]
        )  # a table, read at places not known yet

    def init(key, batch):
        return {"params": {"w": jnp.ones(1)}}

    def unused(*_):
        raise NotImplementedError

    return dl.Task(init, unused, unused, predict, ("x",))


def test_what_cannot_be_exported_is_a_clear_error(tmp_path):
    task = dataclasses.replace(_task(lambda x: x), columns=("noise",))
    with raises("export-no-inputs", "inputs=an example"):
        export(Trained(task, {"x": np.ones((8, 3))}), tmp_path / "p")
    with raises("unknown", "platform 'gpu'"):
        export(
            Trained(_task(lambda x: x), {"x": np.ones((8, 3))}), tmp_path / "p", platforms=["gpu"]
        )
