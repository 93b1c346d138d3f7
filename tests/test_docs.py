"""What the documentation says is run."""

import dataclasses
import importlib
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import jax
import matplotlib
import numpy as np
import optax
import pyarrow as pa
import pytest
from pyarrow import parquet

import dl
from dl.runs.folder import RunFolder
from dl.training.lane import Cadence, Lane
from dl.training.selection import Selection
from dl.training.trackers import Tracker

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]


def blocks(page):
    return re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)


@pytest.mark.slow
def test_coming_from_another_framework(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    matplotlib.use("Agg")
    space = {"__name__": "example"}
    for block in blocks("coming-from.md"):
        exec(block, space)
    assert space["run"].metrics["test/accuracy"] > 0.9
    assert space["logits"].shape == (5, 10)
    assert (space["again"].predict(space["digits"].test["image"][:5]) == space["logits"]).all()
    assert len(space["swept"].settings) == 2
    assert int(space["state"].step) == 5


@pytest.mark.slow
def test_a_model_a_task_and_a_data_set_of_ones_own(tmp_path):
    for block in blocks("extending.md"):
        name, code = re.fullmatch(r"# (\w+\.py)\n(.*)", block, re.DOTALL).groups()
        (tmp_path / name).write_text(code)
    done = subprocess.run(
        [sys.executable, "wine_experiment.py", "--name", "wines"],
        cwd=tmp_path, env=os.environ, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert float(re.search(r"test accuracy: ([\d.]+)", done.stdout)[1]) > 0.9
    report = ["-c", "from dl.cli.main import main; main()", "report", "runs/wines"]
    subprocess.run([sys.executable, *report], cwd=tmp_path, env=os.environ, check=True)
    command = (
        "import best, tyro; from dl.cli.commands import COMMANDS\n"
        "tyro.extras.subcommand_cli_from_dict({**COMMANDS, 'best': best.best})"
    )
    done = subprocess.run(
        [sys.executable, "-c", command, "best", "runs/wines"],
        cwd=tmp_path, env=os.environ, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert float(re.search(r"^test/accuracy +([\d.]+)$", done.stdout, re.MULTILINE)[1]) > 0.9
    page = (tmp_path / "runs" / "wines" / "report.html").read_text()
    assert "Highway" in page


@pytest.mark.slow
def test_data_of_ones_own(tmp_path):
    for block in blocks("own-data.md"):
        (tmp_path / block.split()[1]).write_text(block)
    for name, said in (
        ("pets.py", "('cat', 'dog')"),
        ("more_pets.py", "(8, 8, 1) int32"),
        ("pet_experiment.py", "test accuracy"),
    ):
        done = subprocess.run(
            [sys.executable, name], cwd=tmp_path, env=os.environ, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert said in done.stdout
        assert "parts" in done.stderr


def test_after_training(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    space = {"__name__": "example"}
    for block in blocks("after-training.md"):
        exec(block, space)
    assert "file,class,p_0" in capsys.readouterr().out


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    """Trains a recipe of docs/recipes.md: ``(name, **fields) -> (module, run)``."""
    place = tmp_path_factory.mktemp("recipes")
    for block in blocks("recipes.md"):
        (place / block.split()[1]).write_text(block)
    matplotlib.use("Agg")

    def train(name, **fields):
        module = importlib.import_module(name)
        options = {"runs": place / "runs", "name": f"{name}-{len(list(place.glob('runs/*')))}"}
        return module, dl.train(module.build, module.Config(**fields), progress=False, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(place)
        yield train


@pytest.mark.slow
def test_two_optimisers_and_a_backbone(recipe):
    _, run = recipe("two_optimizers", steps=60)
    assert run.metrics["test/accuracy"] > 0.9
    _, first = recipe("backbone", steps=110)
    assert first.metrics["test/accuracy"] > 0.95
    others = {"digits": (5, 6, 7, 8, 9), "start": str(first.folder.path)}
    _, begun = recipe("backbone", steps=1, learning_rate=0.0, **others)
    old, new = (run.state.variables["params"] for run in (first, begun))
    jax.tree.map(np.testing.assert_array_equal, old["backbone"], new["backbone"])
    assert not np.array_equal(old["head"]["kernel"], new["head"]["kernel"])
    _, begun = recipe("backbone", **others)
    assert begun.metrics["test/accuracy"] > 0.95


@pytest.mark.slow
def test_maml_learns_to_learn(recipe):
    module, run = recipe("maml", steps=300, learning_rate=3e-3)
    new = module.sines(200, 2)
    said = run.predict({name: new[name] for name in ("x", "y", "asked")})
    shuffled = run.predict({"x": new["x"], "y": new["y"][::-1], "asked": new["asked"]})
    error, of_others = (np.square(x - new["answer"]).mean() for x in (said, shuffled))
    assert error < 0.6 * of_others
    np.testing.assert_allclose(run.metrics["test/loss"], error, rtol=0.3)


@pytest.mark.slow
def test_simclr_and_diffusion(recipe):
    module, run = recipe("simclr", steps=60, batch_size=128)
    losses = run.history()["train/loss"]
    assert losses[-1] < losses[0] - 0.5
    assert module.probe(run) > 0.9
    module, run = recipe("diffusion", steps=400, learning_rate=3e-3)
    assert run.metrics["validation/loss"] < 0.5  # 1 is what guessing no noise at all would have
    noise = np.random.default_rng(1).normal(size=(100, 64)).astype(np.float32)
    made, real = run.predict({"noise": noise}), dl.load("digits").train["image"] / 255.0
    assert made.shape == (100, 8, 8, 1)
    assert abs(made.mean() - real.mean()) < 0.06
    np.testing.assert_array_equal(made, run.predict({"noise": noise}))


@pytest.mark.slow
def test_sweeps_and_searches(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    space = {"__name__": "example"}
    for block in blocks("sweeps.md"):
        if "import optuna" in block:
            pytest.importorskip("optuna")
        exec(block, space)
    assert len(list((tmp_path / "runs/search").glob("batch-*/group-*.json"))) == 3  # a program each
    assert len(space["study"].trials) == 8
    assert space["study"].best_value == max(t.value for t in space["study"].trials) > 0.3


def test_the_task_without_help_learns_its_line_alone_and_in_company():
    (code,) = (block for block in blocks("extending.md") if block.startswith("# line.py"))
    space = {}
    exec(code, space)
    x = np.random.default_rng(0).normal(size=(64, 3)).astype(np.float32)
    batch = {"x": x, "y": x @ np.array([1.0, -2.0, 0.5], np.float32)}
    for task in (space["line"](), dl.ensemble(space["line"](), 2)):
        optimizer = optax.sgd(0.1)
        state = dl.init_state(task, optimizer, batch)
        step = jax.jit(dl.train_step(task, optimizer))
        for _ in range(100):
            state, _ = step(state, batch)
        said = task.predict(state.variables, batch)
        np.testing.assert_allclose(said, batch["y"], atol=1e-2)


def test_the_task_without_help_is_proved(tmp_path, monkeypatch):
    for block in blocks("extending.md"):
        (tmp_path / block.split()[1]).write_text(block)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module("test_line").test_line()


def test_the_batches_of_ones_own_are_proved(tmp_path, monkeypatch):
    for block in blocks("extending.md"):
        (tmp_path / block.split()[1]).write_text(block)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module("test_pairs").test_pairs()


def test_measures_and_views_of_ones_own(tmp_path, monkeypatch):
    for block in blocks("extending.md"):
        (tmp_path / block.split()[1]).write_text(block)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    matplotlib.use("Agg")
    measures = importlib.import_module("wine_measures")
    run = dl.train(measures.build, measures.Config(steps=10), name="measured", eval_every=10)
    locked = json.loads(run.folder.lock.read_text())
    assert locked["script"].endswith("wine_measures.py")  # whose Config is another's
    assert 0 < run.metrics["validation/f1"] <= 1
    assert 0 < run.metrics["test/f1"] <= 1
    assert {path.name for path in (tmp_path / "runs/measured/views").iterdir()} == {
        "classes-10.png",
        "mistakes-10.txt",
    }
    x = measures.wines().test["features"]
    model = importlib.import_module("highway").Highway(outputs=2)
    said = run.predictor(x)
    assert isinstance(said, np.ndarray)
    alone = dataclasses.replace(run.predictor, batch_size=1)(x)
    for other in (model.apply(run.predictor.variables, x), alone):
        np.testing.assert_allclose(said, other, rtol=1e-4, atol=1e-5)
    assert {"step", "validation/f1"} <= run.history("eval").keys()


def test_the_tracker_writes_what_is_logged(tmp_path):
    (code,) = (block for block in blocks("extending.md") if block.startswith("# scalars.py"))
    space = {}
    exec(code, space)
    tracker = space["Scalars"](tmp_path)
    assert {name for name in vars(Tracker) if name[0] != "_"} <= set(dir(tracker))
    Lane(RunFolder(tmp_path), Selection(None), [tracker]).go_on(
        0, Cadence(5, 1, 5, 5), False, None, None
    )
    tracker.write(3, {"loss": 0.5, "accuracy": 1.0})
    tracker.write(4, {"loss": 0.25})
    tracker.flush()
    lines = (tmp_path / "scalars.csv").read_text().splitlines()
    assert lines == ["3,loss,0.5", "3,accuracy,1.0", "4,loss,0.25"]
    tracker.close()


@pytest.mark.slow
def test_the_design_s_example_runs(tmp_path):
    (example,) = blocks("design.md")
    (tmp_path / "digits.py").write_text(example)
    done = subprocess.run(
        [sys.executable, "digits.py"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    accuracy, curves = done.stdout.splitlines()[-2:]
    assert float(accuracy) > 0.95
    assert (tmp_path / curves.removeprefix("curves: ")).is_file()


def test_a_mistake_is_told_by_its_code(capsys):
    (code,) = blocks("errors.md")
    exec(code, {})
    told, _, sentence = capsys.readouterr().out.partition(" | ")
    assert f"| `{told}` |" in (DOCS / "errors.md").read_text()
    assert "of-another-day" in sentence


@pytest.mark.slow
def test_fine_tuning(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    space = {"__name__": "example"}
    for block in blocks("fine-tuning.md"):
        exec(block, space)


def test_weights(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for block in blocks("weights.md"):
        exec(block, {"__name__": "example"})


def test_no_python_of_a_page_is_left_untried():
    tried = {"coming-from.md", "extending.md", "design.md", "errors.md", "own-data.md"}
    tried |= {"after-training.md", "fine-tuning.md", "recipes.md", "sweeps.md", "weights.md"}
    assert {page.name for page in DOCS.glob("*.md") if blocks(page.name)} == tried


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command_of_a_page_parses(page, tmp_path, monkeypatch):
    from dl.cli.arguments import parse
    from dl.cli.commands import COMMANDS
    from dl.runs.scripts import load_script

    text = page.read_text()
    shell = "\n".join(re.findall(r"```bash\n(.*?)```", text, re.DOTALL))
    commands = re.findall(r"python (experiments/\w+\.py)([^\n\"&]*)", shell)
    runs = re.findall(r"^dl run (\w+)([^\n\"&#]*)", shell, re.MULTILINE)
    for script, flags in [*commands, *((f"experiments/{name}.py", flags) for name, flags in runs)]:
        config, build = load_script(ROOT / script)
        for file in re.findall(r"--config (\S+\.toml)", flags):  # written by a command before
            (tmp_path / file).touch()
        monkeypatch.chdir(tmp_path)
        parse(config, build, shlex.split(flags), script)
    for name in re.findall(r"(?:`|^)dl ([a-z]\w*)", text, re.MULTILINE):
        assert name in COMMANDS
    assert commands or page.stem not in {"README", "index", "sweeps", "scaling"}


def test_the_commands_for_several_processes_name_their_run():
    from dl.cli.arguments import parse
    from dl.runs.scripts import load_script

    commands = re.findall(
        r"python (experiments/\w+\.py)( [^\n\"]*--(?:mesh|coordinator)[^\n\"]*)",
        (DOCS / "scaling.md").read_text(),
    )
    assert len(commands) == 4
    for script, flags in commands:
        config, build = load_script(ROOT / script)
        _, options, _ = parse(config, build, shlex.split(flags), script)
        assert options.name
        assert options.mesh or options.coordinator


@pytest.mark.slow
def test_two_shells_on_one_machine_are_one_run(tmp_path, free_port):
    page = (DOCS / "scaling.md").read_text()
    shells = re.findall(r"^python (experiments/\S+) (.*--coordinator .*)$", page, re.MULTILINE)
    assert len(shells) == 2
    port = str(free_port())
    processes = [
        subprocess.Popen(
            [
                *(sys.executable, ROOT / script),
                *shlex.split(flags.replace("12345", port)),
                *("--epochs", "1", "--runs", tmp_path),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for script, flags in shells
    ]
    said = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    assert "test accuracy" in said[0]
    assert (tmp_path / "two" / "result.json").is_file()


def test_tokens_are_written_and_mixed_as_the_page_says(tmp_path, monkeypatch, capsys):
    from dl.cli.arguments import parse
    from dl.cli.main import main
    from dl.core.experiment import built
    from dl.runs.scripts import load_script

    monkeypatch.chdir(tmp_path)
    text = "".join(f"The {n} cats sat on the mat.\n" for n in range(2000))
    for folder in ("books", "stories"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.txt").write_text(text)
    parquet.write_table(pa.table({"text": text.splitlines()}), "news.parquet")
    page = (DOCS / "scaling.md").read_text()
    for words in map(shlex.split, re.findall(r"^dl (data tokens .*)$", page, re.MULTILINE)):
        monkeypatch.setattr(sys, "argv", ["dl", *words])
        main()
    assert capsys.readouterr().out.count("written: tokens/") == 2
    config, build = load_script(ROOT / "experiments/gpt.py")
    for flags in re.findall(r"^dl run gpt (--data tokens.*)$", page, re.MULTILINE):
        chosen, _, _ = parse(config, build, shlex.split(flags), "gpt.py")
        assert built(build, chosen).data[0]["inputs"].shape == (16, 128)


def test_every_public_name_is_in_the_reference():
    named = re.findall(r"^::: dl\.(\w+)$", (DOCS / "reference.md").read_text(), re.MULTILINE)
    assert sorted(named) == dl.__all__


def test_every_file_and_name_of_the_pages_exists():
    for page in DOCS.glob("*.md"):
        text = page.read_text()
        for path in re.findall(
            r"`((?:dl|experiments|tests|tools|colab)/[\w/]+(?:\.\w+)?/?)`", text
        ):
            assert (ROOT / path).exists(), f"{page.name}: {path}"
        for name in re.findall(r"`dl\.([a-z_A-Z]+)", text):
            assert hasattr(dl, name), f"{page.name}: dl.{name}"
        for link in re.findall(r"\]\(([\w/.-]+)[)#]", text):
            assert (DOCS / link).exists(), f"{page.name}: {link}"
