"""The README's table run again: figures read from it, verdicts, and one tiny row for real."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import dl
from dl.proofs.reproduce import Row, choose, figure, rows, verdict

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("cell", "place", "found"),
    [
        ("0.9962 ± 0.0005 (3 seeds)", 0, (0.9962, 0.0005)),
        (".377/.405/.431/.457", 2, (0.431, None)),
        ("14.08, 0.992 (3 seeds; seasonal naive 13.91, 1.193)", 1, (0.992, None)),
        ("0.92 % (1 seed, 15 min)", 0, (0.92, None)),
        ("not measured yet", 0, (None, None)),
        ("12,345 of them", 0, (12345.0, None)),
    ],
)
def test_figures_are_read_from_a_cell(cell, place, found):
    assert figure(cell, place) == found


@pytest.mark.parametrize(
    ("row", "value", "good", "said"),
    [
        ({"reached": 0.9, "sd": 0.01}, 0.885, True, "0.885 (stated 0.9 ± 0.01)"),
        ({"reached": 0.9, "sd": 0.01}, 0.875, False, "0.875 (stated 0.9 ± 0.01 not reached)"),
        ({"reached": 0.9, "bar": 0.95}, 0.91, False, "0.91 (stated 0.9, bar 0.95 not reached)"),
        ({"reached": 2.0, "metric": "-test/mse"}, 2.03, True, "2.03 (stated 2)"),
        ({"reached": 2.0, "metric": "-test/mse"}, 2.05, False, "2.05 (stated 2 not reached)"),
        ({"bar": 3.0, "metric": "-test/mse"}, 2.5, True, "2.5 (bar 3 reached)"),
        ({}, 2.5, True, "2.5 (the table states no figure yet)"),
    ],
)
def test_verdicts_weigh_the_figure_with_its_spread_and_the_bar(row, value, good, said):
    row = Row(**{"name": "x", "script": "x", "flags": (), "metric": "test/accuracy", **row})
    assert verdict(row, value) == (good, said)


def test_every_row_of_the_project_is_a_command_that_parses():
    from dl.cli.arguments import parse
    from dl.runs.scripts import load_script

    known = rows(ROOT / "experiments")
    assert len({row.name for row in known}) == len(known)
    for row in {row.script: row for row in known}.values():
        config, build = load_script(ROOT / "experiments" / f"{row.script}.py")
        for one in choose(known, (row.script,)):
            parse(config, build, list(one.flags), one.script)


_SLOW = {"translation", "bert", "object_detection", "spoken_digits", "speech_ctc", "tabular"}
_TRAINS = {"gan_augmentation"}  # a generator, for minutes, before its experiment is there


@pytest.mark.data
@pytest.mark.parametrize(
    "script",
    [
        pytest.param(name, marks=pytest.mark.slow) if name in _SLOW else name
        for name in sorted({row.script for row in rows(ROOT / "experiments")} - _TRAINS)
    ],
)
def test_every_row_of_the_project_can_begin(script, data_dir, monkeypatch):
    """Its experiment is built with its flags and real data, nothing trained."""
    from dl.cli.arguments import parse
    from dl.runs.scripts import load_script

    monkeypatch.setenv("DL_DATA_DIR", str(data_dir))
    config, build = load_script(ROOT / "experiments" / f"{script}.py")
    commands = {row.flags for row in rows(ROOT / "experiments") if row.script == script}
    for flags in sorted(commands):
        assert build(parse(config, build, list(flags), script)[0]).steps >= 1


@pytest.fixture
def checkout(tmp_path):
    """A project of one tiny script, its README and its rows."""
    folder = tmp_path / "experiments"
    folder.mkdir()
    shutil.copy(ROOT / "tests" / "scripts" / "tiny.py", folder)
    (tmp_path / "README.md").write_text(
        "| script | data | metric | reached | reference |\n"
        "| tiny `--steps 40` | digits | test accuracy, loss | 0.6 ± 0.2, 9.5 | |\n"
    )
    (folder / "results.toml").write_text(
        '[[row]]\nname = "small"\nreadme = "tiny --steps 40"\nflags = "--seeds 2"\n'
        'metric = "test/accuracy"\nminutes = 0.1\n'
        '[[row]]\nname = "loss"\nreadme = "tiny --steps 40"\nflags = "--seeds 2"\nfigure = 1\n'
        'metric = "-test/loss"\nbar = 0.001\n'
    )
    return tmp_path


def command(*words, cwd):
    return subprocess.run(
        [sys.executable, "-c", "from dl.cli.main import main; main()", "reproduce", *words],
        cwd=cwd, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.slow
def test_a_row_is_run_and_judged(checkout):
    listed = command(cwd=checkout)
    assert "small" in listed.stdout
    assert "about 0.1 min" in listed.stdout
    assert "tiny --steps 40 --seeds 2" in listed.stdout
    assert not (checkout / "runs").exists()

    done = command("tiny", cwd=checkout)
    assert done.returncode == 1, done.stderr
    assert "stated 0.6 ± 0.2) in" in done.stdout
    short = [line for line in done.stdout.splitlines() if line.startswith("short")]
    assert all("bar 0.001 not reached" in line for line in short)
    assert len(list((checkout / "runs" / "reproduce").iterdir())) == 1  # one sweep serves both


def test_mistakes_are_one_line(checkout):
    done = command("smal", cwd=checkout)
    assert done.returncode == 2
    assert "did you mean 'small'" in done.stderr
    with pytest.raises(dl.UserError, match=r"results\.toml is missing"):
        rows(checkout)
    readme = checkout / "README.md"
    readme.write_text(readme.read_text().replace("--steps 40", "--steps 50"))
    with pytest.raises(dl.UserError, match="no row 'tiny --steps 40'"):
        rows(checkout / "experiments")
