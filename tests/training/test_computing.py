"""Options that change how a program computes: kept by the run, heeded by resume, replay and sweeps."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
from mistakes import raises
from simulated import told_by_eight

import dl
from dl.core.experiment import built
from dl.core.target import computing
from dl.models.resnet import BasicBlock, ResNet
from dl.proofs.replay import replay_run
from dl.runs.folder import read_json
from dl.runs.options import Options, kept_options, recorded
from dl.runs.scripts import load_script
from dl.training.compiled import Compiled

SCRIPT = Path(__file__).parents[1] / "scripts" / "small_gpt.py"
CADENCE = {"log_every": 2, "eval_every": 4, "progress": False}


def test_a_run_keeps_how_it_computed(tmp_path, capfd):
    config, build = load_script(SCRIPT)
    options = {"remat": "all", "precision": "float32", "deterministic": True, **CADENCE}
    run = dl.train(build, config(steps=4), script=SCRIPT, runs=tmp_path, name="a", **options)
    stored = read_json(run.folder.config)
    assert kept_options(stored) == {"remat": "all", "precision": "float32", "deterministic": True}
    locked = read_json(run.folder.lock)["environment"]
    assert locked["compiler"]["matmul_precision"] == "float32"
    capfd.readouterr()
    opened = dl.open_run(run.folder.path, script=SCRIPT)
    assert capfd.readouterr().err == ""
    for task in (run.experiment.task, opened.experiment.task, opened.rebuilt().task):
        for function in (task.predict, task.evaluate):  # outside of training, by the same products
            program = jax.make_jaxpr(function)(run.state.eval_variables, run.experiment.data[0])
            assert str(program).count("HIGHEST") == 2 * str(program).count("dot_general") > 0
    assert replay_run(run.folder.path, say=lambda _: None)
    with raises("config-changed", "precision: float32 then, None now"):
        dl.train(
            build, config(steps=4), script=SCRIPT, runs=tmp_path, name="a", resume=True, **CADENCE
        )
    lock = read_json(run.folder.lock)
    lock["environment"]["code"]["dl"] = "other"
    run.folder.lock.write_text(json.dumps(lock))
    capfd.readouterr()
    for _ in range(2):  # as a build does, that begins with this run
        dl.open_run(run.folder.path, script=SCRIPT)
    assert capfd.readouterr().err.count("opened under other conditions") == 1


@pytest.mark.parametrize(("name", "layered"), [("small_gpt", True), ("tiny", False)])
def test_a_flag_that_changes_nothing_says_so(tmp_path, capfd, name, layered):
    config, build = load_script(SCRIPT.with_name(f"{name}.py"))
    options = {"remat": "products", "runs": tmp_path, "name": "a", **CADENCE}
    dl.train(build, config(steps=1), script=SCRIPT.with_name(f"{name}.py"), **options)
    said = capfd.readouterr().err
    assert ("--remat products: this model has no layer" in said) != layered
    assert said.count("\n") == (not layered)


def test_axes_of_a_mesh_that_cut_nothing_are_found():
    """Tiny's network is no Transformer: devices along ``tensor`` and ``sequence`` compute the same."""
    found = told_by_eight(f"""
import json
from pathlib import Path
from dl.core.experiment import built
from dl.runs.scripts import load_script
from dl.training.compiled import Compiled
from dl.training.compiling import idle_flags
from dl.training.placing import layout_of
from dl.training.plan_elsewhere import _batches
found = {{}}
for name in ("tiny", "small_gpt"):
    config, build = load_script(Path({str(SCRIPT.parent)!r}) / f"{{name}}.py")
    experiment = built(build, config())
    for mesh in ("data=2,tensor=2", "sequence=2", "fsdp=2"):
        compiled = Compiled.alone(experiment, layout_of(mesh, experiment))
        own = compiled.shapes(), compiled.empty_metrics(), _batches(compiled)
        said = idle_flags(compiled.target, compiled.traced_step(*own)[0].jaxpr.jaxpr)
        found[f"{{name}} {{mesh}}"] = [one.split(":")[0] for one in said]
print(json.dumps(found))
""")
    assert found == {
        "tiny data=2,tensor=2": ["--mesh tensor=2"],
        "tiny sequence=2": ["--mesh sequence=2"],
        "tiny fsdp=2": [],
        "small_gpt data=2,tensor=2": [],
        "small_gpt sequence=2": [],
        "small_gpt fsdp=2": [],
    }


def test_as_usual_leaves_no_trace_and_nonsense_is_refused():
    config, build = load_script(SCRIPT)
    described = recorded(built(build, config()), Options())
    assert kept_options(described) == {}
    with raises("record-damaged", "precision"):
        kept_options({"precision": "best"})


@pytest.mark.parametrize("remat", ["none", "products", "all"])
def test_what_is_computed_again_is_the_same(remat):
    config, build = load_script(SCRIPT)
    residual = ResNet(3, (1, 1), BasicBlock, 4, small_images=True)
    image = jax.random.normal(jax.random.key(0), (2, 8, 8, 3))
    variables = residual.init(jax.random.key(1), image)

    def loss(params):
        out, _ = residual.apply(
            {**variables, "params": params}, image, train=True, mutable=["batch_stats"]
        )
        return out.std()

    def found():
        experiment = built(build, config(dropout=0.0))
        compiled = Compiled.alone(experiment)
        state = compiled.beginning().state()
        program = compiled.step(state, experiment.data)
        _, totals, _ = program(state, program.zeros(), experiment.data, 3)
        return totals["loss"].total, jax.grad(loss)(variables["params"]), str(program.traced.jaxpr)

    usual = found()
    with computing(remat=remat):
        there = found()
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), there[:2], usual[:2]
    )
    assert ("remat" in there[2] or "checkpoint" in there[2]) == (remat != "none")


def test_an_older_run_opens_though_fields_have_come_since(tmp_path):
    config, build = load_script(SCRIPT)
    run = dl.train(build, config(steps=4), script=SCRIPT, runs=tmp_path, name="a", **CADENCE)
    text = run.folder.config.read_text()
    older = text.replace('"dropout": 0.1,', "")
    assert older != text
    run.folder.config.write_text(older)
    assert dl.open_run(run.folder.path).metrics == run.metrics
