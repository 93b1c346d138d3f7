"""What the README says is run."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


@pytest.mark.slow
def test_the_first_command_trains_digits_well(tmp_path):
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
    rows = re.findall(r"^\| (\w+)(?: `(--[^`]+)`)? \|", README, re.MULTILINE)
    named = [
        (script, flags) for script, flags in rows if (ROOT / f"experiments/{script}.py").exists()
    ]
    assert named
    for script, flags in named:
        config, build = load_script(ROOT / "experiments" / f"{script}.py")
        parse(config, build, shlex.split(flags), script)


def test_every_experiment_has_its_row():
    for path in (ROOT / "experiments").glob("*.py"):
        assert re.search(rf"^\| {path.stem}\b", README, re.MULTILINE), path.stem


def test_files_named_exist():
    for link in re.findall(r"\]\(([\w/.-]+)\)", README):
        assert (ROOT / link).exists(), link


def test_the_commands_for_several_processes_parse():
    from dl.cli.arguments import parse
    from dl.runs.scripts import load_script

    commands = re.findall(
        r"python (experiments/\w+\.py)( [^\n\"]*--(?:mesh|coordinator)[^\n\"]*)", README
    )
    assert len(commands) == 4
    for script, flags in commands:
        config, build = load_script(ROOT / script)
        _, options, _ = parse(config, build, shlex.split(flags), script)
        assert options.name
        assert options.mesh or options.coordinator


@pytest.mark.slow
def test_two_shells_on_one_machine_are_one_run(tmp_path, free_port):
    shells = re.findall(r"^python (experiments/\S+) (.*--coordinator .*)$", README, re.MULTILINE)
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
