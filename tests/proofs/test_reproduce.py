"""The results run again: rows read from their file, verdicts, and one tiny row for real."""

import dataclasses
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from mistakes import one_line, raises

from dl.proofs.reproduce import Row, choose, rows, verdict

ROOT = Path(__file__).parents[2]


def test_a_row_is_one_command_and_its_figures(tmp_path):
    (tmp_path / "results.toml").write_text(
        "[every]\nseeds = 1\nmachine = 'two CPU cores'\n"
        "[[row]]\nname = 'life'\ncommand = 'remaining_life --members 5'\nseeds = 3\n"
        "first = 'bert --stage pretrain'\nminutes = 2\n"
        "figures = [{ name = 'rmse', metric = '-test/rmse', reached = 12.56, sd = 0.2, bar = 12.6 },"
        " { name = 'score', metric = '-test/nasa_sum', flags = '--cap 125' }]\n"
        "[[row]]\nname = 'style'\ncommand = 'style_transfer'\nseen = 'a pagoda'\n"
        "[[row]]\nname = 'ctc'\ncommand = 'speech_ctc'\nmetric = '-test/word_error'\nscale = 100\n"
    )
    shared = {"script": "remaining_life", "minutes": 2, "group": "life"}
    shared["first"] = ("bert", "--stage", "pretrain")
    flags = ("--members", "5", "--seeds", "3")
    more = ("--members", "5", "--cap", "125", "--seeds", "3")
    rmse = {"metric": "-test/rmse", "reached": 12.56, "sd": 0.2, "bar": 12.6}
    assert rows(tmp_path) == [
        Row(name="life-rmse", flags=flags, **rmse, **shared),
        Row(name="life-score", flags=more, metric="-test/nasa_sum", **shared),
        Row("ctc", "speech_ctc", (), "-test/word_error", scale=100, group="ctc"),
    ]


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
    assert [row.name for row in choose(known, ("m4", "digits"))] == [
        "m4-smape",
        "m4-mase",
        "digits",
    ]
    for script in {row.script for row in known}:
        config, build = load_script(ROOT / "experiments" / f"{script}.py")
        commands = {row.flags for row in known if row.script == script}
        commands |= {row.first[1:] for row in known if row.first[:1] == (script,)}
        for flags in commands:
            parse(config, build, list(flags), script)


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
    from dl.sweeps.sweep import over_folds

    monkeypatch.setenv("DL_DATA_DIR", str(data_dir))
    config, build = load_script(ROOT / "experiments" / f"{script}.py")
    commands = {
        row.flags
        for row in rows(ROOT / "experiments")
        if row.script == script and not row.first  # what must run first, for minutes, is not there
    }
    for flags in sorted(commands):
        given = parse(config, build, list(flags), script)[0]
        first = over_folds(given, [{}])[0]  # with --folds a row is a sweep: what its first lane has
        assert build(dataclasses.replace(given, **first)).steps >= 1


@pytest.fixture
def checkout(tmp_path):
    """A project of one tiny script and its rows."""
    folder = tmp_path / "experiments"
    folder.mkdir()
    shutil.copy(ROOT / "tests" / "scripts" / "tiny.py", folder)
    (folder / "results.toml").write_text(
        '[[row]]\nname = "tiny"\ncommand = "tiny --steps 40"\nseeds = 2\nminutes = 0.1\n'
        'first = "tiny --steps 2 --name before --resume"\n'
        "figures = [\n"
        '  { name = "small", metric = "test/accuracy", reached = 0.6, sd = 0.2 },\n'
        '  { name = "loss", metric = "-test/loss", reached = 9.5, bar = 0.001 },\n'
        "]\n"
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
    assert "tiny-small" in listed.stdout
    assert "about 0.1 min" in listed.stdout
    assert "tiny --steps 40 --seeds 2" in listed.stdout
    assert not (checkout / "runs").exists()

    done = command("tiny", cwd=checkout)
    assert done.returncode == 1, done.stderr
    assert "stated 0.6 ± 0.2) in" in done.stdout
    short = [line for line in done.stdout.splitlines() if line.startswith("short")]
    assert all("bar 0.001 not reached" in line for line in short)
    assert len(list((checkout / "runs" / "reproduce").iterdir())) == 1  # one sweep serves both
    assert (checkout / "runs" / "before" / "result.json").is_file()


def test_mistakes_are_one_line(checkout):
    done = command("tiny-smal", cwd=checkout)
    assert done.returncode == 2
    one_line(done.stderr, "unknown", "'tiny-smal'", "did you mean 'tiny-small'")
    with raises("file-missing", "results.toml"):
        rows(checkout)
    file = checkout / "experiments" / "results.toml"
    file.write_text(file.read_text().replace("command = ", "comand = "))
    with raises("results-incomplete", "results.toml", "no command"):
        rows(file.parent)
