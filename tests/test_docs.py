"""What the documentation says is run."""

import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import matplotlib
import numpy as np
import optax
import pytest

import dl

DOCS = Path(__file__).parents[1] / "docs"


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
    page = (tmp_path / "runs" / "wines" / "report.html").read_text()
    assert "Highway" in page


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
        said = task.predict(state.variables, task.inputs(batch))
        np.testing.assert_allclose(said, batch["y"], atol=1e-2)


def test_every_file_and_name_of_the_pages_exists():
    for page in DOCS.glob("*.md"):
        text = page.read_text()
        for path in re.findall(r"`((?:dl|experiments|tests)/[\w/]+(?:\.py)?/?)`", text):
            assert (DOCS.parent / path).exists(), f"{page.name}: {path}"
        for name in re.findall(r"`dl\.([a-z_A-Z]+)", text):
            assert hasattr(dl, name), f"{page.name}: dl.{name}"
