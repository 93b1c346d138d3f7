"""What the README says is run."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_it_can_be_read():
    lines = README.splitlines()
    assert len(lines) <= 100
    prose = re.sub(r"```.*?```|^\|.*?$", "", README, flags=re.DOTALL | re.MULTILINE)
    assert max(map(len, prose.splitlines())) <= 120
    assert max(map(len, lines)) <= 160


@pytest.mark.slow
def test_the_first_command_trains_digits_well(tmp_path):
    assert "pip install -e . && python experiments/image_classification.py\n" in README
    command = [sys.executable, ROOT / "experiments" / "image_classification.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    accuracy = float(re.search(r"test accuracy: ([\d.]+)", done.stdout)[1])
    assert accuracy >= 0.97
    assert "run folder: runs/" in done.stdout


@pytest.mark.slow
def test_the_example_runs(tmp_path):
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    (tmp_path / "example.py").write_text(example)
    done = subprocess.run(
        [sys.executable, "example.py"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    accuracy, curves = done.stdout.splitlines()[-2:]
    assert float(accuracy) > 0.95
    assert (tmp_path / curves.removeprefix("curves: ")).is_file()


def test_every_flag_and_command_named_exists():
    from dl.cli.arguments import parse
    from dl.cli.commands import COMMANDS
    from dl.runs.scripts import load_script

    for name in re.findall(r"`dl (\w+)", README):
        assert name in COMMANDS
    for name in COMMANDS:
        assert re.search(rf"`dl {name}\b", README), f"the table of commands lacks dl {name}"
    config, build = load_script(ROOT / "experiments" / "image_classification.py")
    rows = re.findall(r"`\.\.\. (--[^`]+)`", README)
    assert len(rows) == 3
    for flags in rows:
        parse(config, build, shlex.split(flags), "image_classification")


def test_files_named_exist():
    links = re.findall(r"\]\(([\w/.-]+)\)", README)
    assert len(links) == 6  # the picture, and five to read on
    for link in links:
        assert (ROOT / link).exists(), link
